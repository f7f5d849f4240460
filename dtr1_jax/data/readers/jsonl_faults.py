"""What is wrong with a line of a JSON lines file, in words: values, units, unknown fields; faults grouped by kind."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.readers import file_names
from dtr1_jax.data.readers.jsonl_fields import Line
from dtr1_jax.twin.schema import MAX_ATTRIBUTES, show

MAX_FAULTS = 10  # kinds of faults that an error message lists
_NEAR = 0.85  # a field as similar as this to a known one is a typing error
# Names that others give to fields of a line.
_SYNONYMS = {
    "img": "image", "images": "image", "image_path": "image", "img_path": "image", "image_file": "image",
    "file_name": "image", "filename": "image", "video_path": "video", "videos": "video",
    "question": "query", "prompt": "query", "text": "query", "expression": "query", "sentence": "query",
    "caption": "query", "problem": "query", "instruction": "query",
    "bbox": "boxes", "bboxes": "boxes", "box": "boxes", "bbox_2d": "boxes", "gt_boxes": "boxes",
    "polygon": "polygons", "segmentation": "polygons", "points": "polygons", "mask_path": "mask", "track": "tracks",
    "answer": "answers", "solution": "answers", "options": "choices",
}  # fmt: skip
_OBJECT_FIELDS = ("label", "box", "track", "attributes", "depth", "rle", "rles", "velocity")
_NAME = '1 to 64 printable characters without "<"'  # json_files.is_name
_OBJECT_SYNONYMS = {"bbox": "box", "bbox_2d": "box", "name": "label", "category": "label", "class": "label"}


def fault(field: str, expected: str, value: Any) -> str:
    """The fault of a field: the value expected, and a description of the value there."""
    return f"{field}: expected {expected}, got {_describe(field, value)}"


def group(faults: Sequence[tuple[str, str]]) -> list[str]:
    """One line for each kind of fault, with the first place and the number of further ones.

    Args:
      faults: (location, fault); two faults are of one kind if they differ only in the value and in numbers.
    """
    kinds: dict[str, list] = {}
    for location, text in faults:
        key = re.sub(r"[0-9]+", "0", text.split(", got ")[0])
        kinds.setdefault(key, [f"{location}: {text}", 0])[1] += 1
    return [text + (f" (and {count - 1} more of this kind)" if count > 1 else "") for text, count in kinds.values()]


def small_shapes(field: str, shapes: Sequence[Sequence[float]]) -> Iterator[str]:
    """Yields the fault of a box or polygon in pixels that is smaller than a pixel, once for a field.

    Args:
      field: its name.
      shapes: lists x, y, x, y, ... that are sound otherwise.
    """
    for shape in shapes:
        x, y = shape[::2], shape[1::2]
        normalised = min(shape) >= 0 and max(shape) <= 1
        if normalised or (max(x) - min(x) < 1 and max(y) - min(y) < 1):
            kind = "polygon" if len(shape) > 4 else "box"
            advice = "looks normalised; multiply x by the width and y by the height of the picture"
            yield (
                f"{field}: expected coordinates in pixels, got a {kind} smaller than a pixel, {list(shape)[:8]}, which "
                f"{advice if normalised else 'covers nothing; correct it'}"
            )
            return


def place_fault(field: str, names: Any) -> Iterator[str]:
    """Yields the fault of a path, or of one in a list, that leads to another machine."""
    for name in names if isinstance(names, list) else [names]:
        if isinstance(name, str) and file_names.is_elsewhere(name):
            yield f"{fault(field, 'a path on this machine', name)}; {_next_step(name)}"
            return


def _next_step(name: str) -> str:
    """What to do about a path that leads to another machine, or is no path."""
    start = name[:8].casefold()
    if start.startswith("data:"):
        return "--mode=convert writes such pictures to files"
    return "write the path without file://" if start.startswith("file://") else "download the file first"


def marker_fault(query: Any) -> Iterator[str]:
    """Yields the fault of a query with a marker for a picture, which other trainers replace by the picture."""
    match = re.search(r"<(?:image|video)>", query) if isinstance(query, str) else None
    if match:
        yield f"query: expected the user's words, got the marker {match[0]}; remove it"


def unknown_fields(row: Mapping, known: Sequence[str], forms: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the faults of fields that are known ones with another name, the other unknown fields).

    A field is such a name only if the known field is missing; all targets (`forms`) count as one field.

    Args:
      row: the line.
      known: all fields of a line of its sort.
      forms: those of them that are targets.
    """
    faults, others = [], []
    for name in row:
        if name in known:
            continue
        near = _nearest(name, known, _SYNONYMS)
        taken = any(form in row for form in forms) if near in forms else near in row
        if near and not taken and (near in forms or near in ("image", "video", "query") or name not in _SYNONYMS):
            faults.append(f'{name[:40]!r}: expected known fields, got this one; write "{near}"')
        else:
            others.append(name)
    return faults, others


def object_fields(field: str, item: Mapping) -> Iterator[str]:
    """Yields the faults of fields of an object of the scene that are known ones with another name."""
    for name in item:
        near = _nearest(name, _OBJECT_FIELDS, _OBJECT_SYNONYMS) if name not in _OBJECT_FIELDS else None
        if near and near not in item and not (near in ("box", "track") and {"box", "track"} & item.keys()):
            yield f'{field}.{name[:40]}: expected known fields, got this one; write "{near}"'


def unknown_object_fields(row: Mapping) -> set[str]:
    """Names of fields that objects of a line have and that are not known, as "objects[].score"."""
    objects = row.get("objects")
    items = [item for item in objects if isinstance(item, dict)] if isinstance(objects, list) else []
    return {f"objects[].{name}" for item in items for name in item if name not in _OBJECT_FIELDS}


def name_faults(field: str, item: Mapping) -> Iterator[str]:
    """Yields the faults of the label and the attributes of an object that has them."""
    if "label" in item and not json_files.is_name(item["label"]):
        yield f"{field}.label: expected {_NAME}, got {_show_name(item['label'])}"
    words = item.get("attributes", [])
    if not isinstance(words, list) or len(words) > MAX_ATTRIBUTES:
        yield f"{field}.attributes: expected a list of at most {MAX_ATTRIBUTES} words, got {show(words)}"
    elif not all(map(json_files.is_name, words)):
        word = next(word for word in words if not json_files.is_name(word))
        yield f"{field}.attributes: expected words of {_NAME}, got {_show_name(word)}"


def _show_name(value: Any) -> str:
    return show(value) + (f" of {len(value)} characters" if isinstance(value, str) else "")


def _nearest(name: str, known: Sequence[str], synonyms: Mapping[str, str]) -> str | None:
    plain = name.casefold().strip().replace("-", "_")
    if synonyms.get(plain) in known:
        return synonyms[plain]
    close = difflib.get_close_matches(plain[:40], known, 1, _NEAR)
    return close[0] if close else None


def _describe(field: str, value: Any) -> str:
    """A value in a few words; of a list of boxes, the first that is none."""
    if not isinstance(value, list) or not re.match("boxes|polygons|tracks", field):
        return _describe_object(value) if field.startswith("objects[") else show(value)
    if value and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
        return f"one list of {len(value)} numbers; put it into a list of its own, [[...]]"
    for i, item in enumerate(value):
        text = _describe_box(item) if field == "boxes" else None
        if text:
            return f"{text} as item {i}"
    return show(value)


def _describe_box(item: Any) -> str | None:
    """What is wrong with a box; None if it is one."""
    if isinstance(item, dict):
        names = ", ".join(str(name)[:20] for name in list(item)[:6])
        return f"an object with {names} in place of [x1, y1, x2, y2]"
    if not isinstance(item, list) or len(item) != 4 or not all(map(json_files.is_number, item)):
        if isinstance(item, list) and len(item) <= 6:
            return f"[{', '.join(map(show, item))}]"
        return show(item)
    x, y, w, h = item
    if x < w and y < h:
        return None
    if min(item) >= 0 and w > 0 and h > 0:
        return f"{item}, which looks like [x, y, width, height] (write [x, y, x + width, y + height])"
    return str(item)


def _describe_object(value: Any) -> str:
    if not isinstance(value, dict):
        return show(value)
    box = _describe_box(value["box"]) if "box" in value else None
    names = ", ".join(str(name)[:20] for name in list(value)[:6]) or "nothing"
    return f"an object with {names}" + (f"; box: {box}" if box else "")


def message(file: Path, faults: Sequence[tuple[str, str]]) -> str:
    """The error of a file with faulty lines: one line for each of the first MAX_FAULTS kinds."""
    kinds = group(faults)
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    advice = "correct these lines; dtr1_jax/data/readers/jsonl.py explains the fields"
    if len(kinds) == 1:
        return f"{file}: {count}; {advice}: {kinds[0]}"
    more = f"\n  and {len(kinds) - MAX_FAULTS} more kinds" if len(kinds) > MAX_FAULTS else ""
    return f"{file}: {count}; {advice}:\n  " + "\n  ".join(kinds[:MAX_FAULTS]) + more


def faults_between(lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Ids that two lines share, and a "split" that only some lines have."""
    by_uid = {}
    for line in lines:
        first = by_uid.setdefault(line.uid, line)
        if first is not line:
            yield line.location, f"id: expected a name that no other line has, got the id of {first.location}"
    missing = [line.location for line in lines if line.split is None]
    if missing and len(missing) < len(lines):
        yield missing[0], f"split: expected it in every line or in none, got {len(missing)} lines without it"
