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

import numpy as np

from dtr1_jax.data import json_files

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
    for section, starts, texts in _sections(path):
        if section == "annotations":
            parts.append(_notes(starts, texts))
        elif section in records:
            records[section] += [{k: v for k, v in record.items() if k in _FIELDS} for record in _loads(texts)]
    if not parts or not all(records.values()):
        raise Unusual("it lacks annotations, images or categories")
    return Scan(np.concatenate(parts), records["images"], records["categories"])


def _sections(path: Path) -> Iterator[tuple[str, list[int], list[bytes]]]:
    """Yields (name of the list, places, records) of all records of the top-level lists, some at a time."""
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
                        yield section, *_slices(buffer, base, starts[first:i], ends[first:i])
                    section, first = key[1].decode("utf-8", "replace"), i
            if len(starts) > first:
                yield section, *_slices(buffer, base, starts[first:], ends[first:])
            cut = ends[-1] if ends else 0
            buffer, base = buffer[cut:], base + cut
            if time.monotonic() - last > SECONDS:
                last = time.monotonic()
                log.info("%s: %.0f %% read, %.0f s", path, 100 * done / size, last - started)
    if buffer.rstrip()[-1:] != b"}" or b"{" in buffer:
        raise Unusual("it breaks off, or has braces in its texts")


def _records(buffer: bytes) -> tuple[list[int], list[int]]:
    """Starts and ends of the records in a part of the file that begins between two records."""
    values = np.frombuffer(buffer, np.uint8)
    places = np.flatnonzero((values == _OPEN) | (values == _CLOSE))
    steps = np.where(values[places] == _OPEN, 1, -1).astype(np.int8)
    depth = np.cumsum(steps, dtype=np.int32)
    ends = places[(depth == 0) & (steps < 0)] + 1
    starts = places[(depth == 1) & (steps > 0)]
    return starts[: len(ends)].tolist(), ends.tolist()


def _changes(starts: list[int], ends: list[int]) -> list[int]:
    """Indices of records before which there is more than the usual gap; of few records all, since none is usual."""
    if len(starts) < _FEW:
        return list(range(len(starts)))
    gaps = np.array(starts[1:]) - np.array(ends[:-1])
    usual = np.bincount(gaps).argmax()
    return [0, *(np.flatnonzero(gaps > usual) + 1).tolist()]


def _slices(buffer: bytes, base: int, starts: list[int], ends: list[int]) -> tuple[list[int], list[bytes]]:
    return [base + start for start in starts], [buffer[a:b] for a, b in zip(starts, ends)]


def _notes(starts: list[int], texts: list[bytes]) -> np.ndarray:
    """NOTE[n] of the texts of annotations. Raises Unusual."""
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
    notes["start"], notes["length"], notes["hash"] = starts, [len(text) for text in texts], hashes
    for name, key in (("id", "id"), ("picture", "image_id"), ("category", "category_id")):
        column = [value.get(key) for value in values]
        if set(map(type, column)) != {int}:
            raise Unusual(f"its {key} are not all whole numbers")
        notes[name] = column
    crowds = [value.get("iscrowd", 0) for value in values]
    if not set(crowds) <= {0, 1}:
        raise Unusual("its iscrowd are not all 0 or 1")
    notes["crowd"] = crowds
    if any("segments_info" in value for value in values[:1]):
        raise Unusual("it is a panoptic file")
    kinds = np.zeros(len(values), np.int8)
    for i in np.flatnonzero(~np.array(outlined)).tolist():
        shape = values[i].get("segmentation")
        boxed = shape in (None, [], [[]])
        kinds[i] = RLE if isinstance(shape, dict) else BOX if boxed else POLYGONS
        shape = shape.get("counts") if isinstance(shape, dict) else shape
        notes["hash"][i] = hash(str(values[i].get("bbox") if boxed else shape))
    notes["kind"] = kinds
    return notes


def _loads(texts: list[bytes]) -> list[dict]:
    try:
        values = json.loads(b"[" + b",".join(texts) + b"]")
    except (ValueError, RecursionError) as error:
        raise Unusual(f"a record is malformed or has braces in a text ({str(error)[:60]})") from None
    return values
