"""Figures of Visual Reasoning Tracer (arXiv 2512.05091) for the masks of the answer's objects.

In each sample, answered masks and target masks are paired one to one so that the sum of their IoU is largest (the
Hungarian method on 1 - IoU). A target without a pair counts 0; masks beyond the number of targets cost nothing. The
IoUs of all targets of all samples are pooled:

    miou    their mean
    lq      logic quality: the share above 0.5
    vq      visual quality: the mean of those above 0.5; 0 if there is none
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

THRESHOLD = 0.5


def target_ious(preds: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> list[float]:
    """The IoU of each target, in [0, 1], with the answered mask that is paired with it.

    Args:
      preds: m masks bool[h, w]; none for a failed sample.
      targets: n masks bool[h, w].
    """
    iou_mn = np.array([[_iou(pred, target) for target in targets] for pred in preds]).reshape(len(preds), len(targets))
    found = np.zeros(len(targets))
    rows, columns = linear_sum_assignment(1 - iou_mn)
    found[columns] = iou_mn[rows, columns]
    return found.tolist()


def figures(ious: Sequence[float]) -> dict[str, float]:
    """miou, lq and vq of the pooled IoUs. Raises ValueError if there are none."""
    if not len(ious):
        raise ValueError("no targets to measure; expected at least one")
    values = np.asarray(ious, np.float64)
    good = values[values > THRESHOLD]
    return {"miou": float(values.mean()), "lq": len(good) / len(values), "vq": float(good.mean()) if len(good) else 0.0}


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0
