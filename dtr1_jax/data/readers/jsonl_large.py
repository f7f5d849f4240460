"""The lines of a large JSON lines file by their places in it; a line is made when it is asked for.

Opening reads the file once. Of all lines it is checked that they are JSON objects with a query, a picture or video, and
one target, and ids and splits are compared; of CHECKED lines, spread over the file, all fields are checked as in a
small file. A fault in another line is found when the line is read, and costs that example.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import time
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.readers import file_names
from dtr1_jax.data.readers.jsonl_fields import Line

LARGE = 32 << 20  # bytes; a smaller file is read as a whole
CHECKED = 5000  # lines of which all fields are checked when the file is opened
SECONDS = 5.0  # between two lines about progress
_BLOCK = 1 << 21  # bytes
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
            return file.read(int(self.lengths[index])).removeprefix(b"\xef\xbb\xbf")

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


@dataclasses.dataclass(frozen=True, eq=False)  # so that it can be a key
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
            head = opened.read(1 << 20).removeprefix(b"\xef\xbb\xbf").lstrip()
            first = head.split(b"\n", 1)[0].strip()
    except OSError:
        return False  # the caller's own reading names the fault
    return first.startswith(b"{") and first.endswith(b"}")


def survey(file: Path, task: str, make: Callable[[Path, str, bytes, int], Line]) -> Survey:
    """Reads a file once; both splits of a run share it. Raises Several; OSError if it cannot be read.

    Args:
      file: the file.
      task: the task of lines without the field "task".
      make: makes a Line of the file, the task, the bytes of a line and its number.
    """
    stat = file.stat()
    with json_files.without_collector():
        return _survey(file, task, make, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _survey(file: Path, task: str, make: Callable[[Path, str, bytes, int], Line], size: int, changed: int) -> Survey:
    """The survey of a file that had this size, and was changed at this time, ns."""
    del size, changed
    parts: list[_Part] = []
    tasks: dict[tuple[str, bool], int] = {}
    names: dict[str, int] = {}
    for start, number, raws in _blocks(file):
        places, lengths, rows, numbers = _rows(start, number, raws)
        parts.append(_part(places, lengths, rows, numbers, task, tasks, names, file.parent))
    if not parts:
        raise ValueError(f"{file}: expected lines, got none")
    column = {field: np.concatenate([getattr(part, field) for part in parts]) for field in _Part._fields}
    lines = Lines(
        file, functools.partial(make, file, task), column["starts"], column["lengths"], column["numbers"],
        column["tasks"], tuple(tasks),
    )  # fmt: skip
    step = max(1, len(lines) // CHECKED)
    twins = _later_twins(column["ids"])
    doubtful = sorted({*np.flatnonzero(~column["sound"]).tolist(), *range(0, len(lines), step)})
    held = _held(column["keys"], column["held"], lines, file.parent)
    return Survey(lines, doubtful, column["splits"], tuple(names), held, twins)


class _Part(NamedTuple):
    """Arrays[n] about n lines, see Lines and Survey; `keys` and `ids` are hashes."""

    starts: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    tasks: np.ndarray
    splits: np.ndarray
    keys: np.ndarray
    ids: np.ndarray
    held: np.ndarray
    sound: np.ndarray


class _Sort(NamedTuple):
    """What the names of a line's fields say of it: the field of its picture or video, and whether it can be sound."""

    visual: str
    sound: bool
    has_split: bool
    has_id: bool
    has_task: bool


def _sort(row: dict[str, Any]) -> _Sort:
    visual = "image" if row.get("image") is not None or "video" not in row else "video"
    sound = "query" in row and len(_TARGETS & row.keys()) == 1 and not {"image", "video"} <= row.keys()
    return _Sort(visual, sound, "split" in row, "id" in row, "task" in row)


def _part(
    places: np.ndarray, lengths: np.ndarray, values: list[Any], numbers: np.ndarray, task: str,
    tasks: dict[tuple[str, bool], int], names: dict[str, int], folder: Path,
) -> _Part:  # fmt: skip
    """What opening needs of some lines. `tasks` and `names` (of splits) get the new ones. Raises Several.

    Most files have few sorts of lines, so that what follows from the names of the fields is found once for each sort.
    """
    sorts: dict[tuple[str, ...], _Sort] = {}
    codes, splits, sound, keys, held = [], [], [], [], []
    ids = (numbers.astype(np.int64) - (1 << 62)).tolist()  # of lines without one
    last, last_held = "", False
    for i, row in enumerate(values):
        if type(row) is not dict:
            row = {}
        fields = tuple(row)
        sort = sorts.get(fields)
        if sort is None:
            sort = sorts[fields] = _sort(row)
        name = row.get(sort.visual)
        if type(name) is not str:
            name = _first(name)
        sound.append(sort.sound and bool(name) and type(row["query"]) is str)
        key = name if name.islower() and file_names.is_plain(name) else _key(name, folder)
        keys.append(hash(key))
        name_of_task = str(row["task"]) if sort.has_task else task
        codes.append(tasks.setdefault((name_of_task, sort.visual == "video"), len(tasks)))
        if sort.has_id and row["id"] is not None:
            ids[i] = hash(str(row["id"])) >> 2
        split = row["split"] if sort.has_split else None
        splits.append(-1 if split is None else names.setdefault(str(split), len(names)))
        if key != last:  # lines about one picture mostly follow each other
            last, last_held = key, json_files.held_out(key)
        held.append(last_held)
    return _Part(
        places, lengths, numbers, np.minimum(codes, 127).astype(np.int8), np.array(splits, np.int32),
        np.array(keys, np.int64), np.array(ids, np.int64), np.array(held, bool), np.array(sound, bool),
    )  # fmt: skip


def _later_twins(ids: np.ndarray) -> list[int]:
    """Indices of the values that stand at an earlier index too."""
    if len(np.unique(ids)) == len(ids):
        return []
    order = np.argsort(ids, kind="stable")
    return np.sort(order[1:][ids[order][1:] == ids[order][:-1]]).tolist()


def _first(name: Any) -> str:
    """The path of a line's picture; "" if it has none. Raises Several."""
    if isinstance(name, list):
        if len(name) > 1:
            raise Several
        name = name[0] if name else None
    return name if isinstance(name, str) else ""


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


def _rows(start: int, number: int, raws: list[bytes]) -> tuple[np.ndarray, np.ndarray, list[Any], np.ndarray]:
    """(places, lengths, values, line numbers) of the lines that are not blank; a malformed one has the value None."""
    lengths = np.fromiter(map(len, raws), np.int32, len(raws))
    places = start + np.cumsum(np.concatenate([[0], lengths[:-1] + 1]), dtype=np.int64)
    if start == 0 and raws:
        raws = [raws[0].removeprefix(b"\xef\xbb\xbf"), *raws[1:]]
    kept = np.array([bool(raw) and not raw.isspace() for raw in raws], bool)
    texts = raws if kept.all() else [raw for raw, keep in zip(raws, kept.tolist()) if keep]
    try:
        values = json.loads(b"[" + b",".join(texts) + b"]")
        values = values if len(values) == len(texts) else list(map(_value, texts))
    except (ValueError, RecursionError):
        values = list(map(_value, texts))
    return places[kept], lengths[kept], values, (number + np.flatnonzero(kept)).astype(np.int32)


def _value(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


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
        row = _value(lines.raw(index)) or {}
        names[key] = _key(_first(row.get("video", row.get("image"))), folder) if isinstance(row, dict) else ""
    part = json_files.held_out_part(names.values())
    return np.array([names[key] in part for key in keys.tolist()], bool)
