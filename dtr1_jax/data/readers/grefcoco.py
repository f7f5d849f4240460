"""gRefCOCO (arXiv 2306.00968, 2308.16182): sentences that refer to any number of objects of a photo of COCO, or none.

    ROOT/grefcoco/grefs(unc).json (or .p), instances.json    or ROOT is that folder

The form is that of RefCOCO, but ann_id is a list, and [-1] stands for a sentence without a target. The photos are
train2014 of COCO or train2017 (coco_photos.py). Splits are train, val, testA and testB. The ids were renumbered on
2023-08-29: a grefs file and an instances.json of different releases do not fit together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_photos, coco_records, file_names, plain_pickle, ref_sentences, refcoco
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.twin.schema import show

NAME = "grefcoco"
SPLITS = ("train", "val", "testA", "testB")
LAYOUT = "grefs(unc).json and instances.json in grefcoco/, and COCO's train2014 in images/"
_MISFIT = 0.1  # share of refs whose annotations are missing, above which the two files do not fit

log = logging.getLogger(__name__)


def open_grefcoco_source(root: str, split: str, task: str, *, max_objects: int) -> Benchmark:
    """Reads the refs of a split and returns an example for each sentence, in the order of the file.

    Args:
      root: the folder.
      split: one of SPLITS; "heldout" is val.
      task: segmentation (GRES) or grounding (GREC).
      max_objects: most objects of a scene.

    Raises DataError: no such files, files of different releases, or no sentence that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, SPLITS, "val")
    own = folder / NAME if file_names.is_folder(folder / NAME) else folder
    file = next((own / f"grefs(unc){s}" for s in (".json", ".p") if file_names.is_file(own / f"grefs(unc){s}")), None)
    if file is None or not file_names.is_file(own / "instances.json"):
        got = ", ".join(sorted(path.name for path in own.iterdir())[:8]) if file_names.is_folder(own) else ""
        raise DataError(f"{folder}: expected {LAYOUT}, got {got or 'no such folder'}; set data.root to its folder")
    value = json_files.read_json(file) if file.suffix == ".json" else plain_pickle.read_pickle(file)
    if not isinstance(value, list) or not all(isinstance(ref, dict) for ref in value):
        raise DataError(f"{file}: expected a list of refs, got {show(value)}; take the release's file")
    refs = [ref for ref in value if ref.get("split") == split]
    faults = coco_records.Faults()
    photos = refcoco.read_photos(own / "instances.json", refs, coco_photos.photo_folders(own.parent), faults)
    queries, missing = [], 0
    for place, ref in enumerate(refs):
        found = list(_queries(ref, place, photos, split, task, faults))
        missing += not found
        queries += found
    name = f"{folder}: {NAME} {split}"
    if missing > _MISFIT * len(refs):
        raise DataError(
            f"{name}: expected annotations of all refs, but {missing} of {len(refs)} have none ({faults}): grefs(unc) "
            "and instances.json are of different releases (ids changed on 2023-08-29); take both from one"
        )
    if str(faults):
        log.warning("%s: left out %s", name, faults)
    benchmark.check_photos(name, queries, LAYOUT)
    return Benchmark(NAME, folder, split, task, tuple(queries), benchmark.pointing_example, max_objects)


def target_ids(ref: Mapping) -> list[Any] | None:
    """The ids of the annotations that a ref refers to, [] for none; None if it does not say them."""
    value = ref.get("ann_id")
    ids = [coco_records.parse_id(number) for number in (value if isinstance(value, list) else [value])]
    if ref.get("no_target") is True or [json_files.whole_number(number) for number in ids] == [-1]:
        return []
    sound = ids and None not in ids and -1 not in [json_files.whole_number(number) for number in ids]
    return list(dict.fromkeys(ids)) if sound else None


def _queries(
    ref: Mapping, place: int, photos: Mapping[Any, Photo], split: str, task: str, faults: coco_records.Faults
) -> Iterator[Query]:
    ids = target_ids(ref)
    if ids is None:
        faults.add("refs without ann_id, or with -1 beside others", ref.get("ref_id"))
        return
    number = coco_records.find_id(photos, ref.get("image_id"))
    if number is None:
        faults.add("refs to a photo that is not in the annotations", ref.get("image_id"))
        return
    photo = photos[number]
    places = {key: i for i, key in enumerate(photo.place)}
    found = [coco_records.find_id(places, key) for key in ids]
    if None in found:
        faults.add("refs to an annotation that is missing or has no shape", ids[found.index(None)])
        return
    target = tuple(places[key] for key in found)
    if task == "segmentation" and not all(photo.things[i].outlined for i in target):
        faults.add("refs to an object that has a box and no outline", ref.get("ref_id"))
        return
    sentences = ref_sentences.sentences_of(ref)
    if not sentences:
        faults.add("refs without a sentence", ref.get("ref_id"))
    for sentence, text in sentences:
        yield Query(f"{NAME}/{split}/{ref.get('ref_id', place)}/{sentence}", text, photo, target)
