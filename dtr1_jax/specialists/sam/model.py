"""SAM as two functions: a picture's embedding, which is computed once, and the masks of prompts on it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.sam import mask_decoder, prompt_encoder, tiny_vit, vit_encoder
from dtr1_jax.specialists.sam.spec import SamSpec, TinyVitSpec


def embed(w: Weights, spec: SamSpec, image_bhw3: jax.Array, size_b2: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The embeddings of pictures.

    Args:
      w: the weights.
      spec: the sizes.
      image_bhw3: uint8[B, image, image, 3], each picture at the top left, at its resized size.
      size_b2: int32[B, 2], rows and columns of the resized pictures.
      dtype: in which the encoder computes.

    Returns dtype[B, grid * grid, D].
    """
    x = (image_bhw3.astype(jnp.float32) / 255 - jnp.asarray(spec.mean)) / jnp.asarray(spec.std)
    at = jnp.arange(spec.image)
    inside = (at[:, None] < size_b2[:, :1, None]) & (at < size_b2[:, 1:, None])
    x = jnp.where(inside[..., None], x, 0.0)  # the padding is 0 after the colours are normalised
    if isinstance(spec.encoder, TinyVitSpec):
        cells = tiny_vit.encode(w, spec, x, dtype)
    else:
        cells = vit_encoder.encode(w, spec, x)
    return cells.reshape(len(cells), spec.grid**2, spec.width)


def segment(
    w: Weights,
    spec: SamSpec,
    cell_bgd: jax.Array,
    point_bnk2: jax.Array,
    label_bnk: jax.Array,
    box_bn4: jax.Array | None,
    mask_bnhw: jax.Array | None,
    multimask: bool,
) -> tuple[jax.Array, jax.Array]:
    """The masks of n objects on each picture, low resolution.

    Args:
      w: the weights.
      spec: the sizes.
      cell_bgd: embeddings of the pictures, from `embed`.
      point_bnk2, label_bnk, box_bn4: prompts as `prompt_encoder.tokens` takes them, pixels of the encoder's square.
      mask_bnhw: logits [B, n, low, low]; None = no masks.
      multimask: True gives `spec.masks` candidates, False a single mask.

    Returns (float32[B, n, m, low, low] logits, float32[B, n, m] expected IoU).
    """
    token, real = prompt_encoder.tokens(w, spec, point_bnk2, label_bnk, box_bn4)
    return mask_decoder.decode(w, spec, cell_bgd, token, real, mask_bnhw, multimask)


def best(logit_bnmhw: jax.Array, iou_bnm: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The candidate with the highest expected IoU of each object: ([B, n, low, low], [B, n])."""
    choice = jnp.argmax(iou_bnm, axis=-1)[..., None]
    logits = jnp.take_along_axis(logit_bnmhw, choice[..., None, None], axis=2)[:, :, 0]
    return logits, jnp.take_along_axis(iou_bnm, choice, axis=-1)[..., 0]
