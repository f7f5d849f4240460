"""Checks a line of a JSON lines file, and makes a Line of it; jsonl.py explains the fields."""

from __future__ import annotations

import collections
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files, mask_files
from dtr1_jax.data.readers import file_names, jsonl_faults, jsonl_scene, jsonl_video
from dtr1_jax.data.readers.jsonl_faults import fault
from dtr1_jax.data.readers.jsonl_fields import (  # fmt: skip
    ANSWERS,
    CHOICES,
    TEXT,
    Line,
    append_choices,
    are_answers,
    are_boxes,
    are_choices,
    are_paths,
    are_polygons,
    are_rles,
    is_object,
    is_text,
    whole_rle,
)
from dtr1_jax.twin import masks
from dtr1_jax.twin.schema import show
from dtr1_jax.types import POINTING, TASKS

log = logging.getLogger(__name__)


def _polygon_masks(polygons: list, h: int, w: int) -> list[np.ndarray]:
    return [masks.from_polygons([polygon], h, w) for polygon in polygons]


def _rle_masks(rles: Any, h: int, w: int) -> list[np.ndarray]:
    return [masks.decode(whole_rle(rle)) for rle in (rles if isinstance(rles, list) else [rles])]


def _bitmap_masks(path: Path, h: int, w: int) -> list[np.ndarray]:
    return [mask_files.load_mask(path)]


# Field of the target: (its check, the expected value for messages, reader of its masks).
FORMS: dict[str, tuple[Callable, str, Callable | None]] = {
    "boxes": (are_boxes, "a list of [x1, y1, x2, y2] in pixels with x1 < x2 and y1 < y2", None),
    "polygons": (are_polygons, "a list of [x, y, x, y, ...] in pixels, each of at least 3 points", _polygon_masks),
    "rle": (are_rles, "an object with size and counts, or a list of such objects", _rle_masks),
    "mask": (is_text, "a path", _bitmap_masks),
    "answers": (are_answers, ANSWERS, None),
}


class Reading:
    """Parses the lines of one file; collects faults, rows with faults, and fields that no line has."""

    def __init__(self, file: Path, task: str):
        self._file, self._task = file, task
        self.faults: list[tuple[str, str]] = []  # (location, fault)
        self.faulty: list[Any] = []
        self._unknown: collections.Counter[str] = collections.Counter()
        self._path = functools.cache(lambda name: file_names.find_file([file.parent], name))

    def parse(self, raw: bytes, number: int) -> Line | None:
        """A line, or None after adding its faults."""
        location = f"{self._file.name}:{number}"
        try:
            row = json_files.parse_json(raw)
        except ValueError as error:
            self.faults.append((location, f"expected JSON, got a malformed line: {error}"))
            return None
        if not isinstance(row, dict):
            self.faults.append((location, f"expected a JSON object, got {show(row)}"))
            return None
        task, known = row.get("task", self._task), _known(row)
        misnamed, others = jsonl_faults.unknown_fields(row, known, tuple(_forms(row)))
        self._unknown.update(others)
        self._unknown.update(jsonl_faults.unknown_object_fields(row))
        faults = misnamed or [*_field_faults(row, task), *_target_faults(row, task), *_object_faults(row)]
        faults += [] if misnamed else jsonl_scene.line_faults(row)
        if faults:
            self.faults += [(location, fault) for fault in faults]
            self.faulty.append(row)
            return None
        return self._line(row, location, task)

    def _line(self, row: dict, location: str, task: str) -> Line:
        uid, split = str(row.get("id", location)), row.get("split")
        (form,) = [form for form in _forms(row) if form in row]
        target, objects, choices = row[form], tuple(row.get("objects", ())), tuple(row.get("choices", ()))
        query = append_choices(row["query"], choices)
        oracle, relations = row.get(jsonl_scene.FIELD, {}), tuple(row.get(jsonl_scene.RELATIONS, ()))
        if "video" in row:
            target = jsonl_video.parse_target(form, target, self._path)
            path = file_names.find_file([self._file.parent], row["video"], or_folder=True)
            frames = tuple(row.get("frames", ()))
            return Line(
                location, uid, path, query, task, split, form, target, objects, path, frames, choices, oracle=oracle,
                described="objects" in row, relations=relations,
            )  # fmt: skip
        target = self._path(target) if form == "mask" else target
        names = [row["image"]] if isinstance(row["image"], str) else row["image"]
        image, *others = map(self._path, names)
        return Line(
            location, uid, image, query, task, split, form, target, objects, choices=choices, others=tuple(others),
            oracle=oracle, described="objects" in row, relations=relations,
        )  # fmt: skip

    def warn(self, lines: Sequence[Line]) -> None:
        """Warns of fields that are not used, and of masks in lossy files."""
        if self._unknown:
            names = ", ".join(f"{name[:40]!r} ({n} lines)" for name, n in self._unknown.most_common(5))
            log.warning("%s: %d unknown fields are not used: %s", self._file, len(self._unknown), names)
        lossy = [line for line in lines if line.form == "mask" and line.target.suffix.lower() in mask_files.LOSSY]
        if lossy:
            log.warning(
                "%s: %d masks are JPEG, such as %s, which blurs edges: they are cut at half of their largest value; "
                "save masks as PNG",
                self._file, len(lossy), lossy[0].target.name,
            )  # fmt: skip


def _field_faults(row: dict, task: Any) -> Iterator[str]:
    """Yields the faults of all fields except the target."""
    if "video" in row and "image" in row:
        yield "image, video: expected one of them, got both"
    for field in ("video", "query") if "video" in row else ("query",):
        if not is_text(row.get(field)):
            yield fault(field, TEXT, row.get(field))
    if "video" not in row and not are_paths(row.get("image")):
        yield fault("image", "a path or a list of 1 to 16 paths", row.get("image"))
    for field in ("video", "image", "mask"):
        yield from jsonl_faults.place_fault(field, row.get(field))
    yield from jsonl_faults.marker_fault(row.get("query"))
    for field in ("id", "split"):
        if field in row and not is_text(row[field]) and not (field == "id" and type(row["id"]) is int):
            yield fault(field, TEXT, row[field])
    if task not in TASKS:
        yield fault("task", f"one of {', '.join(TASKS)}", task)


def _target_faults(row: dict, task: Any) -> Iterator[str]:
    known = _forms(row)
    forms = [form for form in known if form in row]
    if len(forms) != 1:
        yield f"target: expected exactly one of {', '.join(known)}, got {' and '.join(forms) or 'none of them'}"
    for form in forms:
        sound, expected = known[form][:2]
        if not sound(row[form]):
            yield fault(form, expected, row[form])
        elif form in ("boxes", "polygons", "tracks"):
            boxes = jsonl_video.track_boxes(row[form]) if form == "tracks" else row[form]
            yield from jsonl_faults.small_shapes(form, boxes)
        if task in TASKS and (form == "answers") != (task not in POINTING):
            others = ", ".join(other for other in known if other != "answers")
            expected = f"answers for vqa and summary, one of {others} for other tasks"
            yield f"target: expected {expected}, got {form} for {task}"
    if "video" in row and not jsonl_video.are_frames(row.get("frames", [])):
        yield fault("frames", "a list of ascending frame numbers from 0 on", row["frames"])
    if "choices" in row and not are_choices(row["choices"], row.get("answers"), task):
        yield fault("choices", CHOICES, row["choices"])


def _object_faults(row: dict) -> Iterator[str]:
    objects = row.get("objects", [])
    if not isinstance(objects, list):
        yield fault("objects", "a list", objects)
        return
    sound, expected = is_object, "a label, a box and, if any, attributes"
    if "video" in row:
        sound, expected = jsonl_video.is_object, "a label, a box or track and, if any, attributes"
    for i, item in enumerate(objects):
        field, found = f"objects[{i}]", []
        if isinstance(item, dict):
            found = [*jsonl_faults.object_fields(field, item), *jsonl_faults.name_faults(field, item)]
        if found or not sound(item):
            yield from found or [fault(field, expected, item)]
        else:
            boxes = [item["box"]] if "box" in item else jsonl_video.track_boxes([item["track"]])
            yield from jsonl_faults.small_shapes(field, boxes)
            yield from jsonl_scene.object_faults(field, item, "video" in row)


def _forms(row: dict) -> dict:
    return jsonl_video.FORMS if "video" in row else FORMS


def _known(row: dict) -> tuple[str, ...]:
    """The fields of a line of this sort."""
    visuals = ("video", "frames") if "video" in row else ("image",)
    described = ("objects", jsonl_scene.RELATIONS, jsonl_scene.FIELD)
    return ("query", "task", "id", "split", "choices", *described, *_forms(row), *visuals)
