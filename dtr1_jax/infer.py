"""`--mode=infer`: one picture and one question -> twin, answer, mask and overlay as files."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np

from dtr1_jax import bundle as bundles
from dtr1_jax import config, draw, evaluate, mesh, train
from dtr1_jax.data import images, pipeline
from dtr1_jax.specialists.segment import Segmenter
from dtr1_jax.types import Example, Target

log = logging.getLogger(__name__)


def run(c: config.Config, workdir: Path, image: str | None, query: str | None) -> Path:
    """Answers and writes into a new folder `workdir/infer/<name of the picture>`; returns it.

    twin.json (text frame and size as the policy wrote it), answer.json, transcript.txt, mask.png (white = answer, at the
    picture's own size), overlay.png. Raises ConfigError where image or query is missing, ImageError for a bad picture.
    """
    if not image or not query or not query.strip():
        raise config.ConfigError('--mode=infer needs --image=photo.jpg and --query="what to look for"')
    pixels = images.load(image)
    nothing = Target(np.zeros(pixels.shape[:2], bool), np.zeros((0, 4), np.float32))
    example = Example(uid=str(image), image=pixels, query=query.strip().lower(), task=c.data.task, target=nothing)
    bundle, device_mesh = bundles.load(c), mesh.make(c.mesh)
    batch = pipeline.single(example, bundle.style)
    weights = train.trained(c, bundle, device_mesh, workdir)
    with Segmenter(c.reward.segmenter, c.reward.workers, 10 * c.reward.deadline) as segmenter:
        prediction = evaluate.predict(*weights, bundle, c, device_mesh, batch, segmenter)[0]
        description = segmenter.description
    folder = _new_folder(Path(workdir) / "infer", Path(image).stem)
    write(folder, prediction, query, description)
    return folder


def write(folder: Path, p: evaluate.Prediction, query: str, segmenter: str) -> None:
    """The files of one answer. An unsound transcript gives transcript.txt and an answer.json that says its faults."""
    row = evaluate.row(p)
    (folder / "transcript.txt").write_text(p.transcript.text, "utf-8", errors="replace")
    if row["twin"]:
        twin = {"frame": p.canvas.frame.value, **row["twin"]}
        (folder / "twin.json").write_text(json.dumps(twin, indent=2) + "\n", "utf-8")
    height, width = p.example.image.shape[:2]
    answer = {
        "query": query, "sound": p.transcript.sound, "answer": row["answer"], "thought": p.transcript.thought,
        "boxes_pixels": np.round(p.outcome.boxes * [width, height, width, height], 1).tolist(),
        "masks_by": segmenter, "faults": [dataclasses.asdict(f) for f in p.transcript.faults],
    }  # fmt: skip
    (folder / "answer.json").write_text(json.dumps(answer, indent=2) + "\n", "utf-8")
    if p.outcome.mask is not None:
        (folder / "mask.png").write_bytes(draw.to_png(p.outcome.mask))
    drawn = dict(evaluate.draw_prediction(p))
    small = draw.shrink(p.example.image, evaluate.LARGEST)
    mask = None if p.outcome.mask is None else p.outcome.mask
    (folder / "overlay.png").write_bytes(draw.to_png(draw.overlay(small, boxes=p.outcome.boxes, mask=mask)))
    if "twin" in drawn:
        (folder / "twin.png").write_bytes(draw.to_png(drawn["twin"]))


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that did not exist: name, name-2, name-3, ..., so that an earlier answer is never overwritten."""
    for i in range(1, 100_000):
        folder = parent / (name if i == 1 else f"{name}-{i}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise config.ConfigError(f"{parent}: too many answers for {name}; choose another --workdir")
