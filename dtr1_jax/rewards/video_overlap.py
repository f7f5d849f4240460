"""Masks and tracks over the frames of a video: what is right, and the columns of a group of answers.

One query at a time, so that memory is that of one group; frames and objects are padded to powers of two, so that a run
compiles few programs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import jax
import numpy as np

from dtr1_jax.rewards.geometry import matched_track_iou, video_mask_iou
from dtr1_jax.types import Example, Target

MAX_TRACKS = 64  # matching is cubic in their number; of more, those that cover most are kept


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is right about a video of T frames.

    Attributes:
      masks: bool[T, h, w], the wanted pixels.
      counted: bool[T, h, w], False at pixels that count neither way.
      tracks: float32[n, T, 4], boxes of the wanted objects, unit frame, all 0 where they are not seen.
      labelled: bool[T], the frames that count.
    """

    masks: np.ndarray
    counted: np.ndarray
    tracks: np.ndarray
    labelled: np.ndarray


def truth(target: Target, frames: int) -> Truth:
    """The target of a video of which the policy saw `frames` frames.

    A target that is not told over time is that of the first frame, and no other counts. One that is told for another
    number of frames is cut, or its frames that are missing do not count. `ignore` is of the first frame.
    """
    if target.masks is None or target.tracks is None:
        masks, tracks, labelled = target.mask[None], target.boxes[:, None], np.ones(1, bool)
    else:
        masks, tracks = target.masks, target.tracks
        labelled = np.ones(len(masks), bool) if target.labelled is None else target.labelled
    masks, labelled = over(masks, frames), over(labelled, frames)
    counted = np.ones_like(masks)
    if target.ignore is not None:
        counted[0] = ~fit(target.ignore, masks.shape[1:])
    return Truth(masks, counted, over(tracks, frames, 1), labelled)


def over(x: np.ndarray, frames: int, axis: int = 0) -> np.ndarray:
    """The first `frames` along an axis; 0 or False in frames that are missing."""
    x = x[(slice(None),) * axis + (slice(frames),)]
    return np.pad(x, [(0, frames - n if i == axis else 0) for i, n in enumerate(x.shape)])


def fit(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask bool[h, w] at another size, by its nearest pixels; as it is where it has that size."""
    if mask.shape == tuple(size):
        return mask
    if not mask.size or not all(size):
        return np.zeros(size, bool)
    return cv2.resize(mask.astype(np.uint8), tuple(size)[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0


def coverage(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool[h, w] on a fixed grid: float32[size, size], the share of each cell that it covers.

    A side longer than `size` is shrunk to it, each side by itself (IoU does not mind an unequal stretch); a shorter one
    keeps its pixels and is padded at right or below, so that small pictures are compared exactly. Shares rather than
    nearest pixels, so that a thin or tiny object never vanishes: a target that became empty would reward empty answers.
    """
    h, w = mask.shape
    cells = cv2.resize(mask.astype(np.float32), (min(w, size), min(h, size)), interpolation=cv2.INTER_AREA)
    return np.pad(cells, [(0, size - n) for n in cells.shape])


def mask_scores(answers: Sequence[np.ndarray | None], target: Target, size: int, frames: int) -> np.ndarray:
    """float32[G]: mean IoU of region over the labelled frames, on a grid of at most `size` pixels a side.

    Args:
      answers: G times bool[T, h, w] of any size; None where there is no answer, which scores 0.
    """
    right = truth(target, frames)
    shape, count = right.masks.shape[1:], _power(frames)
    seen = np.flatnonzero(right.labelled)
    pred_gthw = np.zeros((len(answers), count, size, size), np.float32)
    target_thw, valid_thw = np.zeros((count, size, size), np.float32), np.zeros((count, size, size), bool)
    for t in seen:
        keep = right.counted[t]
        target_thw[t], valid_thw[t] = coverage(right.masks[t] & keep, size), coverage(keep, size) > 0
        for g, masks in enumerate(answers):
            if masks is not None and t < len(masks):
                pred_gthw[g, t] = coverage(fit(masks[t], shape) & keep, size)
    found_g = jax.device_get(_mask_iou(pred_gthw, target_thw, valid_thw, over(right.labelled, count)))
    return np.where([masks is not None for masks in answers], found_g, 0.0).astype(np.float32)


def track_scores(answers: Sequence[np.ndarray], wanted: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """float32[G]: matched IoU of tracks (geometry.matched_track_iou) in the labelled frames.

    Args:
      answers: G times float32[m, T, 4], all 0 in a frame without a box.
      wanted: float32[n, T, 4].
      labelled: bool[T].
    """
    frames = len(labelled)
    padded = [over(np.where(labelled[:, None], over(x, frames, 1), 0.0), _power(frames), 1) for x in (*answers, wanted)]
    m = min(MAX_TRACKS, max(8, _power(max(map(len, padded)))))
    *pred_gmt4, wanted_nt4 = (over(_largest(x, m), m).astype(np.float32) for x in padded)
    pred_gmt4 = np.stack(pred_gmt4)
    found_g = jax.device_get(_track_iou(pred_gmt4, _there(pred_gmt4), wanted_nt4, _there(wanted_nt4)))
    *counts, wanted_count = (int(_there(x).any(1).sum()) for x in padded)
    return found_g * [kept_share(count, wanted_count, m) for count in counts]


def kept_share(answered: int, wanted: int, most: int) -> float:
    """What a matched IoU of at most `most` on each side is worth where there were more: all of them count."""
    more = max(answered, wanted)
    return min(more, most) / more if more else 1.0


def scene_tracks(example: Example, frames: int) -> np.ndarray:
    """float32[n, T, 4]: the tracks of all annotated objects that are to be seen in some frame."""
    things = [np.tile(x.box, (frames, 1)) if x.boxes is None else over(x.boxes, frames) for x in example.scene]
    tracks = np.array(things, np.float32).reshape(-1, frames, 4)
    return tracks[_there(tracks).any(1)]


@jax.jit
def _mask_iou(pred_gthw, target_thw, valid_thw, frame_t):
    return jax.vmap(video_mask_iou, in_axes=(0, None, None, None))(pred_gthw, target_thw, valid_thw, frame_t)


@jax.jit
def _track_iou(pred_gmt4, pred_valid_gmt, wanted_nt4, wanted_valid_nt):
    group = jax.vmap(matched_track_iou, in_axes=(0, 0, None, None))
    return group(pred_gmt4, pred_valid_gmt, wanted_nt4, wanted_valid_nt)


def _there(boxes: np.ndarray) -> np.ndarray:
    """Which boxes have an area, bool[...] of float[..., 4]."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _largest(tracks: np.ndarray, most: int) -> np.ndarray:
    if len(tracks) <= most:
        return tracks
    area = np.clip(tracks[..., 2:] - tracks[..., :2], 0, None).prod(-1).sum(1)
    return tracks[np.argsort(-area, kind="stable")[:most]]


def _power(count: int) -> int:
    """The next power of two."""
    return 1 << max(count - 1, 0).bit_length()
