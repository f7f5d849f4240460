"""The prompt encoder of SAM 2: points, corners of boxes and masks become tokens and maps for the mask decoder.

A box is two points, with the labels TOP_LEFT and BOTTOM_RIGHT. Each object has one more point with the label NO_POINT.
Unused places have the label UNUSED, and the decoder does not attend to them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.specialists.operations import ACTIVATIONS, Weights, conv, layer_norm
from dtr1_jax.specialists.sam2.spec import Sam2Spec
from dtr1_jax.specialists.sam2.weights import PICTURE_WAVES, PROMPT_WAVES

UNUSED, NO_POINT, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = -10, -1, 0, 1, 2, 3
_ROOT = "prompt_encoder"


def of_points(w: Weights, spec: Sam2Spec, points: jax.Array, labels: jax.Array) -> jax.Array:
    """Tokens float[..., P, d] of points.

    Args:
      w: weights by their names in the checkpoint.
      spec: sizes.
      points: float32[..., P, 2], x and y in pixels of the square picture that the model reads.
      labels: int32[..., P], the labels above.
    """
    place = w[f"{_ROOT}.point_embed.weight"]
    wave = _waves(w[PROMPT_WAVES], (points + 0.5) / spec.image_size).astype(place.dtype)
    token = wave + place[jnp.maximum(labels, 0)] * (labels >= 0)[..., None].astype(place.dtype)
    return jnp.where((labels == NO_POINT)[..., None], w[f"{_ROOT}.not_a_point_embed.weight"][0], token)


def of_masks(w: Weights, spec: Sam2Spec, logits: jax.Array) -> jax.Array:
    """Maps float[n, g, g, d] of mask logits float[n, 4g, 4g]."""
    at, act = f"{_ROOT}.mask_embed", ACTIVATIONS[spec.prompt_activation]
    x = logits[..., None].astype(w[f"{at}.conv1.weight"].dtype)
    x = act(layer_norm(w, f"{at}.layer_norm1", conv(w, f"{at}.conv1", x, stride=2), spec.prompt_eps))
    x = act(layer_norm(w, f"{at}.layer_norm2", conv(w, f"{at}.conv2", x, stride=2), spec.prompt_eps))
    return conv(w, f"{at}.conv3", x)


def without_mask(w: Weights) -> jax.Array:
    """float[d], what stands at every position for an object without a mask prompt."""
    return w[f"{_ROOT}.no_mask_embed.weight"][0]


def of_picture(w: Weights, spec: Sam2Spec) -> jax.Array:
    """float32[g * g, d], the positions of the picture's map."""
    at = (np.arange(spec.grid, dtype=np.float32) + 0.5) / spec.grid
    x, y = np.meshgrid(at, at)
    return _waves(w[PICTURE_WAVES], jnp.asarray(np.stack([x, y], -1).reshape(-1, 2)))


def _waves(frequencies: jax.Array, at: jax.Array) -> jax.Array:
    """float32[..., d] of positions in [0, 1]: sines and cosines of random frequencies (arXiv 2006.10739)."""
    angle = jnp.einsum(
        "...i,ij->...j", 2 * at - 1, frequencies.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST
    )
    angle = 2 * math.pi * angle
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
