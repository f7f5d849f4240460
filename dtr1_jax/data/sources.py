"""Where examples come from, by the name in the settings.

A source is a random-access sequence of examples: `len(source)`, `source[i] -> types.Example`, and a `repr` that is the
same in every run, by which a resumed run knows its data. Files are opened by `make`; a picture is read when its example
is asked for, and raises images.ImageError where it is broken, so that one file costs one example and not the run.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from dtr1_jax import config
from dtr1_jax.data import coco, davis, jsonl
from dtr1_jax.data.files import DataError
from dtr1_jax.data.twinworld import generate
from dtr1_jax.types import Example

__all__ = ["DataError", "Source", "TwinWorld", "make"]

TRAIN, HELDOUT = 2**31 - 1, 4096  # examples of TwinWorld's splits
TASKS = ("segmentation", "grounding")  # for which the sources have targets


class Source(Protocol):
    """A random-access sequence of examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclasses.dataclass(frozen=True)
class TwinWorld:
    """Generated scenes; example i is a pure function of the fields and i. `size` is the picture's side in pixels."""

    split: str
    task: str
    seed: int
    size: int
    min_objects: int
    max_objects: int

    def __len__(self) -> int:
        return TRAIN if self.split == "train" else HELDOUT

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises IndexError."""
        index = range(len(self))[index]
        example = generate.example(
            self.seed, self.split, index, size=self.size, min_objects=self.min_objects, max_objects=self.max_objects
        )
        return example if example.task == self.task else dataclasses.replace(example, task=self.task)


def make(data: config.Data, split: str) -> Source:
    """The source that the settings name.

    Args:
      data: `config.data`.
      split: which part of it; coco_format.py, davis.py and jsonl.py say how it is found in files.

    Raises:
      DataError: a file is missing, malformed or has nothing for this split or task; the message says which and why.
    """
    if data.task not in TASKS:
        known = " and ".join(TASKS)
        raise DataError(f"data.task: expected {known}, for which source {data.source!r} has targets, got {data.task!r}")
    if data.source == "coco":
        return coco.open_folder(data.root, split, data.task, seed=data.seed, max_objects=data.max_objects)
    if data.source == "davis":
        return davis.open_folder(data.root, split, data.task, seed=data.seed, max_objects=data.max_objects)
    if data.source == "jsonl":
        return jsonl.open_file(data.root, split, data.task, max_objects=data.max_objects)
    source = TwinWorld(split, data.task, data.seed, data.image_size, data.min_objects, data.max_objects)
    try:
        source[0]
    except ValueError as error:  # settings that it can not draw
        raise DataError(f"data: {error}") from None
    return source
