"""Resizing equals torch.nn.functional.interpolate."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference resizes in torch")

from dtr1_jax.specialists import resize_matrices  # noqa: E402
from dtr1_jax.specialists.sam2 import mask_sizes  # noqa: E402


@pytest.mark.parametrize(("old", "new"), [(7, 64), (9, 9), (14, 5), (1, 8)])
def test_cubic(old, new):
    x = np.random.default_rng(0).normal(size=(old, 3)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.tensor(x)[None, None], size=(new, 3), mode="bicubic")[0, 0]
    np.testing.assert_allclose(resize_matrices.bicubic(old, new) @ x, wanted, atol=1e-5)


@pytest.mark.parametrize(("shape", "side"), [((64, 48), 16), ((7, 20), 16), ((16, 16), 16), ((101, 1), 8)])
def test_antialiased(shape, side):
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.tensor(x)[None], size=(side, side), mode="bilinear", antialias=True
    )[0]  # fmt: skip
    np.testing.assert_allclose(resize_matrices.resize_antialiased(x, side, side), wanted, atol=1e-5)
    np.testing.assert_allclose(mask_sizes.prompt_logits(x[0], side), wanted[0], atol=1e-5)
    mask = x[0] > 0
    wanted = torch.nn.functional.interpolate(
        torch.tensor(mask)[None, None].float(), size=(side, side), mode="bilinear", antialias=True
    )[0, 0]  # fmt: skip
    near = np.abs(wanted.numpy() - 0.5) < 1e-5
    assert ((mask_sizes.given_mask(mask, side) == (wanted >= 0.5).numpy()) | near).all()
    assert set(np.unique(mask_sizes.prompt_logits(np.ones((4, 4), bool), 8))) == {10.0}
