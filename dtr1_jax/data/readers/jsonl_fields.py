"""A line of a JSON lines file: what its fields may be, and what its boxes in pixels are in a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.twin.schema import encodable
from dtr1_jax.types import Instance


@dataclasses.dataclass(frozen=True)
class Line:
    """A checked line; form is a key of FORMS or jsonl_video.FORMS, and wanted its value; where is FILE:LINE; others
    are the pictures behind the first."""

    where: str
    uid: str
    image: Path
    query: str
    task: str
    split: str | None
    form: str
    wanted: Any
    objects: tuple[dict[str, Any], ...]
    video: Path | None = None
    frames: tuple[int, ...] = ()
    choices: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()


ANSWERS = "a list of 1 to 64 strings that are not blank"
CHOICES = "a list of 2 to 26 different strings that are not blank, among them the answers, for vqa alone"


def is_text(value: Any) -> bool:
    """Whether it is a string that is not blank and that UTF-8 and paths can carry."""
    return isinstance(value, str) and bool(value.strip()) and encodable(value) and "\0" not in value


def _are_texts(value: Any, most: int) -> bool:
    """Whether it is a list of 1 to `most` of them."""
    return isinstance(value, list) and 1 <= len(value) <= most and all(map(is_text, value))


def are_pictures(value: Any) -> bool:
    """Whether it is a path, or a list of 1 to 16."""
    return is_text(value) or _are_texts(value, 16)


def are_answers(value: Any) -> bool:
    """Whether it is a list of answers in words, at least one."""
    return _are_texts(value, 64)


def are_choices(value: Any, answers: Any, task: str) -> bool:
    """Whether it is a list of choices of a question, among which the answers are."""
    if task != "vqa" or not are_answers(value) or not are_answers(answers) or not 2 <= len(value) <= 26:
        return False
    return len(set(value)) == len(value) and set(answers) <= set(value)


def asked(query: str, choices: Sequence[str]) -> str:
    """The query as it is put, with the choices behind it: "what is it? (A) a dog (B) a cat"."""
    return " ".join([query, *(f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(choices))])


def is_box(value: Any) -> bool:
    """Whether it is [x1, y1, x2, y2] with x1 < x2 and y1 < y2."""
    numbers = isinstance(value, list) and len(value) == 4 and all(map(json_files.is_number, value))
    return numbers and value[0] < value[2] and value[1] < value[3]


def are_boxes(value: Any) -> bool:
    """Whether it is a list of boxes."""
    return isinstance(value, list) and all(map(is_box, value))


def is_polygon(value: Any) -> bool:
    """Whether it is [x, y, x, y, ...] of at least 3 points."""
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(json_files.is_number, value))


def are_polygons(value: Any) -> bool:
    """Whether it is a list of polygons."""
    return isinstance(value, list) and all(map(is_polygon, value))


def are_rles(value: Any) -> bool:
    """Whether it looks like an RLE of COCO, or a list of such."""
    rles = value if isinstance(value, list) else [value]
    return all(isinstance(rle, dict) and "size" in rle and "counts" in rle for rle in rles)


def is_object(value: Any) -> bool:
    """Whether it is an object of a picture: a label, a box and, if any, attributes."""
    return is_named(value) and is_box(value.get("box"))


def is_named(value: Any) -> bool:
    """Whether it has a label and, if any, attributes."""
    if not isinstance(value, dict) or not json_files.is_name(value.get("label")):
        return False
    words = value.get("attributes", [])
    return isinstance(words, list) and len(words) <= 16 and all(map(json_files.is_name, words))


def unit(box: Sequence[float], h: int, w: int) -> tuple[float, float, float, float]:
    """A box in pixels, cut to the picture, in the unit frame. Raises ValueError where nothing is left of it."""
    x1, x2 = (min(max(x, 0), w) for x in box[::2])
    y1, y2 = (min(max(y, 0), h) for y in box[1::2])
    if x1 >= x2 or y1 >= y2:
        raise ValueError(f"expected boxes in the picture of {w} x {h} pixels, got {box}")
    return x1 / w, y1 / h, x2 / w, y2 / h


def filled(box: Sequence[float], h: int, w: int) -> np.ndarray:
    """bool[h, w], True at the pixels that the box touches."""
    x1, y1, x2, y2 = (max(v, 0) for v in box)
    mask = np.zeros((h, w), bool)
    mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return mask


def largest(areas: Sequence[float], places: Sequence, wanted: np.ndarray, most: int) -> list[int]:
    """Indices, ascending, of at most `most` objects: those in the wanted places (boxes, of a video tracks) first, then
    the largest."""
    asked_for = [any(np.array_equal(np.float32(place), one) for one in wanted) for place in places]
    return sorted(sorted(range(len(areas)), key=lambda i: (not asked_for[i], -areas[i]))[:most])


def answer_ids(wanted: np.ndarray, scene: Sequence[Instance]) -> tuple[int, ...] | None:
    """Ids of the objects that have these boxes, of a video these tracks, exactly.

    None if there is no scene or one of the wanted is none of its.
    """
    if not scene:
        return None
    ids = []
    for one in wanted:
        places = ((o.id, o.box if o.boxes is None else o.boxes) for o in scene if o.id not in ids)
        same = [number for number, place in places if np.array_equal(np.float32(place), one)]
        if not same:
            return None
        ids.append(same[0])
    return tuple(sorted(ids))
