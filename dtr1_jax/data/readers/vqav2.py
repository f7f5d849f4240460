"""VQAv2 (arXiv 1612.00837): questions about photos of COCO, each answered by ten people.

    ROOT/v2_OpenEnded_mscoco_val2014_questions.json     {"questions": [{image_id, question, question_id}]}
    ROOT/v2_mscoco_val2014_annotations.json             {"annotations": [{question_id, answers, answer_type, ...}]}

The files may be in ROOT, questions/ or annotations/; the photos are val2014 or train2014 of COCO (or the releases of
2017, which have the same photos). Splits are train and val; those for tests have no answers. A query is tagged with its
answer_type: yes/no, number or other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_photos, coco_records, file_names, json_items
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text

NAME = "vqav2"
COUNTS = {"train": 443_757, "val": 214_354}
LAYOUT = "v2_OpenEnded_mscoco_*_questions.json, v2_mscoco_*_annotations.json, and COCO's photos in val2014/"
_MOST_ANSWERS = 64


def open_vqav2_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the questions of a split and their answers, in the order of the file.

    Args:
      root: the folder.
      split: train or val; "heldout" is val.
      task: vqa.

    Raises DataError: no such files, or no question that can be used.
    """
    folder = Path(root).expanduser()
    if split.startswith("test"):
        raise DataError(f"{folder}: {NAME} {split} has no answers; set data.*_split to train or val")
    split = benchmark.choose_split(folder, split, COUNTS, "val")
    questions = _find(folder, f"v2_OpenEnded_mscoco_{split}2014_questions.json")
    answers = _find(folder, f"v2_mscoco_{split}2014_annotations.json")
    faults = coco_records.Faults()
    answered = {}
    for note in json_items.list_items(answers, "annotations"):
        number = coco_records.parse_id(note.get("question_id")) if isinstance(note, dict) else None
        people = _people(note) if number is not None else None
        if people is None:
            faults.add("annotations without question_id or answers", number if number is not None else "")
        else:
            kind = note.get("answer_type")
            answered[str(number)] = people, ((kind,) if is_text(kind) and len(kind) <= 40 else ())
    photos: dict[Any, Photo] = {}
    folders = coco_photos.photo_folders(folder, (f"{split}2014", "train2017", "val2017"))
    queries = []
    for row in json_items.list_items(questions, "questions"):
        query = _query(row, split, answered, photos, folders, faults)
        queries += [query] if query else []
    source = Benchmark(NAME, folder, split, task, tuple(queries), benchmark.words_example)
    return benchmark.checked_questions(source, faults, COUNTS[split], LAYOUT)


def _query(
    row: Any,
    split: str,
    answered: Mapping[str, tuple],
    photos: dict[Any, Photo],
    folders: tuple[Path, ...],
    faults: coco_records.Faults,
) -> Query | None:
    number = coco_records.parse_id(row.get("question_id")) if isinstance(row, dict) else None
    image = json_files.whole_number(row.get("image_id")) if number is not None else None
    if number is None or image is None or not is_text(row.get("question")):
        faults.add("questions without question, question_id or image_id", number if number is not None else "")
        return None
    if str(number) not in answered:
        faults.add("questions without answers", number)
        return None
    photo = photos.setdefault(image, Photo(coco_photos.photo_names(image, f"{split}2014"), folders))
    people, tags = answered[str(number)]
    return Query(f"{NAME}/{split}/{number}", row["question"].strip(), photo, references=people, tags=tags)


def _people(note: Mapping) -> tuple[str, ...] | None:
    """The answers of the people; None if there are none, or too many to be of this form."""
    answers = note.get("answers")
    texts = [a.get("answer") if isinstance(a, dict) else a for a in answers] if isinstance(answers, list) else []
    sound = 1 <= len(texts) <= _MOST_ANSWERS and all(isinstance(text, str) for text in texts)
    return tuple(texts) if sound else None


def _find(folder: Path, name: str) -> Path:
    for place in (folder, folder / "questions", folder / "annotations", folder / "vqav2"):
        if file_names.is_file(place / name):
            return place / name
    raise DataError(f"{folder}: expected {LAYOUT}, got no {name}; unpack the release's zip files there")
