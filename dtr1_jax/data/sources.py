"""Where examples come from, by the name in the settings.

A source is a random-access sequence of examples: `len(source)`, `source[i] -> types.Example`, and a `repr` that is the
same in every run, by which a resumed run knows its data. Files are opened by `make`; a picture is read when its example
is asked for, and raises images.ImageError where it is broken, so that one file costs one example and not the run.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from dtr1_jax import config
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import coco, davis, easy_vqa, jsonl
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.types import TASKS, Example

__all__ = ["DataError", "Source", "TwinWorld", "cells", "frames", "make"]

TRAIN, HELDOUT = 2**31 - 1, 4096  # examples of TwinWorld's splits
SERVED = {  # source: the tasks for which it has targets
    "twinworld": TASKS,
    "coco": ("segmentation", "grounding"),
    "davis": ("segmentation", "grounding"),
    "jsonl": TASKS,
    "easy_vqa": ("vqa",),
}
_FRAMES = {"twinworld": 4, "davis": davis.FRAMES}


class Source(Protocol):
    """A random-access sequence of examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclasses.dataclass(frozen=True)
class TwinWorld:
    """Generated scenes; example i is a pure function of the fields and i. `size` is the picture's side in pixels.

    `frames` are those of a video; 0 = a source of pictures.
    """

    split: str
    task: str
    seed: int
    size: int
    min_objects: int
    max_objects: int
    frames: int = 0

    def __len__(self) -> int:
        return TRAIN if self.split == "train" else HELDOUT

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises IndexError."""
        return tasks.example(
            self.task, self.seed, self.split, range(len(self))[index], video=self.frames > 0, size=self.size,
            frames=self.frames, min_objects=self.min_objects, max_objects=self.max_objects,
        )  # fmt: skip


def make(data: config.Data, split: str) -> Source:
    """The source that the settings name; of several cells, their Mixture.

    Args:
      data: `config.data`.
      split: which part of it; coco_annotations.py, davis.py, jsonl.py and easy_vqa.py say how it is found in files.

    Raises:
      DataError: a file is missing, malformed or has nothing for this split or task; the message says which and why.
    """
    if data.source == "jsonl":  # each line may say its own task
        shown = data.frames or jsonl.FRAMES
        return jsonl.open_jsonl_source(data.root, split, data.task, max_objects=data.max_objects, frames=shown)
    wanted = cells(data)
    for task, _, _ in wanted:
        if task not in SERVED[data.source]:
            known, named = ", ".join(SERVED[data.source]), f"data.task = {data.task!r}"
            named += f" with data.mix.{task} above 0" * (data.task == "unified")
            raise DataError(
                f"data.task: expected one of {known}, for which source {data.source!r} has targets, got {named}"
            )
    parts = tuple(_cell(data, split, task, video) for task, video, _ in wanted)
    return parts[0] if len(parts) == 1 else Mixture(parts, tuple(weight for _, _, weight in wanted))


def cells(data: config.Data) -> list[tuple[str, bool, float]]:
    """(task, whether it is about videos, weight above 0) of each cell: the pictures' tasks first, then the videos'."""
    weights = data.mix if data.task == "unified" else {data.task: 1.0}
    found = [
        (task, video, weights.get(task, 0.0) * share)
        for video, share in ((False, 1 - data.video), (True, data.video))
        for task in TASKS
    ]
    return [cell for cell in found if cell[2] > 0]


def frames(data: config.Data) -> int:
    """Frames of a video of the source, at most; 1 where it has only pictures, as far as the settings say."""
    if data.source in ("coco", "easy_vqa") or (data.source == "twinworld" and not data.video):
        return 1
    return data.frames or _FRAMES.get(data.source, 1)


def _cell(data: config.Data, split: str, task: str, video: bool) -> Source:
    if data.source == "coco":
        return coco.open_coco_source(data.root, split, task, seed=data.seed, max_objects=data.max_objects)
    if data.source == "davis":
        return davis.open_davis_source(
            data.root, split, task, seed=data.seed, max_objects=data.max_objects, frames=frames(data)
        )
    if data.source == "easy_vqa":
        return easy_vqa.open_easy_vqa_source(data.root, split)
    most = data.max_video_objects if video else data.max_objects
    source = TwinWorld(
        split, task, data.seed, data.image_size, min(data.min_objects, most), most, frames(data) if video else 0
    )
    try:
        source[0]
    except ValueError as error:  # settings that it can not draw
        raise DataError(f"data: {error}") from None
    return source
