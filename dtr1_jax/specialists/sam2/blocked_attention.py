"""Attention over many positions without holding all scores at once."""

from __future__ import annotations

import jax

from dtr1_jax.specialists.operations import attention

MOST_SCORES = 1 << 24  # float32 scores at a time: 64 MiB, which is also the fastest on a CPU (4096 x 28736 positions)


def blocked_attention(
    q_bqnh: jax.Array, k_bknh: jax.Array, v_bknh: jax.Array, bias: jax.Array | None = None, most: int = MOST_SCORES
) -> jax.Array:
    """operations.attention, computed for one block of queries after another where all scores would be more than `most`.

    `bias` must be the same for every query: [B, 1, 1, k] or None.
    """
    b, count, heads, width = q_bqnh.shape
    blocks = 1
    while b * heads * (count // blocks) * k_bknh.shape[1] > most and count % (2 * blocks) == 0:
        blocks *= 2
    if blocks == 1:
        return attention(q_bqnh, k_bknh, v_bknh, bias)
    parts = q_bqnh.reshape(b, blocks, count // blocks, heads, width).swapaxes(0, 1)
    out = jax.lax.map(lambda q: attention(q, k_bknh, v_bknh, bias), parts)
    return out.swapaxes(0, 1).reshape(b, count, heads, -1)
