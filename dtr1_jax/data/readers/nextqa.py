"""NExT-QA (arXiv 2105.08276): questions about videos of daily life, each with five options, one of which is right.

    ROOT/val.csv                 video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
    ROOT/map_vid_vidorID.json    {"4010069381": "1164/4010069381", ...}: a video's place in VidOR
    ROOT/videos/4010069381.mp4   or 1164/4010069381.mp4, or a folder of frames of either name

The column answer is the number of the right option, 0 to 4. A query is tagged with the group of its type (causal,
temporal, descriptive) and with the type itself: CW, CH, TN, TC, DC, DL or DO. TP counts as TN, as in the benchmark's
own code. Source: github.com/doc-doc/NExT-QA, dataset/nextqa and eval_mc.py.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, worded_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import append_choices, is_text

NAME = "nextqa"
COUNTS = {"train": (3_870, 34_132), "val": (570, 4_996), "test": (1_000, 8_564)}  # videos, questions
OPTIONS = ("a0", "a1", "a2", "a3", "a4")
COLUMNS = ("video", "question", "answer", "qid", "type", *OPTIONS)
MAP = "map_vid_vidorID.json"
GROUPS = {"C": "causal", "T": "temporal", "D": "descriptive"}  # by the first letter of a type
TYPES = {"CW": "CW", "CH": "CH", "TN": "TN", "TP": "TN", "TC": "TC", "DC": "DC", "DL": "DL", "DO": "DO"}
LAYOUT = f"SPLIT.csv, {MAP} and videos/NAME.mp4"
_FILES = ("", "dataset/nextqa", "nextqa", "annotations")  # where the files of questions may lie below ROOT
_VIDEOS = ("videos", "NExTVideo", "VidOR", "vidor", "video", "frames", "")


def open_nextqa_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the questions of a split, in the order of the file; videos are found when an example is indexed.

    Args:
      root: the folder.
      split: val, test or train; "heldout" is val.
      task: vqa.

    Raises DataError: no such file, a file of another form, or no question that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "val")
    file = next((p for p in (folder / name / f"{split}.csv" for name in _FILES) if file_names.is_file(p)), None)
    if file is None:
        raise DataError(f"{folder}: expected {LAYOUT}, got no {split}.csv; take it from the benchmark's repository")
    faults = coco_records.Faults()
    places = _places(file.parent, folder, faults)
    bases = dict.fromkeys((folder, folder.parent, file.parent))
    folders = tuple(base / name for base in bases for name in _VIDEOS if file_names.is_folder(base / name))
    videos: dict[str, Photo] = {}
    queries: dict[str, Query] = {}
    for row in _rows(file):
        query = _query(row, split, places, videos, folders, faults)
        if query is not None and query.uid in queries:
            faults.add("questions whose video and qid stand twice", query.uid)
        elif query is not None:
            queries[query.uid] = query
    found = list(queries.values())
    return worded_videos.open_worded_videos(NAME, folder, split, task, found, faults, COUNTS[split], LAYOUT)


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a CSV file. Raises DataError: it is malformed, or lacks a column."""
    try:
        lines = json_files.read_bytes(file).decode("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    reader = csv.DictReader(lines, strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in COLUMNS if name not in header]
        if missing or len(set(header)) < len(header):
            fault = f"none named {', '.join(missing)}" if missing else "one of them twice"
            raise DataError(f"{file}: expected the columns {', '.join(COLUMNS)}, got {fault}; fetch the file again")
        reader.fieldnames = header
        yield from reader
    except csv.Error as error:
        fault = f"got a malformed row near line {reader.line_num} ({error})"
        raise DataError(f"{file}: expected CSV, {fault}; fetch it again") from None


def _places(beside: Path, root: Path, faults: coco_records.Faults) -> dict[str, str]:
    """The place in VidOR of each video by its name; {} where there is no such file. Raises DataError."""
    file = next((folder / MAP for folder in (beside, root) if file_names.is_file(folder / MAP)), None)
    value = {} if file is None else json_files.read_json(file)
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected an object of videos and their places in VidOR, got none; fetch it again")
    places = {}
    for video, place in value.items():
        if isinstance(place, str) and file_names.is_plain(place):
            places[video] = place
        else:
            faults.add(f"videos whose place in {MAP} is no path", video)
    return places


def _query(
    row: Mapping[str, Any], split: str, places: Mapping[str, str], videos: dict[str, Photo],
    folders: tuple[Path, ...], faults: coco_records.Faults,
) -> Query | None:  # fmt: skip
    """The query of a row; None, with a fault, where it cannot be used."""
    video, number = ((row[name] or "").strip() for name in ("video", "qid"))
    key = f"{video}/{number}"
    if not video or not file_names.is_plain(video) or "/" in video or not is_text(number):
        faults.add("questions without a usable video and qid", key)
        return None
    texts = [row[name] for name in ("question", *OPTIONS)]
    if not all(map(is_text, texts)) or None in row:
        faults.add("questions without question and five options, or with more columns", key)
        return None
    question, *options = (" ".join(text.split()) for text in texts)
    right = json_files.whole_number((row["answer"] or "").strip().removesuffix(".0"))  # pandas may write 2.0
    if right is None or not 0 <= right < len(options):
        faults.add("questions whose answer is no number from 0 to 4", key)
        return None
    kind = TYPES.get((row["type"] or "").strip())
    if kind is None:
        faults.add("questions of an unknown type", key)
        return None
    names = dict.fromkeys((places.get(video, video), video))
    photo = videos.setdefault(video, worded_videos.named_video(tuple(names), folders))
    return Query(
        f"{NAME}/{split}/{key}", append_choices(question, options), photo, references=(_reference(right, options),),
        choices=tuple(options), tags=(GROUPS[kind[0]], kind),
    )  # fmt: skip


def _reference(right: int, options: list[str]) -> str:
    """The right answer: the words of its option, or its letter, (A) to (E), where the words could mean another one."""
    words = [option.casefold() for option in options]
    clear = words.count(words[right]) == 1 and len(words[right]) > 1
    return options[right] if clear else f"({chr(ord('A') + right)})"
