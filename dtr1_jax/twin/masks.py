"""Masks in the forms of COCO annotations: run-length encoding (RLE) and polygons.

A mask is bool[h, w], row 0 on top. An RLE is {"size": [h, w], "counts": ...}. The counts are the lengths of runs down
the columns, as a list of integers or packed into a string; the first run is of False (0 if the mask starts with True).
All results equal those of `pycocotools` bit for bit, so that masks can be exchanged with its users. This numpy code
follows the published method of the COCO API (Lin et al. 2014; `common/maskApi.c`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dtr1_jax.twin.schema import show

MAX_PIXELS = 1 << 27  # of one mask; an RLE of a few bytes can ask for any size
MAX_BOUNDARY = 1 << 22  # steps of a walk around a polygon, with GRID steps to the pixel
MAX_CHUNKS = 7  # characters of one packed number: 35 bits hold any run of MAX_PIXELS and its sign
GRID = 5  # polygons are drawn on a grid this many times finer than pixels


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Encodes bool[h, w] as a packed RLE, {"size": [h, w], "counts": bytes}.

    Raises:
      ValueError: the mask is not a two-dimensional array.
    """
    mask = np.asarray(mask, bool)
    if mask.ndim != 2:
        raise ValueError(f"mask: expected bool[h, w], got shape {mask.shape}")
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": _pack(np.diff(edges, prepend=0, append=mask.size))}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """Decodes an RLE, packed (str or bytes) or a list of integers, to bool[h, w].

    Raises:
      ValueError: it is not a sound RLE; the message has the expected and the actual value.
    """
    if not isinstance(rle, dict) or "size" not in rle or "counts" not in rle:
        raise ValueError(f"RLE: expected a dict with size and counts, got {show(rle)} without")
    size, counts = rle["size"], rle["counts"]
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(_is_count(n) for n in size):
        raise ValueError(f"RLE size: expected [h, w], two integers from 0 to {MAX_PIXELS}, got {show(size)}")
    h, w = map(int, size)
    if h * w > MAX_PIXELS:
        raise ValueError(f"RLE size: expected at most {MAX_PIXELS} pixels, got {h} x {w}")

    if isinstance(counts, (str, bytes)):
        lengths = _unpack(counts)
        faulty = np.flatnonzero((lengths < 0) | (lengths > MAX_PIXELS))
    elif isinstance(counts, (list, tuple)):
        faulty = [i for i, n in enumerate(counts) if not _is_count(n)][:1]
        lengths = np.array([] if len(faulty) else counts, np.int64)
    else:
        raise ValueError(f"RLE counts: expected a list, str or bytes, got {show(counts)}")
    if len(faulty):
        raise ValueError(f"RLE counts: expected integers from 0 to {MAX_PIXELS}, got another at position {faulty[0]}")
    if lengths.sum() != h * w:
        raise ValueError(f"RLE counts: expected a sum of {h} x {w} = {h * w} pixels, got {lengths.sum()}")
    return _expand(lengths, h, w)


def from_polygons(polygons: Sequence[Sequence[float]], h: int, w: int) -> np.ndarray:
    """Draws the union of polygons as bool[h, w].

    Args:
      polygons: each is x0, y0, x1, y1, ... of at least three points, in pixels of the picture (integers are corners of
        pixels). Parts outside the picture are cut off. Within one polygon, the even-odd rule decides which side is
        inside.
      h, w: size of the picture, pixels.

    Raises:
      ValueError: a polygon is not a flat list of at least 3 finite points, or is too large to be walked around.
    """
    if min(h, w) < 0 or h * w > MAX_PIXELS:
        raise ValueError(f"polygons: expected a picture of at most {MAX_PIXELS} pixels, got {h} x {w}")
    return union([_draw(polygon, i, h, w) for i, polygon in enumerate(polygons)], h, w)


def union(masks: Sequence[np.ndarray], h: int, w: int) -> np.ndarray:
    """The union of any number of masks bool[h, w]; an empty mask for none.

    Raises:
      ValueError: a mask has another shape.
    """
    total = None
    for i, mask in enumerate(masks):
        if mask.shape != (h, w):
            raise ValueError(f"masks[{i}]: expected bool[{h}, {w}], got shape {mask.shape}")
        total = mask.astype(bool) if total is None else np.logical_or(total, mask, out=total)
    return np.zeros((h, w), bool) if total is None else total


def area(mask: np.ndarray) -> int:
    """Number of True pixels of bool[h, w]."""
    return int(np.count_nonzero(mask))


def bbox(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """The smallest box x1,y1,x2,y2 around the True pixels of bool[h, w], in the unit frame; None for an empty mask."""
    h, w = mask.shape
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not x.size:
        return None
    return float(x[0] / w), float(y[0] / h), float((x[-1] + 1) / w), float((y[-1] + 1) / h)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value <= MAX_PIXELS


# The packed form. From the fourth number on, each run is written as its difference from the run two before it, which is
# of the same kind and has a similar length. A number is cut into chunks of 5 bits in two's complement, lowest first.
# Bit 5 of a chunk is set where another chunk follows. 48 is added, which gives the printable characters "0" to "o".


def _pack(lengths: np.ndarray) -> bytes:
    rest = lengths.astype(np.int64)
    rest[3:] -= lengths[1:-2]
    chunks, used, more = [], [], np.ones(rest.shape, bool)
    while more.any():
        chunk, rest = rest & 31, rest >> 5
        used.append(more)
        more = more & np.where(chunk & 16, rest != -1, rest != 0)  # until only sign bits are left
        chunks.append(chunk + 32 * more + 48)
    return np.stack(chunks, axis=1)[np.stack(used, axis=1)].astype(np.uint8).tobytes() if chunks else b""


def _unpack(packed: str | bytes) -> np.ndarray:
    # Characters outside ASCII become "&#...;", since "&" is not in the alphabet; "replace" would write "?", which is.
    raw = packed.encode("ascii", "xmlcharrefreplace") if isinstance(packed, str) else packed
    chunk = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not chunk.size:
        return chunk
    faulty = np.flatnonzero((chunk < 0) | (chunk > 63))
    if faulty.size:
        i = faulty[0]
        raise ValueError(f"RLE counts: expected characters from '0' to 'o', got {raw[i : i + 1]!r} at position {i}")
    ends = np.flatnonzero(chunk < 32)
    if not ends.size or ends[-1] != chunk.size - 1:
        raise ValueError("RLE counts: expected a last number that is complete, got a string that is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    width = ends - starts + 1
    if width.max() > MAX_CHUNKS:
        raise ValueError(f"RLE counts: expected numbers of at most {MAX_CHUNKS} characters, got {width.max()}")
    place = 5 * (np.arange(chunk.size) - np.repeat(starts, width))
    number = np.add.reduceat((chunk & 31) << place, starts)
    number -= np.where(chunk[ends] & 16, np.int64(1) << 5 * width, 0)  # the highest bit is the sign
    number[1::2], number[2::2] = np.cumsum(number[1::2]), np.cumsum(number[2::2])
    return number


def _draw(polygon: Sequence[float], index: int, h: int, w: int) -> np.ndarray:
    """Draws one polygon as bool[h, w], as the COCO API does.

    A walk follows the outline in unit steps on a grid GRID times finer than pixels. Where the walk crosses the centre
    line of a pixel column, the mask toggles from the next pixel centre below on. Two toggles at one pixel cancel out.
    """
    try:
        flat = np.asarray(polygon)
    except ValueError:  # ragged
        flat = np.array(None)
    if flat.dtype.kind not in "iuf" or flat.ndim != 1 or flat.size < 6 or flat.size % 2:
        raise ValueError(f"polygons[{index}]: expected numbers x0, y0, ... of at least 3 points, got {show(polygon)}")
    points = flat.reshape(-1, 2).astype(np.float64)
    faulty = np.flatnonzero(~(np.abs(points.ravel()) < 1e8))  # NaN too
    if faulty.size:
        raise ValueError(
            f"polygons[{index}][{faulty[0]}]: expected a finite coordinate in pixels, got {flat[faulty[0]]}"
        )
    x, y = _outline(np.trunc(GRID * points + 0.5).astype(np.int64), index)

    step = np.flatnonzero(x[1:] != x[:-1])
    column = (np.minimum(x[step], x[step + 1]) + 0.5) / GRID - 0.5
    row = (np.minimum(y[step], y[step + 1]) + 0.5) / GRID - 0.5
    inside = (column == np.floor(column)) & (column >= 0) & (column <= w - 1)
    column = column[inside].astype(np.int64)
    row = np.ceil(np.clip(row[inside], 0, h)).astype(np.int64)
    toggles = np.sort(column * h + row)
    return _expand(np.diff(toggles, prepend=0, append=h * w), h, w)


def _expand(lengths: np.ndarray, h: int, w: int) -> np.ndarray:
    """Expands runs, which may have length 0, to bool[h, w]."""
    return np.repeat(np.arange(lengths.size) % 2 == 1, lengths).reshape(w, h).T


def _outline(points: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Walks along a closed polygon int64[k, 2] on the grid, and returns the x and y of each step, int64[n].

    Along an edge, the longer direction advances by one and the other coordinate is rounded. An edge is always computed
    from its left (or upper) end, so that two neighbouring polygons draw their common edge alike.
    """
    start, end = points, np.roll(points, -1, axis=0)
    span = np.abs(end - start)
    steps = span.max(axis=1)
    if steps.sum() > MAX_BOUNDARY:
        raise ValueError(
            f"polygons[{index}]: expected an outline of at most {MAX_BOUNDARY // GRID} pixels, "
            f"got {steps.sum() // GRID}; are the coordinates in pixels?"
        )
    flat = span[:, 0] >= span[:, 1]  # x is the longer direction
    main = np.where(flat, 0, 1)
    edge = np.arange(len(points))
    flip = start[edge, main] > end[edge, main]
    low, high = np.where(flip[:, None], end, start), np.where(flip[:, None], start, end)
    slope = (high - low)[edge, 1 - main] / np.maximum(steps, 1)

    e = np.repeat(edge, steps + 1)
    t = np.arange(e.size) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    t = np.where(flip[e], steps[e] - t, t)
    along = low[e, main[e]] + t
    across = np.trunc(low[e, 1 - main[e]] + slope[e] * t + 0.5).astype(np.int64)
    return np.where(flat[e], along, across), np.where(flat[e], across, along)
