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
    id        unique name, a string or a whole number. Default: FILE:LINE
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

import dataclasses
import functools
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import (  # fmt: skip
    file_names,
    foreign_formats,
    jsonl_faults,
    jsonl_fields,
    jsonl_large,
    jsonl_scene,
    jsonl_video,
)
from dtr1_jax.data.readers.jsonl_fields import (  # fmt: skip
    Line,
    answer_ids,
    check_outside,
    fill_box,
    keep_largest,
    keep_objects,
    unit_box,
    whole_rle,
)
from dtr1_jax.data.readers.jsonl_reading import FORMS, Reading
from dtr1_jax.data.readers.jsonl_video import FRAMES
from dtr1_jax.run import local_copy
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Instance, Target

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, repr=False)
class Jsonl:
    """One example for each line."""

    path: Path
    split: str
    max_objects: int
    lines: Sequence[Line]
    frames: int = FRAMES
    max_pixels: int = image_files.MAX_PIXELS  # a larger picture is shrunk while it is decoded; its masks are not
    by_truth: bool = True  # of too many objects, those of target and answer stay; False = the largest (sources.py)

    def __repr__(self) -> str:
        name = local_copy.stable_name(self.path)
        settings = f"split={self.split!r}, max_objects={self.max_objects}, frames={self.frames}"
        return f"Jsonl({name!r}, {settings}, lines={len(self.lines)})"

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if a picture, video or mask cannot be read or does not fit, or if parts
        of the line contradict another; IndexError.
        """
        line = self.lines[index]
        if line.video is not None:
            return jsonl_video.video_example(line, self.max_objects, self.frames, self.by_truth)
        return _picture_example(line, self.max_objects, self.max_pixels, self.by_truth)


def open_jsonl_source(path: str, split: str, task: str, *, max_objects: int, frames: int = FRAMES) -> Jsonl:
    """Reads and checks all lines and returns the examples of a split; each picture is read when its example is indexed.

    Args:
      path: the file.
      split: value of the field "split"; "heldout" also finds jsonl_fields.VALIDATION where no line is "heldout".
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
    if jsonl_large.is_large(file):
        try:
            return _open_large(file, split, task, max_objects, frames)
        except jsonl_large.Several:
            log.warning("%s: it is read as a whole, since lines about several pictures decide the splits", file)
    raw = json_files.read_bytes(file)
    foreign = foreign_formats.name_bytes(file, raw)
    if foreign:
        raise DataError(foreign)
    reading = Reading(file, task)
    lines = [reading.parse(row, i) for i, row in enumerate(raw.splitlines(), 1) if row.strip()]
    lines = [line for line in lines if line]
    foreign = foreign_formats.name_rows(file, reading.faulty)
    if foreign:
        raise DataError(foreign)
    faults = reading.faults + list(jsonl_faults.faults_between(lines))
    if faults:
        raise DataError(jsonl_faults.message(file, faults))
    reading.warn(lines)
    chosen = jsonl_fields.of_split(lines, split, file.parent)
    if not chosen:
        raise _no_lines(file, split, {line.split for line in lines if line.split}, len(lines))
    return Jsonl(file, split, max_objects, tuple(chosen), frames)


def _no_lines(file: Path, split: str, names: Collection[str], count: int) -> DataError:
    known = ", ".join(sorted(names))
    known = f"of split {known}" if known else 'without "split" about one picture, and 2 are needed to hold one out'
    return DataError(
        f"{file}: expected lines of split {split!r}, got {count} lines {known}; change the lines or data.*_split"
    )


def _open_large(file: Path, split: str, task: str, max_objects: int, frames: int) -> Jsonl:
    """The examples of a split of a large file. Raises DataError as `open_jsonl_source`; jsonl_large.Several."""
    found = jsonl_large.survey(file, task, read_line)
    reading, checked = _check_sample(file, task, found)
    foreign = foreign_formats.name_rows(file, reading.faulty)
    if foreign:
        raise DataError(foreign)
    faults = reading.faults + [
        (f"{file.name}:{found.lines.numbers[i]}", "id: expected a name that no other line has, got that of another")
        for i in found.twins
    ]
    missing = np.flatnonzero(found.splits < 0)
    if 0 < len(missing) < len(found.lines):
        place = f"{file.name}:{found.lines.numbers[missing[0]]}"
        faults.append((place, f"split: expected it in every line or in none, got {len(missing)} lines without it"))
    if faults:
        raise DataError(jsonl_faults.message(file, faults))
    reading.warn([line for line in checked if line])
    log.info(
        "%s: all fields of %d of its %d lines are checked now, and those of a line when it is read",
        file, len(checked), len(found.lines),
    )  # fmt: skip
    if not found.split_names:
        chosen = found.held != (split == "train")
    else:
        names = (split, *jsonl_fields.VALIDATION) if split == "heldout" else (split,)
        number = next((found.split_names.index(name) for name in names if name in found.split_names), -2)
        chosen = found.splits == number
    if not chosen.any():
        raise _no_lines(file, split, found.split_names, len(found.lines))
    return Jsonl(file, split, max_objects, found.lines.of(chosen), frames)


@functools.lru_cache(maxsize=1)  # the splits of a run are parts of one file
def _check_sample(file: Path, task: str, found: jsonl_large.Survey) -> tuple[Reading, list[Line | None]]:
    """The doubtful lines of a survey, read."""
    reading = Reading(file, task)
    return reading, [reading.parse(found.lines.raw(i), int(found.lines.numbers[i])) for i in found.doubtful]


def read_line(file: Path, task: str, raw: bytes, number: int) -> Line:
    """The line of a large file. Raises ImageError if it has faults."""
    reading = Reading(file, task)
    line = reading.parse(raw, number)
    if line is None:
        raise image_files.ImageError("; ".join(f"{place}: {text}" for place, text in reading.faults[:3]))
    return line


def _picture_example(line: Line, max_objects: int, max_pixels: int, by_truth: bool = True) -> Example:
    """The example of a line about pictures. Raises ImageError."""
    image, (h, w) = image_files.load_shrunk(line.image, max_pixels, upright=not _is_stored_frame(line))
    others = [image_files.load_image(path, max_pixels=max_pixels) for path in line.others]
    in_words = line.form == "answers"
    try:
        boxes, object_masks = _target_objects(line, h, w)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        scene, kept = _scene(line, boxes if by_truth else None, h, w, max_objects)
        references = tuple(line.target) if in_words else ()
        target = Target(masks.union(object_masks, h, w), boxes, references=references, choices=line.choices)
        ids = None if in_words else answer_ids(boxes, scene)
        visuals = (image, *others) if others else ()
        example = Example(
            line.uid, image, line.query, line.task, target, scene, ids, visuals=visuals,
            hidden_objects=len(line.objects) - len(kept),
        )  # fmt: skip
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


def _scene(
    line: Line, target_boxes: np.ndarray | None, h: int, w: int, max_objects: int
) -> tuple[tuple[Instance, ...], list[int]]:
    """(the objects in the order of the line, their places there). If there are too many, those of the target and the
    answer and then the largest stay; only the largest where `target_boxes` is None. Raises ValueError.
    """
    boxed = [(unit_box(o["box"], h, w), o) for o in line.objects]
    areas = [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _ in boxed]
    if target_boxes is None:
        kept = keep_largest(areas, max_objects)
    else:
        first = [number - 1 for number in line.oracle.get("answer", ())]
        kept = keep_objects(areas, [box for box, _ in boxed], target_boxes, max_objects, first)
    return tuple(jsonl_scene.picture_object(i, k, boxed[k], h, w) for i, k in enumerate(kept, 1)), kept
