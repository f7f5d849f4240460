"""Chooses among overlapping boxes: greedy non-maximum suppression, of all boxes or for each class."""

from __future__ import annotations

import numpy as np


def pairwise_iou(a_m4: np.ndarray, b_n4: np.ndarray) -> np.ndarray:
    """float[m, n], IoU of boxes x1,y1,x2,y2 in one frame; 0 where a box has no area."""
    low = np.maximum(a_m4[:, None, :2], b_n4[None, :, :2])
    high = np.minimum(a_m4[:, None, 2:], b_n4[None, :, 2:])
    inter = np.prod(np.maximum(high - low, 0), -1)
    areas = [np.prod(np.maximum(x[:, 2:] - x[:, :2], 0), -1) for x in (a_m4, b_n4)]
    union = areas[0][:, None] + areas[1][None] - inter
    return np.where(union > 0, inter / np.where(union > 0, union, 1), 0.0)


def suppress(box_n4: np.ndarray, score_n: np.ndarray, iou: float, most: int) -> np.ndarray:
    """Greedy non-maximum suppression, whatever the labels.

    The best box stays, the boxes that overlap it by more than `iou` go, and so on. Of equal scores the first one comes
    first.

    Args:
      box_n4: float[n, 4], x1,y1,x2,y2.
      score_n: float[n].
      iou: the largest overlap of two boxes that both stay.
      most: the number of boxes at which it stops.

    Returns int[k], the rows that stay, best first.
    """
    order = np.argsort(-score_n, kind="stable")
    chosen = []
    while len(order) and len(chosen) < most:
        best, order = order[0], order[1:]
        chosen.append(best)
        order = order[pairwise_iou(box_n4[best][None], box_n4[order])[0] <= iou]
    return np.array(chosen, np.int64)


def per_class(
    box_n4: np.ndarray, score_nc: np.ndarray, threshold: float, iou: float, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Suppression within each class; the best boxes of all classes together, at most `most`.

    Args:
      box_n4: float[n, 4], x1,y1,x2,y2 in the unit frame, may lie partly outside.
      score_nc: float[n, classes].
      threshold: boxes need a score above this.
      iou: the largest overlap of two boxes of a class that both stay, before they are clipped to the picture.
      most: boxes that are returned.

    Returns (float32[k, 4] clipped to the picture, float32[k], int[k] column of the class, int[k] row), best score
    first. Boxes without area inside the picture, and boxes with numbers that are not finite, are left out.
    """
    usable = np.isfinite(box_n4).all(1)
    stay, classes = [], []
    for c in np.flatnonzero(((score_nc > threshold) & usable[:, None]).any(0)):
        rows = np.flatnonzero((score_nc[:, c] > threshold) & usable)
        rows = rows[suppress(box_n4[rows], score_nc[rows, c], iou, most)]
        stay.append(rows)
        classes.append(np.full(len(rows), c))
    row = np.concatenate([np.zeros(0, np.int64), *stay])
    column = np.concatenate([np.zeros(0, np.int64), *classes])
    box, score = np.clip(box_n4[row], 0, 1), score_nc[row, column]
    order = np.argsort(-score, kind="stable")
    order = order[(box[order, 2:] > box[order, :2]).all(1)][:most]
    return box[order].astype(np.float32), score[order].astype(np.float32), column[order], row[order]
