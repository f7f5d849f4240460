"""The target of a video by frame: which frames its keys mean, and the field of a JSON line that it becomes.

A key is the file of a frame ("00005.png" or "00005") or its number. In a folder of frames, a number may be that in the
name of a file or the place of the file, from 0 on: where files are named by other numbers than their places, keys that
fit both are left out. In a video file, a number counts its frames from 0 on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data import image_files, video_files
from dtr1_jax.data.conversion.samples import FrameTarget, LeftOut
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.readers import file_names
from dtr1_jax.data.readers.jsonl_fields import whole_rle


def placed(target: FrameTarget, path: Path, place_of: Callable[[str], str]) -> dict[str, Any]:
    """The target with the places of its frames, as a value of JSON: {"kind", "frames", "values"}. Raises LeftOut.

    Args:
      target: the target.
      path: the video file, or the folder of frames.
      place_of: finds a mask's file, and gives the path that stands in the line.
    """
    frames = frame_places(target, path)
    if len(set(frames)) < len(frames):
        raise LeftOut("videos with two targets for one frame", path.name)
    values = [place_of(value) for value in target.values] if target.kind == "masks" else list(target.values)
    if target.kind == "rles":
        _check_sizes(target, path)
    pairs = sorted(zip(frames, values), key=lambda pair: pair[0])
    return {"kind": target.kind, "frames": [frame for frame, _ in pairs], "values": [value for _, value in pairs]}


def field_of(target: Mapping[str, Any], pixels: Callable[[Sequence[float]], list[float]]) -> dict[str, Any]:
    """The field of a JSON line of what `placed` gave; `pixels` converts a box to pixels. Raises LeftOut."""
    frames, values = target["frames"], target["values"]
    if target["kind"] == "masks":
        return {"masks": {str(frame): value for frame, value in zip(frames, values)}}
    if target["kind"] == "rles":
        rles = [[None if rle is None else whole_rle(rle) for rle in value] for value in values]
        return {"rles": {str(frame): value for frame, value in zip(frames, rles)}}
    tracks = []
    for k in range(max(map(len, values))):
        boxes = {frame: value[k] if k < len(value) else None for frame, value in zip(frames, values)}
        seen = [frame for frame, box in boxes.items() if box is not None]
        if seen:  # a track has a box at both ends, and null in between from where it is out of sight
            inside = {frame: box for frame, box in boxes.items() if seen[0] <= frame <= seen[-1]}
            tracks.append({str(frame): None if box is None else pixels(box) for frame, box in inside.items()})
    return {"tracks": tracks}


def frame_places(target: FrameTarget, path: Path) -> list[int]:
    """The number of the frame of each value, from 0 on. Raises LeftOut."""
    if not file_names.is_folder(path):
        if target.keys is None or target.names:
            raise LeftOut("videos in a file whose targets have no frame numbers", path.name)
        numbers = [_number(key) for key in target.keys]
        if None in numbers:
            raise LeftOut("videos in a file with keys that are no frame numbers", target.keys[numbers.index(None)])
        return [number for number in numbers if number is not None]
    listing = _listing(path)
    if target.keys is None:
        names = target.names or tuple(listing)
        if len(target.values) != len(names):
            found = f"{path.name}: {len(target.values)} and {len(names)}"
            raise LeftOut("videos with another number of targets than of frames", found)
        return [_named(name, listing, path) for name in names]
    return _of_keys(target.keys, listing, path)


def _of_keys(keys: Sequence[str], listing: Mapping[str, int], path: Path) -> list[int]:
    """The places of the frames that keys name in a folder. Raises LeftOut."""
    stems = {Path(name).stem: place for name, place in listing.items()}
    found = [listing.get(key, stems.get(key)) for key in keys]
    numbers = [_number(key) for key in keys]
    plain = all(str(number) == key for number, key in zip(numbers, keys))  # "5", which may be a place, not "00005"
    if None not in found and not plain:
        return [place for place in found if place is not None]
    if None in numbers:
        raise LeftOut("videos with keys that name no frame of theirs", f"{path.name}: {keys[found.index(None)]}")
    in_names = {_number(stem): place for stem, place in stems.items()}
    by_name = [in_names.get(number) for number in numbers]
    by_place = [number if number is not None and number < len(listing) else None for number in numbers]
    kept = [places for places in (by_name, by_place) if None not in places]
    if not kept:
        raise LeftOut("videos with frame numbers that they do not have", f"{path.name}: {max(keys, key=len)}")
    if kept[0] != kept[-1]:
        raise LeftOut(
            "videos whose frame numbers may be those in the names of the files or their places (write the names)",
            path.name,
        )
    return [place for place in kept[0] if place is not None]


@functools.lru_cache(maxsize=1 << 12)
def frame_size(path: Path) -> tuple[int, int]:
    """(w, h) of the first frame of a video, pixels. Raises LeftOut."""
    try:
        if file_names.is_folder(path):
            w, h, orientation = image_files.stored_size(path / next(iter(_listing(path))))
            return (h, w) if orientation >= 5 else (w, h)
        h, w = video_files.load_numbered(path, [0]).frames.shape[1:3]
    except ImageError as error:
        raise LeftOut("videos that cannot be read", str(error)) from None
    return w, h


@functools.lru_cache(maxsize=1 << 8)
def _listing(path: Path) -> dict[str, int]:
    """The place of each frame of a folder by its file's name. Raises LeftOut."""
    try:
        return {file.name: place for place, file in enumerate(video_files.list_frames(path))}
    except ImageError as error:
        raise LeftOut("videos that cannot be read", str(error)) from None


def _check_sizes(target: FrameTarget, path: Path) -> None:
    """Raises LeftOut for an RLE of another size than the video."""
    w, h = frame_size(path)
    for rle in (rle for value in target.values for rle in value if rle is not None):
        if whole_rle(rle)["size"] != [h, w]:
            raise LeftOut("masks of another size than their video", f"{path.name}: {str(rle.get('size'))[:20]}")


def _named(name: str, listing: Mapping[str, int], path: Path) -> int:
    if name not in listing:
        raise LeftOut("videos with missing frames", f"{path.name}/{name}")
    return listing[name]


def _number(key: str) -> int | None:
    return int(key) if key.isascii() and key.isdigit() and len(key) < 10 else None
