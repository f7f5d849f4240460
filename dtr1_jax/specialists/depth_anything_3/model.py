"""Depth Anything 3 for single pictures as a function of a flat dict of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.depth_anything import dpt_head
from dtr1_jax.specialists.depth_anything_3.spec import MonoSpec
from dtr1_jax.specialists.depth_anything_3.weights import BACKBONE, SKY
from dtr1_jax.specialists.dinov2 import model as dinov2
from dtr1_jax.specialists.operations import Weights


def forward(w: Weights, spec: MonoSpec, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Estimates depth and sky.

    Args:
      w: the weights.
      spec: the sizes.
      pixels: [B, h, w, 3], normalised; h and w are multiples of the patch.

    Returns (depth float32[B, h, w], above 0 and without a unit, far = large;
    sky float32[B, h, w], at least 0, large = sky).
    """
    height, width = (side // spec.backbone.patch for side in pixels.shape[1:3])
    states = dinov2.encode(w, spec.backbone, pixels, spec.taps, BACKBONE)
    normed = [dinov2.final_norm(w, spec.backbone, states[tap], BACKBONE)[:, 1:] for tap in spec.taps]
    x = dpt_head.features(w, spec.head, normed, height, width, spec.backbone.patch)
    depth = jnp.exp(dpt_head.last_convolutions(w, "head.conv2", "head.conv3", x))
    return depth, jax.nn.relu(dpt_head.last_convolutions(w, *SKY, x))
