"""The dataclasses of digital twins and answers, and the checks that make them sound.

`read_twin` and `read_answer` turn decoded JSON into the dataclasses below. They accept any value without raising, and
list the faults with their places, at most MAX_FAULTS of them. They return a dataclass only where there is no fault, so
a dataclass is always sound.
Boxes here are integers x1,y1,x2,y2 in the frame of the text (twin/coordinates.py), x right and y down, x2 and y2
exclusive.
The boxes between the keyframes of a track are defined in twin/tracks.py.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Collection
from typing import Any

from dtr1_jax.twin import strict_json
from dtr1_jax.twin.faults import Fault, Faults, TooManyFaultsError
from dtr1_jax.twin.ids import IdReader

MAX_OBJECTS = 256
MAX_RELATIONS = 1024
MAX_ATTRIBUTES = 16
MAX_NAME = 64  # characters of a label, an attribute or a relation
MAX_KEYFRAMES = 128  # of one track
MAX_INT = (1 << 31) - 1  # ids and depths fit in int32

FORMS = {  # task -> the keys that an answer may have; it has exactly one of them
    "segmentation": ("objects",),
    "grounding": ("objects", "boxes"),
    "vqa": ("text",),
    "summary": ("text",),
}

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")  # a frame number as the key of a track

Box = tuple[int, int, int, int]
Track = tuple[tuple[int, Box | None], ...]


@dataclasses.dataclass(frozen=True)
class Object:
    """One object instance of a twin.

    Attributes:
      id: positive, unique in its twin.
      label: its category, such as "mug".
      box: x1,y1,x2,y2 in the frame of the text. In a video it holds for all frames. None if there is a track.
      depth: 1 = nearest; None = not known.
      attributes: words such as "red".
      track: in a video, (frame number, box) of each keyframe, ascending. The object appears at the first keyframe and
        is gone after the last. None instead of a box: out of sight from this frame until the next keyframe. Empty
        if there is a box.
      velocity: mean motion dx, dy of the box's centre from one of the twin's frames to the next, in the frame of the
        text; None = not known.
    """

    id: int
    label: str
    box: Box | None
    depth: int | None = None
    attributes: tuple[str, ...] = ()
    track: Track = ()
    velocity: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Twin:
    """The digital twin of one picture or video. An object keeps its id over all frames of a video.

    Attributes:
      size: (w, h) in pixels of the picture as the policy saw it, in any frame of the boxes.
      objects: the instances, any number up to MAX_OBJECTS.
      relations: (id, words, id), such as (1, "left of", 2).
      frames: numbers of the video frames that the twin describes, ascending; empty = a picture.
      more: number of further objects that were left out (twin/budget.py, Example.hidden_objects).
      named: whether the text has names such as "mug_1" as ids (twin/ids.py), or else numbers.
    """

    size: tuple[int, int]
    objects: tuple[Object, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    frames: tuple[int, ...] = ()
    more: int = 0
    named: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer; exactly one field is set, see FORMS.

    Attributes:
      objects: ids of objects of the twin; empty = nothing in the picture matches the query.
      boxes: boxes in the frame of the text; empty = nothing in the picture matches the query.
      text: words.
    """

    objects: tuple[int, ...] | None = None
    boxes: tuple[Box, ...] | None = None
    text: str | None = None


def read_twin(
    value: Any,
    *,
    size: tuple[int, int],
    limit: tuple[int, int],
    frames: tuple[int, ...] = (),
    ids: IdReader | None = None,
) -> tuple[Twin | None, tuple[Fault, ...]]:
    """Checks a decoded twin.

    Args:
      value: any value, as `strict_json.loads` returns it.
      size: (w, h) in pixels that the twin has to state.
      limit: (w, h), the largest x and y of a box.
      frames: numbers of the frames that the twin of a video has to state, ascending; empty = a picture, whose twin has
        neither frames nor tracks.
      ids: reads the ids of the transcript; afterwards it knows their form and, if there are no faults, the labels.

    Returns:
      (the twin, or None if it has faults; its faults, at most MAX_FAULTS and one that says that there are more).
    """
    faults = Faults("twin")
    ids = IdReader() if ids is None else ids
    try:
        twin = _twin(value, faults, size, limit, frames, ids)
    except TooManyFaultsError:
        twin = None
    ids.labels = None if faults else ids.labels
    return (None if faults else twin), tuple(faults)


def _twin(
    value: Any, faults: list[Fault], size: tuple[int, int], limit: tuple[int, int], frames: tuple[int, ...],
    ids: IdReader,
) -> Twin:  # fmt: skip
    required = ("size", "frames", "objects") if frames else ("size", "objects")
    fields = _fields(value, "twin", faults, required=required, optional=("relations", "more"))
    for key, expected in (("size", size), ("frames", frames)):
        actual = fields.get(key, list(expected))
        if not isinstance(actual, list) or tuple(actual) != expected or not all(type(v) is int for v in actual):
            faults.append(Fault(f"twin.{key}", f"expected {list(expected)}, got {show(actual)}"))
    more = _integer(fields["more"], "twin.more", faults, low=1) if "more" in fields else 0

    read = functools.partial(_object, limit=limit, frames=frames, ids=ids)
    objects = _list(fields.get("objects", []), "twin.objects", faults, read, MAX_OBJECTS)
    owner: dict[int, int] = {}
    for i, item in enumerate(objects):
        if item.id is not None and owner.setdefault(item.id, i) != i:
            message = f"expected ids that differ, got {item.id}, the id of objects[{owner[item.id]}]"
            faults.append(Fault(f"twin.objects[{i}].id", message))

    ids.labels = {item.id: item.label for item in objects if item.id is not None}
    read_relation = functools.partial(_relation, ids=ids)
    relations = _list(fields.get("relations", []), "twin.relations", faults, read_relation, MAX_RELATIONS)
    for i, relation in enumerate(relations):
        for j in (0, 2):
            _refer(relation[j], f"twin.relations[{i}][{j}]", faults, owner)
    return Twin(size, objects, relations, frames, more, bool(ids.named))


def read_answer(
    value: Any, *, task: str, limit: tuple[int, int], ids: IdReader
) -> tuple[Answer | None, tuple[Fault, ...]]:
    """Checks a decoded answer.

    Args:
      value: any value, as `strict_json.loads` returns it.
      task: a key of FORMS.
      limit: (w, h), the largest x and y of a box.
      ids: reads the ids of the transcript. Where it does not know the labels of the twin's objects, because the twin
        has faults, ids in the answer are not looked up.

    Returns:
      (the answer, or None if it has faults; its faults, at most MAX_FAULTS and one that says that there are more).
    """
    faults = Faults("answer")
    try:
        answer = _answer(value, faults, FORMS[task], limit, ids)
    except TooManyFaultsError:
        answer = None
    return (None if faults else answer), tuple(faults)


def _answer(value: Any, faults: list[Fault], forms: tuple[str, ...], limit: tuple[int, int], ids: IdReader) -> Answer:
    fields = _fields(value, "answer", faults, optional=forms)
    if isinstance(value, dict) and len(fields) != 1:
        faults.append(Fault("answer", f"expected exactly one of the keys {' or '.join(forms)}, got {len(fields)}"))

    objects = boxes = text = None
    if "objects" in fields:
        read = functools.partial(_id, ids=ids)
        objects = _list(fields["objects"], "answer.objects", faults, read, MAX_OBJECTS)
        earlier: set[int] = set()
        for i, number in enumerate(objects):
            where = f"answer.objects[{i}]"
            if number is not None and number in earlier:
                faults.append(Fault(where, f"expected ids that differ, got {number} again"))
            earlier.add(number)
            if ids.labels is not None:
                _refer(number, where, faults, ids.labels)
    if "boxes" in fields:
        boxes = _list(
            fields["boxes"],
            "answer.boxes",
            faults,
            lambda value, where, faults: _box(value, where, faults, limit),
            MAX_OBJECTS,
        )
    if "text" in fields:
        text = _string(fields["text"], "answer.text", faults, strict_json.MAX_LENGTH)
    return Answer(objects, boxes, text)


def show(value: Any) -> str:
    """Describes any value in a few words, for messages; the description of a huge value is short too."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, strict_json.Refused):
        return value.reason
    if isinstance(value, str):
        return f"the string {value[:40]!a}{'...' if len(value) > 40 else ''}"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, int):  # Python refuses to print an integer of thousands of digits
        return str(int(value)) if abs(value) < 10**strict_json.MAX_DIGITS else "a huge integer"
    if isinstance(value, (list, tuple)):
        if len(value) <= 4 and all(type(v) is int for v in value):
            return f"[{', '.join(show(v) for v in value)}]"
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else f"a value of type {type(value).__name__}"


# Each reader below takes (value, where, faults, ...), adds its faults to `faults`, and returns the value. For a value
# with faults it returns a substitute, with which the caller can go on and find further faults.


def _fields(value: Any, where: str, faults: list[Fault], required: tuple = (), optional: tuple = ()) -> dict:
    if not isinstance(value, dict):
        faults.append(Fault(where, f"expected an object, got {show(value)}"))
        return {}
    known = required + optional
    for key in value:
        if key not in known:
            faults.append(Fault(where, f"expected only the keys {', '.join(known)}, got {show(key)}"))
    for key in required:
        if key not in value:
            faults.append(Fault(f"{where}.{key}", "expected this key, got none"))
    return {key: value[key] for key in known if key in value}


def _list(value: Any, where: str, faults: list[Fault], read: Callable, most: int = MAX_OBJECTS) -> tuple:
    if not isinstance(value, list):
        faults.append(Fault(where, f"expected a list, got {show(value)}"))
        return ()
    if len(value) > most:
        faults.append(Fault(where, f"expected at most {most} items, got {len(value)}"))
    return tuple(read(item, f"{where}[{i}]", faults) for i, item in enumerate(value))


def _integer(value: Any, where: str, faults: list[Fault], low: int = 0, high: int = MAX_INT) -> int | None:
    if type(value) is int and low <= value <= high:  # a bool is an int to isinstance
        return value
    faults.append(Fault(where, f"expected an integer from {low} to {high}, got {show(value)}"))
    return None


def _id(value: Any, where: str, faults: list[Fault], ids: IdReader, label: str | None = None) -> int | None:
    number, fault = ids.read(value, MAX_INT, label)
    if fault:
        faults.append(Fault(where, f"{fault}, got {show(value)}"))
    return number


def _string(value: Any, where: str, faults: list[Fault], most: int = MAX_NAME) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        actual = f"{len(value)} characters" if isinstance(value, str) and len(value) > most else show(value)
        faults.append(Fault(where, f"expected a string of 1 to {most} characters, not blank, got {actual}"))
    elif not encodable(value):
        faults.append(Fault(where, f"expected text that UTF-8 can carry, got a lone surrogate in {show(value)}"))
    return value if isinstance(value, str) else ""


def encodable(text: str) -> bool:
    """Whether the text can be encoded as UTF-8, which fails for lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _box(value: Any, where: str, faults: list[Fault], limit: tuple[int, int]) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        faults.append(Fault(where, f"expected a list of 4 integers x1,y1,x2,y2, got {show(value)}"))
        return None
    corners = [_integer(v, f"{where}[{i}]", faults, high=limit[i % 2]) for i, v in enumerate(value)]
    for low, high, names in ((0, 2, "x2 > x1"), (1, 3, "y2 > y1")):
        if None not in (corners[low], corners[high]) and corners[high] <= corners[low]:
            faults.append(Fault(where, f"expected {names}, got {show(value)}"))
    return tuple(corners)


def _object(
    value: Any, where: str, faults: list[Fault], limit: tuple[int, int], frames: tuple[int, ...], ids: IdReader
) -> Object:
    required, optional = ("id", "label", "box"), ("depth", "attributes")
    if frames:
        optional += ("track", "velocity")
        if isinstance(value, dict) and "track" in value:
            required = ("id", "label", "track")
    fields = _fields(value, where, faults, required=required, optional=optional)
    # An absent key has its fault already, so its reader is not called.
    label = _string(fields["label"], f"{where}.label", faults) if "label" in fields else ""
    return Object(
        id=_id(fields["id"], f"{where}.id", faults, ids, label) if "id" in fields else None,
        label=label,
        box=_box(fields["box"], f"{where}.box", faults, limit) if "box" in fields else None,
        depth=_integer(fields["depth"], f"{where}.depth", faults, low=1) if "depth" in fields else None,
        attributes=_list(fields.get("attributes", []), f"{where}.attributes", faults, _string, MAX_ATTRIBUTES),
        track=_track(fields["track"], f"{where}.track", faults, limit, frames) if "track" in fields else (),
        velocity=_velocity(fields, where, faults, limit) if "velocity" in fields else None,
    )


def _track(value: Any, where: str, faults: list[Fault], limit: tuple[int, int], frames: tuple[int, ...]) -> Track:
    if not isinstance(value, dict) or not value:
        actual = "an empty one" if isinstance(value, dict) else show(value)
        faults.append(Fault(where, f"expected an object of frame numbers and boxes, got {actual}"))
        return ()
    if len(value) > MAX_KEYFRAMES:
        faults.append(Fault(where, f"expected at most {MAX_KEYFRAMES} keyframes, got {len(value)}"))
    keys, track = [], []
    for i, (key, box) in enumerate(value.items()):
        if not isinstance(key, str) or not _NUMBER.fullmatch(key):
            faults.append(Fault(where, f'expected frame numbers such as "{frames[0]}" as keys, got {show(key)}'))
            continue
        place, number = f"{where}.{key}", int(key)
        if number not in frames:
            faults.append(Fault(place, f"expected one of the twin's frames, got frame {number}"))
        if keys and number <= keys[-1]:
            faults.append(Fault(place, f"expected ascending frame numbers, got {number} after {keys[-1]}"))
        if box is None and i in (0, len(value) - 1):
            faults.append(Fault(place, "expected a track that begins and ends with a box, got null"))
        keys.append(number)
        track.append((number, None if box is None else _box(box, place, faults, limit)))
    return tuple(track)


def _velocity(fields: dict, where: str, faults: list[Fault], limit: tuple[int, int]) -> tuple | None:
    value, where = fields["velocity"], f"{where}.velocity"
    if "track" not in fields:
        faults.append(Fault(where, "expected a velocity only beside a track, got one beside a box"))
    if not isinstance(value, list) or len(value) != 2:
        faults.append(Fault(where, f"expected a list of 2 integers dx,dy, got {show(value)}"))
        return None
    return tuple(_integer(v, f"{where}[{i}]", faults, -limit[i], limit[i]) for i, v in enumerate(value))


def _relation(value: Any, where: str, faults: list[Fault], ids: IdReader) -> tuple[int | None, str, int | None]:
    if not isinstance(value, list) or len(value) != 3:
        faults.append(Fault(where, f"expected a list of id, words, id, got {show(value)}"))
        return None, "", None
    first, words, second = value
    return (
        _id(first, f"{where}[0]", faults, ids),
        _string(words, f"{where}[1]", faults),
        _id(second, f"{where}[2]", faults, ids),
    )


def _refer(number: int | None, where: str, faults: list[Fault], ids: Collection[int]) -> None:
    if number is not None and number not in ids:
        faults.append(Fault(where, f"expected the id of an object of the twin, got {number}"))
