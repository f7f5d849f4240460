"""Where patches stand, by hand: reading order, frames, windows with uneven edges, the position table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data import patch_layout

GRIDS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), max_size=4)


def test_without_windows_the_order_is_the_reading_order():
    """Two frames of 2 x 4 patches: tokens from left to right, in each its patches row by row."""
    layout = patch_layout.layout([(2, 2, 4)], merge=2, side=3, patches=20)
    np.testing.assert_array_equal(layout.order, np.arange(16))
    np.testing.assert_array_equal(layout.place, np.arange(4))
    frame = [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]
    np.testing.assert_array_equal(layout.fields["position_bn2"], frame + frame + [[0, 0]] * 4)
    np.testing.assert_array_equal(layout.fields["segment_bn"], [1] * 8 + [2] * 8 + [0] * 4)
    assert layout.fields["window_bn"] is None


def test_windows_with_an_uneven_edge():
    """3 x 3 tokens in windows of 2 x 2: four windows of 4, 2, 2 and 1 tokens."""
    layout = patch_layout.layout([(1, 3, 3)], merge=1, window=2)
    np.testing.assert_array_equal(layout.order, [0, 1, 3, 4, 2, 5, 6, 7, 8])
    np.testing.assert_array_equal(layout.place, [0, 1, 4, 2, 3, 5, 6, 7, 8])
    np.testing.assert_array_equal(layout.fields["window_bn"], [1, 1, 1, 1, 2, 2, 3, 3, 4])
    np.testing.assert_array_equal(layout.fields["position_bn2"][:5], [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]])
    assert layout.fields["corner_bn4"] is None and layout.fields["corner_weight_bn4"] is None


def test_windows_of_two_frames_and_of_the_next_picture_differ():
    layout = patch_layout.layout([(2, 2, 4), (1, 2, 2)], merge=2, window=1, patches=24)
    np.testing.assert_array_equal(layout.fields["window_bn"], np.repeat([1, 2, 3, 4, 5, 0], 4))
    np.testing.assert_array_equal(layout.fields["segment_bn"], np.repeat([1, 1, 2, 2, 3, 0], 4))


@settings(max_examples=60, deadline=None)
@given(GRIDS, st.integers(1, 3), st.integers(0, 4))
def test_layout_moves_whole_tokens_inside_their_frame(tokens, merge, window):
    grids = [(t, h * merge, w * merge) for t, h, w in tokens]
    layout = patch_layout.layout(grids, merge=merge, side=2, window=window)
    plain = patch_layout.layout(grids, merge=merge, side=2)
    total = sum(t * h * w for t, h, w in grids)
    assert sorted(layout.order) == list(range(total))
    blocks = layout.order.reshape(-1, merge**2)
    np.testing.assert_array_equal(blocks, blocks[:, :1] + np.arange(merge**2))
    np.testing.assert_array_equal(layout.place[blocks[:, 0] // merge**2], np.arange(len(blocks)))
    for name in ("position_bn2", "segment_bn", "corner_bn4", "corner_weight_bn4"):
        np.testing.assert_array_equal(layout.fields[name], plain.fields[name][layout.order])
    if window:
        number, position = layout.fields["window_bn"], layout.fields["position_bn2"] // (merge * window)
        assert (np.diff(number, prepend=1) >= 0).all() and (np.diff(number, prepend=1) <= 1).all()
        keys = {}
        for n, key in zip(number, zip(layout.fields["segment_bn"], *position.T)):
            assert keys.setdefault(n, key) == key  # one number, one square of one frame
        assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("side", [1, 2, 7])
def test_position_table_is_stretched_over_the_grid(side):
    """A table that holds its own row and column gives, at each patch, the place between the first and the last."""
    table = np.stack(np.divmod(np.arange(side**2), side), -1)
    for rows, columns in ((1, 1), (1, 5), (4, 9), (7, 7)):
        index, weight = patch_layout.corners(rows, columns, side)
        actual = (table[index] * weight[..., None]).sum(2)
        for axis, count in ((0, rows), (1, columns)):
            expected = np.arange(count) * (side - 1) / max(count - 1, 1)
            np.testing.assert_allclose(np.moveaxis(actual[..., axis], axis, -1), np.broadcast_to(expected, (
                actual.shape[1 - axis], count)), atol=1e-9)  # fmt: skip


@pytest.mark.parametrize(
    ("grids", "room", "message"),
    [
        ([(1, 3, 4)], None, r"\(1, 3, 4\): expected multiples of \(1, 2, 2\)"),
        ([(0, 2, 2)], None, r"\(0, 2, 2\): expected multiples"),
        ([(1, 4, 4)], 12, "the pictures have 16 patches, more than the 12"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(grids, room, message):
    with pytest.raises(ValueError, match=message):
        patch_layout.layout(grids, merge=2, patches=room)


def test_no_pictures_is_all_padding():
    layout = patch_layout.layout([], merge=2, side=3, window=2, patches=8)
    assert not any(layout.fields[n].any() for n in layout.fields)
    assert layout.fields["position_bn2"].shape == (8, 2) and len(layout.order) == len(layout.place) == 0
