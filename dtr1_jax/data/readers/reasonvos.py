"""ReasonVOS (arXiv 2409.19603): queries about videos of other data sets that imply their target.

    ROOT/meta_expressions.json                    {"videos": {NAME: {"source", "frames": [...], "expressions":
                                                  [{"obj_id", "exp_id", "exp_text", "is_sent"}, ...]}}}
    ROOT/JPEGImages/NAME/FRAME.jpg
    ROOT/Annotations/SOURCE_NAME_OBJID/*.png      all pixels above 0 are the target

The only split is "test". Frames that have a mask file are scored. Source: github.com/showlab/VideoLISA, BENCHMARK.md
and evaluation/reason_vos.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, referred_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Query
from dtr1_jax.data.readers.referred_videos import Listing, PaletteMasks, QueriedVideo

NAME = "reasonvos"
LAYOUT = "meta_expressions.json, JPEGImages/NAME/FRAME.jpg and Annotations/SOURCE_NAME_OBJID/FRAME.png"


def open_reasonvos_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the queries, in the order of the file; frames and masks are read when an example is indexed.

    Args:
      root: the folder.
      split: "test"; "heldout" is the same.
      task: segmentation.

    Raises DataError: no such files, or no query that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, ("test",), "test")
    folder = folder if file_names.is_file(folder / "meta_expressions.json") else folder / "ReasonVOS"
    file = folder / "meta_expressions.json"
    if not file_names.is_file(file):
        raise DataError(f"{root}: expected {LAYOUT}, got no {file.name}; set data.root to the folder of ReasonVOS")
    faults = coco_records.Faults()
    queries = [
        query
        for video in referred_videos.read_videos(file, [folder / "JPEGImages"], faults)
        for query in _queries(folder, split, video, faults)
    ]
    return referred_videos.open_videos(NAME, folder, split, task, queries, faults, (None, None), LAYOUT)


def _queries(folder: Path, split: str, video: Listing, faults: coco_records.Faults) -> Iterator[Query]:
    records, origin = video.record.get("expressions"), video.record.get("source")
    if not isinstance(records, list) or not isinstance(origin, str) or not file_names.is_plain(origin):
        faults.add("videos without expressions and source", video.name)
        return
    for place, record in enumerate(records):
        record = record if isinstance(record, dict) else {}
        number, key = _word(record.get("obj_id")), _word(record.get("exp_id")) or str(place)
        files = _files(folder / "Annotations" / f"{origin}_{video.name}_{number}", video) if number else {}
        if not files:
            faults.add("queries without masks for their frames", f"{video.name}/{key}")
            continue
        masks = PaletteMasks(tuple(files.get(k) for k in range(len(video.names))))
        whole = QueriedVideo(video.folder, video.names, video.suffix, tuple(sorted(files)), (masks,))
        tags = (origin.lower(), "sentence" if record.get("is_sent") in (True, 1, "1", "true", "True") else "phrase")
        query = referred_videos.make_query(NAME, split, video, f"{number}/{key}", record.get("exp_text"), whole, tags)
        if query is None:
            faults.add("queries without text", f"{video.name}/{key}")
        else:
            yield query


def _files(folder: Path, video: Listing) -> dict[int, Path]:
    """Place of a frame -> its mask, for the frames that have one."""
    found = {name: k for k, name in enumerate(video.names)}
    files = file_names.visible_files(folder, "*.png") if file_names.is_folder(folder) else []
    return {found[file.stem]: file for file in files if file.stem in found}


def _word(value: Any) -> str:
    """An id as text that can stand in the name of a folder; "" if it is none."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return text if file_names.is_plain(text) and "/" not in text and len(text) <= 60 else ""
