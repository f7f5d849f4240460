"""A public benchmark: the queries that each reader of one fills in, and the examples made of them.

A benchmark has its own splits, which data.train_split and data.eval_split name. "heldout" is its usual split for
validation. Queries stay in the order of the benchmark's files.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_records, coco_shapes, file_names, sized_photos
from dtr1_jax.data.readers.jsonl_fields import unit_box
from dtr1_jax.run import local_copy
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Instance, Target

LOOKED_AT = 64  # photos that are looked for when a split is opened
NO_LABEL = "object"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Thing:
    """An annotated object of a photo.

    Attributes:
      label: its category, or NO_LABEL.
      shape: polygons, RLE or box as coco_shapes.parse_shape reads them, or None if nothing is known.
      box: x1, y1, x2, y2 in pixels; None = the box around the shape.
      crowd: whether it is a region of several objects.
    """

    label: str
    shape: coco_shapes.Shape | None
    box: tuple[float, ...] | None = None
    crowd: bool = False

    @property
    def outlined(self) -> bool:
        """Whether more than its box is known."""
        return isinstance(self.shape, (tuple, dict))


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture of the benchmark, or a video about which it asks in words (worded_videos.py).

    Attributes:
      names: the names under which the file may lie, the usual one first.
      folders: where it may lie.
      size: (w, h) in pixels in the annotations; None = not said there.
      things: the annotated objects; the target of a query is some of these.
      complete: whether `things` are all objects of the photo that the benchmark annotates, so that they are its scene.
      place: where the pictures are not files, what `load_raw` of the reader needs.
    """

    names: tuple[str, ...]
    folders: tuple[Path, ...]
    size: tuple[int, int] | None = None
    things: tuple[Thing, ...] = ()
    complete: bool = False
    place: Any = None


@dataclasses.dataclass(frozen=True)
class Query:
    """One query: its text, its photo, the places of its target in photo.things, or its answers in words.

    Attributes:
      choices: the options of a question, which its text has as (A), (B), ...
      tags: words by which the benchmark reports its figures, such as "long"; () = none.
      more: what the reader's own `load` needs besides.
    """

    uid: str
    text: str
    photo: Photo
    target: tuple[int, ...] = ()
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    more: Any = None


@dataclasses.dataclass(frozen=True, repr=False)
class Benchmark:
    """The queries of one split as a source of examples (sources.Source).

    Attributes:
      load: makes the example of a query; a function at the top level of its module, so that worker processes have it.
      max_pixels: a larger photo is shrunk to this while it is decoded; masks are not.
      frames: most frames of an example; 0 = the benchmark is about pictures.
      by_truth: of too many objects of a photo, those of the target stay; False = the largest (sources.truth_free).
    """

    name: str
    root: Path
    split: str
    task: str
    queries: tuple[Query, ...]
    load: Callable[[Benchmark, Query], Example]
    max_objects: int = 7
    max_pixels: int = image_files.MAX_PIXELS
    frames: int = 0
    by_truth: bool = True

    def __repr__(self) -> str:
        root = local_copy.stable_name(self.root)[-200:]
        return (
            f"Benchmark({self.name!r}, {root!r}, split={self.split!r}, task={self.task!r}, "
            f"max_objects={self.max_objects}, queries={len(self.queries)}"
            + f", frames={self.frames}" * bool(self.frames)
            + ")"
        )

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if its photo or a shape cannot be read; IndexError."""
        query = self.queries[range(len(self.queries))[index]]
        return dataclasses.replace(self.load(self, query), benchmark=self.name, tags=query.tags)


def photo_file(photo: Photo) -> Path:
    """The path of a photo: the first of its names that is a file; the first name in the first folder if none is."""
    for name in photo.names:
        path = file_names.find_file(photo.folders, name)
        if file_names.is_file(path):
            return path
    return photo.folders[0] / photo.names[0]


def load_photo(photo: Photo, annotations: str, max_pixels: int) -> np.ndarray:
    """uint8[h, w, 3], a photo of the size that the annotations say. Raises ImageError.

    Args:
      annotations: name of the benchmark, for messages.
      max_pixels: it is shrunk to at most this many.
    """
    file = photo_file(photo)
    if photo.size is None:
        return image_files.load_image(file, max_pixels=max_pixels)
    return sized_photos.load_sized(file, photo.size, annotations, max_pixels)


def pointing_example(source: Benchmark, query: Query, image: np.ndarray | None = None) -> Example:
    """The example of a query for objects. Raises ImageError.

    Its scene is the annotated objects of the photo, if all are known: those of the target and the largest others, at
    most source.max_objects (or as many as the target has), from left to right by the centre of their box. Without
    source.by_truth it is the largest ones, and the example has no answer in it if the target is not among them.
    """
    photo = query.photo
    image = load_photo(photo, source.name, source.max_pixels) if image is None else image
    w, h = photo.size or image.shape[1::-1]
    chosen = _chosen(photo, query.target if source.by_truth else (), source.max_objects)
    drawn = {
        i: _draw(photo.things[i], (w, h), query, i in query.target) for i in dict.fromkeys((*query.target, *chosen))
    }
    drawn = {i: pair for i, pair in drawn.items() if pair is not None}
    order = sorted(drawn, key=lambda i: (drawn[i][1][0] + drawn[i][1][2], drawn[i][1][1] + drawn[i][1][3]))
    shown, wanted = [i for i in order if i in chosen], [i for i in order if i in query.target]
    scene = tuple(
        Instance(n, photo.things[i].label, drawn[i][1], drawn[i][0], outlined=photo.things[i].outlined)
        for n, i in enumerate(shown, 1)
    )
    boxes = np.array([drawn[i][1] for i in wanted], np.float32).reshape(-1, 4)
    target = Target(masks.union([drawn[i][0] for i in wanted], h, w), boxes)
    if not photo.complete:
        return Example(query.uid, image, query.text, source.task, target)
    answer = tuple(n for n, i in enumerate(shown, 1) if i in query.target)
    return Example(
        query.uid, image, query.text, source.task, target, scene=scene,
        answer_ids=answer if len(answer) == len(wanted) else None,
        hidden_objects=sum(not thing.crowd for i, thing in enumerate(photo.things) if i not in chosen),
    )  # fmt: skip


def words_example(source: Benchmark, query: Query) -> Example:
    """The example of a question that is answered in words. Raises ImageError."""
    image = load_photo(query.photo, source.name, source.max_pixels)
    return Example(query.uid, image, query.text, source.task, words_target(query, image))


def words_target(query: Query, image: np.ndarray) -> Target:
    """The target of a query that is answered in words, about a picture or first frame uint8[h, w, 3]: no pixels."""
    no_mask, no_boxes = np.zeros(image.shape[:2], bool), np.zeros((0, 4), np.float32)
    return Target(no_mask, no_boxes, references=query.references, choices=query.choices)


def thing_of(note: Mapping, size: tuple[int, int], label: str) -> tuple[Thing | None, str]:
    """Reads an annotation of COCO: (the object, ""), or (None, its fault in words that fit after a number)."""
    shape, fault = coco_shapes.parse_shape(note, size)
    if shape is None:
        return None, fault
    box, _ = coco_shapes.parse_box(note.get("bbox"), size)
    crowd = note.get("iscrowd") is True or json_files.whole_number(note.get("iscrowd")) == 1
    return Thing(label, shape, None if box is None else tuple(box.tolist()), crowd), ""


def choose_split(root: Path, split: str, known: Collection[str], usual: str) -> str:
    """The benchmark's name of a split; "heldout" is the usual one. Raises DataError if it has no such split."""
    chosen = usual if split == "heldout" else split
    if chosen not in known:
        raise DataError(
            f"{root}: expected data.*_split to be one of {', '.join(known)} (or heldout, which is {usual}), got "
            f"{split!r}; set it to one of them"
        )
    return chosen


def checked_questions(
    source: Benchmark, faults: coco_records.Faults, known: int | None, layout: str, things: str = "questions"
) -> Benchmark:
    """The same source of questions, after warnings of the rows that were left out and of an unusual number.

    `known` is the published number, `things` what is counted. Raises DataError as `check_photos`.
    """
    place = f"{source.root}: {source.name} {source.split}"
    if str(faults):
        log.warning("%s: left out %s", place, faults)
    check_count(place, len(source.queries), known, things)
    check_photos(place, source.queries, layout)
    return source


def checked_videos(
    source: Benchmark, faults: coco_records.Faults, counts: tuple[int | None, int | None], layout: str,
    video_of: Callable[[Query], Hashable], place: Callable[[Photo], Path], kind: str,
) -> Benchmark:  # fmt: skip
    """The same source of queries about videos, after warnings of what was left out and of unusual numbers.

    Args:
      source: the source.
      faults: what was left out.
      counts: the published numbers of videos and of queries; None = not known.
      layout: of the benchmark's files, for messages.
      video_of: what names the video of a query.
      place, kind: as in `check_files`.

    Raises DataError as `check_files`.
    """
    name, queries = f"{source.root}: {source.name} {source.split}", source.queries
    if str(faults):
        log.warning("%s: left out %s", name, faults)
    if queries:
        check_count(name, len(set(map(video_of, queries))), counts[0], "videos")
        check_count(name, len(queries), counts[1], "queries")
    check_files(name, queries, layout, place, kind)
    return source


def check_count(
    name: str, found: int, known: int | None, things: str, mirrors: Mapping[int, str] | None = None
) -> None:
    """Warns if a split has another number of queries or pictures than the published one.

    Args:
      name: benchmark and split.
      found: the number here.
      known: the published number; None = not known.
      things: what is counted.
      mirrors: numbers by which a copy of the benchmark is known to differ, with what it is.
    """
    if known is None or found == known:
        return
    reason = (mirrors or {}).get(found, "a part, or another release")
    log.warning(
        "%s: %d %s, but the published split has %d (%s): figures on it do not compare with published ones",
        name, found, things, known, reason,
    )  # fmt: skip


def check_photos(name: str, queries: Sequence[Query], layout: str) -> None:
    """Looks for up to LOOKED_AT photos; warns if some are missing. Raises DataError if all are, or without queries."""
    check_files(name, queries, layout, photo_file, "picture")


def check_files(
    name: str, queries: Sequence[Query], layout: str, place: Callable[[Photo], Path], kind: str
) -> None:  # fmt: skip
    """As `check_photos`, for files of a kind ("picture", "video"); `place` finds the file or folder of a photo."""
    if not queries:
        raise DataError(f"{name}: expected queries, got none to use; expected is {layout}")
    sample = [place(query.photo) for query in queries[:: -(-len(queries) // LOOKED_AT)]]
    missing = [path for path in sample if not file_names.is_file(path) and not file_names.is_folder(path)]
    if len(missing) == len(sample):
        raise DataError(f"{name}: expected the {kind} {missing[0]}, got no such file; expected is {layout}")
    if missing:
        log.warning(
            "%s: %d of %d %ss are missing, such as %s; queries about them are skipped and count as missing",
            name, len(missing), len(sample), kind, missing[0],
        )  # fmt: skip


def _chosen(photo: Photo, target: tuple[int, ...], most: int) -> list[int]:
    """The places of the objects of `target` and, of a complete photo, of the largest others."""
    if not photo.complete:
        return list(target)
    others = [i for i, thing in enumerate(photo.things) if i not in target and not thing.crowd]
    others.sort(key=lambda i: -_box_area(photo.things[i]))
    return [*target, *others[: max(0, most - len(target))]]


def _box_area(thing: Thing) -> float:
    x1, y1, x2, y2 = thing.box or (0, 0, 0, 0)
    return (x2 - x1) * (y2 - y1)


def _draw(
    thing: Thing, size: tuple[int, int], query: Query, wanted: bool
) -> tuple[np.ndarray, tuple[float, float, float, float]] | None:
    """(mask bool[h, w], box in the unit frame) of an object; None for one without pixels. Raises ImageError if the
    object is wanted and cannot be drawn.
    """
    try:
        mask = coco_shapes.draw(thing.shape, None, size)
        if mask.shape != size[::-1]:
            raise ValueError(f"expected a mask of {size[0]} x {size[1]} pixels, got {mask.shape[1]} x {mask.shape[0]}")
        if not mask.any():
            raise ValueError("the shape is thinner than a pixel")
        box = unit_box(thing.box, size[1], size[0]) if thing.box is not None else masks.bbox(mask)
    except ValueError as error:
        if wanted:
            raise ImageError(f"{query.uid}: {error}; correct this annotation, or leave the query out") from None
        return None
    return mask, box
