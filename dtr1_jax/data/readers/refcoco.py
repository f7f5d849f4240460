"""RefCOCO, RefCOCO+ and RefCOCOg: a query for each sentence that refers to one object of a photo of COCO.

    ROOT/refcoco/refs(unc).p, instances.json     the release (or ROOT is that folder); names refcoco, refcoco+, refcocog
    ROOT/refcoco.json                            the JSON form of tensorflow_datasets, with all three
    ROOT/*.parquet or ROOT/data/*.parquet        four forms of Hugging Face, see refcoco_parquet.py

The photos are train2014 of COCO or train2017, in ROOT or beside it (coco_photos.py). A split is "val", or "unc/val"
with the authors of the division: unc (usual), google or umd (usual for RefCOCOg). Not all have all splits, see COUNTS.

Photos are found by the id of the picture, since the file names of refs carry the number of the annotation. The query is
the sentence without punctuation ("sent"). The scene of an example is all annotated objects of its photo.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries.coco_uses import SINGLES
from dtr1_jax.data.readers import (
    benchmark,
    coco_photos,
    coco_records,
    file_names,
    plain_pickle,
    ref_sentences,
    refcoco_parquet,
)
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.twin.schema import show

NAMES = ("refcoco", "refcoco+", "refcocog")
LAYOUT = "refs(unc).p and instances.json in refcoco/, refcoco+/ or refcocog/, and COCO's train2014 in images/"
# Benchmark -> division -> split -> (refs, photos), by the README of ref_coco in tensorflow_datasets.
COUNTS: dict[str, dict[str, dict[str, tuple[int, int]]]] = {
    "refcoco": {
        "unc": {"train": (42404, 16994), "val": (3811, 1500), "testA": (1975, 750), "testB": (1810, 750)},
        "google": {"train": (40000, 19213), "val": (5000, 4559), "test": (5000, 4527)},
    },
    "refcoco+": {"unc": {"train": (42278, 16992), "val": (3805, 1500), "testA": (1975, 750), "testB": (1798, 750)}},
    "refcocog": {
        "umd": {"train": (42226, 21899), "val": (2573, 1300), "test": (5023, 2600)},
        "google": {"train": (44822, 24698), "val": (5000, 4650)},
    },
}
SENTENCES = {("refcoco", "unc", "train"): 120624, ("refcoco", "unc", "val"): 10834, ("refcoco", "unc", "testA"): 5657,
             ("refcoco", "unc", "testB"): 5095}  # fmt: skip
_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # ids up to 90 that COCO gave to no category
# The JSON form has no categories, but the ids of COCO's 80; SINGLES begins with their names in the order of the ids.
COCO_CATEGORIES = {
    number: {"id": number, "name": name} for number, name in zip((i for i in range(1, 91) if i not in _UNUSED), SINGLES)
}

log = logging.getLogger(__name__)


def open_refcoco_source(name: str, root: str, split: str, task: str, *, max_objects: int) -> Benchmark:
    """Reads the refs of a split and returns an example for each sentence, in the order of the file.

    Args:
      name: one of NAMES.
      root: the folder, or refcoco.json.
      split: "val" or "unc/val", see COUNTS; "heldout" is val of the usual division.
      task: segmentation or grounding.
      max_objects: most objects of a scene.

    Raises DataError: no such files, another form, or no sentence that can be used.
    """
    folder = Path(root).expanduser()
    by, split = divide(folder, name, split)
    if file_names.is_folder(folder) and refcoco_parquet.files(folder):
        counts = COUNTS[name][by][split][0], SENTENCES.get((name, by, split))
        return refcoco_parquet.open_table(name, folder, by, split, task, counts)
    faults = coco_records.Faults()
    if _json_file(folder) is not None:
        refs, photos = _read_json(_json_file(folder), name, by, split, faults)
    else:
        refs, photos = _read_release(_release(folder, name), by, split, faults)
    place = f"{folder}: {name} {by}/{split}"
    queries = list(_queries(refs, photos, f"{name}/{by}/{split}", task, faults))
    if str(faults):
        log.warning("%s: left out %s", place, faults)
    benchmark.check_count(place, len(refs), COUNTS[name][by][split][0], "refs")
    benchmark.check_count(place, len(queries), SENTENCES.get((name, by, split)), "sentences")
    benchmark.check_photos(place, queries, LAYOUT)
    return Benchmark(name, folder, f"{by}/{split}", task, tuple(queries), benchmark.pointing_example, max_objects)


def divide(root: Path, name: str, split: str) -> tuple[str, str]:
    """(division, split) from "val", "unc/val" or "heldout". Raises DataError for a split that the benchmark lacks."""
    divisions = COUNTS[name]
    usual = next(iter(divisions))
    by, _, part = split.rpartition("/")
    if not by:  # a split that only another division has
        holders = [d for d, splits in divisions.items() if part in splits]
        by = usual if part == "heldout" or usual in holders or not holders else holders[0]
    known = [f"{d}/{s}" for d, splits in divisions.items() for s in splits]
    chosen = benchmark.choose_split(root, f"{by}/{'val' if part == 'heldout' else part}", known, f"{usual}/val")
    return tuple(chosen.split("/"))


def _json_file(folder: Path) -> Path | None:
    file = folder if folder.suffix == ".json" else folder / "refcoco.json"
    return file if file_names.is_file(file) else None


def _release(root: Path, name: str) -> Path:
    """The folder of the release. Raises DataError."""
    for folder in (root / name, root):
        if file_names.is_file(folder / "instances.json"):
            return folder
    found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if file_names.is_folder(root) else ""
    got = found or ("an empty folder" if file_names.is_folder(root) else "no such folder")
    raise DataError(
        f"{root}: expected {LAYOUT} (or refcoco.json, or .parquet files), got {got}; see docs/benchmarks.md"
    )


def _read_release(
    folder: Path, by: str, split: str, faults: coco_records.Faults
) -> tuple[list[Mapping], dict[Any, Photo]]:
    """The refs of a split of the release, and the photos by id."""
    file = folder / f"refs({by}).p"
    if not file_names.is_file(file):
        found = ", ".join(sorted(path.name for path in folder.glob("refs*"))[:8]) or "no refs"
        raise DataError(
            f"{folder}: expected {file.name}, got {found}; set data.*_split to DIVISION/SPLIT that is there"
        )
    value = plain_pickle.read_pickle(file)
    if not isinstance(value, list) or not all(isinstance(ref, dict) for ref in value):
        raise DataError(f"{file}: expected a list of refs, got {show(value)}; take the release's file")
    refs = [ref for ref in value if ref.get("split") == split]
    if not refs:
        known = sorted({str(ref.get("split"))[:20] for ref in value})
        raise DataError(
            f"{file}: expected refs of split {split!r}, got {', '.join(known[:8])}; set data.*_split to one"
        )
    return refs, read_photos(folder / "instances.json", refs, coco_photos.photo_folders(folder.parent), faults)


def read_photos(
    file: Path, refs: list[Mapping], folders: tuple[Path, ...], faults: coco_records.Faults
) -> dict[Any, Photo]:
    """The photos of refs by id, with all their annotations, from an instances.json. Raises DataError.

    The photo's `place` is the ids of its things, in their order.
    """
    value = json_files.read_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(value, dict) or not isinstance(value.get(key), list):
            raise DataError(f'{file}: expected the list "{key}", got none; take instances.json of the release')
    pictures = coco_records.pictures([_named(p) for p in value["images"]], faults)
    wanted = {coco_records.find_id(pictures, ref.get("image_id")) for ref in refs} - {None}
    notes: dict[Any, list[Mapping]] = {number: [] for number in wanted}
    for note in value["annotations"]:
        number = coco_records.find_id(pictures, note.get("image_id")) if isinstance(note, dict) else None
        if number in notes:
            notes[number].append(note)
    categories = coco_records.categories(value["categories"], faults)
    return {
        number: _photo(number, pictures[number], rows, categories, folders)
        for number, rows in notes.items()
        if pictures[number]
    }


def _named(picture: Any) -> Any:
    """The record of a picture, with the name that its id gives where its own leads elsewhere."""
    if not isinstance(picture, dict):
        return picture
    number, name = json_files.whole_number(picture.get("id")), picture.get("file_name")
    last = name.replace("\\", "/").rpartition("/")[2] if isinstance(name, str) else ""
    if number is not None and not (last and file_names.stays_inside(last)):
        last = coco_photos.photo_names(number)[0]
    return picture | {"file_name": last}


def _photo(number: Any, record: Mapping, notes: list[Mapping], categories: Mapping, folders: tuple[Path, ...]) -> Photo:
    names = [record["file_name"]]
    if isinstance(number, int):
        names += coco_photos.photo_names(number)
    things, ids = [], []
    size = record["width"], record["height"]
    for note in notes:
        category = coco_records.find_id(categories, note.get("category_id"))
        label = benchmark.NO_LABEL if category is None else coco_records.label_of(categories[category])
        thing, _ = benchmark.thing_of(note, size, label)
        if thing is not None:
            things.append(thing)
            ids.append(coco_records.parse_id(note.get("id")))
    return Photo(tuple(dict.fromkeys(names)), folders, size, tuple(things), complete=True, place=tuple(ids))


def _read_json(
    file: Path, name: str, by: str, split: str, faults: coco_records.Faults
) -> tuple[list[Mapping], dict[Any, Photo]]:
    """The refs of a split in the JSON form of tensorflow_datasets, and the photos by id."""
    value = json_files.read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get("ref"), list) or "coco_anns" not in value:
        raise DataError(
            f'{file}: expected {{"ref": [...], "coco_anns": {{...}}}}, got {show(value)}; take its own form'
        )
    rows = [ref for ref in value["ref"] if isinstance(ref, dict)]
    refs = [r for r in rows if (r.get("dataset"), r.get("dataset_partition"), r.get("split")) == (name, by, split)]
    if not refs:
        known = sorted({f"{r.get('dataset')} {r.get('dataset_partition')}/{r.get('split')}"[:60] for r in rows})
        raise DataError(f"{file}: expected refs of {name} {by}/{split}, got {', '.join(known[:16])}; set data.*_split")
    folders = coco_photos.photo_folders(file.parent)
    photos = {}
    entries = value["coco_anns"] if isinstance(value["coco_anns"], dict) else {}
    for number in {coco_records.find_id(entries, ref.get("image_id")) for ref in refs} - {None}:
        entry = entries[number] if isinstance(entries[number], dict) else {}
        records = coco_records.pictures([_named(entry.get("info"))], faults)
        notes = [note for note in entry.get("anns") or () if isinstance(note, dict)]
        for key, record in records.items():
            if record:
                photos[key] = _photo(key, record, notes, COCO_CATEGORIES, folders)
    return refs, photos


def _queries(
    refs: list[Mapping], photos: Mapping[Any, Photo], start: str, task: str, faults: coco_records.Faults
) -> Iterator[Query]:
    for place, ref in enumerate(refs):
        number = coco_records.find_id(photos, ref.get("image_id"))
        if number is None:
            faults.add("refs to a photo that is not in the annotations", ref.get("image_id"))
            continue
        photo = photos[number]
        target = coco_records.find_id(dict.fromkeys(photo.place), ref.get("ann_id"))
        if target is None:
            faults.add("refs to an annotation that is missing or has no shape", ref.get("ann_id"))
            continue
        thing = photo.things[photo.place.index(target)]
        if task == "segmentation" and not thing.outlined:
            faults.add("refs to an object that has a box and no outline", ref.get("ann_id"))
            continue
        sentences = ref_sentences.sentences_of(ref)
        if not sentences:
            faults.add("refs without a sentence", ref.get("ref_id"))
        for sentence, text in sentences:
            uid = f"{start}/{ref.get('ref_id', place)}/{sentence}"
            yield Query(uid, text, photo, (photo.place.index(target),))
