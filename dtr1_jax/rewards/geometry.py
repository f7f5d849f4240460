"""Overlap of boxes, tracks, points and masks, in jnp for one pair; callers vmap over queries and rollouts.

Boxes are x1,y1,x2,y2; both of a pair are in the same frame, whichever it is, since IoU does not depend on the unit.
Every result is finite: an overlap that is not defined (a box without area, a NaN coordinate) is 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def box_iou(a_4: jax.Array, b_4: jax.Array) -> jax.Array:
    """float[]: intersection over union of two boxes float[4], in [0, 1]; 0 if a box has no area."""
    low_2, high_2 = jnp.maximum(a_4[:2], b_4[:2]), jnp.minimum(a_4[2:], b_4[2:])
    inter = jnp.prod(jnp.maximum(high_2 - low_2, 0))
    union = _area(a_4) + _area(b_4) - inter
    ratio = inter / jnp.where(union > 0, union, 1)
    # Fused multiply-adds can round the union of equal boxes to just below their intersection, hence the minimum.
    return jnp.where(jnp.isfinite(ratio), jnp.minimum(ratio, 1.0), 0.0)


def box_iou_matrix(a_m4: jax.Array, b_n4: jax.Array) -> jax.Array:
    """float[M, N]: `box_iou` of every box of `a` with every box of `b`."""
    return jax.vmap(jax.vmap(box_iou, in_axes=(None, 0)), in_axes=(0, None))(a_m4, b_n4)


def matched_box_iou(
    pred_m4: jax.Array, pred_valid_m: jax.Array, target_n4: jax.Array, target_valid_n: jax.Array
) -> jax.Array:
    """float[]: sum of IoU over the best one-to-one matching, divided by the larger number of boxes, in [0, 1].

    So a missing box (recall) and a box too many (precision) cost the same. Two empty sets score 1, one empty set 0. The
    matching maximises the sum of IoU (Kuhn 1955, the Hungarian method, as `optax.assignment` computes it).

    Args:
      pred_m4: float[M, 4], padded.
      pred_valid_m: bool[M], True at real boxes. Example: [1 1 0 0].
      target_n4: float[N, 4], padded; N need not be M.
      target_valid_n: bool[N].
    """
    return _matched(box_iou_matrix(pred_m4, target_n4), pred_valid_m, target_valid_n)


def matched_track_iou(
    pred_mt4: jax.Array, pred_valid_mt: jax.Array, target_nt4: jax.Array, target_valid_nt: jax.Array
) -> jax.Array:
    """float[]: sum of vIoU over the best one-to-one matching of tracks, divided by the larger number of tracks.

    vIoU of two tracks (Zhang et al. 2020, VidSTG) is the sum over frames of their boxes' IoU, divided by the number of
    frames in which either has a box. A track without any box does not count. The result is in [0, 1]; no tracks on
    either side score 1, no tracks on one side 0. With T = 1 this is `matched_box_iou`.

    Args:
      pred_mt4: float[M, T, 4], padded.
      pred_valid_mt: bool[M, T], True if track m has a box in frame t. Example row: [0 1 1 1 0].
      target_nt4: float[N, T, 4], padded; N need not be M.
      target_valid_nt: bool[N, T].
    """
    score_mn = track_iou_matrix(pred_mt4, pred_valid_mt, target_nt4, target_valid_nt)
    return _matched(score_mn, pred_valid_mt.any(1), target_valid_nt.any(1))


def track_iou_matrix(a_mt4: jax.Array, a_valid_mt: jax.Array, b_nt4: jax.Array, b_valid_nt: jax.Array) -> jax.Array:
    """float[M, N]: vIoU of every track of `a` with every track of `b` (see `matched_track_iou`); 0 without any box."""
    pair = jax.vmap(jax.vmap(_track_iou, in_axes=(None, None, 0, 0)), in_axes=(0, 0, None, None))
    return pair(a_mt4, a_valid_mt, b_nt4, b_valid_nt)


def matched_points(
    point_p2: jax.Array,
    point_valid_p: jax.Array,
    target_n4: jax.Array,
    target_valid_n: jax.Array,
    slack: float = 0.0,
) -> jax.Array:
    """float[]: the sum of the matched points' scores, divided by max(number of points, number of target boxes).

    A point scores 1 inside its box and max(0, 1 - distance / slack) outside it, by its distance to the box; with slack
    = 0 it scores 0 outside. Points are matched one to one with boxes, so that the sum is the largest possible. A
    missing point therefore costs as much as a surplus one. No points and no boxes score 1.

    Args:
      point_p2: float[P, 2], x,y in the same coordinates as the boxes, padded.
      point_valid_p: bool[P], True at real points. Example: [1 1 0].
      target_n4: float[N, 4], boxes x1,y1,x2,y2, padded.
      target_valid_n: bool[N], True at real boxes.
      slack: distance, in the unit of the coordinates, at which a point outside scores 0.
    """
    beyond_pn2 = jnp.maximum(target_n4[None, :, :2] - point_p2[:, None], point_p2[:, None] - target_n4[None, :, 2:])
    distance_pn = jnp.linalg.norm(jnp.maximum(beyond_pn2, 0), axis=-1)
    score_pn = jnp.where(distance_pn > 0, jnp.maximum(1 - distance_pn / slack, 0) if slack else 0.0, 1.0)
    # A point with a NaN coordinate scores 0, and so does any point in a box without area.
    sound_pn = jnp.isfinite(distance_pn) & (jax.vmap(_area)(target_n4) > 0)[None]
    return _matched(jnp.where(sound_pn, score_pn, 0.0), point_valid_p, target_valid_n)


def mask_iou(pred_hw: jax.Array, target_hw: jax.Array, valid_hw: jax.Array) -> jax.Array:
    """float[]: intersection over union of two masks, in [0, 1]: sum of min(pred, target) / sum of max(pred, target).

    For 0/1 masks this is the plain IoU. Two empty masks score 1, one empty mask 0. The reward passes the pixels of the
    intersection and of the union that mask_cells.py counted in each cell; an intersection is never larger than the
    union around it, so the result is the sum of the one over the sum of the other: the IoU in pixels.

    Args:
      pred_hw: bool[h, w], the answer, or int[h, w], pixels of the intersection in each cell.
      target_hw: bool[h, w], the target, or int[h, w], pixels of the union in each cell.
      valid_hw: bool[h, w], False at cells that count neither way (padding, ignored regions).
    """
    pred_hw, target_hw = (jnp.where(valid_hw, x.astype(jnp.float32), 0.0) for x in (pred_hw, target_hw))
    union = jnp.maximum(pred_hw, target_hw).sum()
    inter = jnp.minimum(pred_hw, target_hw).sum()
    return jnp.where(union == 0, 1.0, inter / jnp.where(union > 0, union, 1))


def video_mask_iou(pred_thw: jax.Array, target_thw: jax.Array, valid_thw: jax.Array, frame_t: jax.Array) -> jax.Array:
    """float[]: mean of `mask_iou` over the frames that have a target mask, in [0, 1].

    A frame in which the target is absent counts like any other: it scores 1 where the answer's mask is empty, else 0.
    Without any annotated frame the score is 0.

    Args:
      pred_thw: bool or int[T, h, w], as pred_hw of `mask_iou`, padded in time.
      target_thw: bool or int[T, h, w], as target_hw of `mask_iou`.
      valid_thw: bool[T, h, w], False at cells that count neither way.
      frame_t: bool[T], True at annotated frames. Example: [1 1 1 0].
    """
    iou_t = jax.vmap(mask_iou)(pred_thw, target_thw, valid_thw)
    return jnp.where(frame_t, iou_t, 0.0).sum() / jnp.maximum(frame_t.sum(), 1)


def _track_iou(a_t4, a_valid_t, b_t4, b_valid_t):
    """vIoU of two tracks; 0 if neither has a box."""
    iou_t = jnp.where(a_valid_t & b_valid_t, jax.vmap(box_iou)(a_t4, b_t4), 0.0)
    return iou_t.sum() / jnp.maximum((a_valid_t | b_valid_t).sum(), 1)


def _matched(score_mn, valid_m, valid_n):
    """Sum of the best one-to-one matching over the larger number of real rows and columns; 1 where there are none."""
    # A pair with padding scores 0, so the matching never prefers it to a real pair.
    score_mn = jnp.where(valid_m[:, None] & valid_n[None, :], score_mn, 0.0)
    row_k, column_k = optax.assignment.hungarian_algorithm(-score_mn)
    count = jnp.maximum(valid_m.sum(), valid_n.sum())
    return jnp.where(count == 0, 1.0, score_mn[row_k, column_k].sum() / jnp.maximum(count, 1))


def _area(box_4):
    """Area of a box; 0 if its corners are swapped."""
    return jnp.prod(jnp.maximum(box_4[2:] - box_4[:2], 0))
