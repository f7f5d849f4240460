"""The picture encoder of SAM 2: the Hiera backbone (arXiv 2306.00989) and the feature pyramid behind it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists import long_attention
from dtr1_jax.specialists.operations import ACTIVATIONS, Weights, conv, layer_norm, linear
from dtr1_jax.specialists.resize_matrices import bicubic
from dtr1_jax.specialists.sam2.spec import LEVELS, Hiera, Sam2Spec

_ROOT = "vision_encoder.backbone"


def stages(w: Weights, hiera: Hiera, pixels: jax.Array) -> list[jax.Array]:
    """The map behind each stage, [B, S/4, S/4, widths[0]] to [B, S/32, S/32, widths[3]].

    Args:
      w: weights by their names in the checkpoint.
      hiera: sizes.
      pixels: float[B, S, S, 3], normalised.
    """
    x = conv(w, f"{_ROOT}.patch_embed.projection", pixels, stride=4, padding=hiera.padding)
    x = x + _positions(w, hiera, x.shape[1]).astype(x.dtype)
    maps, index = [], 0
    for stage, count in enumerate(hiera.blocks):
        for block in range(count):
            first = stage > 0 and block == 0  # such a block reads the map of the stage before and halves it
            window = 0 if index in hiera.global_blocks else hiera.windows[stage - 1 if first else stage]
            x = _block(w, f"{_ROOT}.blocks.{index}", hiera, x, hiera.heads[stage], window, first)
            index += 1
        maps.append(x)
    return maps


def pyramid(w: Weights, spec: Sam2Spec, maps: list[jax.Array]) -> list[jax.Array]:
    """The three finest maps of the feature pyramid, [B, S/4, S/4, d], [B, S/8, S/8, d] and [B, S/16, S/16, d].

    A stage in `spec.top_down` adds the next coarser map, each position repeated twice on both axes.
    """
    levels: list[jax.Array] = []
    for stage in range(LEVELS - 1, -1, -1):
        name = f"vision_encoder.neck.convs.{LEVELS - 1 - stage}"
        weight = w[f"{name}.weight"][:, :, 0, 0]
        level = linear({"n.weight": weight, "n.bias": w[f"{name}.bias"]}, "n", maps[stage])
        if levels and stage in spec.top_down:
            level = level + jnp.repeat(jnp.repeat(levels[-1], 2, axis=1), 2, axis=2)
        levels.append(level)
    return levels[:0:-1]


def _positions(w: Weights, hiera: Hiera, side: int) -> jax.Array:
    """float32[side, side, c]: the background embedding stretched over the map plus the embedding of each window."""
    background = w[f"{_ROOT}.pos_embed"][0].astype(jnp.float32)
    rows, columns = (bicubic(old, side) for old in hiera.background)
    stretched = jnp.einsum("yi,xj,cij->yxc", rows, columns, background, precision=jax.lax.Precision.HIGHEST)
    window = w[f"{_ROOT}.pos_embed_window"][0].astype(jnp.float32).transpose(1, 2, 0)
    times = side // hiera.windows[0]
    return stretched + jnp.tile(window, (times, times, 1))


def _block(
    w: Weights, name: str, hiera: Hiera, x: jax.Array, heads: int, window: int, halve: bool
) -> jax.Array:  # fmt: skip
    normed = layer_norm(w, f"{name}.layer_norm1", x, hiera.eps)
    residual = x
    if f"{name}.proj.weight" in w:
        residual = linear(w, f"{name}.proj", normed)
        residual = _halved(residual) if halve else residual
    height, width = residual.shape[1:3]
    if window:
        grid = -(-x.shape[1] // window), -(-x.shape[2] // window)
        # Padding is zero behind the normalisation, and attention sees it: the published models are trained so.
        parts = _windows(normed, window, grid)
        y = _attention(w, f"{name}.attn", parts, heads, halve)
        y = _joined(y, grid)[:, :height, :width]
    else:
        y = _attention(w, f"{name}.attn", normed, heads, halve)
    x = residual + y
    normed = layer_norm(w, f"{name}.layer_norm2", x, hiera.eps)
    hidden = ACTIVATIONS[hiera.activation](linear(w, f"{name}.mlp.proj_in", normed))
    return x + linear(w, f"{name}.mlp.proj_out", hidden)


def _attention(w: Weights, name: str, x: jax.Array, heads: int, halve: bool) -> jax.Array:
    """Self-attention in each map [B, h, w, i] -> [B, h, w, o]; with `halve`, queries are pooled: [B, h/2, w/2, o]."""
    b = len(x)
    qkv = linear(w, f"{name}.qkv", x)
    q, k, v = jnp.split(qkv, 3, axis=-1)
    if halve:
        q = _halved(q)
    out = q.shape[:3]
    q, k, v = (part.reshape(b, -1, heads, part.shape[-1] // heads) for part in (q, k, v))
    return linear(w, f"{name}.proj", long_attention.attention(q, k, v).reshape(*out, -1))


def _halved(x: jax.Array) -> jax.Array:
    """The largest value of each 2 x 2 square of [B, h, w, c]; an odd last row or column is dropped."""
    b, height, width, c = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(b, height // 2, 2, width // 2, 2, c).max((2, 4))


def _windows(x: jax.Array, side: int, grid: tuple[int, int]) -> jax.Array:
    """[B, h, w, c] -> [B * rows * columns, side, side, c], filled with zeros at the bottom and right."""
    b, height, width, c = x.shape
    rows, columns = grid
    x = jnp.pad(x, ((0, 0), (0, rows * side - height), (0, columns * side - width), (0, 0)))
    return x.reshape(b, rows, side, columns, side, c).swapaxes(2, 3).reshape(-1, side, side, c)


def _joined(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """The inverse of `_windows`, with the filling still there."""
    rows, columns = grid
    _, side, _, c = x.shape
    x = x.reshape(-1, rows, columns, side, side, c).swapaxes(2, 3)
    return x.reshape(-1, rows * side, columns * side, c)
