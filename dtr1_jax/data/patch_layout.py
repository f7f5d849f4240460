"""The layout of a query's patches: their order, positions, attention segments and windows. numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """The patches of one query, in the order in which the tower reads them.

    Two orders matter here. *Reading order* is the order of the checkpoints' own processors: picture by picture, frame
    by frame, tokens row by row, and the merge x merge patches of a token together. *Tower order* also keeps the tokens
    of an attention window together.

    Attributes:
      fields: the fields of types.Images without the batch axis, except for the pixels; in tower order.
      order: int32[real patches], for each patch in tower order its number in reading order.
      place: int32[real tokens], for each token in reading order its index in tower order. `Prompt.slot_bp` has these
        values at the vision tokens of the prompt.
    """

    fields: dict[str, np.ndarray | None]
    order: np.ndarray
    place: np.ndarray


def layout(
    grids: Sequence[tuple[int, int, int]], *, merge: int, side: int = 0, window: int = 0, patches: int | None = None
) -> Layout:
    """Lays out pictures and videos of the sizes `grids`, padded to `patches` patches.

    With windows, the tokens of a window stand together, so that the tower need not move them. A window at the right or
    lower edge is smaller where the grid is not a multiple of the window (Qwen2.5-VL, arXiv 2502.13923). A patch attends
    to the patches of its own frame only (both Qwen towers), so each frame is a segment.

    Args:
      grids: (frames, rows, columns) of each, in patches; frames after the temporal patch.
      merge: merge x merge patches become one token.
      side: the learned position table has side x side rows; 0 = there is none.
      window: side of an attention window, in tokens; 0 = there are none.
      patches: length to pad to; None = no padding.

    Raises ValueError if a grid is empty or not a multiple of `merge`, or there are more patches than `patches`.
    """
    position, corner, weight, segment, order, windows = [], [], [], [], [], []
    frames = total = last_window = 0
    for grid in grids:
        t, h, w = (int(x) for x in grid)
        if min(t, h, w) < 1 or h % merge or w % merge:
            raise ValueError(f"grid (frames, rows, columns) = {(t, h, w)}: expected multiples of (1, {merge}, {merge})")
        row, column, frame_order, number = _frame(h, w, merge, window)
        table = corners(h, w, side) if side else None
        for _ in range(t):
            frames += 1
            position.append(np.stack([row, column], -1))
            segment.append(np.full(h * w, frames))
            order.append(total + frame_order)
            windows.append(last_window + 1 + number)
            if table:
                corner.append(table[0][row, column])
                weight.append(table[1][row, column])
            last_window += int(number[-1]) + 1
            total += h * w
    if patches is not None and total > patches:
        raise ValueError(f"the pictures have {total} patches, more than the {patches} there is room for")
    length = total if patches is None else patches

    def padded(parts, dtype, *tail):
        whole = np.concatenate(parts).astype(dtype) if parts else np.zeros((0, *tail), dtype)
        return np.pad(whole, [(0, length - len(whole))] + [(0, 0)] * len(tail))

    fields = {
        "position_bn2": padded(position, np.int32, 2),
        "corner_bn4": padded(corner, np.int32, 4) if side else None,
        "corner_weight_bn4": padded(weight, np.float32, 4) if side else None,
        "segment_bn": padded(segment, np.int32),
        "window_bn": padded(windows, np.int32) if window else None,
    }
    order = np.concatenate(order).astype(np.int32) if order else np.zeros(0, np.int32)
    place = np.empty(total // merge**2, np.int32)
    place[order[:: merge**2] // merge**2] = np.arange(len(place))
    return Layout(fields, order, place)


def _frame(h: int, w: int, merge: int, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lays out one frame of h x w patches in tower order.

    Returns:
      Four int[h * w]: row, column and number in reading order of each patch, and the number of its window, from 0 on
      and without gaps.
    """
    row, column = (x.ravel() for x in np.indices((h // merge, w // merge)))
    number = np.zeros(len(row), int)
    if window:
        number = row // window * -(-w // merge // window) + column // window
    token = np.argsort(number, kind="stable")
    number = np.unique(number[token], return_inverse=True)[1]
    row, column = row[token], column[token]
    inner_row, inner_column = np.divmod(np.arange(merge**2), merge)
    row = (row[:, None] * merge + inner_row).ravel()
    column = (column[:, None] * merge + inner_column).ravel()
    order = (token[:, None] * merge**2 + np.arange(merge**2)).ravel()
    return row, column, order, np.repeat(number, merge**2)


def corners(rows: int, columns: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Stretches the side x side position table over a grid of patches by bilinear interpolation.

    The corners of the grid fall on the corners of the table.

    Returns:
      (int[rows, columns, 4], for each patch the four rows of the table around it; float[rows, columns, 4], their
      weights, which sum to 1).
    """
    y, x = np.linspace(0, side - 1, rows), np.linspace(0, side - 1, columns)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, side - 1), np.minimum(x0 + 1, side - 1)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    index = np.stack([a[:, None] * side + b[None, :] for a in (y0, y1) for b in (x0, x1)], -1)
    weight = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], -1)
    return index, weight
