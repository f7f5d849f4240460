"""The user's own data: a JSON lines file, one query a line.

    {"image": "photos/1.jpg", "query": "what keeps tea hot", "boxes": [[40, 60, 180, 220]]}
    {"image": "photos/1.jpg", "query": "how many cups?", "task": "vqa", "answers": ["2", "two"]}

Fields of a line:
    image     path, relative to the file or absolute, or a list of paths; the target is in the first picture. A
              backslash may stand for a slash and %20 for a space, but an address (https://...) is refused
    query     the user's words
    The target, in pixels of the upright picture, is exactly one of these fields (RLE and masks may have the size of the
    picture as it is stored, before its EXIF rotation):
    boxes     [[x1, y1, x2, y2], ...]; the target mask is the filled boxes
    polygons  [[x, y, x, y, ...], ...], each the outline of one object
    rle       {"size": [h, w], "counts": ...} of COCO, or a list with one RLE for each object
    mask      path of a PNG of the picture's size; all pixels above 0 are one object (data/mask_files.py)
    answers   ["2", "two"], for vqa and summary only: any of them is right (vqa), or the summary is compared with all
    These fields are optional:
    task      segmentation, grounding, vqa or summary. Default: data.task; required if data.task is unified
    id        unique name, a string. Default: FILE:LINE
    split     "train", "heldout", ...; in all lines or in none
    choices   ["red", "blue"], the choices of a vqa query, with the answers among them; they are appended to the query
              as (A), (B), ..., and the policy may answer with the letter or the words
    objects   [{"label": "mug", "box": [x1, y1, x2, y2], "attributes": ["red"]}, ...], the scene

A line about a video has "video" in place of "image", and other fields for the target: see jsonl_video.py. Further
optional fields, such as the depth of an object, are explained in jsonl_scene.py.

An empty list of boxes or polygons, or an empty mask, says that nothing in the picture fits the query. Without "split",
a fifth of the pictures and videos is held out, with all lines about them (json_files.held_out_part). A line can serve
for the cold start (--mode=sft) if it has `objects`, and its target is in words or `boxes` that all equal boxes of
`objects`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files, mask_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import file_names, foreign_formats, jsonl_faults, jsonl_scene, jsonl_video
from dtr1_jax.data.readers.jsonl_faults import fault
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
    check_outside,
    fill_box,
    is_object,
    is_text,
    keep_objects,
    picture_keys,
    unit_box,
    whole_rle,
)
from dtr1_jax.data.readers.jsonl_video import FRAMES
from dtr1_jax.twin import masks
from dtr1_jax.twin.schema import show
from dtr1_jax.types import POINTING, TASKS, Example, Instance, Target

VALIDATION = ("val", "valid", "validation", "dev", "test")  # names that "heldout" finds where no line has it

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
      split: value of the field "split"; "heldout" also finds VALIDATION where no line is "heldout".
      task: the task of lines without the field "task".
      max_objects: most objects of a scene; the objects of the target are kept, then the largest.
      frames: most frames of a video, for lines without the field "frames".

    Raises:
      DataError: the file cannot be read or has another format, lines have faults (listed by kind), or the split has no
        lines.
    """
    file = Path(path)
    if file_names.is_folder(file):
        names = ", ".join(sorted(item.name for item in file.glob("*.json*"))[:5]) or "no such file"
        raise DataError(f"{file}: expected a JSON lines file, got a folder with {names}; set data.root to the file")
    raw = json_files.read_bytes(file)
    foreign = foreign_formats.name_bytes(file, raw)
    if foreign:
        raise DataError(foreign)
    reading = _Reading(file, task)
    lines = [reading.parse(row, i) for i, row in enumerate(raw.splitlines(), 1) if row.strip()]
    lines = [line for line in lines if line]
    foreign = foreign_formats.name_rows(file, reading.faulty)
    if foreign:
        raise DataError(foreign)
    faults = reading.faults + list(_faults_between(lines))
    if faults:
        raise DataError(jsonl_faults.message(file, faults))
    reading.warn(lines)
    chosen = _of_split(lines, split, file.parent)
    if not chosen:
        known = ", ".join(sorted({line.split for line in lines if line.split}))
        known = f"of split {known}" if known else 'without "split" about one picture, and 2 are needed to hold one out'
        count = f"{len(lines)} lines {known}"
        raise DataError(f"{file}: expected lines of split {split!r}, got {count}; change the lines or data.*_split")
    return Jsonl(file, split, max_objects, tuple(chosen), frames)


def _of_split(lines: Sequence[Line], split: str, folder: Path) -> list[Line]:
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


def _faults_between(lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Ids that two lines share, and a "split" that only some lines have."""
    by_uid = {}
    for line in lines:
        first = by_uid.setdefault(line.uid, line)
        if first is not line:
            yield line.location, f"id: expected a name that no other line has, got the id of {first.location}"
    missing = [line.location for line in lines if line.split is None]
    if missing and len(missing) < len(lines):
        yield missing[0], f"split: expected it in every line or in none, got {len(missing)} lines without it"


class _Reading:
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
        faults = misnamed or [*_field_faults(row, task), *_target_faults(row, task), *_object_faults(row)]
        faults += [] if misnamed else jsonl_scene.line_faults(row)
        if faults:
            self.faults += [(location, fault) for fault in faults]
            self.faulty.append(row)
            return None
        return self._line(row, location, task)

    def _line(self, row: dict, location: str, task: str) -> Line:
        uid, split = row.get("id", location), row.get("split")
        (form,) = [form for form in _forms(row) if form in row]
        target, objects, choices = row[form], tuple(row.get("objects", ())), tuple(row.get("choices", ()))
        query = append_choices(row["query"], choices)
        oracle = row.get(jsonl_scene.FIELD, {})
        if "video" in row:
            target = jsonl_video.parse_target(form, target, self._path)
            path = file_names.find_file([self._file.parent], row["video"], or_folder=True)
            frames = tuple(row.get("frames", ()))
            return Line(
                location, uid, path, query, task, split, form, target, objects, path, frames, choices, oracle=oracle,
                described="objects" in row,
            )  # fmt: skip
        target = self._path(target) if form == "mask" else target
        names = [row["image"]] if isinstance(row["image"], str) else row["image"]
        image, *others = map(self._path, names)
        return Line(
            location, uid, image, query, task, split, form, target, objects, choices=choices, others=tuple(others),
            oracle=oracle, described="objects" in row,
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
    for field in ("id", "split"):
        if field in row and not is_text(row[field]):
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
        misnamed = list(jsonl_faults.object_fields(f"objects[{i}]", item)) if isinstance(item, dict) else []
        if misnamed or not sound(item):
            yield from misnamed or [fault(f"objects[{i}]", expected, item)]
        else:
            boxes = [item["box"]] if "box" in item else jsonl_video.track_boxes([item["track"]])
            yield from jsonl_faults.small_shapes(f"objects[{i}]", boxes)
            yield from jsonl_scene.object_faults(f"objects[{i}]", item, "video" in row)


def _forms(row: dict) -> dict:
    return jsonl_video.FORMS if "video" in row else FORMS


def _known(row: dict) -> tuple[str, ...]:
    """The fields of a line of this sort."""
    return ("query", "task", "id", "split", "choices", "objects", jsonl_scene.FIELD, *_forms(row)) + (
        ("video", "frames") if "video" in row else ("image",)
    )


def _picture_example(line: Line, max_objects: int, max_pixels: int) -> Example:
    """The example of a line about pictures. Raises ImageError."""
    image, (h, w) = image_files.load_shrunk(line.image, max_pixels, upright=not _is_stored_frame(line))
    others = [image_files.load_image(path, max_pixels=max_pixels) for path in line.others]
    in_words = line.form == "answers"
    try:
        boxes, object_masks = _target_objects(line, h, w)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        scene, kept = _scene(line, boxes, h, w, max_objects)
        references = tuple(line.target) if in_words else ()
        target = Target(masks.union(object_masks, h, w), boxes, references=references, choices=line.choices)
        ids = None if in_words else answer_ids(boxes, scene)
        visuals = (image, *others) if others else ()
        example = Example(line.uid, image, line.query, line.task, target, scene, ids, visuals=visuals)
        return jsonl_scene.completed(example, line, kept)
    except ValueError as error:
        raise image_files.ImageError(f"{line.location}: {error}") from None


def _is_stored_frame(line: Line) -> bool:
    """Whether the masks of a line have the size of its picture before the EXIF rotation, and not after it."""
    if line.form not in ("rle", "mask"):
        return False
    w, h, orientation = image_files.stored_size(line.image)
    if orientation < 5 or w == h:  # the rotation does not change the size
        return False
    if line.form == "mask":
        return image_files.stored_size(line.target)[:2] == (w, h)
    rles = line.target if isinstance(line.target, list) else [line.target]
    return any(whole_rle(rle)["size"] == [h, w] for rle in rles)


def _target_objects(line: Line, h: int, w: int) -> tuple[list, list[np.ndarray]]:
    """Unit boxes and masks bool[h, w] of the objects of the target. Raises ValueError."""
    if line.form == "answers":
        return [], []
    if line.form == "boxes":
        check_outside(line.location, line.target, h, w)
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


def _scene(
    line: Line, target_boxes: np.ndarray, h: int, w: int, max_objects: int
) -> tuple[tuple[Instance, ...], list[int]]:
    """(the objects in the order of the line, their places there). If there are too many, those of the target and the
    answer and then the largest stay. Raises ValueError.
    """
    boxed = [(unit_box(o["box"], h, w), o) for o in line.objects]
    areas = [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _ in boxed]
    first = [number - 1 for number in line.oracle.get("answer", ())]
    kept = keep_objects(areas, [box for box, _ in boxed], target_boxes, max_objects, first)
    return tuple(jsonl_scene.picture_object(i, boxed[k], h, w) for i, k in enumerate(kept, 1)), kept
