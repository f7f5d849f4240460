"""DINOv2 as functions of a flat dict of weights, fused by `weights.fused`.

The tokens of a picture are the class token, the registers, and the patches row by row.
"""

from __future__ import annotations

from collections.abc import Collection

import jax
import jax.numpy as jnp

from dtr1_jax.specialists import long_attention, operations
from dtr1_jax.specialists.dinov2.position_resizing import resized_positions
from dtr1_jax.specialists.dinov2.spec import Dinov2Spec
from dtr1_jax.specialists.operations import Weights

_HIGHEST = jax.lax.Precision.HIGHEST


def encode(
    w: Weights, spec: Dinov2Spec, pixels: jax.Array, taps: Collection[int], prefix: str = ""
) -> dict[int, jax.Array]:
    """Runs the transformer.

    Args:
      w: the weights.
      spec: the sizes.
      pixels: [B, h, w, channels], normalised; rows and columns that fill no patch are left out.
      taps: which states to return: 0 = the tokens that enter the first layer, i = the tokens that leave layer i.
      prefix: goes before the names of the weights.

    Returns {tap: [B, tokens, D]}, without the final layer norm. Layers after the last tap are not computed.
    """
    x = embed(w, spec, pixels, prefix)
    states = {0: x} if 0 in taps else {}
    for i in range(1, max(taps, default=0) + 1):
        x = layer(w, spec, x, f"{prefix}encoder.layer.{i - 1}")
        if i in taps:
            states[i] = x
    return states


def final_norm(w: Weights, spec: Dinov2Spec, x: jax.Array, prefix: str = "") -> jax.Array:
    """The layer norm that follows the last layer, [B, tokens, D]."""
    return operations.layer_norm(w, f"{prefix}layernorm", x, spec.final_eps)


def embed(w: Weights, spec: Dinov2Spec, pixels: jax.Array, prefix: str = "") -> jax.Array:
    """[B, h, w, channels] -> [B, tokens, D], the tokens that enter the first layer."""
    at, size = f"{prefix}embeddings", spec.patch
    count, (height, width) = pixels.shape[0], (side // size for side in pixels.shape[1:3])
    blocks = pixels[:, : height * size, : width * size].reshape(count, height, size, width, size, -1)
    kernel = w[f"{at}.patch_embeddings.projection.weight"]
    x = jnp.einsum("bhiwjc,ocij->bhwo", blocks, kernel, precision=_HIGHEST).reshape(count, height * width, -1)
    x = x + w[f"{at}.patch_embeddings.projection.bias"]
    stored = w[f"{at}.position_embeddings"][0]
    places = resized_positions(stored[1:], height, width, spec.antialias, spec.position_offset)
    first = [w[f"{at}.cls_token"][0] + stored[:1]]
    if spec.registers:
        first.append(w[f"{at}.register_tokens"][0])
    first = [jnp.broadcast_to(tokens, (count, *tokens.shape)) for tokens in first]
    return jnp.concatenate([*first, x + places.astype(x.dtype)], axis=1)


def layer(w: Weights, spec: Dinov2Spec, x: jax.Array, at: str) -> jax.Array:
    """One layer of the transformer, [B, tokens, D] -> [B, tokens, D]."""
    y = operations.layer_norm(w, f"{at}.norm1", x, spec.eps)
    qkv = operations.linear(w, f"{at}.attention.qkv", y).reshape(*y.shape[:2], 3, spec.heads, -1)
    y = long_attention.attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(x.shape)
    y = operations.linear(w, f"{at}.attention.output.dense", y)
    x = x + y * w[f"{at}.layer_scale1.lambda1"]
    y = operations.layer_norm(w, f"{at}.norm2", x, spec.eps)
    if spec.gated:
        gate, up = jnp.split(operations.linear(w, f"{at}.mlp.weights_in", y), 2, axis=-1)
        y = operations.linear(w, f"{at}.mlp.weights_out", jax.nn.silu(gate) * up)
    else:
        y = operations.ACTIVATIONS[spec.activation](operations.linear(w, f"{at}.mlp.fc1", y))
        y = operations.linear(w, f"{at}.mlp.fc2", y)
    return x + y * w[f"{at}.layer_scale2.lambda1"]
