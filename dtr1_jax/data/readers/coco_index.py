"""The pictures of a large file in COCO's format by an index; polygons are parsed when their picture is read.

The index is kept in a cache folder, under a name that the content of the annotation file gives. Both splits, later
runs and the worker processes of a run share it, as a file that is mapped into memory.

Checks that need no polygon are made of all annotations when the file is opened; the shapes of CHECKED pictures are
checked then, and the others when their picture is read. A shape that fails costs what it costs in a small file: its
label is not asked for in its picture. The numbers in the warning are then of the sample.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_records, coco_scan, lvis
from dtr1_jax.data.readers.coco_records import Faults
from dtr1_jax.run import atomic

LARGE = 64 << 20  # bytes; a smaller file is read as a whole
CHECKED = 1000  # pictures
VERSION = 4  # of the index; another one is not read
_ARRAYS = ("pictures", "names", "notes", "listed")  # of an index, kept as files
_PICTURE = np.dtype([("id", "i8"), ("w", "i4"), ("h", "i4"), ("first", "i8"), ("count", "i4")])
_LISTED = np.dtype([("row", "i8"), ("category", "i4"), ("absent", "?")])
_NOTE = np.dtype([("start", "i8"), ("length", "i4"), ("category", "i4"), ("crowd", "?"), ("kind", "i1")])
_PRIMES = np.int64(0x9E3779B97F4A7C15 - (1 << 64)), np.int64(0xC2B2AE3D27D4EB4F - (1 << 64))

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)  # so that it can be a key
class Index:
    """The annotated pictures of a file.

    Attributes:
      pictures: _PICTURE[n] in the order of their first annotation; `first` and `count` are a part of `notes`.
      names: bytes[n], the file names in UTF-8.
      notes: _NOTE[m], the annotations by picture; `category` is an index into `categories`.
      categories: the records of the categories.
      left_out, odd: what was left out, and what was kept though it is odd, in words; "" = nothing.
      crowds: what messages say of iscrowd 1, see `_read_crowds`.
      listed: _LISTED[k] by row of `pictures`: categories that LVIS calls absent there, or not completely annotated.
      federated: whether it is a file of LVIS.
      folder: where the index is kept; None if nowhere.
    """

    pictures: np.ndarray
    names: np.ndarray
    notes: np.ndarray
    categories: tuple[dict, ...]
    left_out: str
    odd: str
    crowds: dict[str, Any]
    listed: np.ndarray
    federated: bool
    folder: Path | None = None

    def searched_ids(self, row: int) -> tuple[list[int], list[int]]:
        """Ids of the categories that are absent in the picture of a row, and of those not completely annotated."""
        first, last = np.searchsorted(self.listed["row"], [row, row + 1])
        part = self.listed[first:last]
        chosen = part[part["absent"]]["category"], part[~part["absent"]]["category"]
        absent, incomplete = ([self.categories[i]["id"] for i in places.tolist()] for places in chosen)
        return absent, incomplete

    def searched_labels(self) -> set[str]:
        """The labels in the lists of the pictures."""
        return {coco_records.label_of(self.categories[i]) for i in np.unique(self.listed["category"]).tolist()}

    def __reduce__(self) -> tuple:
        """A worker process maps the same file in place of getting a copy of the arrays."""
        if self.folder is not None:
            return _load, (self.folder,)
        return Index, tuple(getattr(self, field.name) for field in dataclasses.fields(self))


def open_index(path: Path) -> Index | None:
    """The index of a large file, from the cache or made now; None for a small file and one that needs a whole parse."""
    try:
        stat = path.stat()
        return None if stat.st_size < LARGE else _open(path, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return None  # the caller's own reading names the fault


@functools.lru_cache(maxsize=2)  # the splits of a run are parts of one file
def _open(path: Path, size: int, changed: int) -> Index | None:
    """The index of a file that had this size, and was changed at this time, ns. Raises OSError."""
    del size, changed
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:32]  # twice as fast as blake2b where the CPU helps
    folder = _cache_folder() / f"{key}-{VERSION}"
    found = _load(folder)
    if found is not None:
        return found
    try:
        index = build(coco_scan.scan(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except coco_scan.Unusual as reason:
        log.warning("%s: it is read as a whole, which takes more memory: %s", path, reason)
        return None
    try:
        _save(index, folder)
    except OSError as error:
        log.warning("%s: the index cannot be kept in %s (%s); the next run reads the file again", path, folder, error)
        return index
    return _load(folder) or index


def build(found: coco_scan.Scan) -> Index:
    """The index of the records of a file. Raises DataError if an id stands for two categories."""
    faults = Faults()
    images, named = found.images, found.categories
    federated = lvis.is_lvis(images, named)
    if federated:
        images, named = lvis.as_coco(images, named, faults)
    remarks = Faults()
    categories = coco_records.categories(named, faults, remarks)
    records = coco_records.pictures(images, faults, remarks)
    if any(not isinstance(number, int) for number in [*records, *categories]):
        raise coco_scan.Unusual("ids of its pictures or categories are text")
    same = coco_records.same_file(records, remarks)
    notes = _matched(found.notes, records, same, categories, faults)
    labels = [coco_records.label_of(record) for record in categories.values()]
    notes = _without_twins(notes, faults)
    ids = np.sort(notes["id"])
    twice = int((ids[1:] == ids[:-1]).sum())
    if twice:
        remarks.add("annotations with the id of another one", count=twice)
    crowds = _read_crowds(notes, labels)
    order = np.argsort(notes["picture"], kind="stable")
    numbers, first, counts = np.unique(notes["picture"][order], return_index=True, return_counts=True)
    appearance = np.argsort(order[first], kind="stable")  # the order of their first annotation
    empty = len(set(same.values())) - len(numbers)
    if empty:
        faults.add("pictures without a usable annotation", count=empty)
    pictures = np.zeros(len(numbers), _PICTURE)
    pictures["id"], pictures["first"], pictures["count"] = numbers, first, counts
    pictures = pictures[appearance]
    chosen = [records[number] for number in pictures["id"].tolist()]
    pictures["w"], pictures["h"] = [r["width"] for r in chosen], [r["height"] for r in chosen]
    names = np.array([record["file_name"].encode() for record in chosen], dtype=bytes)
    kept = np.zeros(len(notes), _NOTE)
    for name in _NOTE.names or ():
        kept[name] = notes[name][order]
    lists = lvis.searched(images, categories) if federated else {}
    listed = _listed(pictures["id"].tolist(), lists, categories)
    texts = str(faults), str(remarks)
    return Index(pictures, names, kept, tuple(categories.values()), *texts, crowds, listed, federated)


def _listed(ids: Sequence[int], lists: Mapping[int | str, tuple], categories: Mapping) -> np.ndarray:
    """_LISTED of the pictures with these ids, from lvis.searched."""
    place = {number: i for i, number in enumerate(categories)}
    rows = [
        (row, place[number], absent)
        for row, picture in enumerate(ids if lists else ())
        for absent, numbers in zip((True, False), lists[picture])
        for number in sorted(numbers, key=str)
    ]
    return np.array(rows, _LISTED)


def _matched(notes: np.ndarray, records: Mapping, same: Mapping, categories: Mapping, faults: Faults) -> np.ndarray:
    """The annotations of known pictures and categories; `category` becomes its index, `picture` the id of its file."""
    ids = np.array(sorted(records), np.int64)
    place = np.minimum(np.searchsorted(ids, notes["picture"]), len(ids) - 1)
    known = ids[place] == notes["picture"]
    if not known.all():
        missing = notes[~known]
        for number in missing["id"][:3].tolist():
            faults.add("annotations that refer to no image", number, 0)
        faults.add("annotations that refer to no image", count=len(missing))
    targets = np.array([same.get(number, np.iinfo(np.int64).min) for number in ids.tolist()], np.int64)
    target = targets[place]
    numbers = np.array(list(categories), np.int64)
    order = np.argsort(numbers)
    spot = np.minimum(np.searchsorted(numbers[order], notes["category"]), len(numbers) - 1)
    named = numbers[order][spot] == notes["category"]
    sound = known & (target != np.iinfo(np.int64).min)
    if not named[sound].all():
        for number in notes["category"][sound & ~named][:3].tolist():
            faults.add("annotations of no known category", number, 0)
        faults.add("annotations of no known category", count=int((~named[sound]).sum()))
    result = notes.copy()
    result["category"], result["picture"] = order[spot], target
    return result[sound & named]


def _without_twins(notes: np.ndarray, faults: Faults) -> np.ndarray:
    """The annotations without those whose picture, label, crowd and shape equal those of an earlier one."""
    columns = notes["picture"], notes["category"] * 2 + notes["crowd"], notes["hash"]
    mixed = columns[0] * _PRIMES[0] + columns[1] * _PRIMES[1] + columns[2]  # modulo 2^64
    order = np.argsort(mixed)
    equal = np.flatnonzero(mixed[order[1:]] == mixed[order[:-1]])
    suspects = np.unique(order[np.concatenate([equal, equal + 1])])  # others differ, the mixed numbers tell
    seen, twins = set(), []
    for row, *key in zip(suspects.tolist(), *(column[suspects].tolist() for column in columns)):
        if tuple(key) in seen:
            twins.append(row)
        seen.add(tuple(key))
    if twins:
        faults.add("annotations that stand twice", count=len(twins))
    return np.delete(notes, twins) if twins else notes


def _read_crowds(notes: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Changes crowd regions that are single objects (coco_records.crowds_are_objects); returns what messages need."""
    names = [labels[i] for i in range(len(labels))]
    crowds = np.flatnonzero(notes["crowd"])
    if not len(crowds):
        return {"objects": 0, "labels": [], "crowds": 0, "alone": []}
    regions = {(p, names[c]) for p, c in zip(*(notes[name][crowds].tolist() for name in ("picture", "category")))}
    counts: tuple[collections.Counter[str], ...] = collections.Counter(), collections.Counter()
    for counter, part in zip(counts, (notes["crowd"], ~notes["crowd"])):
        for name, number in zip(names, np.bincount(notes["category"][part], minlength=len(names)).tolist()):
            counter[name] += number
    single = coco_records.labels_of_objects(+counts[0], +counts[1], len(regions) < len(crowds))
    chosen = [i for i in crowds.tolist() if names[notes["category"][i]] in single]
    notes["crowd"][chosen] = False
    kept = {names[i] for i in np.unique(notes["category"][notes["crowd"]]).tolist()}
    others = {names[i] for i in np.unique(notes["category"][~notes["crowd"]]).tolist()}
    return {
        "objects": len(chosen), "labels": sorted(single), "crowds": int(notes["crowd"].sum()),
        "alone": sorted(kept - others),
    }  # fmt: skip


class Pictures(Sequence):
    """The pictures of an index, or some of them, each made when it is asked for."""

    def __init__(self, path: Path, index: Index, make: Callable[..., Any], rows: np.ndarray | None = None):
        self._path, self._index, self._make = path, index, make
        self.rows = np.arange(len(index.pictures)) if rows is None else rows
        self._file: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Picture `index`, or for a slice the Pictures of it. Raises IndexError; ImageError."""
        if isinstance(index, slice):
            return self.of(self.rows[index])
        return self.make(index)

    def make(self, index: int, **options: Any) -> Any:
        """Picture `index`, with further options of the function that makes it. Raises as it does."""
        row = int(self.rows[index])
        return self._make(self._index, row, self._records(row), **options)

    def of(self, rows: np.ndarray) -> Pictures:
        """The pictures in some rows of the index."""
        return Pictures(self._path, self._index, self._make, rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def ids(self) -> list[int]:
        """The ids of the pictures."""
        return self._index.pictures["id"][self.rows].tolist()

    def files(self) -> list[str]:
        """The file names of the pictures."""
        return [name.decode() for name in self._index.names[self.rows].tolist()]

    def _notes(self) -> np.ndarray:
        chosen = np.zeros(len(self._index.pictures), bool)
        chosen[self.rows] = True
        order = np.argsort(self._index.pictures["first"])
        return self._index.notes[np.repeat(chosen[order], self._index.pictures["count"][order])]

    def label_counts(self) -> dict[str, int]:
        """Number of annotations that are no crowds by label."""
        notes = self._notes()
        numbers = np.bincount(notes["category"][~notes["crowd"]], minlength=len(self._index.categories))
        counts: collections.Counter[str] = collections.Counter()
        for record, number in zip(self._index.categories, numbers.tolist()):
            counts[coco_records.label_of(record)] += number
        return {label: number for label, number in counts.items() if number}

    def boxed(self) -> tuple[int, int]:
        """(number of annotations that have a box alone, number of all)."""
        notes = self._notes()
        return int((notes["kind"] == coco_scan.BOX).sum()), len(notes)

    def outlined(self) -> Pictures:
        """The pictures with an object that has an outline."""
        notes = self._index.notes
        shown = (notes["kind"] != coco_scan.BOX) & ~notes["crowd"]
        total = np.concatenate([[0], np.cumsum(shown)])
        first, count = (self._index.pictures[name][self.rows] for name in ("first", "count"))
        return self.of(self.rows[total[first + count] > total[first]])

    def _records(self, row: int) -> list[tuple[Any, bool]]:
        """(the value of each annotation, whether it is a crowd) of a picture."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
        first, count = (int(self._index.pictures[name][row]) for name in ("first", "count"))
        found = []
        for note in self._index.notes[first : first + count]:
            raw = os.pread(self._file, int(note["length"]), int(note["start"]))
            try:
                found.append((json.loads(raw), bool(note["crowd"])))
            except ValueError:
                raise ImageError(
                    f"{self._path}: the annotation at byte {int(note['start'])} is malformed, or the file has changed "
                    "since the run began; correct it, or start the run again"
                ) from None
        return found


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dtr1_jax" / "coco-index"


def _save(index: Index, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing_folder(folder) as partial:
        for name in _ARRAYS:
            np.save(partial / f"{name}.npy", getattr(index, name), allow_pickle=False)
        rest = {name: getattr(index, name) for name in ("categories", "left_out", "odd", "crowds", "federated")}
        (partial / "rest.json").write_text(json.dumps(rest), "utf-8")


def _load(folder: Path) -> Index | None:
    """The index in a folder, mapped into memory; None if there is none or it is damaged."""
    try:
        arrays = [
            np.load(folder / f"{n}.npy", mmap_mode="r" if n != "listed" else None, allow_pickle=False) for n in _ARRAYS
        ]
        rest = json.loads((folder / "rest.json").read_text("utf-8"))
        pictures, names, notes, listed = arrays
        types = pictures.dtype == _PICTURE and notes.dtype == _NOTE and listed.dtype == _LISTED
        if not types or len(pictures) != len(names):
            return None
        texts, crowds = (str(rest["left_out"]), str(rest["odd"])), dict(rest["crowds"])
        federated = rest["federated"] is True
        return Index(pictures, names, notes, tuple(rest["categories"]), *texts, crowds, listed, federated, folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
