"""GQA (arXiv 1902.09506): questions about photos that are answered by a word or two.

    ROOT/testdev_balanced_questions.json     {question_id: {question, answer, imageId, types, ...}}
    ROOT/train_all_questions/*.json          the one split that is cut into several files
    ROOT/images/IMAGEID.jpg

The files may be in ROOT or questions/. Splits are train, val and testdev, which are the balanced questions, or all of
them as train_all, val_all and testdev_all. A query is tagged with its structural and its semantic type.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, json_items
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text

NAME = "gqa"
COUNTS = {
    "train_balanced": 943_000, "val_balanced": 132_062, "testdev_balanced": 12_578,
    "train_all": 14_305_356, "val_all": 2_011_853, "testdev_all": 172_174,
}  # fmt: skip
LAYOUT = "SPLIT_questions.json, such as testdev_balanced_questions.json, and images/IMAGEID.jpg"


def open_gqa_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the questions of a split, in the order of the file.

    Args:
      root: the folder.
      split: one of COUNTS, or train, val or testdev for the balanced questions; "heldout" is testdev_balanced.
      task: vqa.

    Raises DataError: no such files, or no question that can be used.
    """
    folder = Path(root).expanduser()
    if split.split("_")[0] in ("test", "challenge", "submission"):
        raise DataError(f"{folder}: {NAME} {split} has no answers; set data.*_split to testdev, val or train")
    split = f"{split}_balanced" if split in ("train", "val", "testdev") else split
    split = benchmark.choose_split(folder, split, COUNTS, "testdev_balanced")
    faults = coco_records.Faults()
    photos: dict[str, Photo] = {}
    folders = tuple(p for p in (folder / "images", folder.parent / "images", folder) if file_names.is_folder(p))
    queries = []
    for file in _files(folder, split):
        for number, row in json_items.object_items(file):
            query = _query(number, row, split, photos, folders or (folder / "images",), faults)
            queries += [query] if query else []
    source = Benchmark(NAME, folder, split, task, tuple(queries), benchmark.words_example)
    return benchmark.checked_questions(source, faults, COUNTS[split], LAYOUT)


def _query(
    number: str, row: Any, split: str, photos: dict[str, Photo], folders: tuple[Path, ...], faults: coco_records.Faults
) -> Query | None:
    row = row if isinstance(row, dict) else {}
    image = coco_records.parse_id(row.get("imageId"))
    if not is_text(row.get("question")) or not is_text(row.get("answer")) or image is None:
        faults.add("questions without question, answer or imageId", number)
        return None
    if not file_names.stays_inside(f"{image}.jpg") or not is_text(number):
        faults.add("questions whose imageId leaves the folder of the pictures", number)
        return None
    photo = photos.setdefault(str(image), Photo((f"{image}.jpg",), folders))
    types = row.get("types") if isinstance(row.get("types"), Mapping) else {}
    tags = tuple(types[key] for key in ("structural", "semantic") if is_text(types.get(key)) and len(types[key]) <= 40)
    return Query(
        f"{NAME}/{split}/{number}", row["question"].strip(), photo, references=(row["answer"].strip(),), tags=tags
    )


def _files(folder: Path, split: str) -> list[Path]:
    name = f"{split}_questions"
    for place in (folder, folder / "questions", folder / "questions1.2"):
        if file_names.is_file(place / f"{name}.json"):
            return [place / f"{name}.json"]
        shards = file_names.visible_files(place / name, "*.json") if file_names.is_folder(place / name) else []
        if shards:
            return shards
    raise DataError(f"{folder}: expected {LAYOUT}, got no {name}.json; unpack questions1.2.zip and images.zip there")
