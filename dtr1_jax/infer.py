"""`--mode=infer`: pictures or a video and one question -> twin, answer, mask and overlay as files."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import jax
import numpy as np

from dtr1_jax import bundle as bundles
from dtr1_jax import config, draw, evaluate, mesh, train
from dtr1_jax.data import media, pipeline
from dtr1_jax.specialists.segment import Segmenter
from dtr1_jax.types import Example, Target

log = logging.getLogger(__name__)


def run(c: config.Config, workdir: Path, image: str | None, query: str | None) -> Path:
    """Answers and writes into a new folder `workdir/infer/<name of the picture>`; returns it.

    `image` names a picture, a video file or a folder of frames, or several of them with commas between; boxes and masks
    are those of the first (of a video: of its first frame).
    twin.json (in the frame and size that the policy wrote), twin.png (the same, drawn), answer.json, transcript.txt,
    mask.png (white = answer, at the picture's own size) and overlay.png. An unsound transcript has no mask and may have
    no twin; answer.json says its faults. Raises ConfigError where image or query is missing or the policy sees nothing,
    ImageError for a bad picture or video, PromptError for a query that is too long.
    """
    if not image or not query or not query.strip():
        raise config.ConfigError('--mode=infer needs --image=photo.jpg and --query="what to look for"')
    bundle = bundles.load(c)
    if bundle.style.geometry is None:
        raise config.ConfigError(
            f"--mode=infer needs a policy that sees pictures, got {c.policy.name}, which reads text"
        )
    shown = tuple(media.load(path, bundle.style.geometry) for path in _paths(image))
    pixels = media.first_frame(shown)
    nothing = Target(np.zeros(pixels.shape[:2], bool), np.zeros((0, 4), np.float32))
    words = query.strip().lower() if c.policy.prompt == "brief" else query.strip()  # the cold start's are lower case
    example = Example(uid=str(image), image=pixels, query=words, task=c.data.task, target=nothing, media=shown)
    device_mesh = mesh.make(c.mesh)
    batch = pipeline.single(example, bundle.style)
    weights = train.trained(c, bundle, device_mesh, workdir)
    answers = evaluate.open_folder(Path(workdir) / "infer")
    with Segmenter(c.reward.segmenter, c.reward.workers, 10 * c.reward.deadline) as segmenter:
        prediction = evaluate.predict(*weights, bundle, c, device_mesh, batch, jax.random.key(c.seed), segmenter)[0]
        description = segmenter.description
    folder = _new_folder(answers, Path(_paths(image)[0]).stem)
    write(folder, prediction, query, description)
    return folder


def _paths(named: str) -> list[str]:
    """One path, also where its name has commas in it, or several."""
    return [named] if Path(named).exists() else [part.strip() for part in named.split(",")]


def write(folder: Path, p: evaluate.Prediction, query: str, segmenter: str) -> None:
    """The files of one answer, as `run` says."""
    row = evaluate.row(p)
    (folder / "transcript.txt").write_text(p.transcript.text, "utf-8", errors="replace")
    if row["twin"]:
        twin = {"frame": p.canvas.frame.value, **row["twin"]}
        (folder / "twin.json").write_text(json.dumps(twin, indent=2) + "\n", "utf-8")
    height, width = p.example.image.shape[:2]
    answer = {
        "query": query, "sound": p.transcript.sound, "answer": row["answer"], "thought": p.transcript.thought,
        "boxes_pixels": np.round(p.outcome.boxes * [width, height, width, height], 1).tolist(),
        "masks_by": segmenter, "segmenter_failed": p.outcome.failed,
        "faults": [dataclasses.asdict(f) for f in p.transcript.faults],
    }  # fmt: skip
    (folder / "answer.json").write_text(json.dumps(answer, indent=2) + "\n", "utf-8")
    if p.outcome.mask is not None:
        (folder / "mask.png").write_bytes(draw.to_png(p.outcome.mask))
    small = draw.shrink(p.example.image, evaluate.LARGEST)
    (folder / "overlay.png").write_bytes(draw.to_png(draw.overlay(small, boxes=p.outcome.boxes, mask=p.outcome.mask)))
    if p.transcript.twin:
        (folder / "twin.png").write_bytes(draw.to_png(evaluate.draw_twin(p, small)))


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
