"""Held-out scores: greedy transcripts, their rewards, and the benchmark's figures in the pictures' own pixels."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dtr1_jax import config, draw, mesh
from dtr1_jax.data import json_files, pipeline, prompts
from dtr1_jax.evaluation import measures, table
from dtr1_jax.evaluation.benchmarks import segmentation, twin_fidelity
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.rewards import resolve, score
from dtr1_jax.rewards.resolve import Outcome
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.rl import rollout as rollouts
from dtr1_jax.run import atomic
from dtr1_jax.twin import text, tracks, transcript
from dtr1_jax.types import Example, Rollout


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One held-out query with its answer."""

    example: Example
    canvas: text.Canvas
    transcript: transcript.Transcript
    outcome: Outcome
    columns: dict[str, float]  # those that the query's task has
    measures: dict[str, float]  # what it adds to the task's figures, see evaluation/measures.py
    fidelity: twin_fidelity.Fidelity | None = (
        None  # of the twin that the policy built; None where nothing says what is right
    )


def parse(
    rollout: Rollout, batch: pipeline.Batch, pretrained_policy: PretrainedPolicy
) -> list[list[transcript.Transcript]]:
    """The transcripts of B x G completions; never raises on what the policy wrote."""
    token_bgs, mask_bgs = np.asarray(rollout.token_bgs), np.asarray(rollout.mask_bgs)
    decode, constructor = pretrained_policy.style.tokenizer.decode, pretrained_policy.style.constructor
    found = []
    for example, canvas, token_gs, mask_gs in zip(batch.examples, batch.canvases, token_bgs, mask_bgs):
        twin = prompts.given(example, canvas) if constructor == "given" else None
        read = functools.partial(
            transcript.parse, task=example.task, canvas=canvas, constructor=constructor, given=twin
        )
        found.append([read(decode(t[m])) for t, m in zip(token_gs, mask_gs)])
    return found


def ask(
    params: dict, lora: dict | None, pretrained_policy: PretrainedPolicy, c: config.Config, device_mesh, batch:
    pipeline.Batch,
    key: jax.Array,
) -> tuple[list[list[transcript.Transcript]], np.ndarray]:  # fmt: skip
    """One transcript for each query of a batch of any size, greedily or at train.eval_temperature with `key`.

    Returns B groups of one, and int[B, 1], their tokens.
    """
    real, tokenizer = len(batch.examples), pretrained_policy.style.tokenizer
    prompt = jax.tree.map(lambda x: _pad(x, -real % mesh.shares(device_mesh) + real), batch.prompt)
    rollout = rollouts.sample(
        params, lora, mesh.put_batch(device_mesh, prompt), key, pretrained_policy.banned_v, spec=pretrained_policy.spec,
        group=1, new_tokens=c.rollout.new_tokens, end=tokenizer.end, pad=tokenizer.pad,
        temperature=c.train.eval_temperature, dtype=pretrained_policy.dtype,
    )  # fmt: skip
    rollout = jax.tree.map(lambda x: x[:real], mesh.local(rollout))
    return parse(rollout, batch, pretrained_policy), rollout.mask_bgs.sum(-1)


def predict(
    params: dict, lora: dict | None, pretrained_policy: PretrainedPolicy, c: config.Config, device_mesh, batch:
    pipeline.Batch,
    key: jax.Array, segmenter, text_scorers: TextScorers | None = None,
) -> list[Prediction]:  # fmt: skip
    """Answers a batch greedily (or at train.eval_temperature, with `key`) and scores it."""
    parsed, tokens_bg = ask(params, lora, pretrained_policy, c, device_mesh, batch, key)
    rewards, outcomes = score.score(
        parsed, batch.examples, batch.canvases, segmenter, c.reward, text_scorers, tokens_bg
    )
    regions = [e.task == "segmentation" for e in batch.examples]
    if any(of_mask and not c.reward.weights.get("segmentation", {}).get("mask_iou") for of_mask in regions):
        # the reward asks for no masks, but the figures need them
        outcomes = resolve.outcomes(parsed, batch.examples, batch.canvases, segmenter, regions)
    columns = {**rewards.columns, "reward": rewards.total_bg}
    own = {**rewards.own, "reward": np.ones(len(batch.examples), bool)}
    return [
        Prediction(
            example=example,
            canvas=canvas,
            transcript=parsed[i][0],
            outcome=outcomes[i][0],
            columns={name: float(x[i, 0]) for name, x in columns.items() if own[name][i]},
            measures=measures.measure(example, parsed[i][0], outcomes[i][0], c.reward.tolerance),
            fidelity=_fidelity(parsed[i][0], example, canvas)
            if pretrained_policy.style.constructor == "policy"
            else None,
        )
        for i, (example, canvas) in enumerate(zip(batch.examples, batch.canvases))
    ]


def _fidelity(parsed: transcript.Transcript, example: Example, canvas: text.Canvas) -> twin_fidelity.Fidelity | None:
    """The twin, of a video its first frame, against the annotated scene; None where nothing is annotated."""
    there = [twin_fidelity.DescribedObject(x.label, x.box, x.attributes) for x in example.scene if x.box[2] > x.box[0]]
    if not there:
        return None
    boxes = resolve.twin_boxes(parsed, canvas)
    objects = tracks.first(parsed.twin).objects if parsed.twin else ()
    return twin_fidelity.fidelity(
        [twin_fidelity.DescribedObject(o.label, b, o.attributes) for o, b in zip(objects, boxes)], there
    )


def evaluate(
    params: dict, lora: dict | None, pretrained_policy: PretrainedPolicy, c: config.Config, device_mesh, source,
    segmenter,
    check: Callable[[], None] = lambda: None, text_scorers: TextScorers | None = None, skipped: pipeline.Skipped | None
    = None,
) -> list[Prediction]:  # fmt: skip
    """Predictions on the first train.eval_examples of `source`; `check` runs around each batch and may raise.

    Examples that can not be read are left out with a warning and counted in `skipped`. Raises DataError where that
    leaves none.
    """
    done: list[Prediction] = []
    skipped, root = skipped or pipeline.Skipped(), jax.random.key(c.seed)
    batches = pipeline.evaluation(source, pretrained_policy.style, c.train.eval_batch, c.train.eval_examples, skipped)
    check()
    for i, batch in enumerate(batches):
        done += predict(
            params, lora, pretrained_policy, c, device_mesh, batch, jax.random.fold_in(root, i), segmenter, text_scorers
        )
        check()
    if skipped.count and not done:
        raise json_files.DataError(
            f"none of the {skipped.count} held-out examples of {source!r} could be used; the warnings say why"
        )
    return done


def figures(predictions: list[Prediction], skipped: int = 0) -> dict[str, float]:
    """`eval/...` numbers of all tasks, and how many examples were `skipped`, which no other number counts.

    `eval/<task>/<modality>/...` and `eval/mean` of table.figures; reward columns, each over the queries whose task has
    it; how true the twins are (`eval/twin/...`, see evaluation/benchmarks/twin_fidelity.py). Of segmentation on
    pictures also, by their short names: gIoU and cIoU with the interval of gIoU, and gIoU by category and level.
    """
    if not predictions:
        return {"eval/examples": 0, "eval/examples_skipped": skipped}
    rows = [row(p) for p in predictions]
    out = _regions([r for r in rows if (r["task"], r["modality"]) == ("segmentation", "picture")])
    out |= {
        "eval/examples": len(predictions),
        "eval/examples_skipped": skipped,
        "eval/sound": float(np.mean([p.transcript.sound for p in predictions])),
        "eval/reasoned": float(np.mean([p.transcript.reasoned for p in predictions])),
        "eval/segmenter_failed": sum(p.outcome.failed for p in predictions),
    }
    for name in (*score.COLUMNS, "reward"):
        values = [p.columns[name] for p in predictions if name in p.columns]
        out |= {f"eval/{name}": float(np.mean(values))} if values else {}
    true = twin_fidelity.figures([p.fidelity for p in predictions if p.fidelity is not None])
    return out | table.figures(rows) | {f"eval/twin/{name}": value for name, value in true.items()}


def _regions(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of segmentation on pictures."""
    if not rows:
        return {}
    overlaps = table.overlaps(rows)
    low, high = segmentation.bootstrap(overlaps, segmentation.giou)
    groups = collections.defaultdict(list)
    for r, overlap in zip(rows, overlaps):
        groups[f"category/{r['category'] or 'unknown'}"].append(overlap)
        groups[f"level/{r['level']}"].append(overlap)
    return {
        "eval/giou": segmentation.giou(overlaps), "eval/giou_low": low, "eval/giou_high": high,
        "eval/ciou": segmentation.ciou(overlaps),
        **{f"eval/giou/{name}": segmentation.giou(group) for name, group in sorted(groups.items())},
    }  # fmt: skip


def row(prediction: Prediction) -> dict[str, Any]:
    """What predictions.jsonl says of one query; evaluation/table.py makes the table of these rows alone."""
    p, e = prediction, prediction.example
    answer = p.transcript.answer
    found = {
        "uid": e.uid, "query": e.query, "task": e.task, "modality": measures.modality(p.outcome),
        "category": e.category, "level": e.level, "transcript": p.transcript.text, "sound": p.transcript.sound,
        "faults": [dataclasses.asdict(f) for f in p.transcript.faults], "thought": p.transcript.thought,
        "columns": p.columns, **p.measures,
        "answer": json.loads(text.dumps_answer(answer)) if answer else None,
        "twin": json.loads(text.dumps_twin(p.transcript.twin)) if p.transcript.twin else None,
        "references": list(e.target.references),
    }  # fmt: skip
    return found | {"metric": table.main_metric(e.task, found["modality"]), "value": table.value(found)}


def write(folder: Path, predictions: list[Prediction], pictures: int) -> None:
    """Writes predictions.jsonl, and the first `pictures` of them as PNG files beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, p in enumerate(predictions):
        line = row(p)
        if i < pictures:
            line["pictures"] = {}
            for kind, image in draw_prediction(p):
                line["pictures"][kind] = f"{i:04d}_{kind}.png"
                (folder / line["pictures"][kind]).write_bytes(draw.to_png(image))
        lines.append(json.dumps(line) + "\n")  # ASCII, so that lone surrogates of a completion can be written
    with atomic.replacing(folder / "predictions.jsonl") as partial:
        partial.write_text("".join(lines), "utf-8")


def draw_prediction(p: Prediction) -> Iterator[tuple[str, np.ndarray]]:
    """(kind, uint8[h, w, 3]): the picture, the twin over it, and where they point the target and the answer.

    Of a video its first frame.
    """
    image = draw.shrink(p.example.image)
    yield "image", draw.overlay(image)
    if p.transcript.twin:
        yield "twin", draw_twin(p, image)
    target, answer = p.example.target, p.outcome
    if p.example.task == "grounding":
        yield "target", draw.overlay(image, boxes=target.boxes)
        if p.transcript.sound:
            yield "answer", draw.overlay(image, boxes=answer.boxes)
    elif p.example.task == "segmentation":
        yield "target", draw.overlay(image, mask=target.mask)
        if answer.mask is not None:
            yield "answer", draw.overlay(image, mask=answer.mask, target=target.mask)


def draw_twin(p: Prediction, image: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3]: the objects of the predicted twin, which must be there, over `image`, the first frame."""
    objects = tracks.first(p.transcript.twin).objects
    boxes = np.array([text.to_unit(o.box, p.canvas) for o in objects], np.float32).reshape(-1, 4)
    return draw.overlay(image, boxes=boxes, names=[f"{o.id} {o.label}" for o in objects])


def open_folder(folder: Path) -> Path:
    """Makes the folder for results, before the work for them. Raises ConfigError where it can not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise config.ConfigError(
            f"can not write to {folder}: {error.strerror or error}; expected a folder that this user may create and"
            " write; choose another --workdir"
        ) from None


def _pad(x, size: int):
    """Repeats the last row until there are `size`."""
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), 0)]) if len(x) < size else x
