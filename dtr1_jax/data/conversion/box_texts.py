"""Boxes in the answers of chat formats: JSON, tags and brackets, with the notation that tells their frame."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.conversion.samples import Box, LeftOut

WORDS_BESIDE = 12  # words that an answer may have beside its boxes and their labels
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR = ",".join([_NUMBER] * 4)
_PAIR = rf"\({_NUMBER},{_NUMBER}\)"
_FORMS = (  # notation, expression of one box
    ("<|box_start|>", re.compile(rf"<\|box_start\|>\s*{_PAIR}\s*,\s*{_PAIR}\s*<\|box_end\|>")),
    ("<box>", re.compile(rf"<box>\s*{_PAIR}\s*,?\s*{_PAIR}\s*</box>")),
    ("<loc>", re.compile(r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})>")),
)
_LISTED = re.compile(r"<box>\s*(\[\s*\[.*?\]\s*\])\s*</box>", re.DOTALL)
_BRACKETS = re.compile(rf"\[{_FOUR}\]")
_ROUND = re.compile(rf"\({_FOUR}\)")
_MINIGPT = re.compile(r"\{?<\d+><\d+><\d+><\d+>\}?")
_TAGS = re.compile(r"</?(?:answer|ref|think|p|box|points?)>|<\|[\w]+\|>|```(?:json)?|<image>|\\boxed", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_KEYS = {"bbox_2d": "bbox_2d", "box_2d": "box_2d", "bbox": "bbox", "box": "bbox", "bounding_box": "bbox"}
_NOTHING = re.compile(
    r"\W*(?:none|nothing|null|no (?:such )?\w+(?: \w+)?|not (?:found|present|visible))\W*", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class BoxText:
    """The boxes of a text: their notation (frame_evidence.RULES), labels ("" = none), and the words beside them."""

    notation: str
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]
    beside: str


def parse(text: str) -> BoxText | None:
    """The boxes of an answer; None if it has none and is words alone.

    `[]` and an empty JSON list are no boxes, which means that nothing fits: BoxText without boxes.

    Raises LeftOut: boxes of several notations, or a notation that is not read.
    """
    text = _THOUGHT.sub(" ", text)
    if len(text) > 1 << 16:
        raise LeftOut("answers of more than 65,536 characters")
    tagged, listed = _tagged(text), _json_boxes(text)
    found = tagged + ([listed] if listed and (listed.notation != "brackets" or not tagged) else [])
    if not found:
        found = [one for one in (_bracketed(text),) if one]
    if not found and _MINIGPT.search(text):
        raise LeftOut("boxes in MiniGPT's notation <x1><y1><x2><y2>, 0 to 100 (write [x1, y1, x2, y2])")
    if len(found) > 1:
        raise LeftOut("answers with boxes in several notations", ", ".join(one.notation for one in found))
    return found[0] if found else None


def has_boxes(text: str) -> bool:
    """Whether a text, such as a question, has coordinates."""
    try:
        found = parse(text)
    except LeftOut:
        return True
    return bool(found and found.boxes)


def is_pointing(answer: BoxText) -> bool:
    """Whether the boxes are the answer, and not an aside of a description."""
    labels = " ".join(answer.labels).split()
    words = [word for word in re.findall(r"\w+", answer.beside) if word not in labels]
    return len(words) <= WORDS_BESIDE


def says_nothing(text: str) -> bool:
    """Whether an answer says that nothing fits, such as "None." or "no such object"."""
    return _NOTHING.fullmatch(_TAGS.sub(" ", text).strip()) is not None


def boxes_of_json(value: Any) -> BoxText | None:
    """The boxes of a JSON value: a box, a list of boxes, or objects with bbox_2d, box_2d or bbox and a label.

    None if it is something else. Raises LeftOut for objects of several notations and for boxes that are none.
    """
    if isinstance(value, dict):
        inner = [value[key] for key in ("objects", "boxes", "detections") if isinstance(value.get(key), list)]
        value = inner[0] if inner and not set(_KEYS) & value.keys() else [value]
    if not isinstance(value, list):
        return None
    if not value:
        return BoxText("brackets", (), (), "")
    if is_box(value):
        return BoxText("brackets", (_box(value),), ("",), "")
    if all(map(is_box, value)):
        return BoxText("brackets", tuple(map(_box, value)), ("",) * len(value), "")
    if not all(isinstance(item, dict) for item in value):
        return None
    keys = {next((key for key in _KEYS if key in item), None) for item in value}
    if keys == {None}:
        return None
    if None in keys or len(keys) > 1:
        raise LeftOut("answers with boxes in several notations", ", ".join(map(str, keys)))
    (key,) = keys
    if not all(is_box(item[key]) for item in value):
        raise LeftOut(f"answers with a {key} that is not four numbers", str(value[0][key])[:40])
    labels = tuple(str(item.get("label", item.get("name", "")))[:64] for item in value)
    return BoxText(_KEYS[str(key)], tuple(_box(item[key]) for item in value), labels, "")


def is_box(value: Any) -> bool:
    """Whether a value is a list of four numbers."""
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(map(json_files.is_number, value))


def _box(value: Sequence[float]) -> Box:
    a, b, c, d = (float(v) for v in value)
    return a, b, c, d


def _json_boxes(text: str) -> BoxText | None:
    """Boxes as JSON with named fields, or a list that is the whole answer."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", text):
        if match.start() > 4000:
            break
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        beside = _TAGS.sub(" ", text[: match.start()] + " " + text[end:]).strip()
        found = boxes_of_json(value)
        if found and (found.notation != "brackets" or (isinstance(value, list) and (not value or not is_box(value)))):
            if _BRACKETS.search(beside):  # more boxes follow: they are read one by one
                return None
            if not found.boxes and re.search(r"\w", beside):
                return None
            return dataclasses.replace(found, beside=beside)
    return None


def _tagged(text: str) -> list[BoxText]:
    found = []
    for notation, form in _FORMS:
        boxes = [_box([float(v) for v in match]) for match in form.findall(text)]
        if boxes:
            found.append(
                BoxText(notation, tuple(boxes), ("",) * len(boxes), _TAGS.sub(" ", form.sub(" ", text)).strip())
            )
    listed = [box for match in _LISTED.findall(text) for box in _BRACKETS.findall(match)]
    if listed:
        boxes = [_box([float(v) for v in box]) for box in listed]
        found.append(BoxText("<box>", tuple(boxes), ("",) * len(boxes), _TAGS.sub(" ", _LISTED.sub(" ", text)).strip()))
    return found


def _bracketed(text: str) -> BoxText | None:
    for form in (_BRACKETS, _ROUND):
        boxes = [_box([float(v) for v in match]) for match in form.findall(text)]
        if boxes:
            return BoxText("brackets", tuple(boxes), ("",) * len(boxes), _TAGS.sub(" ", form.sub(" ", text)).strip())
    return None
