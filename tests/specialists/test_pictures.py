"""Pictures of all kinds become uint8[h, w, 3], or are refused by their number."""

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.specialists import pictures


def test_kinds_of_pictures():
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (same,) = pictures.checked(rgb)
    np.testing.assert_array_equal(same, rgb)
    assert [x.shape for x in pictures.checked(np.zeros((5, 2, 4, 3), np.uint8))] == [(2, 4, 3)] * 5
    (grey,) = pictures.checked(rgb[..., 0])
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, -1))
    (alpha,) = pictures.checked([np.dstack([rgb, rgb[..., :1]])])
    np.testing.assert_array_equal(alpha, rgb)
    (floats,) = pictures.checked([rgb / np.float32(255)])
    np.testing.assert_array_equal(floats, rgb)
    assert all(x.flags["C_CONTIGUOUS"] for x in pictures.checked([rgb[:, ::-1], rgb.transpose(1, 0, 2)]))
    assert pictures.checked([]) == []


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((2, 2, 5), np.uint8), r"picture 1: expected an array \[h, w, 3\] with pixels, got shape \[2, 2, 5\]"),
        (np.zeros((0, 2, 3), np.uint8), r"picture 1: .* got shape \[0, 2, 3\]"),
        (np.zeros((2, 2, 3), np.int64), "picture 1: expected uint8, or floats in .* got int64"),
        (np.full((2, 2, 3), 255.0), r"picture 1: .* got floats from 255\.0 to 255\.0"),
        (np.full((2, 2, 3), np.nan), r"picture 1: .* got floats from nan to nan"),
        ("a.jpg", "picture 1: expected an array"),
    ],
)
def test_other_pictures_are_refused(image, fault):
    with pytest.raises(ValueError, match=fault):
        pictures.checked([np.zeros((2, 2, 3), np.uint8), image])


def test_resizing_and_normalising():
    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((5, 3), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pictures.resized(image, 3, 5, "BICUBIC"), wanted)
    assert pictures.resized(image, 7, 11) is image
    values = pictures.normalised(image, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    np.testing.assert_allclose(values, (image / 255 - [0.5, 0.25, 0]) / [0.5, 0.25, 2], atol=1e-6)
    assert values.dtype == np.float32
