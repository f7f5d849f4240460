"""ReasonSeg (arXiv 2308.00692): implicit queries about photos, with polygons of the target and of pixels to ignore.

    ROOT/{train,val,test}/NAME.jpg, NAME.json    {"text": [...], "is_sentence": bool, "shapes": [{"label", "points"}]}
    ROOT/*.parquet                               a mirror with image, text and mask (see below)

Masks are drawn as by LISA's code (utils/data_processing.py): points are cut to whole pixels; each polygon is its
outline of one pixel and its inside; polygons are drawn by their area, the largest first; a later one wins. Polygons of
the label "flag" are left out, a label with "ignore" marks pixels that do not count, any other is the target. Each
polygon of the target that shows pixels gives a box.

Validation and test ask text[0] alone, and tag a query long (is_sentence) or short; in training, each text is a query.
In the mirrors Ricky06662/ReasonSeg_val and _test, whose only split is named test, ignored pixels became targets.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, parquet_rows, refcoco_parquet
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Target

NAME = "reasonseg"
COUNTS = {"train": 239, "val": 200, "test": 779}  # pictures
LAYOUT = "train/, val/ and test/ with NAME.jpg and NAME.json"
TARGET, IGNORE = 1, 255
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
_MOST_POINTS = 100_000  # of the polygons of a picture

Polygon = tuple[int, np.ndarray]  # TARGET or IGNORE, int32[n, 2] x, y in pixels

log = logging.getLogger(__name__)


def open_reasonseg_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the annotations of a split and returns its examples, in the order of the names of the pictures.

    Args:
      root: the folder.
      split: train, val or test; "heldout" is val.
      task: segmentation.

    Raises DataError: no such folder, or no picture that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "val")
    table = parquet_rows.list_files(folder)
    if table:
        return _open_table(folder, table, split, task)
    part = folder / split if file_names.is_folder(folder / split) else folder / "ReasonSeg" / split
    if not file_names.is_folder(part):
        raise DataError(f"{folder}: expected {LAYOUT}, got no folder {split}; set data.root to the folder of ReasonSeg")
    faults, remarks = coco_records.Faults(), coco_records.Faults()
    files = file_names.visible_files(part, "*.json")
    queries = [query for file in files for query in _queries(file, split, faults, remarks)]
    place = f"{folder}: {NAME} {split}"
    if str(faults):
        log.warning("%s: left out %s", place, faults)
    if str(remarks):
        log.warning("%s: took for targets %s", place, remarks)
    benchmark.check_count(place, len({query.photo.names for query in queries}), COUNTS[split], "pictures")
    benchmark.check_photos(place, queries, LAYOUT)
    return Benchmark(NAME, folder, split, task, tuple(queries), load)


def load(source: Benchmark, query: Query) -> Example:
    """The example of a query with its polygons. Raises ImageError."""
    image, (h, w) = image_files.load_shrunk(benchmark.photo_file(query.photo), source.max_pixels)
    values, place = draw(query.more, h, w)
    boxes = [masks.bbox((place == i) & (values == TARGET)) for i in range(1, len(query.more) + 1)]
    found = np.array([box for box in boxes if box is not None], np.float32).reshape(-1, 4)
    ignore = values == IGNORE
    target = Target(values == TARGET, found, ignore if ignore.any() else None)
    return Example(query.uid, image, query.text, source.task, target)


def draw(polygons: Sequence[Polygon], h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws polygons in the order of their area, the largest first.

    Returns (uint8[h, w], 0, TARGET or IGNORE at each pixel; int32[h, w], the number of the polygon there, from 1 on).
    """
    areas = []
    for _, points in polygons:
        one = np.zeros((h, w), np.uint8)
        areas.append(int(_paint(one, points, 1).sum()))
    values, place = np.zeros((h, w), np.uint8), np.zeros((h, w), np.int32)
    for i in np.argsort(areas, kind="stable")[::-1]:
        kind, points = polygons[i]
        _paint(values, points, kind)
        _paint(place, points, int(i) + 1)
    return values, place


def _paint(canvas: np.ndarray, points: np.ndarray, value: int) -> np.ndarray:
    cv2.polylines(canvas, [points], True, value, 1)
    cv2.fillPoly(canvas, [points], value)
    return canvas


def _queries(file: Path, split: str, faults: coco_records.Faults, remarks: coco_records.Faults) -> Iterator[Query]:
    photo = next((file.with_suffix(s) for s in _SUFFIXES if file_names.is_file(file.with_suffix(s))), None)
    if photo is None:
        faults.add("annotations without a picture", file.name)
        return
    try:
        value = _parse(json_files.read_bytes(file))
    except (ValueError, DataError):
        faults.add("annotations that are no JSON", file.name)
        return
    polygons = _polygons(value.get("shapes"), faults, remarks, file.name) if isinstance(value, dict) else None
    texts = value.get("text") if isinstance(value, dict) else None
    texts = [" ".join(t.split()) for t in (texts if isinstance(texts, list) else [texts]) if is_text(t)]
    if polygons is None or not texts:
        faults.add("annotations without text or shapes", file.name)
        return
    if len(polygons) < _counted(value["shapes"]) and not any(kind == TARGET for kind, _ in polygons):
        faults.add("annotations that lose all of their target with these shapes", file.name)
        return
    tags = {True: ("long",), False: ("short",)}.get(value.get("is_sentence"), ()) if split != "train" else ()
    picture = Photo((photo.name,), (file.parent,))
    for k, text in enumerate(texts if split == "train" else texts[:1]):
        uid = f"{NAME}/{split}/{file.stem}" + (f"/{k}" if split == "train" else "")
        yield Query(uid, text, picture, tags=tags, more=tuple(polygons))


def _parse(raw: bytes) -> Any:
    """The JSON value of a file in UTF-8, or else in cp1252. Raises ValueError."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        raw = raw.decode("cp1252", "replace").encode()
    return json_files.parse_json(raw)


def _polygons(
    shapes: Any, faults: coco_records.Faults, remarks: coco_records.Faults, name: str
) -> list[Polygon] | None:
    """The polygons that count; None if there is no list of shapes."""
    if not isinstance(shapes, list):
        return None
    found: list[Polygon] = []
    total = 0
    for shape in shapes:
        label = shape.get("label") if isinstance(shape, dict) else None
        points = _points(shape.get("points")) if isinstance(label, str) else None
        if points is None or total + len(points) > _MOST_POINTS:
            faults.add("shapes without a label or points", name)
            continue
        total += len(points)
        if label.lower() != "flag":
            ignored = "ignore" in label.lower()
            if not ignored and label.lower() != "target":
                remarks.add("shapes with another label", label)
            found.append((IGNORE if ignored else TARGET, points))
    return found


def _counted(shapes: list) -> int:
    """Number of the shapes that are no flags, whether they can be used or not."""
    labels = (shape.get("label") if isinstance(shape, dict) else None for shape in shapes)
    return sum(not (isinstance(label, str) and label.lower() == "flag") for label in labels)


def _points(value: Any) -> np.ndarray | None:
    """int32[n, 2] of n >= 1 points, cut to whole pixels; None if the value is no list of points."""
    rows = value if isinstance(value, list) and value else [None]
    if not all(isinstance(p, list) and len(p) == 2 and all(map(json_files.is_number, p)) for p in rows):
        return None
    return np.array(rows, np.float64).astype(np.int32)


def _open_table(folder: Path, table: list[Path], split: str, task: str) -> Benchmark:
    """The mirror with masks; its only split is named test, and the number of its rows tells which one it is."""
    named = [path for path in table if path.name.startswith(split)] or table
    form = refcoco_parquet.form_of(named[0])
    if form != "ricky":
        raise DataError(f"{named[0]}: expected the columns image, text and mask, got those of {form}; take ReasonSeg")
    queries = []
    for file in named:
        for number, row in enumerate(parquet_rows.read_rows(file, ("text",))):
            photo = Photo((f"{file}#{number}",), (), place=parquet_rows.Cell(str(file), number))
            if is_text(row.get("text")):
                queries.append(Query(f"{NAME}/{split}/{number}", row["text"].strip(), photo, more="ricky"))
    others = {count: f"as many as {name} has; set data.*_split" for name, count in COUNTS.items() if name != split}
    place = f"{folder}: {NAME} {split}"
    benchmark.check_count(place, len(queries), COUNTS[split], "pictures", others)
    log.warning("%s: a mirror in which ignored pixels became targets: figures differ from the benchmark's", place)
    if not queries:
        raise DataError(f"{place}: expected queries, got none to use; fetch the files again")
    return Benchmark(NAME, folder, split, task, tuple(queries), refcoco_parquet.load)
