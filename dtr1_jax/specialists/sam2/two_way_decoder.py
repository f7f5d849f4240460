"""The mask decoder of SAM 2: tokens and picture attend to one another, and mask tokens become masks.

Arrays start with the axes [B, M]: pictures, and objects of a picture. An axis M or B of size 1 is shared by all objects
or pictures, so that the first layer projects a picture once for all its objects.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.operations import Weights, conv_transpose, layer_norm, linear
from dtr1_jax.specialists.sam2.spec import Decoder, Sam2Spec
from dtr1_jax.types import pytree

_ROOT = "mask_decoder"
_EPS, _UPSCALE_EPS = 1e-5, 1e-6
_MASKED = -1e9


@pytree
class Candidates:
    """Masks of each object. K = 1 + number of candidates, and the first is the single mask; `choose` removes this axis.

    Attributes:
      logits: float[B, M, K, 4g, 4g], above 0 inside the object.
      ious: float32[B, M, K], the expected IoU with the truth.
      tokens: float[B, M, K, d], from which object pointers are made.
      present: float32[B, M], the logit that the object can be seen.
    """

    logits: jax.Array
    ious: jax.Array
    tokens: jax.Array
    present: jax.Array


def decode(
    w: Weights, spec: Sam2Spec, image: jax.Array, fine: jax.Array, middle: jax.Array, positions: jax.Array,
    prompts: jax.Array, used: jax.Array,
) -> Candidates:  # fmt: skip
    """Masks of every object.

    Args:
      w: weights by their names in the checkpoint.
      spec: sizes.
      image: float[B, 1 or M, g * g, d], the picture with its mask prompts added.
      fine, middle: float[B or 1, 4g, 4g, d / 8] and float[B or 1, 2g, 2g, d / 4], the projected finer maps.
      positions: float[g * g, d], of the picture.
      prompts: float[B, M, P, d], tokens of the prompts.
      used: bool[B, M, P], False for tokens that nothing attends to.
    """
    sizes, count = spec.decoder, spec.decoder.candidates + 1
    own = jnp.concatenate([w[f"{_ROOT}.{n}.weight"] for n in ("obj_score_token", "iou_token", "mask_tokens")])
    b, m = prompts.shape[:2]
    tokens = jnp.concatenate([jnp.broadcast_to(own, (b, m, *own.shape)), prompts], axis=2)
    seen = jnp.concatenate([jnp.ones((b, m, len(own)), bool), used], axis=2)
    bias = jnp.where(seen, 0.0, _MASKED)[:, :, None, None]
    tokens, image = _transformer(w, sizes, tokens, image, positions.astype(image.dtype), bias)
    up = _upscaled(w, spec, image, fine, middle)
    queries = jnp.stack(
        [mlp(w, f"{_ROOT}.output_hypernetworks_mlps.{i}", tokens[:, :, 2 + i], 3) for i in range(count)], axis=2
    )
    logits = jnp.einsum("bmkc,bmyxc->bmkyx", queries, up, precision=jax.lax.Precision.HIGHEST)
    ious = jax.nn.sigmoid(mlp(w, f"{_ROOT}.iou_prediction_head", tokens[:, :, 1], sizes.iou_depth))
    present = mlp(w, f"{_ROOT}.pred_obj_score_head", tokens[:, :, 0], 3)[..., 0]
    return Candidates(
        logits, ious.astype(jnp.float32), tokens[:, :, 2 : 2 + count], present.astype(jnp.float32)
    )  # fmt: skip


def choose(sizes: Decoder, candidates: Candidates, several: jax.Array) -> Candidates:
    """One mask for each object.

    Where `several` (bool[B, M]) holds, the candidate with the highest expected IoU, among all but the first. Elsewhere
    the first, or, if that is unstable and the model asks for it, the same best of the others. The token is that of the
    first wherever `several` does not hold, as in the reference implementation.
    """
    logits, ious = candidates.logits, candidates.ious
    best = 1 + jnp.argmax(ious[..., 1:], axis=-1)
    single = jnp.zeros_like(best)
    if sizes.dynamic:
        inner, outer = (
            jnp.sum(logits[:, :, 0] > level, axis=(-2, -1)) for level in (sizes.stable_delta, -sizes.stable_delta)
        )
        share = jnp.where(outer > 0, inner / jnp.maximum(outer, 1), 1.0)
        single = jnp.where(share >= sizes.stable_share, 0, best)
    index = jnp.where(several, best, single)
    token = jnp.where(several, best, 0)
    return Candidates(
        logits=jnp.take_along_axis(logits, index[..., None, None, None], axis=2)[:, :, 0],
        ious=jnp.take_along_axis(ious, index[..., None], axis=2)[..., 0],
        tokens=jnp.take_along_axis(candidates.tokens, token[..., None, None], axis=2)[:, :, 0],
        present=candidates.present,
    )


def mlp(w: Weights, name: str, x: jax.Array, depth: int) -> jax.Array:
    """`depth` linear layers with ReLU between them."""
    x = jax.nn.relu(linear(w, f"{name}.proj_in", x))
    for i in range(depth - 2):
        x = jax.nn.relu(linear(w, f"{name}.layers.{i}", x))
    return linear(w, f"{name}.proj_out", x)


def _transformer(
    w: Weights, sizes: Decoder, prompts: jax.Array, image: jax.Array, positions: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    root, heads = f"{_ROOT}.transformer", sizes.heads
    tokens = prompts
    for i in range(sizes.layers):
        at = f"{root}.layers.{i}"
        query = tokens if i == 0 else tokens + prompts
        y = _attend(w, f"{at}.self_attn", heads, query, query, tokens, bias)
        tokens = layer_norm(w, f"{at}.layer_norm1", y if i == 0 else tokens + y, _EPS)
        y = _attend(w, f"{at}.cross_attn_token_to_image", heads, tokens + prompts, image + positions, image)
        tokens = layer_norm(w, f"{at}.layer_norm2", tokens + y, _EPS)
        tokens = layer_norm(w, f"{at}.layer_norm3", tokens + mlp(w, f"{at}.mlp", tokens, sizes.layers), _EPS)
        y = _attend(w, f"{at}.cross_attn_image_to_token", heads, image + positions, tokens + prompts, tokens, bias)
        image = layer_norm(w, f"{at}.layer_norm4", image + y, _EPS)
    y = _attend(w, f"{root}.final_attn_token_to_image", heads, tokens + prompts, image + positions, image)
    return layer_norm(w, f"{root}.layer_norm_final_attn", tokens + y, _EPS), image


def _attend(
    w: Weights, name: str, heads: int, q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    """[B, M, q, d] attends to [B, M, k, d]; `bias` broadcasts to [B, M, heads, q, k]."""
    q, k, v = (
        y.reshape(*y.shape[:-1], heads, -1)
        for y in (linear(w, f"{name}.{part}_proj", x) for part, x in (("q", q), ("k", k), ("v", v)))
    )
    q = q * q.shape[-1] ** -0.5
    score = jnp.einsum(
        "bmqnh,bmknh->bmnqk", q, k, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )
    weight = jax.nn.softmax(score if bias is None else score + bias, axis=-1).astype(v.dtype)
    out = jnp.einsum("bmnqk,bmknh->bmqnh", weight, v, precision=jax.lax.Precision.HIGHEST)
    return linear(w, f"{name}.o_proj", out.reshape(*out.shape[:3], -1))


def _upscaled(w: Weights, spec: Sam2Spec, image: jax.Array, fine: jax.Array, middle: jax.Array) -> jax.Array:
    """float[B, M, 4g, 4g, d / 8]: the picture at four times the size, with the finer maps added."""
    b, m, _, d = image.shape
    up = conv_transpose(w, f"{_ROOT}.upscale_conv1", image.reshape(b * m, spec.grid, spec.grid, d))
    up = up.reshape(b, m, *up.shape[1:]) + middle[:, None]
    up = jax.nn.gelu(layer_norm(w, f"{_ROOT}.upscale_layer_norm", up, _UPSCALE_EPS), approximate=False)
    up = conv_transpose(w, f"{_ROOT}.upscale_conv2", up.reshape(b * m, *up.shape[2:]))
    up = up.reshape(b, m, *up.shape[1:]) + fine[:, None]
    return jax.nn.gelu(up, approximate=False)
