"""Masks and tracks over the frames of a video: the target as arrays, and the scores of a group of answers.

One query at a time, so that memory holds one group only; frames and objects are padded to powers of two, so that a run
compiles few programs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from dtr1_jax.rewards.geometry import matched_track_iou, video_mask_iou
from dtr1_jax.rewards.host_jit import host_jit
from dtr1_jax.rewards.mask_cells import overlap_cells, resize_mask
from dtr1_jax.types import Target

MAX_TRACKS = 64  # at most so many tracks are matched, the largest first, because matching is cubic in their number


@dataclasses.dataclass(frozen=True)
class Truth:
    """The target of a video of T frames, each of its arrays with T frames.

    Attributes:
      masks: bool[T, h, w], pixels of the target.
      counted: bool[T, h, w], False at pixels that count neither way.
      tracks: float32[n, T, 4], boxes of the target's objects, unit frame, all 0 in frames where an object is absent.
      labelled: bool[T], the frames that count.
    """

    masks: np.ndarray
    counted: np.ndarray
    tracks: np.ndarray
    labelled: np.ndarray


def truth(target: Target, frames: int) -> Truth:
    """The target of a video, cut or padded to the `frames` frames that the policy saw; padding does not count.

    A target without masks and tracks is that of the first frame, and no other frame counts. `target.ignore` applies to
    the first frame.
    """
    if target.masks is None or target.tracks is None:
        masks, tracks, labelled = target.mask[None], target.boxes[:, None], np.ones(1, bool)
    else:
        masks, tracks = target.masks, target.tracks
        labelled = np.ones(len(masks), bool) if target.labelled is None else target.labelled
    masks, labelled = first_frames(masks, frames), first_frames(labelled, frames)
    counted = np.ones_like(masks)
    if target.ignore is not None:
        counted[0] = ~resize_mask(target.ignore, masks.shape[1:])
    return Truth(masks, counted, first_frames(tracks, frames, 1), labelled)


def first_frames(x: np.ndarray, frames: int, axis: int = 0) -> np.ndarray:
    """The first `frames` entries of an array along `axis`, padded with 0 or False if it has fewer."""
    x = x[(slice(None),) * axis + (slice(frames),)]
    return np.pad(x, [(0, frames - n if i == axis else 0) for i, n in enumerate(x.shape)])


def mask_scores(answers: Sequence[np.ndarray | None], target: Target, size: int, frames: int) -> np.ndarray:
    """float32[G]: mean IoU of the masks over the labelled frames, in pixels of the target's frames.

    Args:
      answers: G times bool[T, h, w] of any size; None if there is no answer, which scores 0.
      target: the target of the query.
      size: cells a side of the grid of each frame, see mask_cells.py; the scores do not depend on it.
      frames: number of frames that the policy saw.
    """
    right, count = truth(target, frames), next_power(frames)
    cells_gtchw = np.zeros((len(answers), count, 2, size, size), np.int32)
    for t in np.flatnonzero(right.labelled):
        for g, masks in enumerate(answers):
            if masks is not None:
                mask = masks[t] if t < len(masks) else None
                cells_gtchw[g, t] = overlap_cells(mask, right.masks[t], right.counted[t], size)
    iou_g = _mask_iou(cells_gtchw, first_frames(right.labelled, count))
    return np.where([masks is not None for masks in answers], iou_g, 0.0).astype(np.float32)


def track_scores(answers: Sequence[np.ndarray], target: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """float32[G]: IoU of tracks in the labelled frames, best one-to-one matching (geometry.matched_track_iou).

    Args:
      answers: G times float32[m, T, 4], all 0 in a frame without a box.
      target: float32[n, T, 4], the same for the target.
      labelled: bool[T].
    """
    frames, count = len(labelled), next_power(len(labelled))
    sides = [np.where(labelled[:, None], first_frames(x, frames, 1), 0.0) for x in (*answers, target)]
    sides = [first_frames(x, count, 1) for x in sides]
    m = min(MAX_TRACKS, max(8, next_power(max(map(len, sides)))))
    *pred_gmt4, target_nt4 = (first_frames(_largest(x, m), m).astype(np.float32) for x in sides)
    pred_gmt4 = np.stack(pred_gmt4)
    iou_g = _track_iou(pred_gmt4, _has_area(pred_gmt4), target_nt4, _has_area(target_nt4))
    *counts, target_count = (int(_has_area(x).any(1).sum()) for x in sides)
    return iou_g * [matched_share(n, target_count, m) for n in counts]


def matched_share(answers: int, targets: int, limit: int) -> float:
    """Factor of a matched IoU that was computed on at most `limit` objects a side, so that all objects count."""
    more = max(answers, targets)
    return min(more, limit) / more if more else 1.0


@host_jit
def _mask_iou(cells_gtchw, frame_t):
    def of_answer(cells_tchw):
        inter_thw, union_thw = cells_tchw[:, 0], cells_tchw[:, 1]
        return video_mask_iou(inter_thw, union_thw, union_thw > 0, frame_t)

    return jax.vmap(of_answer)(cells_gtchw)


@host_jit
def _track_iou(pred_gmt4, pred_valid_gmt, target_nt4, target_valid_nt):
    group = jax.vmap(matched_track_iou, in_axes=(0, 0, None, None))
    return group(pred_gmt4, pred_valid_gmt, target_nt4, target_valid_nt)


def _has_area(boxes: np.ndarray) -> np.ndarray:
    """bool[...] of float[..., 4]: True at boxes with an area."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _largest(tracks: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` tracks, those that cover most; float[n, T, 4]."""
    if len(tracks) <= limit:
        return tracks
    area = np.clip(tracks[..., 2:] - tracks[..., :2], 0, None).prod(-1).sum(1)
    return tracks[np.argsort(-area, kind="stable")[:limit]]


def next_power(count: int) -> int:
    """The smallest power of two that is at least `count`."""
    return 1 << max(count - 1, 0).bit_length()
