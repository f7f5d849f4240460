"""Writes the samples of a foreign data set as JSON lines: first as they are, then with coordinates in pixels.

The frame of the coordinates is known only when all boxes have been seen, so the samples wait in a file. Pictures are
neither held nor copied there.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from dtr1_jax.data.conversion import frame_evidence, frame_targets
from dtr1_jax.data.conversion.frame_evidence import Decision, Evidence
from dtr1_jax.data.conversion.picture_store import PictureStore
from dtr1_jax.data.conversion.recognition import Found
from dtr1_jax.data.conversion.samples import LeftOut, Sample, Tally
from dtr1_jax.data.json_files import DataError, is_name
from dtr1_jax.data.readers import file_names
from dtr1_jax.data.readers.jsonl_fields import whole_rle

SECONDS = 5.0  # between two lines about progress
LEAST = 1.0  # pixels; a box with a shorter side is left out
_LONGEST = 2000  # characters of a query or an answer
_FORMS = ("boxes", "polygons", "rle", "rles", "mask", "masks", "tracks", "answers")  # fields of a target
_TURNED = "pictures with an EXIF rotation, whose coordinates are read as of the upright picture"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Report:
    """What was understood of a data set.

    Attributes:
      lines: number of lines written.
      samples: number of queries that the file has.
      decisions: frame and order of the boxes by notation.
      left_out, remarks: counts with examples, as texts.
      pictures: number of pictures that were written from inside the file.
      forms: number of lines by the field of their target.
      splits: number of lines by split.
    """

    lines: int
    samples: int
    decisions: dict[str, Decision]
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]
    pictures: int
    forms: dict[str, int]
    splits: dict[str, int]


def convert(found: Found, out: TextIO, store: PictureStore, base: Path, frame: str = "", order: str = "") -> Report:
    """Writes the samples of a data set as JSON lines.

    Args:
      found: the data set.
      out: the file of lines, opened for writing.
      store: finds and writes pictures.
      base: the folder of the file of lines, to which paths are made relative.
      frame, order: the user's word on all boxes, "" = by rule and evidence (frame_evidence.py).

    Raises DataError: the frame of some boxes is not clear, or no sample can be used.
    """
    left, remarks = Tally(), Tally()
    evidence: dict[str, Evidence] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=base) as spool:
        samples = 0
        for sample in _with_progress(found.samples(left)):
            samples += 1
            try:
                row = _checked(sample, store, base, evidence, remarks, frame)
            except LeftOut as reason:
                left.add(str(reason), reason.example or sample.location)
                continue
            spool.write(json.dumps(row) + "\n")
        decisions = {name: one.decide(frame, order) for name, one in evidence.items() if one.count}
        spool.seek(0)
        forms, splits = Tally(), Tally()
        split = _splits_are_usable(spool)
        spool.seek(0)
        for row in map(json.loads, spool):
            try:
                line = _line(row, decisions, split, frame)
            except LeftOut as reason:
                left.add(str(reason), reason.example or row["location"])
                continue
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            forms.add(next(form for form in _FORMS if form in line))
            splits.add(line.get("split", "none"))
    if store.renamed:
        remarks.add("pictures found by the last parts of their path alone", "", store.renamed)
    written = forms.counts.total()
    if not written:
        reasons = "; ".join(left.lines()) or "there are none"
        raise DataError(f"{found.files[0]}: expected rows to convert, got none that can be used: {reasons}")
    return Report(
        written, samples, decisions, tuple(left.lines()),
        (*left.lines(remarks=True), *remarks.lines()), store.written, dict(forms.counts),
        dict(splits.counts),
    )  # fmt: skip


def _with_progress(samples: Iterator[Sample]) -> Iterator[Sample]:
    start = last = time.monotonic()
    for count, sample in enumerate(samples, 1):
        now = time.monotonic()
        if now - last > SECONDS:
            last = now
            log.info("%d queries read, %.0f a second", count, count / (now - start))
        yield sample


def _checked(
    sample: Sample, store: PictureStore, base: Path, evidence: dict[str, Evidence], remarks: Tally, frame: str
) -> dict[str, Any]:
    """The sample as a value of JSON, with its pictures found; adds its boxes to the evidence. Raises LeftOut."""
    if len(sample.query) > _LONGEST or any(len(answer) > _LONGEST for answer in sample.answers):
        raise LeftOut(f"queries or answers of more than {_LONGEST} characters")
    if len(sample.pictures) > 16:
        raise LeftOut("rows with more than 16 pictures")
    row = dataclasses.asdict(sample)
    row["pictures"], row["mask"] = [], None
    if sample.video is not None:
        path = file_names.find_file(store.folders, sample.video, or_folder=True)
        if not file_names.is_file(path) and not file_names.is_folder(path):
            raise LeftOut("videos that are not found (--images=FOLDER says where they are)", sample.video)
        row["video"] = _relative(path, base)
        target = sample.by_frame
        if target is not None:
            row["by_frame"] = frame_targets.placed(target, path, lambda name: _relative(store.place(name), base))
        if target is not None and target.kind == "tracks":
            row["size"] = frame_targets.frame_size(path)
            found = list(dict.fromkeys(tuple(box) for frame in target.values for box in frame if box))
            evidence.setdefault(sample.notation, Evidence(sample.notation)).add(found, row["size"], None, path)
        return row
    paths = [store.place(reference) for reference in sample.pictures]
    w, h, turned = store.size(paths[0])
    for path in paths[1:]:
        store.size(path)
    in_pixels = sample.boxes is not None and sample.notation in frame_evidence.IN_PIXELS
    if in_pixels and not frame and sample.stated not in (None, (w, h), (h, w)):
        reason = (
            "pictures of another size than their annotation says (take those that were annotated, or --frame=stated)"
        )
        raise LeftOut(reason, f"{paths[0].name}: {w} x {h} and {sample.stated[0]} x {sample.stated[1]}")
    if turned and sample.boxes is not None:
        if sample.stated == (h, w) != (w, h):
            raise LeftOut(
                "pictures with an EXIF rotation, annotated as they are stored (save them without it)", paths[0]
            )
        remarks.add(_TURNED, paths[0].name)
    if sample.mask is not None:
        row["mask"] = _relative(store.place(sample.mask), base)
    row["pictures"], row["size"] = [_relative(path, base) for path in paths], (w, h)
    boxes = [*(sample.boxes or ()), *(box for _, box in sample.objects)]
    if boxes:
        evidence.setdefault(sample.notation, Evidence(sample.notation)).add(
            list(dict.fromkeys(boxes)), (w, h), sample.stated, paths[0]
        )
    return row


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _splits_are_usable(spool: TextIO) -> bool:
    """Whether every sample has a split and there are several: a single one would leave nothing to hold out."""
    found = {json.loads(text)["split"] for text in spool}
    return None not in found and len(found) > 1


def _line(row: dict[str, Any], decisions: dict[str, Decision], with_split: bool, frame: str) -> dict[str, Any]:
    """The JSON line of a sample. Raises LeftOut."""
    line: dict[str, Any] = {"video": row["video"]} if row["video"] is not None else {}
    if not line:
        line["image"] = row["pictures"][0] if len(row["pictures"]) == 1 else row["pictures"]
    line["query"] = row["query"]
    decision = decisions.get(row["notation"])
    if row["answers"]:
        line |= {"task": row["task"] or "vqa", "answers": row["answers"]}
    elif row["tracks"] is not None:
        line["rles"] = row["tracks"]
    elif row["by_frame"] is not None:
        line |= frame_targets.field_of(row["by_frame"], lambda box: _pixels(box, decision, row))
    elif row["polygons"] is not None:
        line["polygons"] = _outlines(row, frame)
    elif row["masks"] is not None:
        line |= _masks(row)
    elif row["mask"] is not None:
        line["mask"] = row["mask"]
    else:
        line["boxes"] = [_pixels(box, decision, row) for box in row["boxes"] or ()]
    if row["task"]:
        line["task"] = row["task"]
    if row["category"] or row["level"]:
        known = {"category": row["category"], "level": row["level"]}
        line["oracle"] = {name: value for name, value in known.items() if value}
    if row["choices"]:
        line["choices"] = row["choices"]
    if row["objects"]:
        line["objects"] = [
            {"label": label.strip()[:64], "box": _pixels(box, decision, row)} for label, box in row["objects"]
            if is_name(label)
        ]  # fmt: skip
    if with_split:
        line["split"] = row["split"]
    return line


def _pixels(box: Sequence[float], decision: Decision | None, row: dict[str, Any]) -> list[float]:
    """x1, y1, x2, y2 in pixels with two digits. Raises LeftOut."""
    stated = None if row["stated"] is None else tuple(row["stated"])
    found = decision and frame_evidence.to_pixels(tuple(box), decision, tuple(row["size"]), stated)  # type: ignore
    if not found:
        raise LeftOut("rows with a box beyond its picture or without area", f"{row['location']}: {list(box)}")
    x1, y1, x2, y2 = (round(v, 2) for v in found)
    if max(x2 - x1, y2 - y1) < LEAST:
        raise LeftOut("rows with a box smaller than a pixel", f"{row['location']}: {list(box)}")
    return [x1, y1, x2, y2]


def _outlines(row: dict[str, Any], frame: str) -> list[list[float]]:
    """Polygons in pixels. Raises LeftOut."""
    if frame != "pixel":
        raise LeftOut("polygons without --frame=pixel (those in another frame are not read)", row["location"])
    w, h = row["size"]
    for outline in row["polygons"]:
        box = min(outline[::2]), min(outline[1::2]), max(outline[::2]), max(outline[1::2])
        if not frame_evidence.to_pixels(box, Decision("pixel", "xyxy", ""), (w, h), None) or max(box) <= LEAST:
            raise LeftOut("polygons beyond their picture or without area", f"{row['location']}: {list(box)}")
    return [[round(min(max(v, 0.0), s), 2) for v, s in zip(p, (w, h) * (len(p) // 2))] for p in row["polygons"]]


def _masks(row: dict[str, Any]) -> dict[str, Any]:
    """The field of RLEs, or of polygons in 0 to 1."""
    shapes = row["masks"]
    if all(isinstance(shape, dict) for shape in shapes):
        w, h = row["size"]
        rles = [whole_rle(shape) for shape in shapes]
        if any(rle["size"] != [h, w] for rle in rles):
            raise LeftOut("masks of another size than their picture", f"{row['location']}: {rles[0]['size']}")
        return {"rle": rles if len(rles) > 1 else rles[0]}
    outlines = [
        [round(min(max(v, 0.0), 1.0) * side, 2) for v, side in zip(outline, row["size"] * (len(outline) // 2))]
        for shape in shapes
        for outline in shape
    ]
    return {"polygons": outlines}
