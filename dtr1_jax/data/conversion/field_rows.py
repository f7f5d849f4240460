"""Rows of any JSON or Parquet file, where the user says which key holds what.

    --fields=rows:samples,query:implicit_query,video:clip.path,masks:rle,category:kind,level:difficulty

A name of FIELDS stands before each colon, and a key of the file behind it; dots lead into objects. In a file that is
one JSON object, `rows` is the key of the list of rows, or * where the rows are the values of the object itself. The
mapping may be a JSON file, {"query": "implicit_query", ...}.

Masks of a video are {frame: RLE, list of RLEs, or path of a PNG}, or a list with one item for each frame; boxes are
{frame: box or list of boxes}, or such a list. A frame is named by its file, or by its number from 0 on
(frame_targets.py). Item k of the list of a frame is object k of the query, and null says that it is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.conversion import box_texts, row_files
from dtr1_jax.data.conversion.samples import FrameTarget, LeftOut, Sample, Tally
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import json_items
from dtr1_jax.data.readers.jsonl_fields import is_polygon, is_rle
from dtr1_jax.types import CATEGORIES, LEVELS, POINTING, TASKS

FIELDS = {  # what the user may name -> its meaning, for messages
    "rows": "the list of rows", "query": "the user's words", "image": "a path, or a list of paths",
    "video": "a video file, a folder of frames, or the list of its frames", "masks": "RLEs, polygons or a PNG",
    "boxes": "boxes", "answers": "a text or a list of texts", "choices": "a list of options", "task": "the task",
    "category": "semantic, spatial, count or temporal", "level": "1 to 4", "split": "the split",
}  # fmt: skip
TARGETS = ("masks", "boxes", "answers")
NOTATION = "--fields"
LOOKED_AT = 1000  # rows in which each key must stand at least once

Fields = Mapping[str, str]


def parse_fields(text: str) -> dict[str, str]:
    """The mapping of --fields: names of FIELDS -> keys of the file. Raises ValueError; DataError for a broken file."""
    if text.endswith(".json"):
        value = json_files.read_json(Path(text).expanduser())
        if not isinstance(value, dict):
            raise ValueError('expected a JSON object such as {"query": "implicit_query"} in the file')
        pairs = list(value.items())
    else:
        pairs = [part.partition(":")[::2] for part in text.split(",") if part.strip()]
    fields = {str(name).strip(): key.strip() if isinstance(key, str) else "" for name, key in pairs}
    unknown = [name for name in fields if name not in FIELDS]
    if unknown or not all(fields.values()) or len(fields) < len(pairs):
        fault = unknown[0] if unknown else next((n for n, key in fields.items() if not key), "a name twice")
        raise ValueError(f"expected NAME:KEY with names of {', '.join(FIELDS)}, each once, got {fault[:40]!r}")
    lacking = [name for name in ("query",) if name not in fields]
    lacking += [] if {"image", "video"} & fields.keys() else ["image or video"]
    lacking += [] if set(TARGETS) & fields.keys() else [f"one of {', '.join(TARGETS)}"]
    if lacking:
        raise ValueError(f"expected {' and '.join(lacking)} among the names, got {', '.join(fields)}")
    return fields


def describe(fields: Fields) -> str:
    """The mapping in words, for the report."""
    return ", ".join(f"{name} from {key}" for name, key in fields.items())


def rows(file: Path, fields: Fields) -> Iterator[row_files.Row]:
    """The rows of a file. Raises DataError: it cannot be read, or has no such list."""
    key = fields.get("rows")
    if key is None:
        yield from row_files.rows(file)
        return
    items = (value for _, value in json_items.object_items(file))
    for number, value in enumerate(items if key == "*" else json_items.list_items(file, key), 1):
        yield f"{file.name}, item {number}", value


def check_keys(file: Path, fields: Fields) -> tuple[str, ...]:
    """The keys of the first row. Raises DataError: there are no rows, or no row has a key that the user named."""
    seen: set[str] = set()
    first: tuple[str, ...] = ()
    named = {name: key for name, key in fields.items() if name != "rows"}
    for number, (_, row) in enumerate(rows(file, fields)):
        if number >= LOOKED_AT:
            break
        if isinstance(row, dict):
            first = first or tuple(map(str, row))
            seen |= {name for name, key in named.items() if value_of(row, key) is not None}
    if not first:
        raise DataError(
            f"{file}: expected rows that are JSON objects, got none; name their list with rows:KEY, or rows:* where "
            "they are the values of one object"
        )
    missing = [f"{name}:{named[name]}" for name in named if name not in seen]
    if missing:
        raise DataError(
            f"{file}: --fields={','.join(missing)}: no row has such a key; the first row has {', '.join(first[:20])}"
        )
    return first


def value_of(row: Mapping[str, Any], key: str | None) -> Any:
    """The value of a key, in which dots lead into objects; None where there is none."""
    if key is None or key in row:
        return row.get(key) if key is not None else None
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def samples(place: str, row: Mapping[str, Any], fields: Fields, tally: Tally) -> Iterator[Sample]:
    """The query of a row. Adds remarks to `tally`; raises LeftOut for a row that gives none."""
    given = {name: value_of(row, key) for name, key in fields.items() if name != "rows"}
    query = given["query"]
    if not isinstance(query, str) or not query.strip():
        raise LeftOut("rows without a query", place)
    task = _task(given.get("task"))
    pictures, video, names = _media(given)
    form = _form(given, task)
    category, level = _kind(given, tally)
    split = given.get("split")
    shared: dict[str, Any] = {
        "task": task, "category": category, "level": level, "split": split if isinstance(split, str) else None,
    }  # fmt: skip
    value = given[form]
    if form == "answers":
        target: dict[str, Any] = _answers(value, given.get("choices"))
        shared["task"] = task or "vqa"
    elif video is None:
        target = _picture_boxes(value) if form == "boxes" else _picture_masks(value)
    else:
        target = {"by_frame": _frame_target(value, names, form), "notation": NOTATION}
    yield Sample(place, pictures, " ".join(query.split()), video=video, **shared, **target)


def _task(value: Any) -> str | None:
    if value is None:
        return None
    task = value.strip().casefold() if isinstance(value, str) else ""
    if task not in TASKS:
        raise LeftOut(f"rows whose task is none of {', '.join(TASKS)}", str(value)[:40])
    return task


def _media(given: Mapping[str, Any]) -> tuple[tuple[Any, ...], str | None, tuple[str, ...]]:
    """(pictures, video, names of its frames). Raises LeftOut."""
    video, image = given.get("video"), given.get("image")
    if isinstance(video, str) and video.strip():
        return (), video.strip(), ()
    if isinstance(video, list) and video and all(isinstance(name, str) and name.strip() for name in video):
        parts = [name.replace("\\", "/").rpartition("/") for name in video]
        if len({folder for folder, _, _ in parts}) > 1 or not parts[0][0]:
            raise LeftOut("videos whose frames are in several folders, or named without their folder", video[0])
        return (), parts[0][0], tuple(name for _, _, name in parts)
    if video is not None:
        raise LeftOut("videos that are neither a path nor a list of frames", str(video)[:40])
    if image is None or image == []:
        raise LeftOut("rows without a picture or video")
    return (tuple(image) if isinstance(image, list) else (image,)), None, ()


def _form(given: Mapping[str, Any], task: str | None) -> str:
    """The name of the field that holds the target of a row. Raises LeftOut."""
    wanted = TARGETS if task is None else ("masks", "boxes") if task in POINTING else ("answers",)
    wanted = ("boxes", "masks") if task == "grounding" else wanted
    there = [name for name in wanted if given.get(name) is not None]
    if not there:
        raise LeftOut("rows without a target" if task is None else f"rows of the task {task} without a target for it")
    if task is None and "answers" in there and len(there) > 1:
        raise LeftOut("rows with answers beside masks or boxes, and no task (name its key with task:KEY)")
    return there[0]


def _kind(given: Mapping[str, Any], tally: Tally) -> tuple[str, int]:
    """(category or "", level or 0)."""
    value = given.get("category")
    category = value.strip().casefold() if isinstance(value, str) else ""
    if value is not None and category not in CATEGORIES:
        tally.add(f"rows whose category is none of {', '.join(CATEGORIES)}: used without it", str(value)[:40])
        category = ""
    value = given.get("level")
    digits = re.fullmatch(r"\D{0,8}([0-9])\D{0,2}", str(value))
    level = int(digits[1]) if digits and not isinstance(value, (bool, list, dict)) else 0
    if value is not None and level not in LEVELS:
        tally.add("rows whose level is none of 1 to 4: used without it", str(value)[:40])
        level = 0
    return category, level


def _answers(value: Any, choices: Any) -> dict[str, Any]:
    values = value if isinstance(value, list) else [value]
    numbers = (int, float)
    texts = [str(v) if isinstance(v, numbers) and not isinstance(v, bool) else v for v in values]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise LeftOut("answers that are neither a text nor a list of texts", str(value)[:40])
    answers = tuple(dict.fromkeys(" ".join(text.split()) for text in texts))[:64]
    if choices is None:
        return {"answers": answers}
    options = tuple(str(option) for option in choices) if isinstance(choices, list) else ()
    if not 2 <= len(options) <= 26 or len(set(options)) < len(options) or not set(answers) <= set(options):
        reason = "rows whose choices are not 2 to 26 different texts with the answer among them"
        raise LeftOut(reason, str(choices)[:40])
    return {"answers": answers, "choices": options}


def _picture_boxes(value: Any) -> dict[str, Any]:
    found = box_texts.boxes_of_json(value)
    if found is None:
        raise LeftOut("boxes that are no list of four numbers", str(value)[:40])
    return {"boxes": found.boxes, "notation": NOTATION}


def _picture_masks(value: Any) -> dict[str, Any]:
    """Masks of a picture: RLEs, polygons in pixels, or the path of a PNG. Raises LeftOut."""
    if isinstance(value, str):
        return {"mask": value}
    items = value if isinstance(value, list) else [value]
    if items and all(map(is_rle, items)):
        return {"masks": tuple(dict(item) for item in items)}
    if is_polygon(value):
        items = [value]
    if items and all(map(is_polygon, items)):
        return {"polygons": tuple(tuple(float(v) for v in item) for item in items)}
    if value == []:
        return {"boxes": (), "notation": NOTATION}
    raise LeftOut("masks that are neither RLEs, polygons nor the path of a PNG", str(value)[:40])


def _frame_target(value: Any, names: tuple[str, ...], form: str) -> FrameTarget:
    """The target of a video by frame. Raises LeftOut."""
    if isinstance(value, dict) and value:
        keys, values = tuple(value), tuple(value.values())
    elif isinstance(value, list) and value:
        keys, values = None, tuple(value)
    else:
        raise LeftOut("targets of a video that are not by frame", str(value)[:40])
    if form == "boxes":
        lists = [[v] if v is None or box_texts.is_box(v) else v for v in values]
        if not all(isinstance(v, list) and all(box is None or box_texts.is_box(box) for box in v) for v in lists):
            raise LeftOut("boxes of a video that are no lists of four numbers", str(values[0])[:40])
        return FrameTarget("tracks", keys, tuple(lists), names)
    if all(isinstance(v, str) for v in values):
        return FrameTarget("masks", keys, values, names)
    lists = [v if isinstance(v, list) else [v] for v in values]
    if not all(part is None or is_rle(part) for v in lists for part in v):
        raise LeftOut("masks of a video that are neither RLEs nor paths of PNG files", str(values[0])[:40])
    return FrameTarget("rles", keys, tuple(lists), names)
