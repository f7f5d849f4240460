"""MeViS (arXiv 2308.08544): sentences about motion in videos, each with one or more objects as its target.

    ROOT/SPLIT/meta_expressions.json    {"videos": {NAME: {"frames": [...], "expressions":
                                        {"0": {"exp": text, "obj_id": [...], "anno_id": [...]}}}}}
    ROOT/SPLIT/mask_dict.json           {"ANNO_ID": [RLE or null for each frame, ...]}
    ROOT/SPLIT/JPEGImages/NAME/FRAME.jpg

The target of a sentence is the union of its anno_id. Splits with public masks are train and valid_u; those of valid and
test are on the benchmark's server alone. Source: github.com/henghuiding/MeViS, tools/eval_mevis.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data.json_files import DataError, whole_number
from dtr1_jax.data.readers import benchmark, coco_records, file_names, mask_lists, referred_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Query
from dtr1_jax.data.readers.referred_videos import ListedMasks, Listing, ObjectMasks, QueriedVideo

NAME = "mevis"
COUNTS = {"train": (1662, 23_051), "valid_u": (50, 793), "valid": (140, 2_236), "test": (154, 2_490)}
LAYOUT = "SPLIT/meta_expressions.json, SPLIT/mask_dict.json and SPLIT/JPEGImages/NAME/FRAME.jpg"


def open_mevis_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the sentences of a split, in the order of the file; frames and masks are read when an example is indexed.

    Args:
      root: the folder.
      split: train or valid_u; "heldout" is valid_u.
      task: segmentation.

    Raises DataError: no such files, a split without public masks, or no sentence that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "valid_u")
    part = folder / split if file_names.is_folder(folder / split) else folder / "MeViS" / split
    file, mask_file = part / "meta_expressions.json", part / "mask_dict.json"
    if not file_names.is_file(file):
        raise DataError(
            f"{folder}: expected {LAYOUT}, got no {split}/{file.name}; set data.root to the folder of MeViS"
        )
    if not file_names.is_file(mask_file):
        why = "its masks are on the benchmark's server alone; set data.*_split to valid_u or train"
        why = why if split in ("valid", "test") else "fetch it too"
        raise DataError(f"{mask_file}: expected the masks of {NAME} {split}, got no such file; {why}")
    places, faults = mask_lists.find_lists(mask_file), coco_records.Faults()
    queries: list[Query] = []
    for video in referred_videos.read_videos(file, [part / "JPEGImages"], faults):
        for number, record in expressions(video, faults):
            objects = annotated(record, mask_file, places, len(video.names))
            if objects is None:
                faults.add("sentences whose anno_id has no masks", f"{video.name}/{number}")
                continue
            whole = QueriedVideo(video.folder, video.names, video.suffix, tuple(range(len(video.names))), objects)
            query = referred_videos.make_query(NAME, split, video, number, record.get("exp"), whole)
            queries += [query] if query else []
            if query is None:
                faults.add("sentences without text", f"{video.name}/{number}")
    return referred_videos.open_videos(NAME, folder, split, task, queries, faults, COUNTS[split], LAYOUT)


def expressions(video: Listing, faults: coco_records.Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """The numbers and records of the expressions of a video; those that are no objects are counted."""
    records = video.record.get("expressions")
    if not isinstance(records, dict):
        faults.add("videos without expressions", video.name)
        return
    for number, record in records.items():
        if isinstance(record, dict):
            yield number[:40], record
        else:
            faults.add("sentences that are no objects", f"{video.name}/{number}")


def annotated(
    record: Mapping[str, Any], file: Path, places: Mapping[str, mask_lists.Place], frames: int
) -> tuple[ObjectMasks, ...] | None:
    """The masks of the anno_id of an expression, () where it has none; None where one has no masks.

    Args:
      record: the expression.
      file: the file of masks.
      places: its lists.
      frames: number of frames of the video.
    """
    ids = record.get("anno_id")
    ids = ids if isinstance(ids, list) else [ids]
    numbers = list(dict.fromkeys(whole_number(i) for i in ids))
    if None in numbers or not all(str(i) in places for i in numbers):
        return None
    return tuple(ListedMasks(file, places[str(i)], frames) for i in numbers)
