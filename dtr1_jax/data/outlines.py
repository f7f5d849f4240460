"""What a source knows about its examples before a picture is decoded: tasks, labels and picture files."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path

from dtr1_jax.data import video_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import coco_layout, file_names, worded_videos
from dtr1_jax.data.readers.benchmark import Benchmark, photo_file
from dtr1_jax.data.readers.coco import Coco
from dtr1_jax.data.readers.coco_index import Pictures
from dtr1_jax.data.readers.davis import Davis
from dtr1_jax.data.readers.easy_vqa import EasyVqa
from dtr1_jax.data.readers.jsonl import Jsonl
from dtr1_jax.data.readers.jsonl_large import Lines
from dtr1_jax.data.sources import Source, TwinWorld
from dtr1_jax.types import POINTING


def task_counts(source: Source) -> dict[str, int]:
    """Number of examples by task; " (video)" is added to the task of examples about videos."""
    if isinstance(source, Mixture):
        return _mixed_counts(source)
    if isinstance(source, Jsonl) and isinstance(source.lines, Lines):
        return {_key(*name): count for name, count in source.lines.task_counts().items()}
    if isinstance(source, Jsonl):
        return dict(collections.Counter(_key(line.task, line.video is not None) for line in source.lines))
    if isinstance(source, EasyVqa):
        return {"vqa": len(source)}
    video = isinstance(source, Davis) or (isinstance(source, TwinWorld | Benchmark) and source.frames > 0)
    return {_key(getattr(source, "task", "examples"), video): len(source)}


def label_counts(source: Source) -> dict[str, int] | None:
    """Annotated objects by label, the most frequent first; None if only the decoded examples know them."""
    if isinstance(source, Coco) and isinstance(source.annotations.pictures, Pictures):
        return dict(collections.Counter(source.annotations.pictures.label_counts()).most_common())
    if isinstance(source, Coco):
        notes = (note for picture in source.annotations.pictures for note in picture.annotations if not note.crowd)
        return dict(collections.Counter(note.label for note in notes).most_common())
    if isinstance(source, Jsonl) and not isinstance(source.lines, Lines):
        scenes = {(line.image, str(line.objects)): line.objects for line in source.lines}  # several queries, one scene
        labels = collections.Counter(item["label"] for objects in scenes.values() for item in objects)
        return dict(labels.most_common())
    return None


def picture_files(source: Source) -> list[Path]:
    """The files of all pictures, frames and videos, each once, in the order of the examples; [] if it is generated."""
    return list(dict.fromkeys(_files(source)))


def _files(source: Source) -> Iterator[Path]:
    if isinstance(source, Mixture):
        for part in source.parts:
            yield from _files(part)
    elif isinstance(source, Coco):
        folders = coco_layout.photo_folders(source.annotations.path)
        pictures = source.annotations.pictures
        names = pictures.files() if isinstance(pictures, Pictures) else [picture.file for picture in pictures]
        for name in names:
            yield file_names.find_file(folders, name)
    elif isinstance(source, Jsonl) and isinstance(source.lines, Lines):
        for name in source.lines.files():
            path = file_names.find_file([source.path.parent], name, or_folder=True)
            yield from _frames(path) if file_names.is_folder(path) else (path,)
    elif isinstance(source, Jsonl):
        for line in source.lines:
            for path in (line.image, *line.others):
                yield from _frames(path) if file_names.is_folder(path) else (path,)
    elif isinstance(source, Davis):
        for folder, _ in source.items:
            yield from folder.frames
    elif isinstance(source, EasyVqa):
        for _, _, number, _ in source.items:
            yield source.folder / "images" / f"{number}.png"
    elif isinstance(source, Benchmark) and source.frames and source.task not in POINTING:
        for video in {id(query.photo): query.photo for query in source.queries}.values():
            yield from worded_videos.files(video)
    elif isinstance(source, Benchmark) and source.frames:
        for whole in {query.more.folder: query.more for query in source.queries}.values():
            yield from whole.files
    elif isinstance(source, Benchmark):
        for photo in {id(query.photo): query.photo for query in source.queries}.values():
            if photo.folders:
                yield photo_file(photo)


def _frames(folder: Path) -> list[Path]:
    try:
        return video_files.list_frames(folder)
    except (ImageError, OSError):  # the example itself reports it
        return []


def _key(task: str, video: bool) -> str:
    return f"{task} (video)" if video else task


def _mixed_counts(source: Mixture) -> dict[str, int]:
    """Each part has its slots of all whole cycles, and those of the cycle that is cut off at the end."""
    places, length = source.places, len(source)
    cycles, rest = divmod(length, len(places.part))
    last = collections.Counter(places.at(place)[0] for place in range(length - rest, length))
    counts: collections.Counter[str] = collections.Counter()
    for i, part in enumerate(source.parts):
        (task,) = task_counts(part)
        counts[task] += cycles * len(places.slots[i]) + last[i]
    return dict(counts)
