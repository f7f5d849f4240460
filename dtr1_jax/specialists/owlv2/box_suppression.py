"""Overlaps of boxes, and non-maximum suppression as OWLv2's processor computes it."""

from __future__ import annotations

import numpy as np


def kept(box_n4: np.ndarray, score_n: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of the boxes that remain, best score first.

    A box is dropped if its IoU with a remaining box of a better score is above `threshold`, whatever their labels. Of
    equal scores the first box counts as better.

    Args:
      box_n4: float[n, 4], x1,y1,x2,y2 in any one frame.
      score_n: float[n].
      threshold: IoU in [0, 1]; from 1 on, no box is dropped.
    """
    order = np.argsort(-score_n, kind="stable")
    if threshold >= 1:
        return order
    boxes = np.asarray(box_n4, np.float32)[order]
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if alive[i]:
            alive[i + 1 :] &= ~(overlap(boxes[i : i + 1], boxes[i + 1 :])[0] > threshold)
    return order[alive]


def overlap(a_n4: np.ndarray, b_m4: np.ndarray) -> np.ndarray:
    """IoU of every box of a with every box of b, float32[n, m]; 0 for two boxes without area."""
    low = np.maximum(a_n4[:, None, :2], b_m4[None, :, :2])
    high = np.minimum(a_n4[:, None, 2:], b_m4[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    union = np.prod(a_n4[:, 2:] - a_n4[:, :2], -1)[:, None] + np.prod(b_m4[:, 2:] - b_m4[:, :2], -1) - common
    return common / np.where(union > 0, union, 1)
