"""Chooses the patch of a query picture whose class embedding describes the object to look for."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_NEAR_BEST = 0.8  # share of the best overlap from which a patch's box fits the given box


def most_objectlike(objectness_bp: jax.Array) -> jax.Array:
    """int32[B]: the patch with the largest objectness, as transformers' `embed_image_query` of OWLv2 chooses."""
    return jnp.argmax(objectness_bp, axis=-1)


def in_box(embed_bpd: jax.Array, box_bp4: jax.Array, query_b4: jax.Array) -> jax.Array:
    """int32[B]: the patch that describes the object in a box, as transformers' OWL-ViT chooses.

    Training rewards one patch of an object; its neighbours predict nearly the same box, but their embedding is that of
    background. So of the patches whose predicted box fits the given box (IoU at least 0.8 of the best one's, GIoU where
    no box overlaps it) the one least similar to the picture's mean embedding is taken.

    Args:
      embed_bpd: float32[B, P, d], class embeddings of the patches.
      box_bp4: float32[B, P, 4], their boxes, centre x, centre y, width, height, in the square's unit frame.
      query_b4: float32[B, 4], the given boxes, x1,y1,x2,y2 in the square's unit frame.
    """
    iou_bp, giou_bp = _overlaps(box_bp4, query_b4)
    fit_bp = jnp.where(iou_bp.max(-1, keepdims=True) > 0, iou_bp, giou_bp)
    best_b1 = fit_bp.max(-1, keepdims=True)
    near_bp = fit_bp >= jnp.minimum(best_b1 * _NEAR_BEST, best_b1)  # GIoU may be negative
    likeness_bp = jnp.einsum("bd,bpd->bp", embed_bpd.mean(1), embed_bpd, precision="highest")
    return jnp.argmin(jnp.where(near_bp, likeness_bp, jnp.inf), axis=-1)


def _overlaps(box_bp4: jax.Array, query_b4: jax.Array) -> tuple[jax.Array, jax.Array]:
    """IoU and GIoU (Rezatofighi et al. 2019), float32[B, P] each, of boxes in centre form with one box in corners."""
    low, high = box_bp4[..., :2] - box_bp4[..., 2:] / 2, box_bp4[..., :2] + box_bp4[..., 2:] / 2
    low_q, high_q = query_b4[:, None, :2], query_b4[:, None, 2:]
    common = jnp.prod(jnp.maximum(jnp.minimum(high, high_q) - jnp.maximum(low, low_q), 0), -1)
    union = jnp.prod(high - low, -1) + jnp.prod(high_q - low_q, -1) - common
    hull = jnp.prod(jnp.maximum(high, high_q) - jnp.minimum(low, low_q), -1)
    iou = common / union
    return iou, iou - (hull - union) / hull
