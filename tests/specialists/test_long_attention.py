"""Attention head by head, and block by block, equals attention at once."""

import jax
import numpy as np
import pytest

from dtr1_jax.specialists import long_attention, operations

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_grid", [False, True])
@pytest.mark.parametrize("way", ["by_head", "by_head in blocks", "one block", "blocks", "public"])
def test_all_ways_are_equal(way, with_bias, with_grid, monkeypatch):
    b, q, n, h, rows, columns = 2, 7, 3, 4, 5, 2
    arrays = normal(b, q, n, h), normal(b, rows * columns, n, h), normal(b, rows * columns, n, h)
    hidden = RANDOM.random((b, 1, 1, rows * columns)) < 0.3
    bias = np.where(hidden, -np.inf, 0).astype(np.float32) if with_bias else None
    grid = (normal(b, q, n, rows), normal(b, q, n, columns)) if with_grid else None
    total = np.zeros((b, n, q, rows * columns), np.float32)
    if bias is not None:
        bias[..., 0] = 0
        total = total + bias
    if grid is not None:
        for r in range(rows):
            for c in range(columns):
                total[..., r * columns + c] += (grid[0][..., r] + grid[1][..., c]).swapaxes(1, 2)
    wanted = operations.attention(*arrays, total)
    if way == "public":
        monkeypatch.setattr(long_attention, "_LARGE", 1)
        found = jax.jit(long_attention.attention)(*arrays, bias, grid)
    elif way.startswith("by_head"):
        if way == "by_head in blocks":
            monkeypatch.setattr(long_attention, "MOST_SCORES", rows * columns * 3)
        found = long_attention._by_head(*arrays, bias, grid)
    else:
        most = 10**6 if way == "one block" else b * n * rows * columns * 3
        found = long_attention._blocks(*arrays, bias, grid, most)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_memory_does_not_grow_with_the_square():
    def temporary(tokens):
        q = jax.ShapeDtypeStruct((1, tokens, 4, 8), np.float32)
        return jax.jit(long_attention.attention).lower(q, q, q).compile().memory_analysis().temp_size_in_bytes

    assert temporary(16384) < 4 * long_attention.MOST_SCORES * 4 < 16384**2 * 4, "less than the scores of one head"
