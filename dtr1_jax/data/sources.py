"""Where examples come from, by the name in the settings.

A source is a random-access sequence of examples: `len(source)`, `source[i] -> types.Example`, and a `repr` that is the
same in every run, by which a resumed run recognises its data. `open_source` opens the annotation files. A picture is
loaded when its example is indexed, and raises image_files.ImageError if it is broken: a broken file costs one
example, and not the run.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from dtr1_jax import config, places
from dtr1_jax.data import public_sources
from dtr1_jax.data.conversion import converted_lines
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import coco, davis, easy_vqa, jsonl
from dtr1_jax.data.readers.benchmark import Benchmark
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.run import local_copy
from dtr1_jax.types import TASKS, Example

TRAIN, HELDOUT = 2**31 - 1, 4096  # examples of TwinWorld's splits
SERVED = {  # source -> the tasks for which it has targets
    "twinworld": TASKS,
    "coco": ("segmentation", "grounding"),
    "davis": ("segmentation", "grounding"),
    "jsonl": TASKS,
    "foreign": TASKS,
    "easy_vqa": ("vqa",),
    **public_sources.SERVED,
}
_FRAMES = {  # source -> frames of a video if data.frames is 0
    "twinworld": 4, "davis": davis.FRAMES, **dict.fromkeys(public_sources.VIDEOS, public_sources.FRAMES),
}  # fmt: skip


class Source(Protocol):
    """A random-access sequence of examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclasses.dataclass(frozen=True)
class TwinWorld:
    """Generated scenes; example i is a pure function of the fields and i.

    Attributes:
      split: "train" or "heldout".
      task: one of types.TASKS.
      seed: of the scenes.
      size: side of the picture, pixels.
      min_objects, max_objects: limits on the number of objects in a scene.
      frames: of a video; 0 = a source of pictures.
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


def open_source(data: config.Data, split: str) -> Source:
    """Opens the source that the settings name. Where they name several cells, it is the Mixture of the cells.

    Args:
      data: `config.data`.
      split: which part of the data set; each reader (data/readers/) documents how it finds the splits in its files.

    Raises:
      PlaceError: data.root or data.phrases is in a bucket and cannot be copied to this machine.
      DataError: a file is missing, malformed or has nothing for this split or task; the message names file and cause.
    """
    data = _on_this_machine(data)
    if data.source == "foreign":
        data = dataclasses.replace(data, source="jsonl", root=str(converted_lines.converted_lines(data.root)))
    if data.source == "jsonl":  # each line may name its own task
        frames = data.frames or jsonl.FRAMES
        return jsonl.open_jsonl_source(data.root, split, data.task, max_objects=data.max_objects, frames=frames)
    weighted = cells(data)
    for task, _, _ in weighted:
        if task not in SERVED[data.source]:
            known, setting = ", ".join(SERVED[data.source]), f"data.task = {data.task!r}"
            setting += f" with data.mix.{task} above 0" * (data.task == "unified")
            raise DataError(
                f"data.task: expected one of {known}, for which source {data.source!r} has targets, got {setting}"
            )
    parts = tuple(_open_cell(data, split, task, video) for task, video, _ in weighted)
    return parts[0] if len(parts) == 1 else Mixture(parts, tuple(weight for _, _, weight in weighted))


def _on_this_machine(data: config.Data) -> config.Data:
    """The settings, where files that are in a bucket are copies on this machine. Raises PlaceError."""
    root = _local_root(data.root) if data.root else ""
    phrases = str(local_copy.fetch(data.phrases, "config.data.phrases")) if data.phrases else ""
    return dataclasses.replace(data, root=root, phrases=phrases)


def _local_root(root: str) -> str:
    """data.root on this machine. Of a file in a bucket the folder is copied, because the pictures are beside the file.

    Raises PlaceError if it cannot be copied, or if that folder would be the whole bucket.
    """
    if not places.is_bucket(root) or not places.is_file(root.rstrip("/")):
        return str(local_copy.fetch(root, "config.data.root"))
    root = root.rstrip("/")
    folder, name = root.rsplit("/", 1)
    if folder.endswith("/annotations"):  # the layout of COCO
        folder, name = folder.rsplit("/", 1)[0], f"annotations/{name}"
    if folder.count("/") < 3:
        raise places.PlaceError(
            f"config.data.root={root}: expected a folder of the bucket that holds this file and its pictures, because "
            "all of it is copied to this machine; got a file at the bucket's top"
        )
    return str(local_copy.fetch(folder, "config.data.root") / name)


def shrunk(source: Source, max_pixels: int) -> Source:
    """The source, with pictures shrunk to at most `max_pixels` pixels while they are decoded, where its reader can.

    The masks of its examples keep the size of the files; working_size.fit brings them to that of their pictures.
    """
    if isinstance(source, Mixture):
        return dataclasses.replace(source, parts=tuple(shrunk(part, max_pixels) for part in source.parts))
    if isinstance(source, coco.Coco | jsonl.Jsonl | Benchmark):
        return dataclasses.replace(source, max_pixels=max_pixels)
    return source


def truth_free(source: Source) -> Source:
    """The source, where of too many objects only the largest stay, if its reader can choose so.

    For twins that the prompt shows: if the objects of the answer stayed first, the twin would tell something of it.
    """
    if isinstance(source, Mixture):
        return dataclasses.replace(source, parts=tuple(map(truth_free, source.parts)))
    return dataclasses.replace(source, by_truth=False) if isinstance(source, jsonl.Jsonl | Benchmark) else source


def cells(data: config.Data) -> list[tuple[str, bool, float]]:
    """The cells that the settings name: (task, whether it is about videos, weight above 0).

    The tasks about pictures come first, then those about videos.
    """
    weights = data.mix if data.task == "unified" else {data.task: 1.0}
    weighted = [
        (task, video, weights.get(task, 0.0) * share)
        for video, share in ((False, 1 - data.video), (True, data.video))
        for task in TASKS
    ]
    return [cell for cell in weighted if cell[2] > 0]


def max_frames(data: config.Data) -> int:
    """The largest number of frames in a video of the source; 1 where the settings name a source of pictures only."""
    pictures = {"coco", "easy_vqa", *public_sources.SERVED} - {*public_sources.VIDEOS}
    if data.source in pictures or (data.source == "twinworld" and not data.video):
        return 1
    return data.frames or _FRAMES.get(data.source, 1)


def _open_cell(data: config.Data, split: str, task: str, video: bool) -> Source:
    if data.source == "coco":
        return coco.open_coco_source(
            data.root, split, task, seed=data.seed, max_objects=data.max_objects, phrases=data.phrases
        )
    if data.source == "davis":
        return davis.open_davis_source(
            data.root, split, task, seed=data.seed, max_objects=data.max_objects, frames=max_frames(data)
        )
    if data.source == "easy_vqa":
        return easy_vqa.open_easy_vqa_source(data.root, split)
    if data.source in public_sources.SERVED:
        return public_sources.open_public_source(data, split, task)
    most = data.max_video_objects if video else data.max_objects
    source = TwinWorld(
        split, task, data.seed, data.image_size, min(data.min_objects, most), most, max_frames(data) if video else 0
    )
    try:
        source[0]
    except ValueError as error:  # no scene can have these settings
        raise DataError(f"data: {error}") from None
    return source
