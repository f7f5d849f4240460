"""J, F and J&F of video segmentation, in the video's own pixels.

Convention of DAVIS (Perazzi et al. 2016; Pont-Tuset et al. 2017; run/run_log.py of its davis2017-evaluation), which
Ref-YouTube-VOS, MeViS and ReVOS share:

    J  region similarity: intersection / union of the masks, 1 where both are empty
    F  boundary accuracy: 2 P R / (P + R), P the share of the answer's boundary pixels within the radius
       ceil(0.008 * diagonal) pixels of the target's boundary, R the reverse; 1 where neither has a boundary, 0 where
       one has none. A mask that fills the frame has no boundary.

Each is the mean over the frames of a sample; J&F is the mean of the two; a data set's figure is the mean over samples.
Every frame with an annotation counts, also those in which the target is absent (DAVIS's semi-supervised track leaves
out the first and the last, which are no frames to predict there). Ignored pixels are background in both masks. A frame
without an answer counts 0, even where nothing is wanted, and a failed sample counts 0 in every frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

RADIUS = 0.008  # share of the frame's diagonal


class VideoScore(NamedTuple):
    """Figures of one sample, each in [0, 1]."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


def region(pred: np.ndarray | None, target: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """J of one frame, in [0, 1]. Masks bool[h, w]; `pred` None = no answer. Raises ValueError on unequal sizes."""
    masks = _masks(pred, target, ignore)
    if masks is None:
        return 0.0
    union = np.count_nonzero(masks[0] | masks[1])
    return np.count_nonzero(masks[0] & masks[1]) / union if union else 1.0


def boundary(pred: np.ndarray | None, target: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """F of one frame, in [0, 1]. Masks bool[h, w]; `pred` None = no answer. Raises ValueError on unequal sizes."""
    masks = _masks(pred, target, ignore)
    if masks is None:
        return 0.0
    pred_edge, target_edge = (_edge(mask) for mask in masks)
    counts = np.count_nonzero(pred_edge), np.count_nonzero(target_edge)
    if not any(counts):
        return 1.0
    if not all(counts):
        return 0.0
    disk = _disk(math.ceil(RADIUS * math.hypot(*target.shape)))
    near_pred, near_target = (cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in (pred_edge, target_edge))
    precision = np.count_nonzero(pred_edge & near_target) / counts[0]
    recall = np.count_nonzero(target_edge & near_pred) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score(
    preds: Sequence[np.ndarray | None] | None,
    targets: Sequence[np.ndarray],
    ignores: Sequence[np.ndarray | None] | None = None,
) -> VideoScore:
    """J and F of one object (or of the union of several) over the frames of one video.

    Args:
      preds: T masks bool[h, w] at the frames' own size, None for a frame without an answer; None for a failed sample.
      targets: T masks bool[h, w], all False where the target is absent. Frames may differ in size.
      ignores: T masks of pixels that count neither way, or None.

    Raises ValueError where there are no frames, or where their numbers or sizes differ.
    """
    count = len(targets)
    preds, ignores = [None] * count if preds is None else preds, [None] * count if ignores is None else ignores
    if not count or len(preds) != count or len(ignores) != count:
        raise ValueError(
            f"expected a mask for each of the frames, at least one; got {len(preds)} answers, {count} targets and"
            f" {len(ignores)} masks of ignored pixels"
        )
    frames = list(zip(preds, targets, ignores))
    return VideoScore(*(float(np.mean([figure(*frame) for frame in frames])) for figure in (region, boundary)))


def mean(scores: Sequence[VideoScore]) -> VideoScore:
    """J and F of a data set. Raises ValueError where there are no samples."""
    if len(scores) == 0:
        raise ValueError("no samples to measure; expected at least one VideoScore")
    return VideoScore(*np.mean(np.asarray(scores, np.float64), axis=0).tolist())


def _masks(pred, target, ignore) -> tuple[np.ndarray, np.ndarray] | None:
    """Answer and target without ignored pixels; None where there is no answer."""
    shapes = {name: x.shape for name, x in (("pred", pred), ("target", target), ("ignore", ignore)) if x is not None}
    if len(set(shapes.values())) != 1 or target.ndim != 2:
        raise ValueError(f"masks of one frame must have one size [h, w], the frame's own; got {shapes}")
    if pred is None:
        return None
    keep = True if ignore is None else ~ignore.astype(bool)
    return pred.astype(bool) & keep, target.astype(bool) & keep


def _edge(mask: np.ndarray) -> np.ndarray:
    """bool[h, w]: pixels that differ from their right, lower or lower right neighbour, as DAVIS finds boundaries.

    Beyond the frame a mask goes on as it ends, so the frame's edge is no boundary. Example row: 0 1 1 0 -> 1 0 1 0.
    """
    more = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ more[:-1, 1:]) | (mask ^ more[1:, :-1]) | (mask ^ more[1:, 1:])


def _disk(radius: int) -> np.ndarray:
    """uint8[2r+1, 2r+1]: 1 within `radius` of the centre."""
    square = np.arange(-radius, radius + 1) ** 2
    return (square[:, None] + square[None] <= radius**2).astype(np.uint8)
