"""J and F of video segmentation, in the video's own pixels; J&F is their mean.

The definitions are those of DAVIS (Perazzi et al. 2016; Pont-Tuset et al. 2017; davis2017/metrics.py of
davis2017-evaluation), which Ref-YouTube-VOS, MeViS and ReVOS use too:

    J  region similarity: intersection / union of the two masks, 1 if both are empty
    F  boundary accuracy: 2 P R / (P + R). P is the share of the answer's boundary pixels that have a boundary pixel of
       the target within ceil(0.008 * diagonal) pixels, R the same with answer and target exchanged. F is 1 if neither
       mask has a boundary, and 0 if only one has. A mask that fills the frame has no boundary.

The J and F of a sample are means over its frames, those of a data set means over its samples. Every annotated frame
counts, also without a target in it. (DAVIS's semi-supervised track leaves out the first and the last frame, for which
it wants no prediction.) Ignored pixels are background in both masks. A frame without an answer counts 0, even if it has
no target, and a failed sample counts 0 in every frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

RADIUS = 0.008  # as a share of the frame's diagonal


class VideoScore(NamedTuple):
    """J and F of one sample, each in [0, 1]."""

    j: float
    f: float


def region(pred: np.ndarray | None, target: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """J of one frame, the region similarity of DAVIS: the IoU of two masks bool[h, w], in [0, 1].

    Two empty masks score 1. `pred` None means that there is no answer, which scores 0. Pixels that are True in `ignore`
    count in neither mask. Raises ValueError if the sizes differ.
    """
    masks = _masks(pred, target, ignore)
    if masks is None:
        return 0.0
    union = np.count_nonzero(masks[0] | masks[1])
    return np.count_nonzero(masks[0] & masks[1]) / union if union else 1.0


def boundary(pred: np.ndarray | None, target: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """F of one frame, in [0, 1]. Masks are bool[h, w]; `pred` None: no answer. Raises ValueError if sizes differ."""
    masks = _masks(pred, target, ignore)
    if masks is None:
        return 0.0
    pred_edge, target_edge = (_edge(mask) for mask in masks)
    counts = np.count_nonzero(pred_edge), np.count_nonzero(target_edge)
    if not any(counts):
        return 1.0
    if not all(counts):
        return 0.0
    radius = math.ceil(RADIUS * math.hypot(*target.shape))
    disk, part = _disk(radius), _around(pred_edge | target_edge, radius)
    pred_edge, target_edge = pred_edge[part], target_edge[part]
    near_pred, near_target = (cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in (pred_edge, target_edge))
    precision = np.count_nonzero(pred_edge & near_target) / counts[0]
    recall = np.count_nonzero(target_edge & near_pred) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score(
    preds: Sequence[np.ndarray | None] | None,
    targets: Sequence[np.ndarray],
    ignores: Sequence[np.ndarray | None] | None = None,
) -> VideoScore:
    """Mean J and F over the frames of one video, for one object or the union of several.

    Args:
      preds: T masks bool[h, w] at the frames' own size, with None for a frame without an answer; or None for a failed
        sample.
      targets: T masks bool[h, w], all False in a frame without the target. Frames may differ in size.
      ignores: T masks bool[h, w] of pixels that do not count (or None for a frame without any), or None.

    Raises ValueError if there are no frames, or if the numbers or sizes of the masks differ.
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


def _masks(pred, target, ignore) -> tuple[np.ndarray, np.ndarray] | None:
    """Answer and target without ignored pixels; None without an answer."""
    shapes = {name: x.shape for name, x in (("pred", pred), ("target", target), ("ignore", ignore)) if x is not None}
    if len(set(shapes.values())) != 1 or target.ndim != 2:
        raise ValueError(f"masks of one frame must have one size [h, w], the frame's own; got {shapes}")
    if pred is None:
        return None
    keep = True if ignore is None else ~ignore.astype(bool)
    return pred.astype(bool) & keep, target.astype(bool) & keep


def _edge(mask: np.ndarray) -> np.ndarray:
    """bool[h, w], pixels that differ from their right, lower or lower right neighbour: the boundary in DAVIS's code.

    The mask is continued beyond the frame, so the edge of the frame is no boundary. Example row: 0 1 1 0 -> 1 0 1 0.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def _around(edges: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The part of a frame with all True pixels and a margin of pixels around them: the rest of it decides nothing."""
    rows, columns = np.flatnonzero(edges.any(1)), np.flatnonzero(edges.any(0))
    return tuple(slice(max(0, int(found[0]) - margin), int(found[-1]) + margin + 1) for found in (rows, columns))


def _disk(radius: int) -> np.ndarray:
    """uint8[2r+1, 2r+1], 1 within `radius` of the centre."""
    square = np.arange(-radius, radius + 1) ** 2
    return (square[:, None] + square[None] <= radius**2).astype(np.uint8)
