"""Overlap of boxes and masks: jnp, written for one pair; callers vmap over queries and rollouts.

Boxes are x1,y1,x2,y2 in any one frame (IoU does not depend on the unit). Nothing here returns a non-finite number:
where an overlap is not defined (a box without area, a NaN coordinate) it is 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def box_iou(a_4: jax.Array, b_4: jax.Array) -> jax.Array:
    """float[]: intersection over union of two boxes float[4], in [0, 1]; 0 where a box has no area."""
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

    A missing box and a box too many thus cost the same. Both sets empty = 1, one empty = 0. The matching maximises the
    sum of IoU (Kuhn 1955, the Hungarian method, as `optax.assignment` computes it).

    Args:
      pred_m4: float[M, 4], padded.
      pred_valid_m: bool[M], True at real boxes. Example: [1 1 0 0].
      target_n4: float[N, 4], padded; N need not be M.
      target_valid_n: bool[N].
    """
    # A pair with padding is worth nothing, so the padding takes what is left over and never costs a real pair.
    iou_mn = jnp.where(pred_valid_m[:, None] & target_valid_n[None, :], box_iou_matrix(pred_m4, target_n4), 0.0)
    row_k, column_k = optax.assignment.hungarian_algorithm(-iou_mn)
    count = jnp.maximum(pred_valid_m.sum(), target_valid_n.sum())
    return jnp.where(count == 0, 1.0, iou_mn[row_k, column_k].sum() / jnp.maximum(count, 1))


def mask_iou(pred_hw: jax.Array, target_hw: jax.Array, valid_hw: jax.Array) -> jax.Array:
    """float[]: intersection over union of two masks, in [0, 1]: sum of min(pred, target) / sum of max(pred, target).

    For 0/1 masks this is the plain IoU; for shares of coverage in [0, 1] it is the weighted Jaccard index (Ruzicka
    similarity). Both masks empty = 1, one empty = 0.

    Args:
      pred_hw: bool or float[h, w], share of each cell that the answer covers.
      target_hw: likewise, the target.
      valid_hw: bool[h, w], False at cells that count neither way (padding, ignored regions).
    """
    pred_hw, target_hw = (jnp.where(valid_hw, x.astype(jnp.float32), 0.0) for x in (pred_hw, target_hw))
    union = jnp.maximum(pred_hw, target_hw).sum()
    inter = jnp.minimum(pred_hw, target_hw).sum()
    return jnp.where(union == 0, 1.0, inter / jnp.where(union > 0, union, 1))


def _area(box_4):
    """Area of a box; 0 where its corners are swapped."""
    return jnp.prod(jnp.maximum(box_4[2:] - box_4[:2], 0))
