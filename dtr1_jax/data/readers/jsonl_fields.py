"""A line of a JSON lines file: checks of its fields, and its boxes in pixels as unit boxes and masks."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.twin.schema import encodable
from dtr1_jax.types import Instance


@dataclasses.dataclass(frozen=True)
class Line:
    """A checked line.

    Attributes:
      location: FILE:LINE, for messages.
      image: the first picture; of a video, the video.
      form: the field that holds the target, a key of jsonl.FORMS or jsonl_video.FORMS.
      target: the value of that field.
      video, frames: the video and the numbers of the frames to show; None and () where the line is about pictures.
      others: the pictures after the first.
      oracle: what the line says of the right answer besides the target, see jsonl_scene.py.
      described: whether the line has `objects`, if only an empty list: somebody looked and found none.
      relations: [number, words, number] of two of `objects`, which count from 1.
    """

    location: str
    uid: str
    image: Path
    query: str
    task: str
    split: str | None
    form: str
    target: Any
    objects: tuple[dict[str, Any], ...]
    video: Path | None = None
    frames: tuple[int, ...] = ()
    choices: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()
    oracle: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    described: bool = False
    relations: tuple[list, ...] = ()


log = logging.getLogger(__name__)

BEYOND = 0.1  # share of a side
VALIDATION = ("val", "valid", "validation", "dev", "test")  # names that "heldout" finds where no line has it
_WARNED: set[str] = set()  # files with a box that reaches beyond its picture
TEXT = "a string that is not blank"
ANSWERS = "a list of 1 to 64 strings that are not blank"
CHOICES = "a list of 2 to 26 different strings that are not blank, among them the answers, for vqa alone"


def is_text(value: Any) -> bool:
    """Whether the value is a string that is not blank and can stand in UTF-8 text and in a path."""
    return isinstance(value, str) and bool(value.strip()) and encodable(value) and "\0" not in value


def _are_texts(value: Any, most: int) -> bool:
    """Whether the value is a list of 1 to `most` strings that pass `is_text`."""
    return isinstance(value, list) and 1 <= len(value) <= most and all(map(is_text, value))


def are_paths(value: Any) -> bool:
    """Whether the value is a path, or a list of 1 to 16 paths."""
    return is_text(value) or _are_texts(value, 16)


def are_answers(value: Any) -> bool:
    """Whether the value is a list of 1 to 64 texts, the right answers of a question; see `is_text`."""
    return _are_texts(value, 64)


def are_choices(value: Any, answers: Any, task: str) -> bool:
    """Whether the value is a list of choices of a vqa query, and contains all `answers`."""
    if task != "vqa" or not are_answers(value) or not are_answers(answers) or not 2 <= len(value) <= 26:
        return False
    return len(set(value)) == len(value) and set(answers) <= set(value)


def append_choices(query: str, choices: Sequence[str]) -> str:
    """The query followed by its choices: "what is it? (A) a dog (B) a cat"."""
    return " ".join([query, *(f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(choices))])


def is_box(value: Any) -> bool:
    """Whether the value is [x1, y1, x2, y2] with x1 < x2 and y1 < y2."""
    numbers = isinstance(value, list) and len(value) == 4 and all(map(json_files.is_number, value))
    return numbers and value[0] < value[2] and value[1] < value[3]


def are_boxes(value: Any) -> bool:
    """Whether the value is a list of boxes."""
    return isinstance(value, list) and all(map(is_box, value))


def is_polygon(value: Any) -> bool:
    """Whether the value is [x, y, x, y, ...] of at least 3 points."""
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(json_files.is_number, value))


def are_polygons(value: Any) -> bool:
    """Whether the value is a list of polygons."""
    return isinstance(value, list) and all(map(is_polygon, value))


def are_rles(value: Any) -> bool:
    """Whether the value has the fields of an RLE of COCO, or is a list of such objects."""
    return all(map(is_rle, value if isinstance(value, list) else [value]))


def is_rle(value: Any) -> bool:
    """Whether the value has the fields of an RLE of COCO."""
    return isinstance(value, dict) and "size" in value and "counts" in value


def whole_rle(rle: dict) -> dict:
    """An RLE whose size and counts are integers where they stand for integers: 240.0 and "240" are 240."""
    size, counts = rle.get("size"), rle.get("counts")
    if isinstance(size, list):
        size = [v if number is None else number for v, number in zip(size, map(json_files.whole_number, size))]
    if isinstance(counts, list):  # some tools write 32.0
        counts = [int(v) if isinstance(v, float) and v.is_integer() else v for v in counts]
    return {"size": size, "counts": counts}


def is_object(value: Any) -> bool:
    """Whether the value is an object of a picture: a label, a box and, if any, attributes."""
    return has_label(value) and is_box(value.get("box"))


def has_label(value: Any) -> bool:
    """Whether the value is a JSON object with a label and, if any, attributes."""
    if not isinstance(value, dict) or not json_files.is_name(value.get("label")):
        return False
    words = value.get("attributes", [])
    return isinstance(words, list) and len(words) <= 16 and all(map(json_files.is_name, words))


def unit_box(box: Sequence[float], h: int, w: int) -> tuple[float, float, float, float]:
    """Converts a box from pixels to the unit frame, clipped to the picture. Raises ValueError if none of it remains."""
    x1, x2 = (min(max(x, 0), w) for x in box[::2])
    y1, y2 = (min(max(y, 0), h) for y in box[1::2])
    if x1 >= x2 or y1 >= y2:
        raise ValueError(
            f"expected boxes in the picture of {w} x {h} pixels, got {box}; write coordinates as pixels of the upright "
            "picture"
        )
    return x1 / w, y1 / h, x2 / w, y2 / h


def check_outside(location: str, boxes: Sequence[Sequence[float]], h: int, w: int) -> None:
    """Warns once for each file of a box that reaches beyond its picture by more than BEYOND of a side.

    Args:
      location: FILE:LINE.
      boxes: x1, y1, x2, y2 in pixels.
      h, w: size of the picture, pixels.
    """
    file = location.rpartition(":")[0]
    for box in boxes:
        if max(-box[0], box[2] - w) > BEYOND * w or max(-box[1], box[3] - h) > BEYOND * h:
            if file not in _WARNED:
                _WARNED.add(file)
                log.warning(
                    "%s: box %s reaches far beyond its picture of %d x %d pixels and is clipped, as all such boxes; "
                    "are the coordinates pixels of this picture, not 0 to 1000 or pixels of a larger copy?",
                    location, list(box), w, h,
                )  # fmt: skip
            return


def fill_box(box: Sequence[float], h: int, w: int) -> np.ndarray:
    """bool[h, w], True at the pixels that a box in pixels touches."""
    x1, y1, x2, y2 = (max(v, 0) for v in box)
    mask = np.zeros((h, w), bool)
    mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return mask


def keep_objects(
    areas: Sequence[float], boxes: Sequence, target_boxes: np.ndarray, max_objects: int, first: Collection[int] = ()
) -> list[int]:
    """Chooses at most `max_objects` objects: those with a target box and those of `first`, then the largest.

    Args:
      areas: of each object.
      boxes: of each object, unit frame: float[4], or float[T, 4] in a video.
      target_boxes: float32[n, 4] or float32[n, T, 4].
      max_objects: the bound.
      first: indices of objects of the answer.

    Returns their indices, ascending.
    """
    is_target = [
        i in first or any(np.array_equal(np.float32(box), target) for target in target_boxes)
        for i, box in enumerate(boxes)
    ]
    return sorted(sorted(range(len(areas)), key=lambda i: (not is_target[i], -areas[i]))[:max_objects])


def keep_largest(areas: Sequence[float], max_objects: int) -> list[int]:
    """Indices of the `max_objects` objects with the largest areas, ascending."""
    return sorted(sorted(range(len(areas)), key=lambda i: -areas[i])[:max_objects])


def answer_ids(target_boxes: np.ndarray, scene: Sequence[Instance]) -> tuple[int, ...] | None:
    """Ids of the objects whose boxes equal the target boxes; None if the scene is empty or lacks a target box.

    Args:
      target_boxes: float32[n, 4], or float32[n, T, 4] in a video, unit frame.
      scene: the objects.
    """
    if not scene:
        return None
    ids = []
    for target in target_boxes:
        boxes = ((o.id, o.box if o.boxes is None else o.boxes) for o in scene if o.id not in ids)
        equal = [number for number, box in boxes if np.array_equal(np.float32(box), target)]
        if not equal:
            return None
        ids.append(equal[0])
    return tuple(sorted(ids))


def picture_keys(lines: Sequence[Line], folder: Path) -> list[str]:
    """The name of a file in `folder` for each line; it is the same for lines that share a picture or video."""
    parent: dict[str, str] = {}

    def first(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    # Relative names, so that a copy of the data elsewhere is divided in the same way.
    files = [[os.path.relpath(path, folder) for path in (line.image, *line.others)] for line in lines]
    for names in files:
        for name in names:
            low, high = sorted((first(names[0]), first(name)))
            parent[high] = low
    return [first(names[0]) for names in files]


def of_split(lines: Sequence[Line], split: str, folder: Path) -> list[Line]:
    """The lines of a split, by their field or, where none has it, by their picture's name in `folder`."""
    if all(line.split is None for line in lines):
        keys = picture_keys(lines, folder)
        held = json_files.held_out_part(keys)
        chosen = [line for line, key in zip(lines, keys) if (key in held) == (split != "train")]
        if split != "train":
            log.info(
                "%d of the %d lines are held out, by picture; a field split chooses others", len(chosen), len(lines)
            )
        return chosen
    for name in (split, *VALIDATION) if split == "heldout" else (split,):
        chosen = [line for line in lines if line.split == name]
        if chosen:
            return chosen
    return []
