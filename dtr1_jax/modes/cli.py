"""The modes of main.py: checked settings in, an exit status out, and errors of the user's as one clear message."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dtr1_jax import config, mesh
from dtr1_jax.data import image_files, json_files, pipeline, prompts, sources, tokenizer
from dtr1_jax.evaluation import predict, table
from dtr1_jax.models import sentence_encoder
from dtr1_jax.models.weights import native
from dtr1_jax.modes import export, infer, plan, sft, train
from dtr1_jax.policies import pretrained
from dtr1_jax.rewards import score
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.run import atomic, checkpoint, interrupt
from dtr1_jax.run.workers import WorkerError
from dtr1_jax.specialists.segmenter import Segmenter

EXPECTED = (
    config.ConfigError, checkpoint.CheckpointError, native.WeightsError, json_files.DataError, image_files.ImageError,
    prompts.PromptError, tokenizer.TokenizerError, WorkerError, train.DivergedError, OSError,
)  # fmt: skip
STOPPED = 130  # exit status of a run that left because it was asked to

log = logging.getLogger(__name__)


def run(
    mode: str, values: ConfigDict | None, workdir: str | None, *, image: str | list[str] | None = None,
    query: str | None = None, video: str | None = None, task: str | None = None, distributed: bool = False,
    out: str | None = None, adapter: bool = False,
) -> int:  # fmt: skip
    """Runs a mode; returns the exit status: 0 done, 1 an error of the user's (printed), 130 stopped by a signal.

    Without `values` the settings are those that the run in `workdir` was begun with.
    """
    try:
        c = begun(workdir) if values is None else config.from_configdict(values)
        folder = Path(workdir or f"runs/{c.data.task}").expanduser()
        join(distributed)
        if mode == "train":
            say(f"report: {train.run(c, folder)}")
        elif mode == "sft":
            say(f"weights: {sft.run(c, folder)}")
        elif mode == "eval":
            say(held_out(c, folder))
        elif mode == "infer":
            say(f"answer: {infer.run(c, folder, image, query, video=video, task=task)}")
        elif mode == "export":
            say(f"exported: {export.run(c, folder if workdir else None, out, adapter)}")
        elif mode == "plan":
            say(plan.run(c))
        else:
            raise config.ConfigError(f"--mode: expected train, sft, eval, infer, export or plan, got {mode!r}")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except interrupt.Interrupted as error:
        print(f"{error} and saved; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("stopped at once; what was saved before is untouched", file=sys.stderr)
        return STOPPED
    return 0


def begun(workdir: str) -> config.Config:
    """The settings that the run in `workdir` was begun with. Raises ConfigError naming its config.json."""
    path = Path(workdir).expanduser() / "config.json"
    try:
        return config.from_configdict(ConfigDict(json.loads(path.read_text("utf-8"))))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise config.ConfigError(
            f"{path}: expected a JSON object with the settings of a run, as --mode=train writes it; give --config, such"
            f" as --config=configs/seg.py, instead: {getattr(error, 'strerror', None) or error}"
        ) from error


def say(text: str) -> None:
    """Prints a result, once for all processes of a run."""
    if jax.process_index() == 0:
        print(text)


def held_out(c: config.Config, folder: Path) -> str:
    """Scores the newest checkpoint in the folder, or the policy's own weights, on the held-out split.

    Returns the table. Writes eval.json, with the figures and the cells of the table, and predictions.jsonl, from which
    table.recompute makes both again, with pictures in gallery/eval. The folder is made once the settings have proved
    good.
    """
    score.check_weights(c.reward.weights)
    if not c.train.eval_examples:
        raise config.ConfigError("config.train.eval_examples: expected at least 1 for --mode=eval, got 0")
    pretrained_policy, device_mesh = pretrained.load_policy(c), mesh.make(c.mesh)
    mesh.check_batch(device_mesh, "train.eval_batch", c.train.eval_batch)
    source = sources.make(c.data, c.data.eval_split)
    current = train.trained(c, pretrained_policy, device_mesh, folder)
    predict.open_folder(folder)
    with (
        Segmenter(c.reward.segmenter, c.reward.workers, c.reward.deadline) as segmenter,
        TextScorers(c.reward, sentence_encoder.embedder) as text_scorers,
    ):
        log.info("masks by %s", segmenter.description)
        skipped = pipeline.Skipped()
        predictions = predict.evaluate(
            *current, pretrained_policy, c, device_mesh, source, segmenter, text_scorers=text_scorers, skipped=skipped
        )
    cells = table.cells([predict.row(p) for p in predictions])
    numbers = predict.figures(predictions, skipped.count) | {"table": [dataclasses.asdict(cell) for cell in cells]}
    if jax.process_index() == 0:
        predict.write(folder / "gallery" / "eval", predictions, c.train.gallery)
        with atomic.replacing(folder / "eval.json") as partial:
            partial.write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")
    left = f"{skipped.count} more could not be used and count nowhere; the warnings say why"
    return "\n".join([table.format_table(cells)] + [left] * (skipped.count > 0))


def join(asked: bool = False) -> None:
    """Joins the other processes of a run on several hosts; must come before anything touches a device.

    Does so where `asked`, where JAX_COORDINATOR_ADDRESS is set, and on the workers of a TPU pod. JAX finds the
    processes by itself on TPU pods and under Slurm, Open MPI and Kubernetes. Elsewhere start one process a host with
    JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, 1, ...). Raises ConfigError.
    """
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if not (asked or pod or "JAX_COORDINATOR_ADDRESS" in os.environ):
        return
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:
        jax.distributed.initialize(**{k: int(os.environ[name]) for k, name in names.items() if name in os.environ})
    except (ValueError, RuntimeError) as error:
        raise config.ConfigError(
            f"can not join the processes of this run: {error}; expected a TPU pod, Slurm, Open MPI or Kubernetes, or"
            " JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error
    if jax.process_index():
        logging.getLogger("dtr1_jax").setLevel(logging.WARNING)  # the first process speaks for all


def quiet() -> None:
    """Plain lines on stderr: our messages, and others' warnings with their names. Compiled programs are kept.

    They are kept in a folder of the user's cache, or where JAX_COMPILATION_CACHE_DIR says.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)  # absl's lines begin with a thread id
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax, which reports every save
    logging.getLogger("dtr1_jax").setLevel(logging.INFO)
    # transformers would advise to install PyTorch
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtr1_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))


class _Plain(logging.Formatter):
    """The message alone where it is ours; on a terminal it wipes the progress line, which comes again."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            ours = record.name.startswith("dtr1_jax")
            text = f"{record.levelname.lower()}: " + (text if ours else f"{record.name}: {text}")
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return ("\r\x1b[K" if sys.stderr.isatty() else "") + text
