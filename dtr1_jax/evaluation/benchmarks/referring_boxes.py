"""Figures of referring by boxes over a set of queries, by the conventions of the benchmarks.

    REC    (RefCOCO) the share of queries whose box has IoU >= 0.5 with the target. Some peers ask for IoU > 0.5.
    GREC   (gRefCOCO, arXiv 2308.16182) Precision@(F1=1, IoU>=0.5): the share of queries whose boxes pair off one to one
           with the targets; N-acc, the share of queries without a target that are answered by no box; T-acc, the share
           of the others that are answered by some box. Its code matches by the generalised IoU (Rezatofighi et al.
           2019), although the paper says IoU.

GREC keeps boxes with a score of at least 0.7. Answers here have no scores: all their boxes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dtr1_jax.evaluation.benchmarks.boxes import iou_matrix

THRESHOLD = 0.5


class BoxAnswer(NamedTuple):
    """One query.

    Attributes:
      correct: 1 if the boxes pair off by IoU >= 0.5 (boxes.is_correct), else 0.
      strict: the same by IoU > 0.5.
      generalised: the same by generalised IoU >= 0.5.
      targets: number of target boxes.
      boxes: number of answered boxes; None for a failed sample.
    """

    correct: float
    strict: float
    generalised: float
    targets: int
    boxes: int | None


def rec(rows: Sequence[BoxAnswer]) -> dict[str, float]:
    """acc (IoU >= 0.5) and acc_above (IoU > 0.5). Raises ZeroDivisionError without rows."""
    return {"acc": sum(r.correct for r in rows) / len(rows), "acc_above": sum(r.strict for r in rows) / len(rows)}


def grec(rows: Sequence[BoxAnswer]) -> dict[str, float]:
    """f1 (Precision@(F1=1) by IoU), f1_generalised (as GREC's code matches), n_acc and t_acc.

    A figure without queries that it counts is left out. Raises ZeroDivisionError without rows.
    """
    with_target, without = [r for r in rows if r.targets], [r for r in rows if not r.targets]
    figures = {
        "f1": sum(r.correct for r in rows) / len(rows),
        "f1_generalised": sum(r.generalised for r in rows) / len(rows),
    }
    if without:
        figures["n_acc"] = sum(r.boxes == 0 for r in without) / len(without)
    if with_target:
        figures["t_acc"] = sum(bool(r.boxes) for r in with_target) / len(with_target)
    return figures


def generalised_iou(a_m4: np.ndarray, b_n4: np.ndarray) -> np.ndarray:
    """float64[m, n] in [-1, 1], generalised IoU of every pair of boxes x1,y1,x2,y2 with area in one coordinate frame.

    It is the IoU minus the share of the smallest box around both that neither covers.
    """
    a, b = np.asarray(a_m4, np.float64)[:, None], np.asarray(b_n4, np.float64)[None]
    hull = (np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    iou = iou_matrix(a_m4, b_n4)
    union = (area_a + area_b) / (1 + iou)
    return iou - np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)


def pairs_off(value_mn: np.ndarray, above: bool = False) -> bool:
    """Whether m answers and n targets pair off one to one, greedily from the highest value down.

    Args:
      value_mn: float[m, n], IoU or generalised IoU of each pair.
      above: whether a pair needs more than THRESHOLD; else at least as much.
    """
    m, n = value_mn.shape
    if m != n:
        return False
    values = value_mn.copy()
    for _ in range(n):
        i, j = np.unravel_index(values.argmax(), values.shape)
        if not (values[i, j] > THRESHOLD if above else values[i, j] >= THRESHOLD):
            return False
        values[i], values[:, j] = -np.inf, -np.inf
    return True
