"""SAM's mask decoder: a transformer in which prompts and picture attend to each other, then masks and their IoU.

What does not depend on the prompt is computed once for a picture: the first layer's keys, values and queries of the
picture's cells.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists import operations as ops
from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.sam import prompt_encoder
from dtr1_jax.specialists.sam.spec import SamSpec

_HIGHEST = jax.lax.Precision.HIGHEST
_NAME = "mask_decoder"
_FINAL_EPS = 1e-5  # of the last layer norm, PyTorch's default in every version of SAM
_UPSCALE_EPS = 1e-6


def decode(
    w: Weights,
    spec: SamSpec,
    cell_bgd: jax.Array,
    token_bnkd: jax.Array,
    real_bnk: jax.Array,
    mask_bnhw: jax.Array | None,
    multimask: bool,
) -> tuple[jax.Array, jax.Array]:
    """Masks of n objects on each picture.

    Args:
      w: the weights.
      spec: the sizes.
      cell_bgd: the pictures' embeddings, [B, grid * grid, D].
      token_bnkd: tokens of the prompts, as `prompt_encoder.tokens` makes them.
      real_bnk: True where there is a token.
      mask_bnhw: logits [B, n, low, low] of mask prompts; None = no masks.
      multimask: True gives the candidates for an ambiguous prompt, False the single mask.

    Returns (float32[B, n, m, low, low] logits of the masks, float32[B, n, m] expected IoU), m = spec.masks or 1.
    """
    b, n = token_bnkd.shape[:2]
    kind = cell_bgd.dtype
    own = jnp.concatenate([w[f"{_NAME}.iou_token.weight"], w[f"{_NAME}.mask_tokens.weight"]])
    token = jnp.concatenate([jnp.broadcast_to(own, (b, n, *own.shape)).astype(kind), token_bnkd.astype(kind)], 2)
    real = jnp.concatenate([jnp.ones((b, n, len(own)), bool), real_bnk], 2)
    if mask_bnhw is None:
        cell = (cell_bgd + prompt_encoder.no_mask(w))[:, None]  # [B, 1, grid * grid, D], shared by the n objects
    else:
        dense = prompt_encoder.mask_cells(w, spec, mask_bnhw.reshape(b * n, spec.low, spec.low))
        cell = cell_bgd[:, None] + dense.reshape(b, n, spec.grid**2, spec.width)
    token, cell = _transformer(w, spec, token, real, cell, prompt_encoder.grid_positions(w, spec).astype(kind))
    wanted = range(1, spec.masks + 1) if multimask else range(1)
    heads = jnp.stack([_mlp(w, f"{_NAME}.output_hypernetworks_mlps.{i}", token[:, :, 1 + i], 3) for i in wanted], 2)
    masks = _masks(w, spec, jnp.broadcast_to(cell, (b, n, *cell.shape[2:])).reshape(b * n, -1, spec.width), heads)
    iou = _mlp(w, f"{_NAME}.iou_prediction_head", token[:, :, 0], spec.iou_layers)
    return masks, iou[..., wanted.start : wanted.stop].astype(jnp.float32)


def _transformer(
    w: Weights, spec: SamSpec, token: jax.Array, real: jax.Array, cell: jax.Array, place: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Tokens [B, n, K, D] and cells [B, 1 or n, g, D] after the two-way transformer; `place` is [g, D]."""
    start = token
    for i in range(spec.layers):
        name = f"{_NAME}.transformer.layers.{i}"
        norm = lambda j, x, name=name: ops.layer_norm(w, f"{name}.layer_norm{j}", x, spec.eps)  # noqa: E731
        if i == 0:
            token = _attention(w, f"{name}.self_attn", spec, token, token, token, real)
        else:
            query = token + start
            token = token + _attention(w, f"{name}.self_attn", spec, query, query, token, real)
        token = norm(1, token)
        token = norm(2, token + _attention(
            w, f"{name}.cross_attn_token_to_image", spec, token + start, cell + place, cell, None
        ))  # fmt: skip
        hidden = ops.ACTIVATIONS[spec.act](ops.linear(w, f"{name}.mlp.lin1", token))
        token = norm(3, token + ops.linear(w, f"{name}.mlp.lin2", hidden))
        cell = norm(4, cell + _attention(
            w, f"{name}.cross_attn_image_to_token", spec, cell + place, token + start, token, real
        ))  # fmt: skip
    name = f"{_NAME}.transformer.final_attn_token_to_image"
    token = token + _attention(w, name, spec, token + start, cell + place, cell, None)
    return ops.layer_norm(w, f"{_NAME}.transformer.layer_norm_final_attn", token, _FINAL_EPS), cell


def _attention(
    w: Weights, name: str, spec: SamSpec, q: jax.Array, k: jax.Array, v: jax.Array, real: jax.Array | None
) -> jax.Array:
    """Attention of [B, n, q, D] over [B, n, k, D]; an n of 1 is shared by all objects. `real` [B, n, k] masks keys."""
    q, k, v = (ops.linear(w, f"{name}.{part}_proj", x) for part, x in (("q", q), ("k", k), ("v", v)))
    q, k, v = (x.reshape(*x.shape[:3], spec.heads, -1) for x in (q, k, v))
    q = q * q.shape[-1] ** -0.5
    q, k, v = (x[:, 0] if x.shape[1] == 1 else x for x in (q, k, v))
    q_axes, k_axes = ("b" if x.ndim == 4 else "bn" for x in (q, k))
    out = max(q_axes, k_axes, key=len)
    score = jnp.einsum(
        f"{q_axes}qhd,{k_axes}khd->{out}hqk", q, k, precision=_HIGHEST, preferred_element_type=jnp.float32
    )
    if real is not None:
        score = jnp.where(real[:, :, None, None] if out == "bn" else real[:, 0, None, None], score, -jnp.inf)
    weight = jax.nn.softmax(score, axis=-1).astype(v.dtype)
    x = jnp.einsum(f"{out}hqk,{k_axes}khd->{out}qhd", weight, v, precision=_HIGHEST)
    x = x if out == "bn" else x[:, None]
    return ops.linear(w, f"{name}.out_proj", x.reshape(*x.shape[:3], -1))


def _masks(w: Weights, spec: SamSpec, cell: jax.Array, heads: jax.Array) -> jax.Array:
    """Cells [B * n, g, D] and the masks' vectors [B, n, m, D / 8] -> float32[B, n, m, low, low]."""
    act = ops.ACTIVATIONS["gelu"]
    x = ops.conv_transpose(w, f"{_NAME}.upscale_conv1", cell.reshape(-1, spec.grid, spec.grid, spec.width))
    x = act(ops.layer_norm(w, f"{_NAME}.upscale_layer_norm", x, _UPSCALE_EPS))
    x = act(ops.conv_transpose(w, f"{_NAME}.upscale_conv2", x))
    b, n, m, _ = heads.shape
    heads = heads.reshape(b * n, m, -1)
    masks = jnp.einsum("bmd,bhwd->bmhw", heads, x, precision=_HIGHEST, preferred_element_type=jnp.float32)
    return masks.reshape(b, n, m, spec.low, spec.low)


def _mlp(w: Weights, name: str, x: jax.Array, layers: int) -> jax.Array:
    for part in ("proj_in", *(f"layers.{i}" for i in range(layers - 2))):
        x = jax.nn.relu(ops.linear(w, f"{name}.{part}", x))
    return ops.linear(w, f"{name}.proj_out", x)
