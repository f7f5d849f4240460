"""The annotation files of COCO and of data sets in its format.

The start of a name says which kind a file is; files may be in the folder itself or in its subfolder annotations/:

    instances_NAME.json    polygons, and RLE for crowds
    panoptic_NAME.json     segments; their PNGs in panoptic/, panoptic_NAME/ or annotations/panoptic_NAME/

Photos may be in NAME/, images/NAME/, images/ or the folder itself. Faulty records are skipped and counted.
Sources: cocodataset.org/#format-data; Kirillov et al. 2019, arXiv 1801.00868, for panoptic segments.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
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
class Annotation:
    """One object or crowd region: its shape is polygons in pixels, an RLE, or the id of a panoptic segment."""

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
    annotations: tuple[Annotation, ...]
    segments: str | None


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
    """An annotation file: its usable annotated pictures, all its labels, and which of the labels are stuff."""

    path: Path
    pictures: tuple[Picture, ...]
    labels: frozenset[str]
    stuff: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Pixels:
    """One picture in pixels, all masks bool[h, w].

    Attributes:
      image: uint8[h, w, 3]; smaller than the masks where it was shrunk.
      objects, crowds: (label, mask) of each object or crowd region.
      void: pixels to which a panoptic file gives no label; None in other files.
    """

    image: np.ndarray
    objects: list[tuple[str, np.ndarray]]
    crowds: list[tuple[str, np.ndarray]]
    void: np.ndarray | None


def find_annotation_file(root: Path, split: str) -> tuple[Path, bool | None]:
    """Finds the annotation file of a split, and the share of its pictures: None = all, False = 80 %, True = 20 %.

    A split is the beginning of a word of NAME ("train" finds train2017); "heldout" finds val as well. In a folder with
    a single file, "train" and "heldout" divide it, so that they never share a picture; its name does not matter. They
    also divide the first file of a folder in which all files are of "train". Instances come before panoptic where both
    fit. Raises DataError.
    """
    folders = (root / "annotations", root)
    files = [path for kind in ("instances", "panoptic") for d in folders for path in sorted(d.glob(f"{kind}*.json"))]
    if not files:
        fault = "no such file" if root.is_dir() else "no such folder"
        raise DataError(
            f"{root}: expected annotations/instances_*.json or panoptic_*.json, got {fault}; set data.root to the "
            "folder that holds them"
        )
    if split in ("train", "heldout") and (len(files) == 1 or all(_named([file], "train") for file in files)):
        return files[0], split == "heldout"
    if found := _named(files, split):
        return found, None
    if len(files) == 1:
        return files[0], True
    names = ", ".join(path.name for path in files)
    raise DataError(
        f"{root}: expected an annotation file for split {split!r}, got {names}; set data.*_split to a word of one of "
        'these names, such as "train"'
    )


def _named(files: Sequence[Path], split: str) -> Path | None:
    """The first file of a split; None if there is none."""
    for name in (split, "val") if split == "heldout" else (split,):
        for path in files:
            if re.search(rf"(?<![a-zA-Z]){re.escape(name)}", path.stem):
                return path
    return None


def read_annotations(path: Path, share: bool | None = None) -> AnnotationFile:
    """Reads an annotation file. Skips faulty records, and counts them in one warning.

    Args:
      path: the file.
      share: True = only the fifth of the pictures that is held out (json_files.held_out), False = only the others,
        None = all.

    Raises:
      DataError: the file is not in COCO's format, no picture with a usable annotation is left, or its photos are
        missing.
    """
    value = json_files.read_json(path)
    for name in ("images", "annotations", "categories"):
        if not isinstance(value, dict) or not isinstance(value.get(name), list):
            raise DataError(
                f'{path}: expected the lists "images", "annotations" and "categories", got no list "{name}"; take a '
                "file in COCO's format"
            )
    faults = collections.Counter()
    categories = {c["id"]: c for c in value["categories"] if _is_category(c)}
    faults["categories without an id or a usable name"] += len(value["categories"]) - len(categories)
    names = {i: STUFF.get(c["name"], c["name"]) for i, c in categories.items()}
    pictures = tuple(_pictures(value, names, faults))
    if +faults:
        log.warning("%s: left out %s", path, ", ".join(f"{n} {fault}" for fault, n in (+faults).items()))
    pictures = _part(pictures, share, path)
    if not pictures:
        counts = f"{len(value['images'])} pictures and {len(value['annotations'])} annotations, but none to use"
        raise DataError(
            f"{path}: expected pictures with annotations, got {counts}; check the file or take another split"
        )
    folders = photo_folders(path)
    if not any(find_file(folders, p.file).is_file() for p in pictures[:20]):
        places = ", ".join(map(str, folders))
        raise DataError(
            f"{path}: expected photos such as {pictures[0].file} in one of {places}, got none; put them there"
        )
    stuff = frozenset(names[i] for i, c in categories.items() if c.get("isthing", 1) == 0)
    return AnnotationFile(path, pictures, frozenset(names.values()), stuff)


def _part(pictures: tuple[Picture, ...], share: bool | None, path: Path) -> tuple[Picture, ...]:
    """The pictures of a part (see `read_annotations`). Records of one photo file are always in the same part.

    A single photo is never held out. Raises DataError if it is wanted.
    """
    if share is None:
        return pictures
    keys: dict[str, int | str] = {}  # photo file -> the id of its first record, which decides
    for picture in pictures:
        keys.setdefault(picture.file, picture.id)
    if len(keys) == 1 and share:
        raise DataError(
            f"{path}: expected at least 2 usable pictures to hold one out for evaluation, got 1; add pictures, or an "
            "annotation file for validation"
        )
    held = json_files.held_out_keys(keys.values())
    part = tuple(picture for picture in pictures if (keys[picture.file] in held) == share)
    if share:
        log.info("%s: %d of its %d pictures are held out for evaluation", path, len(part), len(pictures))
    return part


def load_pixels(path: Path, picture: Picture, max_pixels: int = image_files.MAX_PIXELS) -> Pixels:
    """Reads a photo and draws the masks of its annotations. Raises ImageError, which names the faulty file.

    Args:
      path: the annotation file, from which the folders of the photos follow.
      picture: one of its pictures.
      max_pixels: the photo is shrunk to at most this many; the masks are not.
    """
    file = find_file(photo_folders(path), picture.file)
    image = _load_sized(file, picture.size, path.name, max_pixels)
    segment_ids = None
    if picture.segments:
        folders = [_root(path) / "panoptic", _root(path) / path.stem, path.parent / path.stem]
        colours = _load_sized(find_file(folders, picture.segments), picture.size, path.name)
        segment_ids = colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    objects, crowds = [], []
    for annotation in picture.annotations:
        try:
            mask = _draw(annotation.shape, segment_ids, picture.size)
        except ValueError as error:
            place = f"{path}: annotation {annotation.id} of picture {picture.id}"
            raise image_files.ImageError(f"{place}: {error}; correct or remove this annotation") from None
        if mask.any():  # it is empty where a polygon is thinner than a pixel
            (crowds if annotation.crowd else objects).append((annotation.label, mask))
    return Pixels(image, objects, crowds, None if segment_ids is None else segment_ids == 0)


def photo_folders(path: Path) -> list[Path]:
    """The folders in which the photos of an annotation file may be, in the order in which they are searched."""
    root, name = _root(path), path.stem.partition("_")[2] or path.stem
    return [root / name, root / "images" / name, root / "images", root]


def find_file(folders: Sequence[Path], name: str) -> Path:
    """The path folder/name in the first folder that has such a file; if none has, the path in the first folder."""
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)


def _root(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _load_sized(
    file: Path, size: tuple[int, int], annotations: str, max_pixels: int = image_files.MAX_PIXELS
) -> np.ndarray:
    """The image in a file, shrunk to `max_pixels`. Raises ImageError if the file's size is not that annotated."""
    image, (h, w) = image_files.load_shrunk(file, max_pixels)
    if (w, h) != size:
        raise image_files.ImageError(
            f"{file}: expected {size[0]} x {size[1]} pixels, the size in {annotations}, got {w} x {h}; take the file "
            "that was annotated"
        )
    return image


def _draw(shape: tuple | dict | int, segment_ids: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    if isinstance(shape, dict):
        return masks.decode(shape)
    if isinstance(shape, tuple):
        return masks.from_polygons(shape, size[1], size[0])
    return segment_ids == shape


def _pictures(value: dict, names: Mapping, faults: collections.Counter) -> Iterator[Picture]:
    """The pictures that have usable annotations; counts the faulty records in `faults`."""
    records = {}
    for record in value["images"]:
        if _is_picture(record):
            records[record["id"]] = record
        else:
            faults["pictures without id, file_name, width or height"] += 1
    annotations, segments = collections.defaultdict(list), {}
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
        parsed = [_parse_annotation(part, names, size, panoptic, faults) for part in parts]
        annotations[image_id] += [annotation for annotation in parsed if annotation]
    for image_id, usable in annotations.items():
        if usable:
            record = records[image_id]
            size = record["width"], record["height"]
            yield Picture(image_id, record["file_name"], size, tuple(usable), segments.get(image_id))


def _parse_annotation(
    note: Any, names: Mapping, size: tuple[int, int], panoptic: bool, faults: collections.Counter
) -> Annotation | None:
    """An annotation, or None after counting its fault."""
    if not isinstance(note, dict) or not _is_id(note.get("category_id")) or note["category_id"] not in names:
        faults["annotations of no known category"] += 1
        return None
    if panoptic:
        sound = type(note.get("id")) is int and 0 < note["id"] < 1 << 24
        shape, fault = (note["id"] if sound else None), "segments without an id from 1 to 2^24 - 1"
    else:
        shape, fault = _parse_shape(note.get("segmentation"), size)
    if shape is None:
        faults[fault] += 1
        return None
    return Annotation(note.get("id"), names[note["category_id"]], note.get("iscrowd") == 1, shape)


def _parse_shape(value: Any, size: tuple[int, int]) -> tuple[tuple | dict | None, str]:
    """(polygons or an RLE, ""), or (None, the fault)."""
    if isinstance(value, dict):
        fits = value.get("size") == [size[1], size[0]]
        return value if fits else None, "RLEs of another size than their picture"
    polygons = [_parse_polygon(p) for p in value] if isinstance(value, list) else []
    if not polygons or any(p is None for p in polygons):
        return None, "annotations without polygons or RLE"
    polygons = [p for p in polygons if len(p) >= 6]
    if not polygons:
        return None, "polygons of fewer than 3 points"
    spans = [np.ptp(np.clip(p.reshape(-1, 2), 0, size), axis=0) for p in polygons]
    if not any((span > 0).all() for span in spans):
        return None, "polygons without area in the picture"
    return tuple(polygons), ""


def _parse_polygon(value: Any) -> np.ndarray | None:
    """float64[2 n] of n points x, y in pixels; None if the value is no such list."""
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
    """Whether the value is a relative path that stays below its folder."""
    path = Path(value) if isinstance(value, str) and value and value.isprintable() else Path("..")
    return not path.is_absolute() and ".." not in path.parts
