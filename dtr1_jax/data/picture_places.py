"""Where the pictures of an example lie, as the fields of a JSON line name them; None where they lie nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtr1_jax.data import image_files, video_files
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import coco, coco_layout, file_names, worded_videos
from dtr1_jax.data.readers.benchmark import Benchmark, photo_file
from dtr1_jax.data.readers.coco import Coco
from dtr1_jax.data.readers.davis import Davis
from dtr1_jax.data.readers.easy_vqa import EasyVqa
from dtr1_jax.data.readers.jsonl import Jsonl
from dtr1_jax.data.sources import Source
from dtr1_jax.types import POINTING, Example

_TURNED = 5  # EXIF orientations from here on exchange width and height


def place(source: Source, index: int, example: Example) -> dict[str, Any] | None:
    """{"image": [paths]}, or {"video": path, "frames": numbers of the shown frames} of example `index`.

    None for a generated picture, and for a photo whose rotation another reader might take in another way.
    """
    if isinstance(source, Mixture):
        part, number = source.places.at(index)
        return place(source.parts[part], number, example)
    if isinstance(source, Davis):
        folder = source.items[index][0]
        listing = video_files.list_frames(folder.frames[0].parent)
        numbers = [listing.index(folder.frames[i]) for i in example.video.index.tolist()]
        return {"video": folder.frames[0].parent, "frames": numbers}
    paths: list[Path] = []
    if isinstance(source, Jsonl):
        line = source.lines[index]
        if line.video is not None:
            return {"video": line.video, "frames": example.video.index.tolist()}
        paths = [line.image, *line.others]
    elif isinstance(source, Coco):
        picture = source.annotations.pictures[index // coco.PER_PICTURE]
        paths = [file_names.find_file(coco_layout.photo_folders(source.annotations.path), picture.file)]
    elif isinstance(source, EasyVqa):
        paths = [source.folder / "images" / f"{source.items[index][2]}.png"]
    elif isinstance(source, Benchmark) and source.frames and source.task not in POINTING:
        path = worded_videos.video_path(source.queries[index].photo)
        return {"video": path, "frames": example.video.index.tolist()}
    elif isinstance(source, Benchmark) and source.frames:
        whole = source.queries[index].more
        listing = video_files.list_frames(whole.folder)
        numbers = [listing.index(whole.files[i]) for i in example.video.index.tolist()]
        return {"video": whole.folder, "frames": numbers}
    elif isinstance(source, Benchmark) and source.queries[index].photo.folders:
        paths = [photo_file(source.queries[index].photo)]
    if not paths or any(image_files.stored_size(path)[2] >= _TURNED for path in paths):
        return None
    return {"image": paths}
