"""`--mode=eval`: scores a policy on held-out queries, and keeps each evaluation under a name of its own."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any

import jax

from dtr1_jax import config, mesh, places
from dtr1_jax.data import pipeline, sources
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers.benchmark import Benchmark
from dtr1_jax.evaluation import (
    answered,
    benchmark_rows,
    metrics,
    peers,
    predict,
    predictions_file,
    request_table,
    table,
    twin_answers,
)
from dtr1_jax.modes import mesh_choice, results
from dtr1_jax.policies import pretrained, state
from dtr1_jax.policies.runtime import Runtime, host_tools
from dtr1_jax.rewards import score
from dtr1_jax.run import atomic

_NAME = re.compile(r"[\w.-]{1,100}")

log = logging.getLogger(__name__)


def run(
    c: config.Config, workdir: Path, name: str | None = None, step: str = "newest", emulate: str = ""
) -> str:  # fmt: skip
    """Scores a checkpoint of `workdir`, or the pretrained weights if it has no checkpoint; returns the table as text.

    Writes the folder `workdir/evaluations/NAME`. It holds eval.json with the name, the step, the data, the metrics and
    the table; predictions.jsonl, from which `--mode=rescore` computes the metrics and the table again; and pictures of
    the first queries. An evaluation that is repeated with the same step, data and policy replaces its files.

    Args:
      name: the name of the evaluation; None = made from the data and the step, see `default_name`.
      step: the checkpoint: "newest", "best" or a number, as state.trained_weights takes it.
      emulate: names of peers.PEERS with commas between, whose figures are computed beside the benchmark's own.

    Raises ConfigError if the settings do not fit, or if `name` was used for another step, other data or another policy;
    and the errors of reading the policy, its checkpoint and the data.
    """
    score.check_weights(c.reward.weights)
    if not c.train.eval_examples:
        raise config.ConfigError("config.train.eval_examples: expected at least 1 for --mode=eval, got 0")
    if name is not None and (not _NAME.fullmatch(name) or name.strip(".") == ""):
        raise config.ConfigError(f"--name: expected up to 100 letters, digits, '.', '_' or '-', got {name!r}")
    pretrained_policy = pretrained.load_policy(c)
    device_mesh = mesh_choice.make(c, pretrained_policy.spec)
    mesh.check_batch(device_mesh, "train.eval_batch", c.train.eval_batch)
    source = sources.open_source(c.data, c.data.eval_split)
    _warn_of_a_part(source, c.train.eval_examples)
    emulated = peers_of(emulate, source)
    header: dict[str, Any] = {"name": name, "data": describe_data(c), "policy": describe_policy(c)}
    if name is not None:  # What can be refused before the weights are read is refused here.
        check_free(places.path(workdir) / "evaluations" / name, header)
    params, lora, number = state.trained_weights(c, pretrained_policy, device_mesh, workdir, step)
    header |= {"name": name or default_name(c, number), "step": number}
    folder = places.path(workdir) / "evaluations" / header["name"]
    check_free(folder, header)
    results.open_folder(folder)
    with results.locked(folder, "eval"), host_tools(c) as (segmenter, text_scorers, perceiver):
        check_free(folder, header)  # Again: another evaluation may have ended here since.
        log.info("masks by %s", segmenter.description)
        skipped = pipeline.SkipCounter()
        if perceiver is not None:
            log.info("twins by %s", perceiver.description)
        runtime = Runtime(c, pretrained_policy, device_mesh, params, lora, segmenter, text_scorers, perceiver)
        del params, lora  # The rollout may have its own copy.
        runtime = runtime.for_rollout()
        predictions = predict.evaluate(runtime, source, skipped=skipped, emulate=emulated)
        queries = answered.of_all(device_mesh, predictions, c.train.gallery)
        unusable = mesh.total_of_shares(device_mesh, skipped.count)
        cells = table.cells([query.row for query in queries])
        numbers = metrics.compute_metrics(queries, unusable)
        if jax.process_index() == 0:
            predictions_file.write_predictions(folder, queries)
            write_json(folder / "eval.json", header | numbers | {"table": [dataclasses.asdict(cell) for cell in cells]})
    log.info("evaluation %s is in %s", header["name"], folder)
    warning = f"{unusable} more could not be used and count nowhere; the warnings say why"
    more = [
        twin_answers.format_figures(numbers), request_table.format_figures(numbers),
        benchmark_rows.format_figures(numbers),
    ]  # fmt: skip
    return "\n".join([table.format_table(cells), *filter(None, more)] + [warning] * (unusable > 0))


def peers_of(emulate: str, source: sources.Source) -> tuple[str, ...]:
    """The peers that --emulate names. Raises ConfigError: one is not known, or has no rule for these queries."""
    names = tuple(dict.fromkeys(name.strip().replace("-", "_") for name in emulate.split(",") if name.strip()))
    unknown = [name for name in names if name not in peers.PEERS]
    if unknown:
        raise config.ConfigError(f"--emulate: expected some of {', '.join(peers.PEERS)}, got {unknown[0][:40]!r}")
    parts = source.parts if isinstance(source, Mixture) else (source,)
    kinds = {(p.name, p.task) for p in parts if isinstance(p, Benchmark)}
    idle = [name for name in names if not any(peers.has_rule(name, *kind) for kind in kinds)]
    if idle:
        got = ", ".join(f"{name} ({task})" for name, task in sorted(kinds)) or "no public benchmark"
        raise config.ConfigError(
            f"--emulate={idle[0]}: expected a benchmark and task for which it has a rule (docs/benchmarks.md), got "
            f"{got}; leave it out"
        )
    return names


def _warn_of_a_part(source: sources.Source, examples: int) -> None:
    if isinstance(source, Benchmark) and examples < len(source):
        log.warning(
            "the first %d of %d queries of %s are asked: figures of a part do not compare with published ones; set "
            "config.train.eval_examples to at least %d for all",
            examples, len(source), source.name, len(source),
        )  # fmt: skip


def describe_data(c: config.Config) -> dict[str, Any]:
    """The settings that decide which queries an evaluation asks, and how answers become masks, for eval.json."""
    described = dataclasses.asdict(c.data)
    del described["workers"], described["prefetch_mb"], described["train_split"]
    if not described["name"]:  # evaluations of earlier versions have no such entry
        del described["name"]
    return described | {
        "examples": c.train.eval_examples, "segmenter": c.reward.segmenter, "tolerance": c.reward.tolerance,
    }  # fmt: skip


def describe_policy(c: config.Config) -> dict[str, Any]:
    """The settings that decide which policy answers, and how it is asked, for eval.json."""
    described = dataclasses.asdict(c.policy)
    del described["remat"], described["attention"]
    return described | {
        "new_tokens": c.rollout.new_tokens, "temperature": c.train.eval_temperature, "seed": c.seed,
    }  # fmt: skip


def default_name(c: config.Config, step: int | None) -> str:
    """Name of an evaluation: source, file or folder of the data where there is one, split and step.

    Examples: "twinworld-heldout-step60", "jsonl-mine-heldout-step20", "coco-val2017-val-untrained".
    """
    root = [Path(c.data.root).expanduser().resolve().stem] if c.data.root else []
    parts = [c.data.source, *root, c.data.eval_split, "untrained" if step is None else f"step{step}"]
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))[:100]


def check_free(folder: Path, header: dict[str, Any]) -> None:
    """Raises ConfigError if `folder` holds an evaluation of another step, other data or another policy than `header`.

    An evaluation may be made again under its own name, which replaces it.
    """
    try:
        earlier = json.loads(places.read_text(folder / "eval.json"))
        keys = [key for key in ("step", "data", "policy") if key in header]
        differences = [key for key in keys if earlier.get(key) != json.loads(json.dumps(header[key]))]
    except (FileNotFoundError, NotADirectoryError):  # nothing there yet; open_folder checks the path
        return
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise config.ConfigError(
            f"{folder}: holds an eval.json that cannot be read ({error}); nothing was changed; choose another --name"
        ) from None
    if differences:
        listed = "; ".join(_difference(key, earlier.get(key), header[key]) for key in differences)
        raise config.ConfigError(
            f"--name={header['name']}: {folder} holds another evaluation ({listed}); nothing was changed; choose"
            " another --name, or move that folder away"
        )


def _difference(key: str, earlier: Any, now: Any) -> str:
    """One phrase about a value of eval.json that differs: the settings that differ of a dict, else both values."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
        return ", ".join(f"{key}.{name} {earlier.get(name)!r}, now {now.get(name)!r}" for name in names)
    return f"{key} {earlier!r}, now {now!r}"


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file in one move: a reader finds the old file or the new one."""
    with atomic.replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
