"""The shapes of COCO's annotations: polygons, RLE and boxes are checked, and drawn as masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers.jsonl_fields import fill_box, is_rle, unit_box, whole_rle
from dtr1_jax.twin import masks

# Polygons float64[2 n] in pixels; an RLE; the id of a panoptic segment; or a box float64[4], x1, y1, x2, y2 in pixels.
Shape = tuple[np.ndarray, ...] | dict | int | np.ndarray

NO_SHAPE = "annotations without polygons, RLE or box"
NORMALISED = "shapes smaller than a pixel, which look normalised (coordinates are in pixels)"
OUTSIDE = "boxes that reach far beyond their picture (a box is [x, y, width, height] in pixels)"
SLACK = 1.1  # a box may reach beyond its picture by this factor


def parse_shape(note: dict, size: tuple[int, int]) -> tuple[Shape | None, str]:
    """Reads the shape of an annotation: its "segmentation", or its "bbox" where it has none.

    Args:
      note: the annotation.
      size: width and height of its picture, pixels.

    Returns (polygons, an RLE or a box, ""), or (None, the fault in words that fit after a number).
    """
    value = note.get("segmentation")
    if isinstance(value, dict):
        return _parse_rle(value, size)
    if value is None or value == [] or value == [[]]:
        return parse_box(note.get("bbox"), size)
    polygons = _polygons(value) if isinstance(value, list) else [None]
    if any(p is None for p in polygons):
        return None, NO_SHAPE
    polygons = [p for p in polygons if len(p) >= 6]
    if not polygons:
        return None, "polygons of fewer than 3 points"
    if all((p <= 1).all() and (p >= 0).all() for p in polygons):
        return None, NORMALISED
    spans = [np.ptp(np.clip(p.reshape(-1, 2), 0, size), axis=0) for p in polygons]
    if not any((span > 0).all() for span in spans):
        return None, "polygons without area in the picture"
    return tuple(polygons), ""


def draw(shape: Shape, segment_ids: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """bool[h, w], the mask of a shape; a box is filled.

    Args:
      shape: from `parse_shape`, or the id of a segment.
      segment_ids: int32[h, w], the segment at each pixel, for shapes that are such ids.
      size: width and height of the picture, pixels.

    Raises ValueError if an RLE or polygon cannot be drawn.
    """
    if isinstance(shape, dict):
        return masks.decode(shape)
    if isinstance(shape, tuple):
        return masks.from_polygons(shape, size[1], size[0])
    if isinstance(shape, np.ndarray):
        return fill_box(shape.tolist(), size[1], size[0])
    return segment_ids == shape


def unit_box_of(shape: Shape, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The box of a shape that is a box, in the unit frame; None for other shapes, whose box follows from their mask."""
    return unit_box(shape.tolist(), size[1], size[0]) if isinstance(shape, np.ndarray) else None


def fingerprint(shape: Shape) -> Any:
    """A hashable value that two shapes share only if they are equal."""
    if isinstance(shape, tuple):
        return tuple(p.tobytes() for p in shape)
    if isinstance(shape, dict):
        return str(shape.get("counts"))
    return shape.tobytes() if isinstance(shape, np.ndarray) else shape


def _parse_rle(value: dict, size: tuple[int, int]) -> tuple[dict | None, str]:
    if not is_rle(value):
        return None, NO_SHAPE
    rle = whole_rle(value)
    return (rle, "") if rle["size"] == [size[1], size[0]] else (None, "RLEs of another size than their picture")


def parse_box(value: Any, size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
    """Reads a box of COCO, [x, y, width, height] in pixels.

    Args:
      value: the field "bbox" of an annotation.
      size: width and height of its picture, pixels.

    Returns (float64[4], x1, y1, x2, y2 in pixels, ""), or (None, the fault in words that fit after a number).
    """
    box = _four_numbers(value)
    if box is None:
        return None, NO_SHAPE
    x, y, w, h = box
    if w <= 0 or h <= 0 or x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0:
        return None, "boxes without area in the picture"
    if min(x, y) >= 0 and max(x + w, y + h) <= 1:
        return None, NORMALISED
    if x + w > SLACK * size[0] or y + h > SLACK * size[1]:
        return None, OUTSIDE
    return np.array([x, y, x + w, y + h], float), ""


def check_boxes(path: Path, rows: Iterable[tuple[dict, tuple[int, int]]]) -> None:
    """Raises DataError where `boxes_are_corners` says so of the annotations of a file."""
    if boxes_are_corners(rows):
        raise DataError(
            f"{path}: expected boxes as [x, y, width, height], got boxes that look like [x1, y1, x2, y2]; write [x1, "
            "y1, x2 - x1, y2 - y1]"
        )


def boxes_are_corners(rows: Iterable[tuple[dict, tuple[int, int]]]) -> bool:
    """Whether the boxes of annotations are [x1, y1, x2, y2] in place of COCO's [x, y, width, height].

    All of them must lie in their pictures as corners, and either some reach far beyond them as COCO's boxes, or every
    "area" is that of the corners and not of COCO's box.

    Args:
      rows: (annotation, (w, h) of its picture in pixels) of each annotation that has only a box.
    """
    beyond, areas, count = 0, 0, 0
    for note, size in rows:
        box, area = _four_numbers(note.get("bbox")), json_files.number_of(note.get("area"))
        if box is None:
            continue
        x, y, w, h = box
        if not (0 <= x < w <= SLACK * size[0] and 0 <= y < h <= SLACK * size[1]):
            return False
        count += 1
        beyond += x + w > SLACK * size[0] or y + h > SLACK * size[1]
        if json_files.is_number(area):
            areas += abs((w - x) * (h - y) - area) <= 1e-3 * area < abs(w * h - area)
    return count > 0 and (beyond > 0 or areas == count)


def _four_numbers(value: Any) -> list[float] | None:
    """The numbers of a box, which may stand as texts; None if there are no four."""
    numbers = [json_files.number_of(v) for v in value] if isinstance(value, list) and len(value) == 4 else []
    return numbers if numbers and all(map(json_files.is_number, numbers)) else None


def _polygons(value: list) -> list[np.ndarray | None]:
    """The polygons of a list of lists [x, y, x, y, ...]; None for each that is no such list.

    A single polygon may also stand without its outer list, and a polygon may be a list of points [x, y].
    """
    if value and all(map(json_files.is_number, value)):
        value = [value]
    elif len(value) >= 3 and all(
        isinstance(p, list) and len(p) == 2 and all(map(json_files.is_number, p)) for p in value
    ):
        value = [[v for point in value for v in point]]
    return [_parse_polygon(polygon) for polygon in value]


def _parse_polygon(value: Any) -> np.ndarray | None:
    """float64[2 n] of n points x, y in pixels; None if the value is no such list."""
    try:
        points = np.asarray(value)
        points = points.astype(float) if points.dtype.kind == "U" else points  # numbers as texts
    except (ValueError, OverflowError):  # ragged
        return None
    while points.ndim > 1 and len(points) == 1:  # one list too many
        points = points[0]
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.ravel()
    sound = points.dtype.kind in "iuf" and points.ndim == 1 and points.size % 2 == 0
    return points.astype(float) if sound and (np.abs(points) <= json_files.MAX_COORDINATE).all() else None
