"""What specialists return: tight boxes of masks, RLEs, and depth ranks."""

import numpy as np

from dtr1_jax.specialists.findings import DepthMap, Masks
from dtr1_jax.twin import masks as mask_codes


def test_the_box_of_a_mask_is_tight():
    masks = np.zeros((3, 4, 8), bool)
    masks[0, 1, 2:5] = True
    masks[1, 3, 7] = True
    found = Masks(masks, np.ones(3, np.float32))
    np.testing.assert_array_equal(found.boxes, [[0.25, 0.25, 0.625, 0.5], [0.875, 0.75, 1, 1], [0, 0, 0, 0]])
    assert found.boxes.dtype == np.float32
    for code, mask in zip(found.rle(), masks, strict=True):
        np.testing.assert_array_equal(mask_codes.decode(code), mask)


def test_the_nearest_object_has_rank_1():
    nearness = np.array([[9, 9, 1, 5, 5], [8, 9, 1, 5, 0]], np.float32)
    masks = np.zeros((5, 2, 5), bool)
    masks[0, :, 2] = True  # far
    masks[1, :, :2] = True  # near
    masks[2, :, 3] = True  # between
    masks[3, 0, 4] = True  # as far as the third
    assert DepthMap(nearness).ranks(masks) == [3, 1, 2, 2, 4]
