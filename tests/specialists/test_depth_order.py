"""Depth ranks by hand."""

import numpy as np

from dtr1_jax.specialists import depth_order
from dtr1_jax.specialists.findings import DepthMap


def test_ranks_with_ties_and_gaps():
    assert depth_order.ranks([0.1, 0.9, 0.5], 0.02) == [3, 1, 2]
    assert depth_order.ranks([0.5, 0.51, 0.9], 0.02) == [2, 2, 1]
    assert depth_order.ranks([0.5, None, 0.9], 0.02) == [2, 0, 1]
    assert depth_order.ranks([0.1, 0.115, 0.13], 0.02) == [2, 1, 1]  # not a chain: 0.1 is 0.03 behind the front
    assert depth_order.ranks([0.3, 0.3], 0.0) == [1, 1] and depth_order.ranks([], 0.1) == []


def test_statistics_inside_the_masks():
    """A map that falls from 1 at the left to 0 at the right; a percentile of 5 lies at 0.05."""
    nearness = np.repeat(np.linspace(1, 0, 101, dtype=np.float32)[None], 10, 0)
    masks = np.zeros((3, 10, 101), bool)
    masks[0, 0, :11], masks[1, 2:4, 50] = True, True
    near, middle, empty = depth_order.of_masks(DepthMap(nearness, 2 * (1 - nearness)), masks)
    assert empty is None
    np.testing.assert_allclose([near.nearness, middle.nearness], [(0.95 - 0.05) / 0.9, 0.5], atol=1e-5)
    np.testing.assert_allclose([near.spread, middle.spread], [0.05 / 0.9, 0], atol=1e-5)
    np.testing.assert_allclose([near.metres, middle.metres], [0.1, 1.0], atol=1e-5)


def test_a_flat_map_has_no_order():
    flat = depth_order.of_masks(DepthMap(np.full((4, 4), 3.0, np.float32)), np.eye(4, dtype=bool)[None])
    assert flat[0].nearness == 0 and flat[0].metres is None
