"""Attention in blocks of queries equals attention at once."""

import jax
import numpy as np
import pytest

from dtr1_jax.specialists.operations import attention
from dtr1_jax.specialists.sam2.blocked_attention import blocked_attention


@pytest.mark.parametrize("most", [1, 200, 10**9])
def test_blocks(most):
    q, k, v = (jax.random.normal(jax.random.key(i), (2, n, 3, 4)) for i, n in enumerate((24, 10, 10)))
    bias = np.where(np.arange(10) < 6, 0.0, -1e9)[None, None, None].astype(np.float32)
    np.testing.assert_allclose(blocked_attention(q, k, v, bias, most), attention(q, k, v, bias), atol=1e-6)
    np.testing.assert_allclose(
        blocked_attention(q, k, v, bias, most), attention(q, k[:, :6], v[:, :6]), atol=1e-6
    )  # fmt: skip
