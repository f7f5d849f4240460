"""Masks come to the size of a picture as torch's bilinear interpolation brings them."""

import numpy as np
import pytest

from dtr1_jax.specialists.sam2.mask_sizes import at_picture_size


@pytest.mark.parametrize("size", [(37, 53), (16, 16), (5, 3), (1, 1), (300, 20)])
def test_at_picture_size(size):
    torch = pytest.importorskip("torch", reason="the reference resizes in torch")
    logits = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.tensor(logits)[None, None], size=size, mode="bilinear")[0, 0].numpy()
    got = at_picture_size(logits, *size)
    assert got.shape == size and ((got == (wanted > 0)) | (np.abs(wanted) < 1e-5)).all()
