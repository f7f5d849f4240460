"""Depth Anything as a function of a flat dict of weights."""

from __future__ import annotations

import jax

from dtr1_jax.specialists.depth_anything import dpt_head
from dtr1_jax.specialists.depth_anything.spec import DepthSpec
from dtr1_jax.specialists.depth_anything.weights import BACKBONE
from dtr1_jax.specialists.dinov2 import model as dinov2
from dtr1_jax.specialists.operations import Weights


def forward(w: Weights, spec: DepthSpec, pixels: jax.Array) -> jax.Array:
    """Estimates depth.

    Args:
      w: the weights, fused.
      spec: the sizes.
      pixels: [B, h, w, 3], normalised; h and w are multiples of the patch.

    Returns float32[B, h, w]: disparity without a unit (near = large), or metres of a metric model (far = large).
    """
    height, width = (side // spec.backbone.patch for side in pixels.shape[1:3])
    states = dinov2.encode(w, spec.backbone, pixels, spec.taps, BACKBONE)
    kept = [states[tap] for tap in spec.taps]
    if spec.normed:
        kept = [dinov2.final_norm(w, spec.backbone, state, BACKBONE) for state in kept]
    x = dpt_head.features(w, spec.head, [state[:, 1:] for state in kept], height, width, spec.backbone.patch)
    x = dpt_head.last_convolutions(w, "head.conv2", "head.conv3", x)
    return (jax.nn.sigmoid(x) if spec.metric else jax.nn.relu(x)) * spec.most
