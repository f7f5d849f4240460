"""Data sets of referring expressions as tensorflow_datasets prepares them, such as ref_coco; without TensorFlow.

    ROOT/NAME/CONFIG/VERSION/dataset_info.json, features.json, NAME-SPLIT.array_record-00000-of-00008

`data.name` is NAME/CONFIG or NAME/CONFIG:VERSION; without a version the highest is taken. Files must be in the format
array_record, which tensorflow_datasets reads without TensorFlow. (It prepares and converts with TensorFlow.)

A record has the features of ref_coco: image, image/id, coco_annotations (bbox, label), objects (gt_box_index, refexp
with refexp_id and raw, and from version 1.1.0 on mask). The query is the sentence as it was typed ("raw"). The scene is
all coco_annotations of the photo, which have boxes; objects that are referred to have masks. Labels are ids of COCO.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, tfrecord
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query, Thing
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.data.readers.refcoco import COCO_CATEGORIES, COUNTS
from dtr1_jax.twin import masks
from dtr1_jax.types import Example

NAME = "tfds"
BENCHMARKS = {"refcoco": "refcoco", "refcocoplus": "refcoco+", "refcocog": "refcocog"}  # first word of a config -> name
SPLITS = {"val": "validation", "heldout": "validation"}  # other names of a split of tensorflow_datasets
_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_NEEDED = ("image", "coco_annotations/bbox", "objects/gt_box_index", "objects/refexp/raw/ragged_flat_values")

log = logging.getLogger(__name__)


def open_tfds_source(root: str, name: str, split: str, task: str, *, max_objects: int) -> Benchmark:
    """Reads the sentences of a split, in the order of the records; photos and masks are decoded with their example.

    Args:
      root: the folder of tensorflow_datasets (its data_dir).
      name: the data set, such as "ref_coco/refcoco_unc".
      split: one of its splits; val and "heldout" are validation.
      task: segmentation or grounding.
      max_objects: most objects of a scene; that of the query is always in it.

    Raises DataError: no such data set or split, another format or other features, or no sentence that can be used.
    """
    folder = find_folder(Path(root).expanduser(), name)
    split = SPLITS.get(split, split)
    records = _open(folder.as_posix(), split)
    faults = coco_records.Faults()
    queries, photos, refs = [], 0, 0
    for row in range(len(records)):
        fields = _fields(records, row, folder)
        if row == 0:
            _check_features(fields, folder, task)
        found = list(_queries(fields, row, folder, split, task, faults))
        photos, refs = photos + 1, refs + len(fields.get("objects/gt_box_index", ()))
        queries += found
    place = f"{folder}: {split}"
    if str(faults):
        log.warning("%s: left out %s", place, faults)
    known, division, part = published(folder.parent.name, split)
    expected = COUNTS.get(known, {}).get(division, {}).get(part, (None, None))
    benchmark.check_count(place, refs, expected[0], "refs")
    benchmark.check_count(place, photos, expected[1], "pictures")
    if not queries:
        raise DataError(f"{place}: expected sentences, got none to use; prepare the data set again")
    return Benchmark(known, folder, split, task, tuple(queries), load, max_objects)


def published(config: str, split: str) -> tuple[str, str, str]:
    """(benchmark, division, split) of a config of ref_coco, such as ("refcoco", "unc", "val"); else NAME first."""
    first, _, division = config.partition("_")
    return BENCHMARKS.get(first, NAME), division, "val" if split == "validation" else split


def find_folder(root: Path, name: str) -> Path:
    """The folder of a version of a data set. Raises DataError."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f'data.name: expected NAME/CONFIG or NAME/CONFIG:VERSION, such as "ref_coco/refcoco_unc", got {name!r}'
        )
    base = root / match["name"] / (match["config"] or "")
    versions = [match["version"]] if match["version"] else _versions(base)
    for version in versions:
        if file_names.is_file(base / version / "dataset_info.json"):
            return base / version
    listed = ", ".join(sorted(p.name for p in base.iterdir())[:8]) if file_names.is_folder(base) else "no such folder"
    raise DataError(
        f"{root}: expected {match['name']}/{match['config'] or 'CONFIG'}/VERSION/dataset_info.json, got "
        f"{listed or 'nothing'} there; set data.root to the folder of tensorflow_datasets, and data.name to NAME/CONFIG"
    )


def _versions(base: Path) -> list[str]:
    names = [p.name for p in base.iterdir()] if file_names.is_folder(base) else []
    return sorted(filter(re.compile(r"\d+\.\d+\.\d+").fullmatch, names), key=_numbers, reverse=True)


def _numbers(version: str) -> list[int]:
    return list(map(int, version.split(".")))


@functools.lru_cache(maxsize=4)
def _open(folder: str, split: str) -> Sequence[bytes]:
    """The records of a split as bytes. Raises DataError."""
    _check_classes(Path(folder) / "features.json")
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.decode import DeserializeMethod

        builder = tfds.builder_from_directory(folder)
        if split not in builder.info.splits:
            known = ", ".join(map(str, builder.info.splits))
            raise DataError(f"{folder}: expected data.*_split to be one of {known}, got {split!r}; set it to one")
        return builder.as_data_source(split, deserialize_method=DeserializeMethod.RAW_BYTES)
    except DataError:
        raise
    except NotImplementedError:
        raise DataError(
            f"{folder}: expected files in the format array_record, got another, which only TensorFlow reads; where "
            f"TensorFlow is installed: tfds convert_format --dataset_version_dir={folder} "
            "--out_file_format=array_record --out_dir=..."
        ) from None
    except Exception as error:  # the library raises errors of many kinds for a damaged folder
        raise DataError(
            f"{folder}: tensorflow_datasets cannot read it ({type(error).__name__}: {str(error)[:200]}); prepare it "
            "again"
        ) from None


def _check_classes(file: Path) -> None:
    """Raises DataError unless features.json names classes of tensorflow_datasets alone: others would be imported."""
    text = json_files.read_bytes(file).decode("utf-8", "replace")
    for name in re.findall(r'"(?:pythonClassName|python_class_name)"\s*:\s*"((?:[^"\\]|\\.)*)"', text):
        if not re.fullmatch(r"tensorflow_datasets\.core\.features(\.\w+)+", name):
            raise DataError(
                f"{file}: expected classes of tensorflow_datasets, got {name[:80]!r}; take another data set"
            )


def _fields(records: Sequence[bytes], row: int, folder: Path) -> Mapping[str, tfrecord.Feature]:
    """The features of a record. Raises ImageError."""
    try:
        return tfrecord.parse_example(bytes(records[row]))
    except Exception as error:  # array_record raises errors of many kinds for a damaged file
        fault = str(error)[:100]
        raise ImageError(f"{folder}: record {row} cannot be read ({fault}); prepare the data set again") from None


def _check_features(fields: Mapping[str, Any], folder: Path, task: str) -> None:
    missing = [name for name in _NEEDED if not fields.get(name)]
    if missing:
        raise DataError(
            f"{folder}: expected the features of ref_coco ({', '.join(_NEEDED)}), got none of {', '.join(missing)}; "
            "other data sets of tensorflow_datasets are not read: export them as JSON lines"
        )
    if task == "segmentation" and not fields.get("objects/mask"):
        raise DataError(
            f"{folder}: expected masks for segmentation, got none, as in version 1.0.0; prepare version 1.1.0, or set "
            "config.data.task=grounding"
        )


def _queries(
    fields: Mapping[str, Any], row: int, folder: Path, split: str, task: str, faults: coco_records.Faults
) -> Iterator[Query]:
    ids = fields.get("image/id") or [row]
    photo = Photo((f"{folder}#{row}",), (), place=(folder.as_posix(), split, row))
    places = fields.get("objects/gt_box_index", ())
    texts, numbers = (_ragged(fields, f"objects/refexp/{name}") for name in ("raw", "refexp_id"))
    masked = len(fields.get("objects/mask", ())) == len(places)
    boxes = len(fields.get("coco_annotations/bbox", ())) // 4
    for k, place in enumerate(places):
        if not 0 <= place < boxes or k >= len(texts) or (task == "segmentation" and not masked):
            faults.add("refs without an annotation, sentences or a mask", f"{ids[0]}/{k}")
            continue
        for j, raw in enumerate(texts[k]):
            text = " ".join(raw.decode("utf-8", "replace").split()) if isinstance(raw, bytes) else ""
            number = numbers[k][j] if k < len(numbers) and j < len(numbers[k]) else j
            if is_text(text):
                yield Query(f"{NAME}/{split}/{ids[0]}/{k}/{number}", text, photo, (place,), more=k)
            else:
                faults.add("sentences without text", f"{ids[0]}/{number}")


def _ragged(fields: Mapping[str, Any], name: str) -> list[list[Any]]:
    """The values of a sequence of sequences."""
    values, lengths = fields.get(f"{name}/ragged_flat_values", []), fields.get(f"{name}/ragged_row_lengths_0", [])
    found, start = [], 0
    for length in lengths:
        found.append(values[start : start + max(0, length)])
        start += max(0, length)
    return found


def load(source: Benchmark, query: Query) -> Example:
    """The example of a sentence with its photo and objects. Raises ImageError."""
    folder, split, row = query.photo.place
    fields = _fields(_open(folder, split), row, Path(folder))
    raw = next(iter(fields.get("image", ())), b"")
    image, (h, w) = image_files.load_shrunk(query.photo.names[0], source.max_pixels, raw=raw)
    boxes = np.asarray(fields.get("coco_annotations/bbox", ()), float).reshape(-1, 4)[:, [1, 0, 3, 2]] * [w, h, w, h]
    labels = fields.get("coco_annotations/label", ())
    outlines = dict(zip(fields.get("objects/gt_box_index", ()), fields.get("objects/mask", ())))
    things = tuple(
        _thing(box, labels[i] if i < len(labels) else None, outlines.get(i), (w, h), query.uid)
        for i, box in enumerate(boxes)
    )
    photo = Photo(query.photo.names, (), (w, h), things, complete=True)
    return benchmark.pointing_example(source, Query(query.uid, query.text, photo, query.target), image)


def _thing(box: np.ndarray, label: Any, png: Any, size: tuple[int, int], uid: str) -> Thing:
    """An annotated object with its mask where `png` has it, else the filled box."""
    record = COCO_CATEGORIES.get(label)
    name = benchmark.NO_LABEL if record is None else coco_records.label_of(record)
    corners = tuple(np.clip(box, 0, [*size, *size]).tolist())
    if not isinstance(png, bytes):
        return Thing(name, np.asarray(corners), corners)
    try:
        pixels, _ = image_files.load_shrunk(uid, image_files.MAX_PIXELS, raw=png)
    except ImageError as error:
        raise ImageError(f"{uid}: its mask cannot be read ({error}); prepare the data set again") from None
    return Thing(name, masks.encode(pixels.any(-1)), corners)
