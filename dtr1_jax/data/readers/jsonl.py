"""The user's own data: a JSON lines file, one query a line.

    {"image": "photos/1.jpg", "query": "what keeps tea hot", "boxes": [[40, 60, 180, 220]]}
    {"image": "photos/1.jpg", "query": "how many cups?", "task": "vqa", "answers": ["2", "two"]}

Fields of a line:
    image     path, relative to the file or absolute, or a list of paths; the target is in the first picture
    query     the user's words
    The target, in pixels of the upright picture, is exactly one of these fields:
    boxes     [[x1, y1, x2, y2], ...]; the target mask is the filled boxes
    polygons  [[x, y, x, y, ...], ...], each the outline of one object
    rle       {"size": [h, w], "counts": ...} of COCO, or a list with one RLE for each object
    mask      path of a PNG of the picture's size; all pixels above 0 are one object
    answers   ["2", "two"], for vqa and summary only: any of them is right (vqa), or the summary is compared with all
    These fields are optional:
    task      segmentation, grounding, vqa or summary. Default: data.task; required if data.task is unified
    id        unique name, a string. Default: FILE:LINE
    split     "train", "heldout", ...; in all lines or in none
    choices   ["red", "blue"], the choices of a vqa query, with the answers among them; they are appended to the query
              as (A), (B), ..., and the policy may answer with the letter or the words
    objects   [{"label": "mug", "box": [x1, y1, x2, y2], "attributes": ["red"]}, ...], the scene

A line about a video has "video" in place of "image", and other fields for the target: see jsonl_video.py.

An empty list of boxes or polygons, or an empty mask, says that nothing in the picture fits the query. Without "split",
every fifth picture or video is held out, with all its lines; of 2 to 4 the last one. If all `boxes` equal boxes of
`objects`, the answer is also known as object ids, and the line can serve for the cold start.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl_video
from dtr1_jax.data.readers.jsonl_fields import (  # fmt: skip
    ANSWERS,
    CHOICES,
    TEXT,
    Line,
    answer_ids,
    append_choices,
    are_answers,
    are_boxes,
    are_choices,
    are_paths,
    are_polygons,
    are_rles,
    fill_box,
    is_object,
    is_text,
    keep_objects,
    unit_box,
)
from dtr1_jax.data.readers.jsonl_video import FRAMES
from dtr1_jax.twin import masks
from dtr1_jax.twin.schema import show
from dtr1_jax.types import POINTING, TASKS, Example, Instance, Target

FIFTH = 5  # without "split", the pictures 5, 10, ... are held out, in the order in which the lines name them
MAX_FAULTS = 10  # faults that an error message lists

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, repr=False)
class Jsonl:
    """One example for each line."""

    path: Path
    split: str
    max_objects: int
    lines: tuple[Line, ...]
    frames: int = FRAMES
    max_pixels: int = image_files.MAX_PIXELS  # a larger picture is shrunk while it is decoded; its masks are not

    def __repr__(self) -> str:
        name = self.path.as_posix()
        settings = f"split={self.split!r}, max_objects={self.max_objects}, frames={self.frames}"
        return f"Jsonl({name!r}, {settings}, lines={len(self.lines)})"

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if a picture, video or mask cannot be read or does not fit; IndexError."""
        line = self.lines[index]
        if line.video is not None:
            return jsonl_video.video_example(line, self.max_objects, self.frames)
        return _picture_example(line, self.max_objects, self.max_pixels)


def open_jsonl_source(path: str, split: str, task: str, *, max_objects: int, frames: int = FRAMES) -> Jsonl:
    """Reads and checks all lines and returns the examples of a split; each picture is read when its example is indexed.

    Args:
      path: the file.
      split: value of the field "split"; "heldout" also finds "val" where no line is "heldout".
      task: the task of lines without the field "task".
      max_objects: most objects of a scene; the objects of the target are kept, then the largest.
      frames: most frames of a video, for lines without the field "frames".

    Raises:
      DataError: the file cannot be read, lines have faults (the first MAX_FAULTS are listed), or the split has no
        lines.
    """
    file, faults = Path(path), []
    try:
        rows = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); set data.root to the JSON lines file") from None
    lines = [
        _parse_line(row, f"{file.name}:{i}", file.parent, task, faults) for i, row in enumerate(rows, 1) if row.strip()
    ]
    lines = [line for line in lines if line]
    faults += _faults_between(lines)
    if faults:
        more = f"\n  and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        advice = "correct these lines; dtr1_jax/data/readers/jsonl.py explains the fields"
        raise DataError(f"{file}: {count}; {advice}:\n  " + "\n  ".join(faults[:MAX_FAULTS]) + more)
    chosen = _of_split(lines, split)
    if not chosen:
        known = ", ".join(sorted({line.split for line in lines if line.split}))
        known = f"of split {known}" if known else 'without "split" about one picture, and 2 are needed to hold one out'
        count = f"{len(lines)} lines {known}"
        raise DataError(f"{file}: expected lines of split {split!r}, got {count}; change the lines or data.*_split")
    return Jsonl(file, split, max_objects, tuple(chosen), frames)


def _of_split(lines: Sequence[Line], split: str) -> list[Line]:
    if all(line.split is None for line in lines):
        groups = _by_picture(lines)
        count = max(groups, default=-1) + 1
        held = {i for i in range(count) if i % FIFTH == FIFTH - 1} or {count - 1} - {0}
        chosen = [line for line, group in zip(lines, groups) if (group in held) == (split != "train")]
        if split != "train":
            log.info(
                "%d of the %d lines are held out, by picture; a field split says otherwise", len(chosen), len(lines)
            )
        return chosen
    chosen = [line for line in lines if line.split == split]
    return chosen or ([line for line in lines if line.split == "val"] if split == "heldout" else [])


def _by_picture(lines: Sequence[Line]) -> list[int]:
    """The number of the group of each line, from 0 on, as they come first. Lines that share a file are in one group."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    files = [[os.path.normpath(path) for path in (line.image, *line.others)] for line in lines]
    for first, *others in files:
        for other in others:
            parent[root(other)] = root(first)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(first), len(numbers)) for first, *_ in files]


def _faults_between(lines: Sequence[Line]) -> Iterator[str]:
    """Ids that two lines share, and a "split" that only some lines have."""
    by_uid = {}
    for line in lines:
        first = by_uid.setdefault(line.uid, line)
        if first is not line:
            yield f"{line.location}: id: expected a name that no other line has, got the id of {first.location}"
    missing = [line.location for line in lines if line.split is None]
    if missing and len(missing) < len(lines):
        yield f"{missing[0]}: split: expected it in every line or in none, got {len(missing)} lines without it"


def _parse_line(raw: bytes, location: str, folder: Path, task: str, faults: list[str]) -> Line | None:
    """A line, or None after adding its faults. `task` is the default."""
    try:
        row = json_files.parse_json(raw)
    except ValueError as error:
        faults.append(f"{location}: expected JSON, got a malformed line: {error}")
        return None
    if not isinstance(row, dict):
        faults.append(f"{location}: expected a JSON object, got {show(row)}")
        return None
    task = row.get("task", task)
    line_faults = [*_field_faults(row, task), *_target_faults(row, task), *_object_faults(row)]
    if line_faults:
        faults += [f"{location}: {fault}" for fault in line_faults]
        return None
    uid, split = row.get("id", location), row.get("split")
    (form,) = [form for form in _forms(row) if form in row]
    target, objects, choices = row[form], tuple(row.get("objects", ())), tuple(row.get("choices", ()))
    query = append_choices(row["query"], choices)
    if "video" in row:
        target = jsonl_video.parse_target(form, target, folder)
        path, frames = folder / row["video"], tuple(row.get("frames", ()))
        return Line(location, uid, path, query, task, split, form, target, objects, path, frames, choices)
    target = folder / target if form == "mask" else target
    names = [row["image"]] if isinstance(row["image"], str) else row["image"]
    image, *others = (folder / name for name in names)
    return Line(
        location, uid, image, query, task, split, form, target, objects, choices=choices, others=tuple(others)
    )  # fmt: skip


def _fault(field: str, expected: str, value: Any) -> str:
    return f"{field}: expected {expected}, got {show(value)}"


def _field_faults(row: dict, task: Any) -> Iterator[str]:
    """Yields the faults of all fields except the target."""
    if "video" in row and "image" in row:
        yield "image, video: expected one of them, got both"
    for field in ("video", "query") if "video" in row else ("query",):
        if not is_text(row.get(field)):
            yield _fault(field, TEXT, row.get(field))
    if "video" not in row and not are_paths(row.get("image")):
        yield _fault("image", "a path or a list of 1 to 16 paths", row.get("image"))
    for field in ("id", "split"):
        if field in row and not is_text(row[field]):
            yield _fault(field, TEXT, row[field])
    if task not in TASKS:
        yield _fault("task", f"one of {', '.join(TASKS)}", task)


def _target_faults(row: dict, task: Any) -> Iterator[str]:
    known = _forms(row)
    forms = [form for form in known if form in row]
    if len(forms) != 1:
        yield f"target: expected exactly one of {', '.join(known)}, got {' and '.join(forms) or 'none of them'}"
    for form in forms:
        sound, expected = known[form][:2]
        if not sound(row[form]):
            yield _fault(form, expected, row[form])
        if task in TASKS and (form == "answers") != (task not in POINTING):
            others = ", ".join(other for other in known if other != "answers")
            expected = f"answers for vqa and summary, one of {others} for other tasks"
            yield f"target: expected {expected}, got {form} for {task}"
    if "video" in row and not jsonl_video.are_frames(row.get("frames", [])):
        yield _fault("frames", "a list of ascending frame numbers from 0 on", row["frames"])
    if "choices" in row and not are_choices(row["choices"], row.get("answers"), task):
        yield _fault("choices", CHOICES, row["choices"])


def _object_faults(row: dict) -> Iterator[str]:
    objects = row.get("objects", [])
    if not isinstance(objects, list):
        yield _fault("objects", "a list", objects)
        return
    sound, expected = is_object, "a label, a box and, if any, attributes"
    if "video" in row:
        sound, expected = jsonl_video.is_object, "a label, a box or track and, if any, attributes"
    for i, item in enumerate(objects):
        if not sound(item):
            yield _fault(f"objects[{i}]", expected, item)


def _forms(row: dict) -> dict:
    return jsonl_video.FORMS if "video" in row else FORMS


def _picture_example(line: Line, max_objects: int, max_pixels: int) -> Example:
    """The example of a line about pictures. Raises ImageError."""
    image, (h, w) = image_files.load_shrunk(line.image, max_pixels)
    try:
        boxes, object_masks = _target_objects(line, h, w)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        scene = _scene(line.objects, boxes, h, w, max_objects)
    except ValueError as error:
        raise image_files.ImageError(f"{line.location}: {error}") from None
    in_words = line.form == "answers"
    references = tuple(line.target) if in_words else ()
    target = Target(masks.union(object_masks, h, w), boxes, references=references, choices=line.choices)
    ids = None if in_words else answer_ids(boxes, scene)
    others = [image_files.load_image(path, max_pixels=max_pixels) for path in line.others]
    visuals = (image, *others) if others else ()
    return Example(line.uid, image, line.query, line.task, target, scene, ids, visuals=visuals)


def _target_objects(line: Line, h: int, w: int) -> tuple[list, list[np.ndarray]]:
    """Unit boxes and masks bool[h, w] of the objects of the target. Raises ValueError."""
    if line.form == "answers":
        return [], []
    if line.form == "boxes":
        return [unit_box(box, h, w) for box in line.target], [fill_box(box, h, w) for box in line.target]
    object_masks = FORMS[line.form][2](line.target, h, w)
    for mask in object_masks:
        if mask.shape != (h, w):
            size = f"{mask.shape[1]} x {mask.shape[0]}"
            raise ValueError(
                f"{line.form}: expected the size of the picture, {w} x {h} pixels, got {size}; take the mask of this "
                "picture"
            )
    object_masks = [mask for mask in object_masks if mask.any()]
    return [masks.bbox(mask) for mask in object_masks], object_masks


def _polygon_masks(polygons: list, h: int, w: int) -> list[np.ndarray]:
    return [masks.from_polygons([polygon], h, w) for polygon in polygons]


def _rle_masks(rles: Any, h: int, w: int) -> list[np.ndarray]:
    return [masks.decode(rle) for rle in (rles if isinstance(rles, list) else [rles])]


def _bitmap_masks(path: Path, h: int, w: int) -> list[np.ndarray]:
    return [image_files.load_bitmap(path) != 0]


# Field of the target: (its check, the expected value for messages, reader of its masks).
FORMS: dict[str, tuple[Callable, str, Callable | None]] = {
    "boxes": (are_boxes, "a list of [x1, y1, x2, y2] in pixels with x1 < x2 and y1 < y2", None),
    "polygons": (are_polygons, "a list of [x, y, x, y, ...] in pixels, each of at least 3 points", _polygon_masks),
    "rle": (are_rles, "an object with size and counts, or a list of such objects", _rle_masks),
    "mask": (is_text, "a path", _bitmap_masks),
    "answers": (are_answers, ANSWERS, None),
}


def _scene(objects: Sequence[dict], target_boxes: np.ndarray, h: int, w: int, max_objects: int) -> tuple[Instance, ...]:
    """The objects in the order of the line. If there are too many, the target's objects and then the largest stay."""
    boxed = [(unit_box(o["box"], h, w), o) for o in objects]
    areas = [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _ in boxed]
    indices = keep_objects(areas, [box for box, _ in boxed], target_boxes, max_objects)
    return tuple(
        Instance(i, o["label"], box, fill_box(o["box"], h, w), attributes=tuple(o.get("attributes", ())))
        for i, (box, o) in enumerate((boxed[k] for k in indices), 1)
    )
