"""acc@0.5 of visual grounding, and the mean IoU of matched boxes and tracks.

A sample of RefCOCO has one target, and counts as correct in acc@0.5 if the answered box has IoU >= 0.5 with it. GREC
(arXiv 2308.16182, "Precision@(F1=1, IoU>=0.5)") extends this to any number of targets: a sample is correct if answered
boxes and targets can be paired one to one with IoU >= 0.5 and none is left over. Without targets, the answer must have
no box. With one target both definitions agree.

Pairs are taken greedily from the highest IoU down, as in GREC's code. The IoU is the plain one, as in both papers; the
code of GREC and of MDETR uses the generalised IoU of boxes, which is never larger and so a little stricter. An IoU of
exactly 0.5 counts as correct, as in the code of both (`>= thresh_iou`). Whether it is reached is decided in rational
numbers (exact_boxes.py), because floats put a third of the exact ties below it.

`matched_iou` and `matched_track_iou` are our own figures for several objects: the sum over the best one-to-one pairs,
divided by the larger number of boxes. For one box and one target this is the IoU; for one track and one target track it
is vIoU (VidSTG, Zhang et al. 2020). Without targets and without answered boxes it is 1; for a failed sample (None), 0.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.evaluation.benchmarks import exact_boxes


def iou_matrix(a_m4: np.ndarray, b_n4: np.ndarray) -> np.ndarray:
    """float64[m, n], IoU of every pair of boxes x1,y1,x2,y2 in one coordinate frame; 0 for a box without area."""
    a, b = np.asarray(a_m4, np.float64)[:, None], np.asarray(b_n4, np.float64)[None]
    inter = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    area_a, area_b = (np.clip(x[..., 2:] - x[..., :2], 0, None).prod(-1) for x in (a, b))
    union = area_a + area_b - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def is_correct(
    pred_m4: np.ndarray | None, target_n4: np.ndarray, threshold: float = 0.5, size: tuple[int, int] | None = None
) -> bool:
    """Whether the answered boxes and the targets pair off one to one, as acc@0.5 demands.

    Args:
      pred_m4: float[m, 4] answered boxes x1,y1,x2,y2, m may be 0; None for a failed sample, which is never correct.
      target_n4: float[n, 4] target boxes in the same coordinate frame, n may be 0.
      threshold: lowest IoU of a pair.
      size: width and height of the picture in pixels, where the boxes are in the unit frame; with it, targets are put
        back to whole pixels or hundredths of a pixel.
    """
    if pred_m4 is None or len(pred_m4) != len(target_n4):
        return False
    if not len(pred_m4):
        return True
    pred_m4, target_n4 = np.asarray(pred_m4), np.asarray(target_n4)
    pairs = exact_boxes.pairs_above(iou_matrix(pred_m4, target_n4), pred_m4, target_n4, threshold, size)
    rows: set[int] = set()
    columns: set[int] = set()
    for row, column in sorted(pairs, key=lambda pair: (-pairs[pair], pair)):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
    return len(rows) == len(pred_m4)


def matched_iou(pred_m4: np.ndarray | None, target_n4: np.ndarray) -> float:
    """Sum of the IoU of the best one-to-one pairs / max(m, n), in [0, 1]; the arguments are those of `is_correct`."""
    return _best_sum(None if pred_m4 is None else iou_matrix(pred_m4, target_n4))


def matched_track_iou(pred_mt4: np.ndarray | None, target_nt4: np.ndarray, counted_t: np.ndarray) -> float:
    """Sum of the IoU of the best one-to-one pairs of tracks / the larger number of tracks, in [0, 1].

    The IoU of two tracks is the sum over frames of their boxes' IoU, divided by the number of frames in which either
    has a box. Tracks that have no box in any counted frame are left out on both sides.

    Args:
      pred_mt4: float[m, T, 4], answered boxes x1,y1,x2,y2, without area in frames without a box; None for a failed
        sample.
      target_nt4: float[n, T, 4], target boxes in the same coordinate frame.
      counted_t: bool[T], the frames that count.
    """
    if pred_mt4 is None:
        return 0.0
    pred_mt4, target_nt4 = (np.asarray(x, np.float64)[:, counted_t] for x in (pred_mt4, target_nt4))
    pred_mt4, target_nt4 = (x[_has_area(x).any(1)] for x in (pred_mt4, target_nt4))
    return _best_sum(track_iou_matrix(pred_mt4, target_nt4))


def track_iou_matrix(a_mt4: np.ndarray, b_nt4: np.ndarray) -> np.ndarray:
    """float64[m, n]: IoU of each pair of tracks float[m, T, 4] and float[n, T, 4], see `matched_track_iou`."""
    total_mn, either_mn = np.zeros((2, len(a_mt4), len(b_nt4)))
    for a_m4, b_n4 in zip(a_mt4.swapaxes(0, 1), b_nt4.swapaxes(0, 1)):
        total_mn += iou_matrix(a_m4, b_n4)
        either_mn += _has_area(a_m4)[:, None] | _has_area(b_n4)[None]
    return total_mn / np.maximum(either_mn, 1)


def _has_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _best_sum(iou_mn: np.ndarray | None) -> float:
    if iou_mn is None:
        return 0.0
    most = max(iou_mn.shape)
    return float(iou_mn[linear_sum_assignment(-iou_mn)].sum() / most) if most else 1.0
