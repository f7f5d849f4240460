"""The annotation files of COCO and of data sets in its format.

Two kinds are read, from files whose name starts so, in a folder or in its subfolder annotations/:

    instances_NAME.json    polygons, and RLE for crowds
    panoptic_NAME.json     segments; their PNGs in panoptic/, panoptic_NAME/ or annotations/panoptic_NAME/

Photos may be in NAME/, images/NAME/, images/ or the folder itself. What can not be used is left out and counted.
Sources: cocodataset.org/#format-data; Kirillov et al. 2019, arXiv 1801.00868, for panoptic segments.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries.coco_uses import STUFF
from dtr1_jax.twin import masks
from dtr1_jax.twin.schema import encodable

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Mark:
    """One annotation: its shape is polygons in pixels, an RLE, or the id of a panoptic segment."""

    id: Any
    label: str
    crowd: bool
    shape: tuple[np.ndarray, ...] | dict | int


@dataclasses.dataclass(frozen=True)
class Picture:
    """A photo with its annotations; size = (w, h) in pixels, `segments` is the name of the panoptic PNG or None."""

    id: int | str
    file: str
    size: tuple[int, int]
    marks: tuple[Mark, ...]
    segments: str | None


@dataclasses.dataclass(frozen=True)
class Annotations:
    """A file: its usable pictures with annotations, all labels it annotates, and which of them are stuff."""

    path: Path
    pictures: tuple[Picture, ...]
    labels: frozenset[str]
    stuff: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Pixels:
    """One picture in pixels, all masks bool[h, w].

    Attributes:
      image: uint8[h, w, 3].
      objects, crowds: (label, mask) of each.
      void: what a panoptic file leaves without a label, or None.
    """

    image: np.ndarray
    objects: list[tuple[str, np.ndarray]]
    crowds: list[tuple[str, np.ndarray]]
    void: np.ndarray | None


def locate(root: Path, split: str) -> tuple[Path, bool | None]:
    """The annotation file of a split, and which share of its pictures: None = all, False = 80 %, True = 20 %.

    A split is the beginning of a word of NAME ("train" finds train2017); "heldout" finds val as well. In a folder with
    a single file, "train" and "heldout" divide it whatever its name is, so that they never share a picture.
    Instances come before panoptic where both fit. Raises DataError.
    """
    folders = (root / "annotations", root)
    found = [path for kind in ("instances", "panoptic") for d in folders for path in sorted(d.glob(f"{kind}*.json"))]
    if not found:
        kind = "no such file" if root.is_dir() else "no folder"
        raise DataError(f"{root}: expected annotations/instances_*.json or panoptic_*.json, got {kind}; set data.root")
    if len(found) == 1 and split in ("train", "heldout"):
        return found[0], split == "heldout"
    for name in (split, "val") if split == "heldout" else (split,):
        for path in found:
            if re.search(rf"(?<![a-zA-Z]){re.escape(name)}", path.stem):
                return path, None
    if len(found) == 1:
        return found[0], True
    names = ", ".join(path.name for path in found)
    raise DataError(f"{root}: expected an annotation file for split {split!r}, got {names}; choose the split of one")


def read(path: Path, share: bool | None = None) -> Annotations:
    """Reads a file, or the share of its pictures for which `files.held_out` says so. One warning counts all faults.

    Raises:
      DataError: it is not COCO's format, or no picture with a usable annotation is left or found.
    """
    value = json_files.read_json(path)
    for name in ("images", "annotations", "categories"):
        if not isinstance(value, dict) or not isinstance(value.get(name), list):
            raise DataError(f'{path}: expected the lists "images", "annotations" and "categories", got no "{name}"')
    faults = collections.Counter()
    categories = {c["id"]: c for c in value["categories"] if _is_category(c)}
    faults["categories without an id or a usable name"] += len(value["categories"]) - len(categories)
    names = {i: STUFF.get(c["name"], c["name"]) for i, c in categories.items()}
    pictures = tuple(_pictures(value, names, faults))
    if +faults:
        log.warning("%s: left out %s", path, ", ".join(f"{n} {what}" for what, n in (+faults).items()))
    pictures = tuple(p for p in pictures if share is None or json_files.held_out(p.id) == share)
    if not pictures:
        got = f"{len(value['images'])} pictures and {len(value['annotations'])} annotations, none of them usable here"
        raise DataError(f"{path}: expected pictures with annotations, got {got}; check the file or take another split")
    folders = photo_folders(path)
    if not any(find(folders, p.file).is_file() for p in pictures[:20]):
        looked = ", ".join(map(str, folders))
        raise DataError(f"{path}: expected photos such as {pictures[0].file} in one of {looked}; got none there")
    stuff = frozenset(names[i] for i, c in categories.items() if c.get("isthing", 1) == 0)
    return Annotations(path, pictures, frozenset(names.values()), stuff)


def load_pixels(path: Path, picture: Picture) -> Pixels:
    """Reads the photo and draws the masks of its annotations. Raises ImageError, naming the file at fault."""
    file = find(photo_folders(path), picture.file)
    image = _load(file, picture.size, path.name)
    ids = None
    if picture.segments:
        file = find([_root(path) / "panoptic", _root(path) / path.stem, path.parent / path.stem], picture.segments)
        ids = _load(file, picture.size, path.name).astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    objects, crowds = [], []
    for mark in picture.marks:
        try:
            mask = _draw(mark.shape, ids, picture.size)
        except ValueError as error:
            raise image_files.ImageError(f"{path}: annotation {mark.id} of picture {picture.id}: {error}") from None
        if mask.any():  # it is empty where a polygon is thinner than a pixel
            (crowds if mark.crowd else objects).append((mark.label, mask))
    return Pixels(image, objects, crowds, None if ids is None else ids == 0)


def photo_folders(path: Path) -> list[Path]:
    """Where the photos of an annotation file may be."""
    root, name = _root(path), path.stem.partition("_")[2] or path.stem
    return [root / name, root / "images" / name, root / "images", root]


def find(folders: Sequence[Path], name: str) -> Path:
    """The first of folders/name that is a file, or the first of all if none is."""
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)


def _root(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _load(file: Path, size: tuple[int, int], annotations: str) -> np.ndarray:
    image = image_files.load_image(file)
    h, w = image.shape[:2]
    if (w, h) != size:
        expected = f"{size[0]} x {size[1]} pixels, as {annotations} says"
        raise image_files.ImageError(f"{file}: expected {expected}, got {w} x {h}; take the file that was annotated")
    return image


def _draw(shape: tuple | dict | int, ids: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    if isinstance(shape, dict):
        return masks.decode(shape)
    if isinstance(shape, tuple):
        return masks.from_polygons(shape, size[1], size[0])
    return ids == shape


def _pictures(value: dict, names: dict, faults: collections.Counter) -> Iterator[Picture]:
    """The pictures that have annotations; counts in `faults` what is wrong."""
    records = {}
    for record in value["images"]:
        if _is_picture(record):
            records[record["id"]] = record
        else:
            faults["pictures without id, file_name, width or height"] += 1
    marks, segments = collections.defaultdict(list), {}
    for note in value["annotations"]:
        image_id = note.get("image_id") if isinstance(note, dict) else None
        if not _is_id(image_id) or image_id not in records:
            faults["annotations that refer to no image"] += 1
            continue
        parts, panoptic = [note], "segments_info" in note
        if panoptic:
            parts = note["segments_info"]
            if not isinstance(parts, list) or not _is_file(note.get("file_name")):
                faults["panoptic annotations without file_name or segments"] += 1
                continue
            segments[image_id] = note["file_name"]
        size = records[image_id]["width"], records[image_id]["height"]
        marks[image_id] += [m for m in (_mark(part, names, size, panoptic, faults) for part in parts) if m]
    for image_id, found in marks.items():
        if found:
            record = records[image_id]
            size = record["width"], record["height"]
            yield Picture(image_id, record["file_name"], size, tuple(found), segments.get(image_id))


def _mark(note: Any, names: dict, size: tuple[int, int], panoptic: bool, faults: collections.Counter) -> Mark | None:
    if not isinstance(note, dict) or not _is_id(note.get("category_id")) or note["category_id"] not in names:
        faults["annotations of no known category"] += 1
        return None
    if panoptic:
        sound = type(note.get("id")) is int and 0 < note["id"] < 1 << 24
        shape, fault = (note["id"] if sound else None), "segments without an id from 1 to 2^24 - 1"
    else:
        shape, fault = _shape(note.get("segmentation"), size)
    if shape is None:
        faults[fault] += 1
        return None
    return Mark(note.get("id"), names[note["category_id"]], note.get("iscrowd") == 1, shape)


def _shape(value: Any, size: tuple[int, int]) -> tuple[tuple | dict | None, str]:
    """Polygons or an RLE, or None and what is wrong."""
    if isinstance(value, dict):
        fits = value.get("size") == [size[1], size[0]]
        return value if fits else None, "RLEs of another size than their picture"
    polygons = [_polygon(p) for p in value] if isinstance(value, list) else []
    if not polygons or any(p is None for p in polygons):
        return None, "annotations without polygons or RLE"
    polygons = [p for p in polygons if len(p) >= 6]
    if not polygons:
        return None, "polygons of fewer than 3 points"
    spans = [np.ptp(np.clip(p.reshape(-1, 2), 0, size), axis=0) for p in polygons]
    if not any((span > 0).all() for span in spans):
        return None, "polygons without area in the picture"
    return tuple(polygons), ""


def _polygon(value: Any) -> np.ndarray | None:
    """float64[2 n], or None if it is no list of n points."""
    try:
        points = np.asarray(value)
    except (ValueError, OverflowError):  # ragged
        return None
    sound = points.dtype.kind in "iuf" and points.ndim == 1 and points.size % 2 == 0
    return points.astype(float) if sound and (np.abs(points) <= json_files.MAX_COORDINATE).all() else None


def _is_picture(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_id(value.get("id")) or not _is_file(value.get("file_name")):
        return False
    sides = value.get("width"), value.get("height")
    return all(type(side) is int and 0 < side <= image_files.MAX_PIXELS for side in sides)


def _is_category(value: Any) -> bool:
    return isinstance(value, dict) and _is_id(value.get("id")) and json_files.is_name(value.get("name"))


def _is_id(value: Any) -> bool:
    return encodable(value) if isinstance(value, str) else type(value) is int


def _is_file(value: Any) -> bool:
    """Whether it is a relative path that stays below its folder."""
    path = Path(value) if isinstance(value, str) and value and value.isprintable() else Path("..")
    return not path.is_absolute() and ".." not in path.parts
