"""The lines of a large JSON lines file by their places in it; a line is made when it is asked for.

Opening reads the file once. Of all lines it is checked that they are JSON objects with a query, a picture or video, and
one target, and ids and splits are compared; of CHECKED lines, spread over the file, all fields are checked as in a
small file. A fault in another line is found when the line is read, and costs that example.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
import unicodedata
import urllib.parse
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.readers import file_names
from dtr1_jax.data.readers.jsonl_fields import Line

LARGE = 32 << 20  # bytes; a smaller file is read as a whole
CHECKED = 5000  # lines of which all fields are checked when the file is opened
SECONDS = 5.0  # between two lines about progress
_BLOCK = 1 << 23  # bytes
_TARGETS = frozenset({"boxes", "polygons", "rle", "mask", "answers", "tracks", "masks", "rles"})

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Lines(Sequence):
    """Checked places of lines; `make` turns the bytes of a line and its number into a Line.

    Attributes:
      path: the file.
      make: called with (bytes, line number from 1 on); raises ImageError for a line with faults.
      starts, lengths, numbers: int64[n], int32[n], int32[n], the bytes of each line and its number.
      tasks: int8[n], index into `names`.
      names: (task, whether the line is about a video).
    """

    path: Path
    make: Callable[[bytes, int], Line]
    starts: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    tasks: np.ndarray
    names: tuple[tuple[str, bool], ...]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        """Line `index`. Raises IndexError; ImageError if it has a fault."""
        if isinstance(index, slice):
            return self.of(np.arange(len(self))[index])
        return self.make(self.raw(index), int(self.numbers[index]))

    def of(self, chosen: np.ndarray) -> Lines:
        """Some of the lines, by a mask or by indices."""
        arrays = {name: getattr(self, name)[chosen] for name in ("starts", "lengths", "numbers", "tasks")}
        return dataclasses.replace(self, **arrays)

    def raw(self, index: int) -> bytes:
        """The bytes of line `index`."""
        with self.path.open("rb") as file:
            file.seek(int(self.starts[index]))
            return file.read(int(self.lengths[index]))

    def task_counts(self) -> dict[tuple[str, bool], int]:
        """Number of lines by (task, whether they are about videos)."""
        counts = np.bincount(self.tasks, minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, counts) if count}

    def files(self) -> Iterator[str]:
        """The names of all pictures and videos."""
        for index in range(len(self)):
            row = json.loads(self.raw(index))
            names = row.get("video", row.get("image"))
            yield from names if isinstance(names, list) else [names]


@dataclasses.dataclass(frozen=True)
class Survey:
    """All lines of a file and what opening needs of them.

    Attributes:
      lines: all lines.
      doubtful: indices of the lines whose shape is not that of a line, and of the sample that is to be checked.
      splits: int32[n], index into `split_names`; -1 = the line has none.
      split_names: the values of "split".
      held: bool[n], whether the picture of a line is held out where no line has a split.
      twins: indices of lines with an id that an earlier line has.
    """

    lines: Lines
    doubtful: list[int]
    splits: np.ndarray
    split_names: tuple[str, ...]
    held: np.ndarray
    twins: list[int]


class Several(ValueError):
    """A file with lines about several pictures, which only a whole reading can divide into splits."""


def is_large(file: Path) -> bool:
    """Whether a file is read by the places of its lines: it is large, and its first line is a JSON object."""
    try:
        if file.stat().st_size < LARGE:
            return False
        with file.open("rb") as opened:
            first = opened.readline(1 << 20).removeprefix(b"\xef\xbb\xbf").strip()
    except OSError:
        return False  # the caller's own reading names the fault
    return first.startswith(b"{") and first.endswith(b"}")


def survey(file: Path, task: str, make: Callable[[bytes, int], Line]) -> Survey:
    """Reads a file once. Raises Several; OSError if it cannot be read."""
    columns = {name: array(code) for name, code in (("starts", "q"), ("lengths", "i"), ("numbers", "i"))}
    kinds, splits, keys, ids, held = array("b"), array("i"), array("q"), array("q"), array("b")
    tasks: dict[tuple[Any, bool], int] = {}
    names: dict[str, int] = {}
    doubtful: list[int] = []
    for start, number, raws in _blocks(file):
        base = len(kinds)
        for offset, (place, length, row, own_number) in enumerate(_rows(start, number, raws)):
            columns["starts"].append(place)
            columns["lengths"].append(length)
            columns["numbers"].append(own_number)
            sound, video, name = _outline(row)
            if not sound:
                doubtful.append(base + offset)
                row = {}
            kinds.append(min(tasks.setdefault((_plain(row.get("task", task)), video), len(tasks)), 127))
            split = row.get("split")
            splits.append(-1 if split is None else names.setdefault(_plain(split), len(names)))
            uid = row.get("id")
            ids.append(own_number - (1 << 62) if uid is None else hash(_plain(uid)) >> 2)
            key = _key(name, file.parent) if name else ""
            keys.append(hash(key))
            held.append(json_files.held_out(key))
    arrays = {name: np.frombuffer(value, value.typecode) for name, value in columns.items()}
    lines = Lines(file, make, **arrays, tasks=np.frombuffer(kinds, np.int8), names=tuple(tasks))
    step = max(1, len(lines) // CHECKED)
    _, first = np.unique(np.frombuffer(ids, np.int64), return_index=True)
    twins = np.setdiff1d(np.arange(len(lines)), first).tolist()
    return Survey(
        lines, sorted({*doubtful, *range(0, len(lines), step)}), np.frombuffer(splits, np.int32), tuple(names),
        _held(np.frombuffer(keys, np.int64), np.frombuffer(held, np.int8) > 0, lines, file.parent), twins,
    )  # fmt: skip


def _blocks(file: Path) -> Iterator[tuple[int, int, list[bytes]]]:
    """(place of the first line, its number, whole lines) of parts of a file; logs how far it is."""
    size, start, number, rest = file.stat().st_size, 0, 1, b""
    begun = last = time.monotonic()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            yield start, number, lines
            number += len(lines)
            start = opened.tell() - len(rest)
            if time.monotonic() - last > SECONDS:
                last = time.monotonic()
                log.info("%s: %.0f %% read, %.0f s", file, 100 * start / size, last - begun)
    if rest:
        yield start, number, [rest]


def _rows(start: int, number: int, raws: list[bytes]) -> Iterator[tuple[int, int, Any, int]]:
    """(place, length, value or None if it is malformed, line number) of the lines that are not blank."""
    whole = [raw if raw and not raw.isspace() else b"null" for raw in raws]
    whole[0] = whole[0].removeprefix(b"\xef\xbb\xbf") if start == 0 else whole[0]
    try:
        values = json.loads(b"[" + b",".join(whole) + b"]")
        values = values if len(values) == len(raws) else [_value(raw) for raw in whole]
    except (ValueError, RecursionError):
        values = [_value(raw) for raw in whole]
    for k, (raw, value) in enumerate(zip(raws, values)):
        if raw and not raw.isspace():
            yield start, len(raw), value, number + k
        start += len(raw) + 1


def _value(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _outline(row: Any) -> tuple[bool, bool, str]:
    """(whether a row has the fields of a line, whether it is about a video, the picture or video). Raises Several."""
    if not isinstance(row, dict):
        return False, False, ""
    name = row.get("image")
    video = name is None and "video" in row
    name = row.get("video") if video else name
    if isinstance(name, list):
        if len(name) > 1:
            raise Several
        name = name[0] if name else None
    query = row.get("query")
    sound = isinstance(name, str) and isinstance(query, str) and len(_TARGETS & row.keys()) == 1
    return sound, video, name if isinstance(name, str) else ""


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else str(value)


def _key(name: str, folder: Path) -> str:
    """The name of a file in one spelling; the same for spellings that lead to one file (file_names.spellings)."""
    if file_names.is_plain(name) and name.islower():
        return name
    text = unicodedata.normalize("NFC", urllib.parse.unquote(name).replace("\\", "/"))
    head, dot, suffix = text.rpartition(".")
    text = head + dot + suffix.lower()
    return os.path.relpath(text, folder) if os.path.isabs(text) else os.path.normpath(text)


def _held(keys: np.ndarray, held: np.ndarray, lines: Lines, folder: Path) -> np.ndarray:
    """bool[n] of the lines whose picture is held out, by the rule of json_files.held_out_part."""
    unique, first = np.unique(keys, return_index=True)
    chosen, least, most = int(held[first].sum()), max(1, len(unique) // 10), len(unique) // 2
    if least <= chosen <= most:
        return held
    names = {}
    for index, key in zip(first.tolist(), unique.tolist()):
        _, _, name = _outline(_value(lines.raw(index)))
        names[key] = _key(name, folder) if name else ""
    part = json_files.held_out_part(names.values())
    return np.array([names[key] in part for key in keys.tolist()], bool)
