"""COCO captions (arXiv 1504.00325): five captions or more of each photo, all of which are references of one query.

    ROOT/annotations/captions_val2017.json    {"images": [{id, file_name, ...}],
                                              "annotations": [{image_id, id, caption}]}
    ROOT/dataset_coco.json                    {"images": [{cocoid, filename, filepath, split, sentences: [{raw}]}]}

The second file has the splits of Karpathy and Li (arXiv 1412.2306), on which most published figures are:
karpathy_test, karpathy_val and karpathy_train, in which its parts train and restval are together, as in papers. The
photos are in train2014, val2014, train2017 or val2017, which hold the same photos under other names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, caption_records, coco_photos, coco_records, file_names, json_items
from dtr1_jax.data.readers.benchmark import Benchmark, Photo

NAME = "coco_captions"
COUNTS = {  # pictures, captions
    "val2017": (5_000, 25_014), "train2017": (118_287, 591_753), "val2014": (40_504, 202_654),
    "train2014": (82_783, 414_113), "karpathy_test": (5_000, None), "karpathy_val": (5_000, None),
    "karpathy_train": (113_287, None),
}  # fmt: skip
SHORT = {"val": "val2017", "train": "train2017"}
KARPATHY = {"karpathy_test": ("test",), "karpathy_val": ("val",), "karpathy_train": ("train", "restval")}
LAYOUT = "annotations/captions_SPLIT.json, such as captions_val2017.json, and COCO's photos in val2017/"
_FILES = ("annotations", "", "karpathy", "coco", "coco/annotations")  # where the JSON files may lie below ROOT
_PHOTOS = ("val2017", "train2017", "val2014", "train2014")


def open_coco_captions_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the captions of a split; a query for each photo, in the order of the file.

    Args:
      root: the folder.
      split: a key of COUNTS, or val or train for those of 2017; "heldout" is val2017.
      task: summary.

    Raises DataError: no such file, a file of another form, or no photo with captions.
    """
    folder = Path(root).expanduser()
    split = SHORT.get(split, split)
    if split.startswith("test"):
        raise DataError(
            f"{folder}: {NAME} {split} has no public captions; set data.*_split to val2017 or karpathy_test"
        )
    split = benchmark.choose_split(folder, split, COUNTS, "val2017")
    file = _find(folder, "dataset_coco.json" if split in KARPATHY else f"captions_{split}.json")
    faults = coco_records.Faults()
    folders = coco_photos.photo_folders(folder, tuple(dict.fromkeys((split, *_PHOTOS))))
    photos: dict[Hashable, Photo] = {}
    for record in json_items.list_items(file, "images"):
        if split in KARPATHY and isinstance(record, dict) and record.get("split") not in KARPATHY[split]:
            continue
        _add_photo(record, photos, folders, faults)
    captions = caption_records.captions_of(
        _captions(file, split), ("image_id", "id"), json_files.whole_number, photos, "picture", faults
    )
    queries = caption_records.queries_of(NAME, split, photos, captions, "picture", faults)
    source = Benchmark(NAME, folder, split, task, tuple(queries), benchmark.words_example)
    pictures, texts = COUNTS[split]
    source = benchmark.checked_questions(source, faults, pictures, LAYOUT, "pictures")
    caption_records.check_captions(f"{folder}: {NAME} {split}", queries, texts)
    return source


def _add_photo(
    record: Any, photos: dict[Hashable, Photo], folders: tuple[Path, ...], faults: coco_records.Faults
) -> None:
    record = record if isinstance(record, dict) else {}
    number = json_files.whole_number(record.get("cocoid", record.get("id")))
    name = record.get("filename", record.get("file_name"))
    if number is None or number < 0 or not isinstance(name, str) or not file_names.stays_inside(name):
        faults.add("pictures without an id or a usable file name", name if isinstance(name, str) else "")
    elif number in photos:
        faults.add("pictures whose id stands twice", number)
    else:
        others = (*coco_photos.photo_names(number, "val2014"), coco_photos.photo_names(number)[0])
        photos[number] = Photo(tuple(dict.fromkeys((name, *others))), folders)


def _captions(file: Path, split: str) -> Iterator[Any]:
    """The captions as records with image_id, id and caption. Raises DataError."""
    if split not in KARPATHY:
        yield from json_items.list_items(file, "annotations")
        return
    for record in json_items.list_items(file, "images"):
        if not isinstance(record, dict) or record.get("split") not in KARPATHY[split]:
            continue
        sentences = record.get("sentences")
        for sentence in sentences if isinstance(sentences, list) else ():
            sentence = sentence if isinstance(sentence, dict) else {}
            yield {"image_id": record.get("cocoid"), "id": sentence.get("sentid"), "caption": sentence.get("raw")}


def _find(folder: Path, name: str) -> Path:
    for place in _FILES:
        if file_names.is_file(folder / place / name):
            return folder / place / name
    raise DataError(f"{folder}: expected {LAYOUT}, got no {name}; unpack the release's zip files there")
