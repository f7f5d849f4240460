"""Where each record of a large file in COCO's format begins and ends, and the short fields of its annotations.

The file is read in blocks. Polygons are most of its bytes: they are cut out, and parsed only when their picture is
read. A file of another shape than tools write raises Unusual, and is then read as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.readers import coco_columns

POLYGONS, RLE, BOX = 0, 1, 2  # kinds of shapes, before they are checked
NOTE = np.dtype([
    ("start", "i8"), ("length", "i4"), ("picture", "i8"), ("category", "i8"), ("id", "i8"), ("hash", "i8"),
    ("crowd", "?"), ("kind", "i1"),
])  # fmt: skip
SECONDS = 5.0  # between two lines about progress
_BLOCK, _FEW = 1 << 24, 64  # bytes; records
_SHAPE = re.compile(rb'"segmentation"\s*:\s*(\[)\s*\[\s*[-\d]')
_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*[\[{]?\s*$')
_OPEN, _CLOSE = b"{}"
# The fields of pictures and categories that are used.
_FIELDS = frozenset(
    "id file_name width height coco_url neg_category_ids not_exhaustive_category_ids "
    "name supercategory isthing synonyms frequency synset".split()
)

_CROWDS = "its iscrowd are not all 0 or 1"

log = logging.getLogger(__name__)


class Unusual(ValueError):
    """A file that only a whole parse can read; the message says why."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """The records of a file.

    Attributes:
      notes: NOTE[n], the annotations: their bytes, the ids as the file has them, and a hash of the shape.
      images, categories: their records.
    """

    notes: np.ndarray
    images: list[dict]
    categories: list[dict]


def scan(path: Path) -> Scan:
    """Reads a file once. Raises Unusual; OSError if it cannot be read."""
    with json_files.without_collector():
        return _scan(path)


def _scan(path: Path) -> Scan:
    parts: list[np.ndarray] = []
    records: dict[str, list[dict]] = {"images": [], "categories": []}
    for section, base, buffer, starts, ends in _sections(path):
        if section == "annotations":
            parts.append(_notes(buffer, base, starts, ends))
        elif section in records:
            found = _loads(_slices(buffer, starts, ends))
            records[section] += [{k: v for k, v in record.items() if k in _FIELDS} for record in found]
    if not parts or not all(records.values()):
        raise Unusual("it lacks annotations, images or categories")
    return Scan(np.concatenate(parts), records["images"], records["categories"])


def _sections(path: Path) -> Iterator[tuple[str, int, bytes, np.ndarray, np.ndarray]]:
    """Yields (name of the list, place of the bytes in the file, bytes, starts and ends of its records in the bytes).

    All records of the top-level lists, some at a time.
    """
    size, done, section = path.stat().st_size, 0, ""
    started = last = time.monotonic()
    with path.open("rb") as file:
        buffer, base, opened = b"", 0, False
        while block := file.read(_BLOCK):
            buffer, done = buffer + block, done + len(block)
            if not opened:
                if not buffer.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                    raise Unusual("it is not one JSON object")
                base, opened = buffer.index(b"{") + 1, True
                buffer = buffer[base:]
            starts, ends = _records(buffer)
            previous, first = 0, 0
            for i in _changes(starts, ends):  # the gaps that may name another list
                key = _KEY.search(buffer[previous if i == 0 else ends[i - 1] : starts[i]])
                if key:
                    if i > first:
                        yield section, base, buffer, starts[first:i], ends[first:i]
                    section, first = key[1].decode("utf-8", "replace"), i
            if len(starts) > first:
                yield section, base, buffer, starts[first:], ends[first:]
            cut = int(ends[-1]) if len(ends) else 0
            buffer, base = buffer[cut:], base + cut
            if time.monotonic() - last > SECONDS:
                last = time.monotonic()
                log.info("%s: %.0f %% read, %.0f s", path, 100 * done / size, last - started)
    if buffer.rstrip()[-1:] != b"}" or b"{" in buffer:
        raise Unusual("it breaks off, or has braces in its texts")


def _records(buffer: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the records in a part of the file that begins between two records."""
    values = np.frombuffer(buffer, np.uint8)
    places = np.flatnonzero(values >= _OPEN)  # of ASCII, only "|" and "~" besides
    marks = values[places]
    braces = (marks == _OPEN) | (marks == _CLOSE)
    places, marks = places[braces], marks[braces]
    steps = np.where(marks == _OPEN, 1, -1).astype(np.int8)
    depth = np.cumsum(steps, dtype=np.int32)
    ends = places[(depth == 0) & (steps < 0)] + 1
    starts = places[(depth == 1) & (steps > 0)]
    return starts[: len(ends)], ends


def _changes(starts: np.ndarray, ends: np.ndarray) -> list[int]:
    """Indices of records before which there is more than the usual gap; of few records all, since none is usual."""
    if len(starts) < _FEW:
        return list(range(len(starts)))
    gaps = starts[1:] - ends[:-1]
    usual = np.bincount(gaps).argmax()
    return [0, *(np.flatnonzero(gaps > usual) + 1).tolist()]


def _slices(buffer: bytes, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    return list(map(buffer.__getitem__, map(slice, starts.tolist(), ends.tolist())))


def _notes(buffer: bytes, base: int, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """NOTE[n] of annotations: of those that are alike at once (coco_columns.py), of the others one by one."""
    notes = np.zeros(len(starts), NOTE)
    others = np.ones(len(starts), bool)
    few = slice(0, _FEW)
    alike = coco_columns.pattern(_slices(buffer, starts[few], ends[few]))
    if alike is not None:
        found = coco_columns.columns(buffer, starts, ends, alike)
        others[found.rows] = False
        for name, key in (("id", "id"), ("picture", "image_id"), ("category", "category_id")):
            notes[name][found.rows] = found.numbers[key]
        crowds = found.numbers.get("iscrowd", np.zeros(len(found.rows), int))
        if (crowds > 1).any():
            raise Unusual(_CROWDS)
        notes["crowd"][found.rows] = crowds
        notes["hash"][found.rows] = list(map(hash, _slices(buffer, found.starts, found.ends)))
    if others.any():
        notes[others] = _parsed(_slices(buffer, starts[others], ends[others]))
    notes["start"], notes["length"] = base + starts, ends - starts
    return notes


def _parsed(texts: list[bytes]) -> np.ndarray:
    """NOTE[n] of the texts of annotations, without their places. Raises Unusual."""
    short, hashes, outlined = [], array("q"), []
    for text in texts:
        match = _SHAPE.search(text)
        end = text.find(b"]]", match.end()) if match else -1
        if match is None or end < 0:
            short.append(text)
            hashes.append(0)
            outlined.append(False)
        else:
            begin = match.start(1)
            hashes.append(hash(text[begin:end]))
            short.append(text[:begin] + b"0" + text[end + 2 :])
            outlined.append(True)
    values = _loads(short)
    notes = np.zeros(len(values), NOTE)
    notes["hash"] = hashes
    for name, key in (("id", "id"), ("picture", "image_id"), ("category", "category_id")):
        column = [value.get(key) for value in values]
        if set(map(type, column)) != {int}:
            raise Unusual(f"its {key} are not all whole numbers")
        if max(map(abs, column)) >> 62:
            raise Unusual(f"its {key} are not all below 2^62")
        notes[name] = column
    crowds = [value.get("iscrowd", 0) for value in values]
    if not all(crowd in (0, 1) for crowd in crowds):
        raise Unusual(_CROWDS)
    notes["crowd"] = crowds
    if any("segments_info" in value for value in values[:1]):
        raise Unusual("it is a panoptic file")
    kinds = np.zeros(len(values), np.int8)
    for i in np.flatnonzero(~np.array(outlined)).tolist():
        shape = values[i].get("segmentation")
        boxed = shape in (None, [], [[]])
        kinds[i] = RLE if isinstance(shape, dict) else BOX if boxed else POLYGONS
        shape = shape.get("counts") if isinstance(shape, dict) else shape
        notes["hash"][i] = _hash(values[i].get("bbox") if boxed else shape)
    notes["kind"] = kinds
    return notes


def _hash(value: Any) -> int:
    try:
        return hash(tuple(value) if isinstance(value, list) else value)
    except TypeError:  # lists in the list
        return hash(str(value))


def _loads(texts: list[bytes]) -> list[dict]:
    try:
        values = json.loads(b"[" + b",".join(texts) + b"]")
    except (ValueError, RecursionError) as error:
        raise Unusual(f"a record is malformed or has braces in a text ({str(error)[:60]})") from None
    return values
