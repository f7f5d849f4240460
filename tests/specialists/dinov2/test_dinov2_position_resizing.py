"""Bicubic matrices and resized positions equal torch's interpolation."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference implementation needs torch")

from dtr1_jax.specialists.dinov2.position_resizing import resized_positions  # noqa: E402
from dtr1_jax.specialists.resize_matrices import bicubic  # noqa: E402


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(5, 5), (5, 9), (9, 4), (37, 49), (37, 8), (4, 1), (1, 6), (16, 37)])
def test_bicubic_equals_torch(old, new, antialias):
    values = np.random.default_rng(old + new).normal(size=old).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(values).reshape(1, 1, old, 1).expand(1, 1, old, 2), (new, 2), mode="bicubic", antialias=antialias
    )
    matrix = bicubic(old, new, antialias)
    np.testing.assert_allclose(matrix @ values, expected[0, 0, :, 0], atol=1e-5)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [(37, 49), (5, 37), (37, 37), (74, 12)])
def test_offset_equals_torch(size):
    """The authors of DINOv2 pass the scale (new + 0.1) / old in place of the new size, and keep positions that fit."""
    table = np.random.default_rng(0).normal(size=(37 * 37, 3)).astype(np.float32)
    expected = torch.tensor(table).reshape(1, 37, 37, 3).permute(0, 3, 1, 2)
    if size != (37, 37):
        factor = tuple((n + 0.1) / 37 for n in size)
        expected = torch.nn.functional.interpolate(expected, scale_factor=factor, mode="bicubic")
    result = resized_positions(table, *size, offset=0.1)
    np.testing.assert_allclose(result, expected[0].permute(1, 2, 0).reshape(-1, 3), atol=2e-5)
    if size != (37, 37):
        assert np.abs(result - resized_positions(table, *size)).max() > 1e-3
