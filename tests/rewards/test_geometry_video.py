"""Tracks, points and masks over frames, by hand and against scipy's matching."""

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dtr1_jax.rewards.geometry import matched_box_iou, matched_points, matched_track_iou, video_mask_iou

tracks = jax.jit(matched_track_iou)
points = jax.jit(matched_points, static_argnames="slack")
UNIT, LEFT, RIGHT, FAR = (0, 0, 1, 1), (0, 0, 0.5, 1), (0.5, 0, 1, 1), (5, 5, 6, 6)


def pack(*rows, size=3):
    """Tracks of boxes, None = not there, as float32[size, T, 4] and bool[size, T]."""
    length = max(map(len, rows), default=2)
    box, valid = np.ones((size, length, 4), np.float32) * np.array([0, 0, 1, 1]), np.zeros((size, length), bool)
    for m, row in enumerate(rows):
        for t, value in enumerate(row):
            if value is not None:
                box[m, t], valid[m, t] = value, True
    return box.astype(np.float32), valid


@pytest.mark.parametrize(
    ("pred", "target", "want"),
    [
        ([], [], 1.0),
        ([(UNIT, UNIT)], [], 0.0),
        ([(UNIT, UNIT)], [(UNIT, UNIT)], 1.0),
        ([(UNIT, None)], [(UNIT, UNIT)], 0.5),
        ([(UNIT, None)], [(None, UNIT)], 0.0),
        ([(UNIT, LEFT)], [(UNIT, UNIT)], 0.75),
        ([(UNIT, UNIT), (FAR, FAR)], [(UNIT, UNIT)], 0.5),
        ([(LEFT, RIGHT), (RIGHT, LEFT)], [(RIGHT, LEFT), (LEFT, RIGHT)], 1.0),
        # boxes are right in each frame, but those who were followed changed places
        ([(LEFT, LEFT), (RIGHT, RIGHT)], [(RIGHT, LEFT), (LEFT, RIGHT)], 0.5),
        ([(None, None)], [(None, None)], 1.0),
    ],
)
def test_tracks_by_hand(pred, target, want):
    np.testing.assert_allclose(tracks(*pack(*pred), *pack(*target, size=4)), want, rtol=1e-6)
    np.testing.assert_allclose(tracks(*pack(*target, size=4), *pack(*pred)), want, rtol=1e-6)


def test_tracks_of_one_frame_are_boxes():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.6, (9, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.5, (9, 2))], 1).astype(np.float32)
    valid = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1], bool)
    a, b, va, vb = boxes[:4], boxes[4:], valid[:4], valid[4:]
    got = tracks(a[:, None], va[:, None], b[:, None], vb[:, None])
    np.testing.assert_allclose(got, matched_box_iou(a, va, b, vb), rtol=1e-6)


@pytest.mark.parametrize(
    ("point", "target", "slack", "want"),
    [
        ([], [], 0.0, 1.0),
        ([(0.5, 0.5)], [], 0.0, 0.0),
        ([], [UNIT], 0.0, 0.0),
        ([(0.5, 0.5)], [UNIT], 0.0, 1.0),
        ([(1.0, 0.0)], [UNIT], 0.0, 1.0),
        ([(1.1, 0.5)], [UNIT], 0.0, 0.0),
        ([(1.1, 0.5)], [UNIT], 0.2, 0.5),
        ([(1.3, 1.4)], [UNIT], 1.0, 0.5),
        ([(0.2, 0.2), (0.3, 0.3)], [UNIT], 0.0, 0.5),
        ([(0.2, 0.2)], [LEFT, RIGHT], 0.0, 0.5),
        ([(0.2, 0.2), (0.3, 0.3)], [LEFT, RIGHT], 0.0, 0.5),
        ([(0.8, 0.2), (0.3, 0.3)], [LEFT, RIGHT], 0.0, 1.0),
        ([(np.nan, 0.2)], [UNIT], 0.5, 0.0),
        ([(0.5, 0.5)], [(0.5, 0.5, 0.5, 0.5)], 0.5, 0.0),
        ([(np.inf, 0.5)], [(np.inf, 0, np.inf, 1)], 0.5, 0.0),
    ],
)
def test_points_by_hand(point, target, slack, want):
    p, t = np.full((3, 2), 0.5, np.float32), np.tile(np.array(UNIT, np.float32), (4, 1))
    p[: len(point)], t[: len(target)] = np.reshape(point, (-1, 2)), np.reshape(target, (-1, 4))
    got = points(p, np.arange(3) < len(point), t, np.arange(4) < len(target), slack=slack)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_points_agree_with_scipy():
    rng = np.random.default_rng(1)
    call = jax.jit(jax.vmap(lambda p, v, t, n: matched_points(p, v, t, n, 0.2)))
    p, low = rng.uniform(0, 1, (20, 5, 2)), rng.uniform(0, 0.7, (20, 6, 2))
    t = np.concatenate([low, low + 0.2], -1)
    pv, tv = rng.random((20, 5)) < 0.7, rng.random((20, 6)) < 0.7
    got = call(p.astype(np.float32), pv, t.astype(np.float32), tv)
    for i in range(20):
        a, b = p[i][pv[i]], t[i][tv[i]]
        gap = np.maximum(np.maximum(b[None, :, :2] - a[:, None], a[:, None] - b[None, :, 2:]), 0)
        worth = np.clip(1 - np.sqrt((gap**2).sum(-1)) / 0.2, 0, 1).reshape(len(a), len(b))
        rows, columns = linear_sum_assignment(worth, maximize=True)
        want = worth[rows, columns].sum() / max(len(a), len(b)) if len(a) or len(b) else 1.0
        np.testing.assert_allclose(got[i], want, atol=1e-5)


def frames(*rows):
    return np.array([[[c == "1" for c in row]] for row in rows])


@pytest.mark.parametrize(
    ("pred", "target", "frame", "want"),
    [
        (("1100", "0000"), ("1100", "0000"), (1, 1), 1.0),
        (("1100", "0100"), ("1100", "0000"), (1, 1), 0.5),
        (("0000", "0000"), ("1100", "0000"), (1, 1), 0.5),
        (("1000", "0110"), ("1100", "0110"), (1, 1), 0.75),
        (("1000", "1111"), ("1100", "0000"), (1, 0), 0.5),
        (("1100", "1111"), ("1100", "0000"), (0, 0), 0.0),
        (("0110",), ("0110",), (1,), 1.0),
    ],
)
def test_video_masks_by_hand(pred, target, frame, want):
    valid = np.ones((len(pred), 1, 4), bool)
    got = jax.jit(video_mask_iou)(frames(*pred), frames(*target), valid, np.array(frame, bool))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_cells_that_do_not_count_are_left_out_in_each_frame():
    valid = frames("0111", "1110")
    got = video_mask_iou(frames("1100", "1001"), frames("0100", "1000"), valid, np.ones(2, bool))
    np.testing.assert_allclose(got, 1.0)
