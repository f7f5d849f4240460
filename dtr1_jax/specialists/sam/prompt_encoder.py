"""SAM's prompt encoder: points, boxes and masks become tokens and an embedding of the picture's cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.specialists import operations as ops
from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.sam.spec import SamSpec

_NAME = "prompt_encoder"
_POSITIONS = "shared_image_embedding.positional_embedding"
FREE, ABSENT = -1, -2  # labels of points: no point ("not a point"), and no token at all


def positions(w: Weights, place: jax.Array) -> jax.Array:
    """Random Fourier features (Tancik et al., arXiv 2006.10739) of places [..., 2] = x, y in [0, 1] -> [..., D]."""
    matrix = w[_POSITIONS].astype(jnp.float32)
    angle = 2 * np.pi * jnp.matmul(2 * place - 1, matrix, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def grid_positions(w: Weights, spec: SamSpec) -> jax.Array:
    """Positions of the picture's cells, float32[grid * grid, D]."""
    at = (jnp.arange(spec.grid) + 0.5) / spec.grid
    place = jnp.stack([jnp.tile(at, spec.grid), jnp.repeat(at, spec.grid)], axis=-1)
    return positions(w, place)


def tokens(
    w: Weights, spec: SamSpec, point_bnk2: jax.Array, label_bnk: jax.Array, box_bn4: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """The tokens of the prompts of n objects on each picture.

    Args:
      w: the weights.
      spec: the sizes.
      point_bnk2: x, y in pixels of the encoder's square.
      label_bnk: 1 = on the object, 0 = beside it, -1 = not a point (a token without a place), -2 = no token.
      box_bn4: x1, y1, x2, y2 in pixels of the encoder's square; None = no boxes.

    Returns (tokens [B, n, K, D], bool[B, n, K] True where there is a token), points before boxes.
    """
    point = _embedding(w, spec, point_bnk2)
    kinds = jnp.stack([w[f"{_NAME}.point_embed.{i}.weight"][0] for i in range(2)])
    point = point + kinds.astype(jnp.float32)[jnp.clip(label_bnk, 0, 1)]
    free = w[f"{_NAME}.not_a_point_embed.weight"][0].astype(jnp.float32)
    point = jnp.where((label_bnk == FREE)[..., None], free, point)
    real = label_bnk != ABSENT
    if box_bn4 is None:
        return point, real
    corner = _embedding(w, spec, box_bn4.reshape(*box_bn4.shape[:2], 2, 2))
    corner = corner + jnp.stack([w[f"{_NAME}.point_embed.{i}.weight"][0] for i in (2, 3)]).astype(jnp.float32)
    return jnp.concatenate([point, corner], 2), jnp.concatenate([real, jnp.ones(corner.shape[:3], bool)], 2)


def _embedding(w: Weights, spec: SamSpec, pixels: jax.Array) -> jax.Array:
    return positions(w, (pixels.astype(jnp.float32) + 0.5) / spec.image)


def no_mask(w: Weights) -> jax.Array:
    """What is added to each cell of a picture without a mask prompt, [D]."""
    return w[f"{_NAME}.no_mask_embed.weight"][0]


def mask_cells(w: Weights, spec: SamSpec, mask_nhw: jax.Array) -> jax.Array:
    """What is added to each cell of a picture with a mask prompt: logits [N, low, low] -> [N, grid, grid, D]."""
    act = ops.ACTIVATIONS[spec.mask_act]
    name = f"{_NAME}.mask_embed"
    x = mask_nhw[..., None].astype(w[f"{name}.conv1.weight"].dtype)
    x = act(ops.layer_norm(w, f"{name}.layer_norm1", ops.conv(w, f"{name}.conv1", x, 2), spec.prompt_eps))
    x = act(ops.layer_norm(w, f"{name}.layer_norm2", ops.conv(w, f"{name}.conv2", x, 2), spec.prompt_eps))
    return ops.conv(w, f"{name}.conv3", x)
