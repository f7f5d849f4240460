"""acc@0.5 of visual grounding.

RefCOCO's acc@0.5 asks for one box of IoU >= 0.5 with the one target. GREC (arXiv 2308.16182, "Precision@(F1=1,
IoU>=0.5)") extends it to any number of targets and agrees with it for one: a sample is right when its boxes and the
targets pair off with IoU >= 0.5 and none is left over; where nothing is wanted, when there is no box.

Pairs are taken greedily from the highest IoU down, as GREC's code does. Plain IoU is compared, as both papers say; the
code of GREC and of MDETR compares generalised IoU, which is never above IoU and so a little stricter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def iou_matrix(a_m4: np.ndarray, b_n4: np.ndarray) -> np.ndarray:
    """float64[m, n] IoU of every pair of boxes (x1,y1,x2,y2, one frame for both); 0 where a box has no area."""
    a, b = np.asarray(a_m4, np.float64)[:, None], np.asarray(b_n4, np.float64)[None]
    inter = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    area_a, area_b = (np.clip(x[..., 2:] - x[..., :2], 0, None).prod(-1) for x in (a, b))
    union = area_a + area_b - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def correct(pred_m4: np.ndarray | None, target_n4: np.ndarray, threshold: float = 0.5) -> bool:
    """Whether the answered boxes are the wanted ones.

    Args:
      pred_m4: float[m, 4] boxes of the answer, m may be 0; None where there is no answer to judge (never right).
      target_n4: float[n, 4] wanted boxes in the same frame, n may be 0.
      threshold: IoU at which a pair counts.
    """
    if pred_m4 is None or len(pred_m4) != len(target_n4):
        return False
    iou = iou_matrix(pred_m4, target_n4) if len(pred_m4) else np.ones((0, 0))
    for _ in range(len(iou)):
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        if not iou[row, column] >= threshold:
            return False
        iou[row], iou[:, column] = -1.0, -1.0
    return True


def accuracy(hits: Sequence[bool]) -> float:
    """Share of right samples, in [0, 1]; its interval is `segmentation.bootstrap(hits, accuracy)`."""
    if len(hits) == 0:
        raise ValueError("no samples to measure; expected at least one")
    return float(np.mean(hits))
