"""The modes of main.py: checked settings in, an exit status out, and errors of the user's as one clear message."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dtr1_jax import bundle as bundles
from dtr1_jax import checkpoint, coldstart, config, evaluate, infer, interrupt, mesh, train
from dtr1_jax.data import files, images, prompts, sources, tokens
from dtr1_jax.models import weights
from dtr1_jax.rewards import score
from dtr1_jax.specialists.segment import Segmenter
from dtr1_jax.workers import WorkerError

EXPECTED = (
    config.ConfigError, checkpoint.CheckpointError, weights.WeightsError, files.DataError, images.ImageError,
    prompts.PromptError, tokens.TokenizerError, WorkerError, train.DivergedError,
)  # fmt: skip
STOPPED = 130  # exit status of a run that saved and left because it was asked to

log = logging.getLogger(__name__)


def run(
    mode: str, values: ConfigDict, workdir: str | None, *, image: str | None = None, query: str | None = None
) -> int:
    """Runs a mode; returns the exit status: 0 done, 1 an error of the user's (printed), 130 stopped by a signal."""
    quiet()
    try:
        c = config.from_configdict(values)
        folder = Path(workdir or f"runs/{c.data.task}").expanduser()
        if mode == "train":
            print(f"report: {train.run(c, folder)}")
        elif mode == "sft":
            print(f"weights: {coldstart.run(c, folder)}")
        elif mode == "eval":
            print(json.dumps(held_out(c, folder), indent=2))
        elif mode == "infer":
            print(f"answer: {infer.run(c, folder, image, query)}")
        else:
            raise config.ConfigError(f"--mode: expected train, sft, eval or infer, got {mode!r}")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except interrupt.Interrupted as error:
        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    return 0


def held_out(c: config.Config, folder: Path) -> dict[str, float]:
    """Scores the newest checkpoint in the folder, or the policy's own weights, on the held-out split.

    Writes eval.json, and predictions.jsonl with pictures in gallery/eval.
    """
    score.check_weights(c.reward.weights)
    bundle, device_mesh = bundles.load(c), mesh.make(c.mesh)
    source = sources.make(c.data, c.data.eval_split)
    current = train.trained(c, bundle, device_mesh, folder)
    with Segmenter(c.reward.segmenter, c.reward.workers, c.reward.deadline) as segmenter:
        log.info("masks by %s", segmenter.description)
        predictions = evaluate.evaluate(*current, bundle, c, device_mesh, source, segmenter)
    numbers = evaluate.figures(predictions)
    evaluate.write(folder / "gallery" / "eval", predictions, c.train.gallery)
    partial = folder / "eval.json.partial"
    partial.write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")
    os.replace(partial, folder / "eval.json")
    return numbers


def quiet() -> None:
    """Our messages and others' warnings only; and compiled programs are kept between runs where the user has a cache."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.WARNING)
    logging.getLogger("dtr1_jax").setLevel(logging.INFO)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dtr1_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
