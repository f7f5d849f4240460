"""Attention over the thousands of tokens of a picture, without all its scores in memory at once.

All scores of one picture of SAM's base model would be 12 x 4096 x 4096 floats (805 MB) in each global layer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists import operations

MOST_SCORES = 1 << 24  # float32 scores at once: 64 MiB, which is also fastest on a CPU
# A CPU computes head by head from this number of scores of a head on: there, XLA's product of many matrices at once is
# 4 times as slow (12 heads of 1801 tokens: 1.13 s against 0.24 s).
_LARGE = 1 << 18

Grid = tuple[jax.Array, jax.Array]


def attention(
    q_bqnh: jax.Array, k_bknh: jax.Array, v_bknh: jax.Array, bias: jax.Array | None = None, grid: Grid | None = None
) -> jax.Array:
    """Softmax attention, [B, q, N, H] over [B, k, N, H] -> [B, q, N, H]; the same as `operations.attention`.

    Args:
      q_bqnh, k_bknh, v_bknh: queries, keys and values of N heads.
      bias: float32[B, 1, 1, k], added to the scores of every query; None = nothing.
      grid: (rows [B, q, N, h], columns [B, q, N, w]) where the keys are the cells of an h x w map, row by row: each
        query adds rows[r] + columns[c] to its score with the cell (r, c). None = nothing.
    """
    if q_bqnh.shape[1] * k_bknh.shape[1] < _LARGE:
        return _blocks(q_bqnh, k_bknh, v_bknh, bias, grid)
    return jax.lax.platform_dependent(q_bqnh, k_bknh, v_bknh, bias, grid, cpu=_by_head, default=_blocks)


def _by_head(
    q_bqnh: jax.Array, k_bknh: jax.Array, v_bknh: jax.Array, bias: jax.Array | None, grid: Grid | None
) -> jax.Array:
    """One head of one picture at a time, a block of queries at a time; the weights are normalised behind the product
    with the values."""
    b, _, n, h = q_bqnh.shape

    def heads(x: jax.Array) -> jax.Array:  # [B, t, N, c] -> [B * N, t, c]
        return x.swapaxes(1, 2).reshape(b * n, x.shape[1], -1)

    def block(q: jax.Array, k: jax.Array, v: jax.Array, of_keys: jax.Array | None, of_grid: Grid | None) -> jax.Array:
        score = jnp.einsum("qh,kh->qk", q * h**-0.5, k, precision="highest", preferred_element_type=jnp.float32)
        score = score if of_keys is None else score + of_keys
        if of_grid is not None:
            rows, columns = of_grid
            score = score + (rows[:, :, None] + columns[:, None]).reshape(score.shape)
        weight = jnp.exp(score - score.max(-1, keepdims=True))
        mixed = jnp.einsum(
            "qk,kh->qh", weight.astype(v.dtype), v, precision="highest", preferred_element_type=jnp.float32
        )
        return (mixed / weight.sum(-1, keepdims=True)).astype(v.dtype)

    def one(inputs: tuple) -> jax.Array:
        q, k, v, of_keys, of_grid = inputs
        blocks = min(-(-q.shape[0] * k.shape[0] // MOST_SCORES), q.shape[0])
        size = -(-q.shape[0] // blocks)

        def cut(x: jax.Array) -> jax.Array:  # [q, ...] -> [blocks, size, ...]
            return jnp.pad(x, ((0, blocks * size - len(x)), (0, 0))).reshape(blocks, size, -1)

        parts = cut(q), None if of_grid is None else tuple(map(cut, of_grid))
        mixed = jax.lax.map(lambda part: block(part[0], k, v, of_keys, part[1]), parts)
        return mixed.reshape(blocks * size, -1)[: len(q)]

    of_keys = None if bias is None else jnp.broadcast_to(bias[:, 0], (b, n, bias.shape[-1])).reshape(b * n, -1)
    of_grid = None if grid is None else tuple(map(heads, grid))
    out = jax.lax.map(one, (*map(heads, (q_bqnh, k_bknh, v_bknh)), of_keys, of_grid))
    return out.reshape(b, n, -1, v_bknh.shape[-1]).swapaxes(1, 2)


def _blocks(
    q_bqnh: jax.Array, k_bknh: jax.Array, v_bknh: jax.Array, bias: jax.Array | None, grid: Grid | None,
    most: int = MOST_SCORES,
) -> jax.Array:  # fmt: skip
    """As many queries at a time as have at most `most` scores."""
    b, q, n, _ = q_bqnh.shape
    blocks = min(-(-(b * n * q * k_bknh.shape[1]) // most), q)
    size = -(-q // blocks)

    def one(inputs: tuple) -> jax.Array:
        part, of_grid = inputs
        total = bias
        if of_grid is not None:
            rows, columns = (x.swapaxes(1, 2) for x in of_grid)  # [B, N, size, h] and [B, N, size, w]
            cells = (rows[..., :, None] + columns[..., None, :]).reshape(*rows.shape[:3], -1)
            total = cells if bias is None else cells + bias
        return operations.attention(part, k_bknh, v_bknh, total)

    if blocks == 1:
        return one((q_bqnh, grid))

    def cut(x: jax.Array) -> jax.Array:  # [B, q, ...] -> [blocks, B, size, ...]
        x = jnp.pad(x, [(0, 0), (0, blocks * size - q)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(b, blocks, size, *x.shape[2:]), 1, 0)

    out = jax.lax.map(one, (cut(q_bqnh), None if grid is None else tuple(map(cut, grid))))
    return jnp.moveaxis(out, 0, 1).reshape(b, blocks * size, n, -1)[:, :q]
