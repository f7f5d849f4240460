"""YouTube-VIS: one JSON file with videos, categories and an annotation with an RLE for each frame of each object.

    {"videos": [{"id": 1, "file_names": ["a/00000.jpg", ...], "width": 1280, "height": 720, "length": 20}],
     "annotations": [{"video_id": 1, "category_id": 3, "segmentations": [RLE or null, ...], "bboxes": [...]}], ...}

Source: github.com/youtubevos/cocoapi, PythonAPI/pycocotools/ytvos.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dtr1_jax.data import json_files, video_files
from dtr1_jax.data.conversion import answer_rows
from dtr1_jax.data.conversion.samples import LeftOut, Sample, Tally
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_records, file_names
from dtr1_jax.data.readers.coco_records import Faults
from dtr1_jax.data.readers.jsonl_fields import is_rle, whole_rle
from dtr1_jax.twin import masks

FOLDERS = ("JPEGImages", "train/JPEGImages", "valid/JPEGImages", "videos", "images", ".")


def is_video_list(value: Any) -> bool:
    """Whether a JSON value is in the format of YouTube-VIS."""
    return isinstance(value, dict) and all(isinstance(value.get(k), list) for k in ("videos", "categories"))


def samples(file: Path, tally: Tally) -> Iterator[Sample]:
    """A query for each label of each video. Raises DataError if the file has no annotations."""
    value = json_files.read_json(file)
    if not is_video_list(value) or not isinstance(value.get("annotations"), list):
        raise DataError(
            f"{file}: expected the lists videos, categories and annotations of YouTube-VIS, got no annotations; the "
            "files of its valid and test splits have none"
        )
    faults, remarks = Faults(), Faults()
    names = coco_records.categories(value["categories"], faults, remarks)
    by_video = collections.defaultdict(list)
    for note in value["annotations"]:
        if isinstance(note, dict):
            by_video[json_files.whole_number(note.get("video_id"))].append(note)
    for record in value["videos"]:
        try:
            number = json_files.whole_number(record.get("id")) if isinstance(record, dict) else None
            yield from _video(file, record, by_video.get(number, []), names, tally)
        except LeftOut as reason:
            tally.add(str(reason), reason.example)
    for kind, count in faults.counts().items():
        tally.add(kind, count=count)
    for kind, count in remarks.counts().items():
        tally.remark(kind, count=count)


def _video(file: Path, record: Any, notes: list[dict], names: Mapping, tally: Tally) -> Iterator[Sample]:
    frames = record.get("file_names") if isinstance(record, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(n, str) for n in frames):
        raise LeftOut("videos without file_names", str(record)[:40])
    if not notes:
        raise LeftOut("videos without an annotation", frames[0])
    folder, numbers = _frame_numbers(file, frames)
    h, w = (json_files.whole_number(record.get(side)) for side in ("height", "width"))
    queries: dict[str, list[dict]] = collections.defaultdict(list)
    faulty = set()
    for note in notes:
        category = coco_records.find_id(names, note.get("category_id"))
        shapes = note.get("segmentations")
        if category is None:
            raise LeftOut("videos with an annotation of an unknown category", str(note.get("category_id")))
        query = answer_rows.query_of(coco_records.label_of(names[category]))
        if (
            not isinstance(shapes, list)
            or len(shapes) != len(frames)
            or json_files.whole_number(note.get("iscrowd")) == 1
        ):
            tally.add("objects without a mask for each frame, or crowds, with their label", query)
            faulty.add(query)
        elif any(is_rle(shape) and whole_rle(shape)["size"] != [h, w] for shape in shapes):
            tally.add("objects with masks of another size than their video, with their label", query)
            faulty.add(query)
        else:
            queries[query].append(note)
    for query, own in queries.items():
        if query in faulty:
            continue
        tracks = {
            str(number): [_rle(note["segmentations"][k], h, w) for note in own] for k, number in enumerate(numbers)
        }
        yield Sample(f"{file.name}, video {record.get('id')}", (), query, video=str(folder), tracks=tracks)


def _rle(value: Any, h: Any, w: Any) -> dict | None:
    """The RLE of a frame, or None where the object is not visible. Raises LeftOut."""
    if value is None or value == []:
        return None
    if isinstance(value, list):  # polygons
        try:
            rle = masks.encode(masks.from_polygons(value, h, w))
        except (ValueError, TypeError):
            raise LeftOut("videos with a polygon that cannot be drawn") from None
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    if not is_rle(value):
        raise LeftOut("videos with a mask that is neither RLE nor polygons", str(value)[:40])
    return whole_rle(value)


def _frame_numbers(file: Path, frames: list[str]) -> tuple[Path, list[int]]:
    """(the folder of the frames, the place of each in its listing). Raises LeftOut."""
    names = [PurePosixPath(name.replace("\\", "/")) for name in frames]
    parent = names[0].parent
    if any(name.parent != parent for name in names) or not file_names.stays_inside(str(names[0])):
        raise LeftOut("videos whose frames are in several folders or outside the data", frames[0])
    roots = [file.parent, file.parent.parent]
    folders = [root / place / parent for root in roots for place in FOLDERS]
    folder = next((f for f in folders if file_names.is_folder(f)), None)
    if folder is None:
        raise LeftOut(
            "videos that are not found (their folder belongs beside the file or into JPEGImages)", str(parent)
        )
    try:
        listing = {path.name: i for i, path in enumerate(video_files.list_frames(folder))}
    except ImageError as error:
        raise LeftOut("videos that cannot be read", str(error)) from None
    missing = [name.name for name in names if name.name not in listing]
    if missing:
        raise LeftOut("videos with missing frames", f"{parent}/{missing[0]}")
    numbers = [listing[name.name] for name in names]
    if numbers != sorted(set(numbers)):
        raise LeftOut("videos whose frames are not in the order of their names", str(parent))
    return folder, numbers
