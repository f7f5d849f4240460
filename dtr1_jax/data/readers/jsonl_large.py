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
import re
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
_BLOCK, _KEPT = 1 << 19, 1 << 18  # bytes; pictures that are remembered
_TARGETS = frozenset({"boxes", "polygons", "rle", "mask", "answers", "tracks", "masks", "rles"})

_USUAL = re.compile("(?:[a-z0-9_-][a-z0-9_.-]*/)*[a-z0-9_-][a-z0-9_.-]*")  # a name that has one spelling

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
    pieces: dict[str, list[np.ndarray]] = {field: [] for field in _Part._fields}
    of_file = _File(file.parent, task)
    for start, number, raws in _blocks(file):
        places, lengths, rows, numbers = _rows(start, number, raws)
        for field, values in _part(places, lengths, rows, numbers, of_file)._asdict().items():
            pieces[field].append(values)
    if not pieces["starts"]:
        raise ValueError(f"{file}: expected lines, got none")
    of_file.held.clear()
    column = {field: np.concatenate(pieces.pop(field)) for field in _Part._fields}  # one at a time, to save memory
    lines = Lines(
        file, functools.partial(make, file, task), column["starts"], column["lengths"], column["numbers"],
        column["tasks"], tuple(of_file.tasks),
    )  # fmt: skip
    step = max(1, len(lines) // CHECKED)
    twins = _later_twins(column["ids"])
    doubtful = sorted({*np.flatnonzero(~column["sound"]).tolist(), *range(0, len(lines), step)})
    held = _held(column["keys"], column["held"], lines, file.parent)
    return Survey(lines, doubtful, column["splits"], tuple(of_file.splits), held, twins)


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
    task: int  # of a line without the field; index into the tasks
    has_more: bool  # an id, a split or a task


def _part(
    places: np.ndarray, lengths: np.ndarray, values: list[Any], numbers: np.ndarray, file: _File,
) -> _Part:  # fmt: skip
    """What opening needs of some lines. `file` gets new tasks and splits. Raises Several.

    Most files have few sorts of lines, so that what follows from the names of the fields is found once for each sort.
    """
    sorts: dict[tuple[str, ...], _Sort] = {}
    codes, sound, keys, held = [], [], [], []
    splits = np.full(len(values), -1, np.int32)
    ids = numbers.astype(np.int64) - (1 << 62)  # of lines without one
    is_usual, known = _USUAL.fullmatch, file.held
    name, number, is_held = "", 0, False
    for i, row in enumerate(values):
        if type(row) is not dict:
            row = {}
        fields = tuple(row)
        sort = sorts.get(fields)
        if sort is None:
            sort = sorts[fields] = file.sort(row)
        visual, may_be_sound, code, has_more = sort
        text = row.get(visual)
        if type(text) is not str:
            text = _first(text)
        if text != name or not i:  # lines about one picture mostly follow each other
            name = text
            number = hash(name) if is_usual(name) else hash(_key(name, file.folder))
            found = known.get(number)
            is_held = file.holds(name, number) if found is None else found
        keys.append(number)
        held.append(is_held)
        sound.append(may_be_sound and name != "" and type(row["query"]) is str)
        codes.append(code)
        if has_more:
            if "task" in row:
                codes[-1] = file.task(str(row["task"]), visual)
            if row.get("split") is not None:
                splits[i] = file.splits.setdefault(str(row["split"]), len(file.splits))
            if row.get("id") is not None:
                ids[i] = hash(str(row["id"])) >> 2
    return _Part(
        places, lengths, numbers, np.minimum(codes, 127).astype(np.int8), splits, np.array(keys, np.int64), ids,
        np.array(held, bool), np.array(sound, bool),
    )  # fmt: skip


class _File:
    """What is known of a file while it is read: its tasks and splits by number, and which pictures are held out."""

    def __init__(self, folder: Path, task: str):
        self.folder, self._task = folder, task
        self.held: dict[int, bool] = {}
        self.tasks: dict[tuple[str, bool], int] = {}
        self.splits: dict[str, int] = {}

    def task(self, name: str, visual: str) -> int:
        """The number of a task about pictures or videos."""
        return self.tasks.setdefault((name, visual == "video"), len(self.tasks))

    def sort(self, row: dict[str, Any]) -> _Sort:
        """The sort of a line, by the names of its fields alone."""
        visual = "image" if "image" in row or "video" not in row else "video"
        sound = "query" in row and len(_TARGETS & row.keys()) == 1 and not {"image", "video"} <= row.keys()
        more = row.keys() & {"id", "split", "task"}
        return _Sort(visual, sound, -1 if "task" in row else self.task(self._task, visual), bool(more))

    def holds(self, name: str, number: int) -> bool:
        """Whether json_files.held_out says of a picture's name, with this hash, that it is held out."""
        if len(self.held) >= _KEPT:
            self.held.clear()
        self.held[number] = json_files.held_out(_key(name, self.folder))
        return self.held[number]


def _later_twins(ids: np.ndarray) -> list[int]:
    """Indices of the values that stand at an earlier index too."""
    ordered = np.sort(ids)
    if (ordered[1:] != ordered[:-1]).all():
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
