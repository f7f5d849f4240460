"""SAM 2 on pictures: feature maps once for each picture, then masks for any number of prompts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.operations import Weights, conv
from dtr1_jax.specialists.sam2 import hiera, prompt_tokens, two_way_decoder
from dtr1_jax.specialists.sam2.picture_input import PictureInput
from dtr1_jax.specialists.sam2.spec import Sam2Spec
from dtr1_jax.types import pytree


@pytree
class Features:
    """The feature maps of B pictures that the mask decoder and the memory read.

    Attributes:
      fine: float[B, 4g, 4g, d / 8]
      middle: float[B, 2g, 2g, d / 4]
      coarse: float[B, g, g, d]
    """

    fine: jax.Array
    middle: jax.Array
    coarse: jax.Array


@pytree
class MaskPrompts:
    """Masks as prompts: float[B, M, 4g, 4g] logits, and bool[B, M], False for objects that have none."""

    logits: jax.Array
    used: jax.Array


def embed(w: Weights, spec: Sam2Spec, rules: PictureInput, pixels: jax.Array) -> Features:
    """The feature maps of uint8[B, S, S, 3] pictures, resized to the side S that the model reads."""
    dtype = w["no_memory_embedding"].dtype
    normalised = (pixels.astype(jnp.float32) * rules.scale - jnp.array(rules.mean)) / jnp.array(rules.std)
    fine, middle, coarse = hiera.pyramid(w, spec, hiera.stages(w, spec.hiera, normalised.astype(dtype)))
    return Features(conv(w, "mask_decoder.conv_s0", fine), conv(w, "mask_decoder.conv_s1", middle), coarse)


def segment(
    w: Weights,
    spec: Sam2Spec,
    features: Features,
    points: jax.Array,
    labels: jax.Array,
    masks: MaskPrompts | None = None,
) -> two_way_decoder.Candidates:
    """All candidate masks of M objects on each of B pictures.

    Args:
      w: weights by their names in the checkpoint.
      spec: sizes.
      features: of B pictures.
      points: float32[B, M, P, 2], x and y in pixels of the square picture that the model reads.
      labels: int32[B, M, P], as prompt_tokens names them.
      masks: mask prompts; None = no object has one.
    """
    b, m = labels.shape[:2]
    d, grid = spec.width, spec.grid
    image = features.coarse.reshape(b, 1, -1, d) + w["no_memory_embedding"][0, 0]
    dense = prompt_tokens.without_mask(w)
    if masks is not None:
        embedded = prompt_tokens.of_masks(w, spec, masks.logits.reshape(b * m, *masks.logits.shape[2:]))
        dense = jnp.where(masks.used[..., None, None], embedded.reshape(b, m, grid * grid, d), dense)
    tokens = prompt_tokens.of_points(w, spec, points, labels)
    return two_way_decoder.decode(
        w, spec, image + dense, features.fine, features.middle, prompt_tokens.of_picture(w, spec), tokens,
        labels != prompt_tokens.UNUSED,
    )  # fmt: skip
