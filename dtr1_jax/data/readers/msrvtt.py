"""MSR-VTT (CVPR 2016, "MSR-VTT: A Large Video Description Dataset"): twenty captions of each of 10,000 videos.

    ROOT/train_val_videodatainfo.json    {"videos": [{video_id, split, "start time", "end time", ...}],
                                         "sentences": [{video_id, sen_id, caption}]}
    ROOT/test_videodatainfo.json         the same of the split test; MSRVTT_data.json has all three splits
    ROOT/videos/video0.mp4 ...           or a folder of frames

All captions of a video are references of one query. The times are those of the video on YouTube from which the MP4
file was cut, so the whole file is shown.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, caption_records, coco_records, file_names, json_items, worded_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Photo

NAME = "msrvtt"
COUNTS = {"train": 6_513, "validate": 497, "test": 2_990}  # videos
EACH = 20  # captions
LAYOUT = "train_val_videodatainfo.json, test_videodatainfo.json or MSRVTT_data.json, and videos/video0.mp4"
_WHOLE = ("MSRVTT_data.json", "videodatainfo_2017.json", "MSR_VTT.json")
_SHARED = ("train_val_videodatainfo.json", *_WHOLE)
_FILES = {"train": _SHARED, "validate": _SHARED, "test": ("test_videodatainfo.json", *_WHOLE)}
_FOLDERS = ("", "annotation", "annotations", "msrvtt_data", "MSRVTT", "MSRVTT/annotation", "train_val_annotation")
_VIDEOS = (
    "videos", "videos/all", "TrainValVideo", "TestVideo", "MSRVTT/videos/all", "MSRVTT/videos", "video", "all",
    "frames", "",
)  # fmt: skip


def open_msrvtt_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the captions of a split; a query for each video, in the order of the file. Videos are found when an example
    is indexed.

    Args:
      root: the folder.
      split: train, validate or test; "heldout" is validate.
      task: summary.

    Raises DataError: no such file, a file of another form, or no video with captions.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "validate")
    file = _find(folder, split)
    faults = coco_records.Faults()
    folders = tuple(folder / name for name in _VIDEOS if file_names.is_folder(folder / name))
    videos: dict[Hashable, Photo] = {}
    others: set[Hashable] = set()  # of other splits, whose captions are in the same file
    for record in json_items.list_items(file, "videos"):
        record = record if isinstance(record, dict) else {}
        name = _name(record.get("video_id"))
        if name is None:
            faults.add("videos without a usable video_id", str(record.get("video_id"))[:40])
        elif name in videos or name in others:
            faults.add("videos that stand twice", name)
        elif record.get("split") != split:
            others.add(name)
        else:
            videos[name] = worded_videos.named_video((name,), folders)
    known = dict.fromkeys((*videos, *others))
    sentences = json_items.list_items(file, "sentences")
    captions = caption_records.captions_of(sentences, ("video_id", "sen_id"), _name, known, "video", faults)
    queries = caption_records.queries_of(NAME, split, videos, captions, "video", faults)
    counts = (COUNTS[split], None)
    source = worded_videos.open_worded_videos(NAME, folder, split, task, queries, faults, counts, LAYOUT)
    caption_records.check_captions(f"{folder}: {NAME} {split}", queries, EACH * COUNTS[split])
    return source


def _name(value: Any) -> str | None:
    """The name of a video, None for anything that is no name of a file."""
    usable = isinstance(value, str) and file_names.is_plain(value) and "/" not in value
    return value if usable else None


def _find(folder: Path, split: str) -> Path:
    for name in _FILES[split]:
        for place in _FOLDERS:
            if file_names.is_file(folder / place / name):
                return folder / place / name
    raise DataError(f"{folder}: expected {LAYOUT}, got no {_FILES[split][0]}; set data.root to the folder of MSR-VTT")
