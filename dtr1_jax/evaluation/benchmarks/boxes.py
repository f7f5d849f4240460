"""acc@0.5 of visual grounding, and the mean IoU of matched boxes and tracks.

RefCOCO's acc@0.5 asks for one box of IoU >= 0.5 with the one target. GREC (arXiv 2308.16182, "Precision@(F1=1,
IoU>=0.5)") extends it to any number of targets and agrees with it for one: a sample is right when its boxes and the
targets pair off with IoU >= 0.5 and none is left over; where nothing is wanted, when there is no box.

Pairs are taken greedily from the highest IoU down, as GREC's code does. Plain IoU is compared, as both papers say; the
code of GREC and of MDETR compares generalised IoU, which is never above IoU and so a little stricter.

`matched` and `matched_tracks` are our own for several objects: the sum over the best one-to-one pairs / the larger
number of boxes. With one box on both sides they are the IoU, and with one track on both sides vIoU (VidSTG, Zhang et
al. 2020). Nothing wanted and nothing answered = 1; a failed sample (None) = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment


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


def matched(pred_m4: np.ndarray | None, target_n4: np.ndarray) -> float:
    """Sum of IoU of the best pairs / max(m, n), in [0, 1]. Boxes as of `correct`."""
    return _matched(None if pred_m4 is None else iou_matrix(pred_m4, target_n4))


def matched_tracks(pred_mt4: np.ndarray | None, target_nt4: np.ndarray, counted_t: np.ndarray) -> float:
    """The same for tracks: a pair is worth the sum over frames of its boxes' IoU / the frames in which either has one.

    Args:
      pred_mt4: float[m, T, 4], boxes of the answer in each frame, without area where there is none; None as above.
      target_nt4: float[n, T, 4], wanted boxes; tracks without any box that counts are left out on both sides.
      counted_t: bool[T], the frames that count.
    """
    if pred_mt4 is None:
        return 0.0
    pred_mt4, target_nt4 = (np.asarray(x, np.float64)[:, counted_t] for x in (pred_mt4, target_nt4))
    pred_mt4, target_nt4 = (x[_there(x).any(1)] for x in (pred_mt4, target_nt4))
    total_mn, either_mn = np.zeros((2, len(pred_mt4), len(target_nt4)))
    for t in range(pred_mt4.shape[1]):
        total_mn += iou_matrix(pred_mt4[:, t], target_nt4[:, t])
        either_mn += _there(pred_mt4[:, t])[:, None] | _there(target_nt4[:, t])[None]
    return _matched(total_mn / np.maximum(either_mn, 1))


def _there(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _matched(worth_mn: np.ndarray | None) -> float:
    if worth_mn is None:
        return 0.0
    most = max(worth_mn.shape)
    return float(worth_mn[linear_sum_assignment(-worth_mn)].sum() / most) if most else 1.0


def accuracy(hits: Sequence[bool]) -> float:
    """Share of right samples, in [0, 1]; its interval is `segmentation.bootstrap(hits, accuracy)`."""
    if len(hits) == 0:
        raise ValueError("no samples to measure; expected at least one")
    return float(np.mean(hits))
