"""Masks of any size become arrays of one size, without an error in their IoU.

The grid lies around the union of answer and target, so that small objects are compared pixel by pixel. Where the union
is larger than the grid, a cell holds how many pixels of the intersection and of the union it has. Their sums over the
grid are those of the picture, so the IoU is exact for any size of the grid. (Shares of a cell that answer and target
cover by themselves would not do: two masks side by side in one cell would seem to overlap.)
"""

from __future__ import annotations

import cv2
import numpy as np


def overlap_cells(pred: np.ndarray | None, target: np.ndarray, keep: np.ndarray | None, size: int) -> np.ndarray:
    """int32[2, size, size]: pixels of the intersection and of the union of two masks in each cell of a grid.

    `geometry.mask_iou` of the two is the IoU of the masks.

    Args:
      pred: bool[h', w'], the answer; resized to the target's size by nearest pixels. None = no pixel.
      target: bool[h, w].
      keep: bool[h, w], False at pixels that count neither way; None = all pixels count.
      size: cells a side.
    """
    if pred is None:
        pred = np.zeros_like(target)
    pred = resize_mask(pred, target.shape)
    union, inter = pred | target, pred & target
    if keep is not None:
        union, inter = union & keep, inter & keep
    x, y, w, h = cv2.boundingRect(union.view(np.uint8)) if union.size else (0, 0, 0, 0)
    cells = np.zeros((2, size, size), np.int32)
    for of_mask, mask in zip(cells, (inter, union)):
        crop = mask[y : y + h, x : x + w]
        if max(w, h) > size:
            crop = _counts(crop, size)
        of_mask[: crop.shape[0], : crop.shape[1]] = crop
    return cells


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask bool[h, w] at the size (height, width), by nearest pixels; the same array where it has that size."""
    if mask.shape == tuple(size):
        return mask
    if not mask.size or not all(size):
        return np.zeros(size, bool)
    return cv2.resize(mask.astype(np.uint8), tuple(size)[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0


def _counts(mask: np.ndarray, size: int) -> np.ndarray:
    """int32[rows, columns], each at most `size`: the number of pixels of a mask bool[h, w] in each cell.

    Eight pixels of a row are one byte, whose ones are counted; bytes are then added up to at most `size` a side.
    """
    counts = np.bitwise_count(np.packbits(mask, axis=1))
    for axis in (0, 1):
        each = -(-counts.shape[axis] // size)
        if each > 1:
            starts = np.arange(0, counts.shape[axis], each)
            counts = np.add.reduceat(counts, starts, axis, dtype=np.int32)
    return counts
