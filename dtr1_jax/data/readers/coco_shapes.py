"""The shapes of COCO's annotations: polygons, RLE and boxes are checked, and drawn as masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.readers.jsonl_fields import fill_box, unit_box, whole_rle
from dtr1_jax.twin import masks

# Polygons float64[2 n] in pixels; an RLE; the id of a panoptic segment; or a box float64[4], x1, y1, x2, y2 in pixels.
Shape = tuple[np.ndarray, ...] | dict | int | np.ndarray

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
        return None, "annotations without polygons, RLE or box"
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
    rle = whole_rle(value)
    return (rle, "") if rle["size"] == [size[1], size[0]] else (None, "RLEs of another size than their picture")


def parse_box(value: Any, size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
    """Reads a box of COCO, [x, y, width, height] in pixels.

    Args:
      value: the field "bbox" of an annotation.
      size: width and height of its picture, pixels.

    Returns (float64[4], x1, y1, x2, y2 in pixels, ""), or (None, the fault in words that fit after a number).
    """
    if not isinstance(value, list) or len(value) != 4 or not all(map(json_files.is_number, value)):
        return None, "annotations without polygons, RLE or box"
    x, y, w, h = value
    if w <= 0 or h <= 0 or x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0:
        return None, "boxes without area in the picture"
    if min(x, y) >= 0 and max(x + w, y + h) <= 1:
        return None, NORMALISED
    if x + w > SLACK * size[0] or y + h > SLACK * size[1]:
        return None, OUTSIDE
    return np.array([x, y, x + w, y + h], float), ""


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
    except (ValueError, OverflowError):  # ragged
        return None
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.ravel()
    sound = points.dtype.kind in "iuf" and points.ndim == 1 and points.size % 2 == 0
    return points.astype(float) if sound and (np.abs(points) <= json_files.MAX_COORDINATE).all() else None
