"""The user's own data: a JSON lines file, one query a line.

    {"image": "photos/1.jpg", "query": "what keeps tea hot", "boxes": [[40, 60, 180, 220]]}
    {"image": "photos/1.jpg", "query": "how many cups?", "task": "vqa", "answers": ["2", "two"]}

Fields of a line:
    image     path, relative to the file or absolute, or a list of them; what is wanted is in the first
    query     the user's words
    and what is wanted, in pixels of the upright picture, as exactly one of
    boxes     [[x1, y1, x2, y2], ...]; the wanted mask is the filled boxes, since nothing says more
    polygons  [[x, y, x, y, ...], ...], each the outline of one thing
    rle       {"size": [h, w], "counts": ...} of COCO, or a list of them, one for each thing
    mask      path of a PNG of the picture's size; what is not 0 is wanted, and is one thing
    answers   ["2", "two"], the words of vqa and summary, and of these alone: any of them is right (vqa), or all are to
              be compared with (summary)
    optional
    task      segmentation, grounding, vqa or summary; else that of the settings (where that is unified, it must stand)
    id        unique name, a string; else FILE:LINE
    split     "train", "heldout", ...; in all lines or in none
    choices   ["red", "blue"], what a question (vqa) lets choose from, the answers among them; they are put behind the
              query as (A), (B), ..., and the answer may be the letter or the words
    objects   [{"label": "mug", "box": [x1, y1, x2, y2], "attributes": ["red"]}, ...], the scene

A line about a video has "video" in place of "image", and other forms of what is wanted: see jsonl_video.py.

No boxes, no polygons, or an empty mask: nothing in the picture fits. Without "split", every fifth line is held out. If
`boxes` repeats boxes of `objects`, the answer is known as objects, and the line can serve for the cold start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl_video
from dtr1_jax.data.readers.jsonl_fields import (  # fmt: skip
    ANSWERS,
    CHOICES,
    Line,
    answer_ids,
    are_answers,
    are_boxes,
    are_choices,
    are_pictures,
    are_polygons,
    are_rles,
    asked,
    filled,
    is_object,
    is_text,
    largest,
    unit,
)
from dtr1_jax.data.readers.jsonl_video import FRAMES
from dtr1_jax.twin import masks
from dtr1_jax.twin.schema import show
from dtr1_jax.types import POINTING, TASKS, Example, Instance, Target

FIFTH = 5  # without "split", lines 5, 10, ... are held out
SHOWN = 10  # faults in an error message


@dataclasses.dataclass(frozen=True, repr=False)
class Jsonl:
    """One example a line."""

    path: Path
    split: str
    max_objects: int
    lines: tuple[Line, ...]
    frames: int = FRAMES

    def __repr__(self) -> str:
        name = self.path.as_posix()
        settings = f"split={self.split!r}, max_objects={self.max_objects}, frames={self.frames}"
        return f"Jsonl({name!r}, {settings}, lines={len(self.lines)})"

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError where picture or mask do not fit the line; IndexError."""
        line = self.lines[index]
        if line.video is not None:
            return jsonl_video.example(line, self.max_objects, self.frames)
        image = image_files.load_image(line.image)
        h, w = image.shape[:2]
        try:
            boxes, found = _wanted(line, h, w)
            boxes = np.array(boxes, np.float32).reshape(-1, 4)
            scene = _scene(line.objects, boxes, h, w, self.max_objects)
        except ValueError as error:
            raise image_files.ImageError(f"{line.where}: {error}") from None
        words = line.form == "answers"
        references = tuple(line.wanted) if words else ()
        target = Target(masks.union(found, h, w), boxes, references=references, choices=line.choices)
        answer = None if words else answer_ids(boxes, scene)
        shown = (image, *map(image_files.load_image, line.others)) if line.others else ()
        return Example(line.uid, image, line.query, line.task, target, scene, answer, visuals=shown)


def open_file(path: str, split: str, task: str, *, max_objects: int, frames: int = FRAMES) -> Jsonl:
    """Reads and checks all lines of a split; pictures are read when asked for.

    Args:
      path: the file.
      split: which lines; "heldout" also finds "val" where no line is "heldout".
      task: of lines that name none.
      max_objects: of a scene; what is wanted is kept, and the largest of the rest.
      frames: of a video, at most, where its line does not say which.

    Raises:
      DataError: the file can not be read, lines have faults (the first SHOWN are listed), or the split has no lines.
    """
    file, faults = Path(path), []
    try:
        rows = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise DataError(f"{file}: can not be read ({error.strerror}); set data.root to the JSON lines file") from None
    lines = [_line(row, f"{file.name}:{i}", file.parent, task, faults) for i, row in enumerate(rows, 1) if row.strip()]
    lines = [line for line in lines if line]
    seen = {}
    for line in lines:
        first = seen.setdefault(line.uid, line)
        if first is not line:
            faults.append(f"{line.where}: id: expected a name that no other line has, got that of {first.where}")
    missing = [line.where for line in lines if line.split is None]
    if missing and len(missing) < len(lines):
        faults.append(f"{missing[0]}: split: expected it in every line or in none, got none in {len(missing)} lines")
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{file}: bad lines:\n  " + "\n  ".join(faults[:SHOWN]) + more)
    chosen = _of_split(lines, split)
    if not chosen:
        known = ", ".join(sorted({line.split for line in lines if line.split}))
        known = f"of split {known}" if known else f'without "split" ({FIFTH} needed to hold one out)'
        got = f"{len(lines)} lines {known}"
        raise DataError(f"{file}: expected lines of split {split!r}, got {got}; change the lines or data.*_split")
    return Jsonl(file, split, max_objects, tuple(chosen), frames)


def _of_split(lines: Sequence[Line], split: str) -> list[Line]:
    if all(line.split is None for line in lines):
        return [line for i, line in enumerate(lines, 1) if (i % FIFTH != 0) == (split == "train")]
    chosen = [line for line in lines if line.split == split]
    return chosen or ([line for line in lines if line.split == "val"] if split == "heldout" else [])


def _line(raw: bytes, where: str, folder: Path, task: str, faults: list[str]) -> Line | None:
    """A line, or None after adding its faults."""
    before = len(faults)

    def expect(ok: bool, field: str, expected: str, got: Any) -> None:
        if not ok:
            faults.append(f"{where}: {field}: expected {expected}, got {show(got)}")

    try:
        row = json_files.parse_json(raw)
    except ValueError as error:
        faults.append(f"{where}: expected JSON, got a malformed line: {error}")
        return None
    if not isinstance(row, dict):
        expect(False, "line", "a JSON object", row)
        return None
    video = "video" in row
    if video and "image" in row:
        expect(False, "target", "either image or video", "both")
    for field in ("video", "query") if video else ("query",):
        expect(is_text(row.get(field)), field, "a string that is not blank", row.get(field))
    if not video:
        expect(are_pictures(row.get("image")), "image", "a path or a list of 1 to 16 paths", row.get("image"))
    for field in ("id", "split"):
        expect(field not in row or is_text(row[field]), field, "a string that is not blank", row.get(field))
    expect(row.get("task", task) in TASKS, "task", f"one of {', '.join(TASKS)}", row.get("task", task))
    known = jsonl_video.FORMS if video else FORMS
    forms = [form for form in known if form in row]
    if len(forms) != 1:
        expect(False, "target", f"exactly one of {', '.join(known)}", ", ".join(forms) or None)
    for form in forms:
        sound, expected = known[form][:2]
        expect(sound(row[form]), form, expected, row[form])
        fits = (form == "answers") == (row.get("task", task) not in POINTING)
        expect(
            fits, "target", "answers for vqa and summary, and for these alone", f"{form} for {row.get('task', task)}"
        )
    if video:
        frames = row.get("frames", [])
        expect(jsonl_video.are_frames(frames), "frames", "a list of ascending frame numbers from 0 on", frames)
    if "choices" in row:
        sound = are_choices(row["choices"], row.get("answers"), row.get("task", task))
        expect(sound, "choices", CHOICES, row["choices"])
    objects = row.get("objects", [])
    expect(isinstance(objects, list), "objects", "a list", objects)
    sound, expected = (is_object, "a label, a box and, if any, attributes")
    if video:
        sound, expected = jsonl_video.is_object, "a label, a box or track and, if any, attributes"
    for i, item in enumerate(objects if isinstance(objects, list) else []):
        expect(sound(item), f"objects[{i}]", expected, item)
    if len(faults) > before:
        return None
    uid, split, task = row.get("id", where), row.get("split"), row.get("task", task)
    wanted, objects, choices = row[forms[0]], tuple(objects), tuple(row.get("choices", ()))
    query = asked(row["query"], choices)
    if video:
        wanted = jsonl_video.located(forms[0], wanted, folder)
        path, frames = folder / row["video"], tuple(row.get("frames", ()))
        return Line(where, uid, path, query, task, split, forms[0], wanted, objects, path, frames, choices)
    wanted = folder / wanted if forms[0] == "mask" else wanted
    named = [row["image"]] if isinstance(row["image"], str) else row["image"]
    image, *others = (folder / name for name in named)
    return Line(where, uid, image, query, task, split, forms[0], wanted, objects, choices=choices, others=tuple(others))


def _wanted(line: Line, h: int, w: int) -> tuple[list, list[np.ndarray]]:
    """Unit-frame boxes and masks bool[h, w] of the wanted things. Raises ValueError."""
    if line.form == "answers":
        return [], []
    if line.form == "boxes":
        return [unit(box, h, w) for box in line.wanted], [filled(box, h, w) for box in line.wanted]
    found = FORMS[line.form][2](line.wanted, h, w)
    for mask in found:
        if mask.shape != (h, w):
            got = f"{mask.shape[1]} x {mask.shape[0]}"
            raise ValueError(f"{line.form}: expected the size of the picture, {w} x {h} pixels, got {got}")
    found = [mask for mask in found if mask.any()]
    return [masks.bbox(mask) for mask in found], found


def _polygon_masks(polygons: list, h: int, w: int) -> list[np.ndarray]:
    return [masks.from_polygons([polygon], h, w) for polygon in polygons]


def _rle_masks(rles: Any, h: int, w: int) -> list[np.ndarray]:
    return [masks.decode(rle) for rle in (rles if isinstance(rles, list) else [rles])]


def _bitmap(path: Path, h: int, w: int) -> list[np.ndarray]:
    return [image_files.load_bitmap(path) != 0]


# form: (check at opening, what it expects, reader of masks)
FORMS: dict[str, tuple[Callable, str, Callable | None]] = {
    "boxes": (are_boxes, "a list of [x1, y1, x2, y2] in pixels with x1 < x2 and y1 < y2", None),
    "polygons": (are_polygons, "a list of [x, y, x, y, ...] in pixels, each of at least 3 points", _polygon_masks),
    "rle": (are_rles, "an object with size and counts, or a list of such", _rle_masks),
    "mask": (is_text, "a path", _bitmap),
    "answers": (are_answers, ANSWERS, None),
}


def _scene(objects: Sequence[dict], wanted: np.ndarray, h: int, w: int, most: int) -> tuple[Instance, ...]:
    """The objects in the order of the line; of too many, the wanted ones and then those with the largest boxes."""
    rows = [(unit(o["box"], h, w), o) for o in objects]
    areas = [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _ in rows]
    kept = largest(areas, [box for box, _ in rows], wanted, most)
    return tuple(
        Instance(i, o["label"], box, filled(o["box"], h, w), attributes=tuple(o.get("attributes", ())))
        for i, (box, o) in enumerate((rows[k] for k in kept), 1)
    )
