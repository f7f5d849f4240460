"""SAM's picture encoder: a ViT whose layers attend in windows, except some global ones, and a neck of convolutions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.specialists import long_attention
from dtr1_jax.specialists import operations as ops
from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.sam.spec import SamSpec, VitSpec

_HIGHEST = jax.lax.Precision.HIGHEST
_NAME = "vision_encoder"
_NECK_EPS = 1e-6


def encode(w: Weights, spec: SamSpec, x: jax.Array) -> jax.Array:
    """Normalised pictures [B, image, image, 3] -> embeddings [B, grid, grid, D]."""
    vit = spec.encoder
    kernel = w[f"{_NAME}.patch_embed.projection.weight"]
    b, side, p = len(x), spec.grid, vit.patch
    x = x.astype(kernel.dtype).reshape(b, side, p, side, p, 3)
    x = jnp.einsum("bhpwqc,ocpq->bhwo", x, kernel, precision=_HIGHEST)
    x = x + w[f"{_NAME}.patch_embed.projection.bias"]
    if vit.absolute:
        x = x + w[f"{_NAME}.pos_embed"]
    for i in range(vit.layers):
        name = f"{_NAME}.layers.{i}"
        window = 0 if i in vit.global_layers else vit.window
        y = ops.layer_norm(w, f"{name}.layer_norm1", x, vit.eps)
        x = x + in_windows(y, window, lambda part, name=name: _attention(w, f"{name}.attn", vit, part))
        y = ops.layer_norm(w, f"{name}.layer_norm2", x, vit.eps)
        y = ops.ACTIVATIONS[vit.act](ops.linear(w, f"{name}.mlp.lin1", y))
        x = x + ops.linear(w, f"{name}.mlp.lin2", y)
    return neck(w, [f"{_NAME}.neck.{part}" for part in ("conv1", "layer_norm1", "conv2", "layer_norm2")], x)


def neck(w: Weights, names: list[str], x: jax.Array) -> jax.Array:
    """The two convolutions with layer norms that end both encoders; `names` in the order of computation."""
    conv1, norm1, conv2, norm2 = names
    x = ops.layer_norm(w, norm1, ops.conv(w, conv1, x), _NECK_EPS)
    return ops.layer_norm(w, norm2, ops.conv(w, conv2, x, padding=1), _NECK_EPS)


def in_windows(x: jax.Array, window: int, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """function([B * windows, window, window, D]) on the windows of [B, h, w, D]; a window of 0 is the whole map.

    The map is filled up with zeros at the bottom and right, which take part as keys, as in SAM and TinyViT.
    """
    b, h, w, d = x.shape
    if not window or (h == window and w == window):
        return function(x)
    rows, columns = -(-h // window), -(-w // window)
    x = jnp.pad(x, ((0, 0), (0, rows * window - h), (0, columns * window - w), (0, 0)))
    x = x.reshape(b, rows, window, columns, window, d).swapaxes(2, 3).reshape(-1, window, window, d)
    x = function(x).reshape(b, rows, columns, window, window, d).swapaxes(2, 3)
    return x.reshape(b, rows * window, columns * window, d)[:, :h, :w]


def _attention(w: Weights, name: str, vit: VitSpec, x: jax.Array) -> jax.Array:
    """Attention over all cells of [B, h, w, D], with SAM's relative positions along rows and columns."""
    b, height, width, _ = x.shape
    cells = height * width
    qkv = ops.linear(w, f"{name}.qkv", x).reshape(b, cells, 3, vit.heads, -1)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    distances = None
    if vit.relative:
        grid = q.reshape(b, height, width, vit.heads, -1)
        rows, columns = (_distances(w[f"{name}.rel_pos_{axis}"], n) for axis, n in (("h", height), ("w", width)))
        rows = jnp.einsum("bhwnc,hkc->bhwnk", grid, rows, precision=_HIGHEST)
        columns = jnp.einsum("bhwnc,wkc->bhwnk", grid, columns, precision=_HIGHEST)
        distances = tuple(part.reshape(b, cells, vit.heads, -1) for part in (rows, columns))
    x = long_attention.attention(q, k, v, grid=distances).reshape(b, height, width, -1)
    return ops.linear(w, f"{name}.proj", x)


def _distances(table: jax.Array, n: int) -> jax.Array:
    """The rows of table [2n - 1, c] for the distances of n queries and n keys, [n, n, c]."""
    return table[np.arange(n)[:, None] - np.arange(n) + n - 1]
