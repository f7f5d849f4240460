"""Overlaps by hand, against brute force, and against scipy's matching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from dtr1_jax.rewards.geometry import box_iou, box_iou_matrix, mask_iou, matched_box_iou

matched = jax.jit(matched_box_iou)
UNIT = (0.0, 0.0, 1.0, 1.0)


def random_boxes(rng, *shape):
    """float32[..., 4] boxes with positive area in the unit frame."""
    low = rng.uniform(0, 0.8, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.6, (*shape, 2))], -1).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        (UNIT, UNIT, 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 2), (1, 0, 3, 2), 1 / 2),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),
        ((0, 0, 1, 1), (5, 5, 6, 6), 0.0),
        ((0.5, 0, 0.5, 1), UNIT, 0.0),
        ((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5), 0.0),
        ((0.9, 0.9, 0.1, 0.1), UNIT, 0.0),
        ((np.nan, 0, 1, 1), UNIT, 0.0),
        ((-np.inf, -np.inf, np.inf, np.inf), UNIT, 0.0),
        ((-np.inf, 0, np.inf, 1), (-np.inf, 0, np.inf, 1), 0.0),
    ],
)
def test_box_iou_by_hand(a, b, want):
    got = [box_iou(jnp.array(x, jnp.float32), jnp.array(y, jnp.float32)) for x, y in ((a, b), (b, a))]
    np.testing.assert_allclose(got, want, rtol=1e-6)


coordinate = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[coordinate] * 4), st.tuples(*[coordinate] * 4))
def test_box_iou_is_always_in_the_unit_interval(a, b):
    assert 0 <= float(box_iou(jnp.array(a, jnp.float32), jnp.array(b, jnp.float32))) <= 1


def test_nearly_equal_boxes_do_not_fall_to_zero():
    a = random_boxes(np.random.default_rng(0), 500)
    b = np.nextafter(a, np.float32(2))
    iou = np.diagonal(jax.jit(box_iou_matrix)(a, b))
    assert iou.min() > 0.999 and iou.max() <= 1


def test_box_iou_matrix_has_rows_of_a_and_columns_of_b():
    a = jnp.array([[0, 0, 2, 2], [0, 0, 1, 1], [5, 5, 6, 6]], jnp.float32)
    b = jnp.array([[0, 0, 2, 2], [0, 0, 4, 4]], jnp.float32)
    np.testing.assert_allclose(box_iou_matrix(a, b), [[1, 0.25], [0.25, 0.0625], [0, 0]])


def pad(boxes, size):
    padded = np.full((size, 4), 0.0, np.float32)
    padded[:, 2:] = 1.0  # padding that would overlap everything if it counted
    padded[: len(boxes)] = boxes
    return padded, np.arange(size) < len(boxes)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("pred", "target", "want"),
    [
        ([], [], 1.0),
        ([UNIT], [], 0.0),
        ([UNIT], [UNIT], 1.0),
        ([UNIT, UNIT], [UNIT], 0.5),
        ([(0, 0, 0.5, 1)], [UNIT, (0, 0, 0.25, 1)], 0.25),
        ([(0.5, 0, 1, 1), (0, 0, 0.5, 1)], [(0, 0, 0.5, 1), (0.5, 0, 1, 1)], 1.0),
        ([(0, 0, 0, 0)], [(0, 0, 0, 0)], 0.0),
    ],
)
def test_matched_box_iou_by_hand(pred, target, want, swap):
    if swap:
        pred, target = target, pred
    got = matched(*pad(np.reshape(pred, (-1, 4)), 3), *pad(np.reshape(target, (-1, 4)), 4))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_matching_is_best_and_not_greedy():
    pred, target = [(0, 0, 10, 1), (0, 0, 6, 1)], [(0, 0, 9, 1), (4, 0, 14, 1)]
    # Greedy: 9/10 + 2/14 = 1.04. Crossed: 6/14 + 6/9 = 1.10.
    np.testing.assert_allclose(matched(*pad(pred, 3), *pad(target, 3)), (6 / 14 + 6 / 9) / 2, rtol=1e-6)


def test_matched_box_iou_agrees_with_scipy_over_batch_and_group():
    rng = np.random.default_rng(1)
    b, g, m, n = 6, 8, 8, 5
    pred, target = random_boxes(rng, b, g, m), random_boxes(rng, b, n)
    pred_count, target_count = rng.integers(0, m + 1, (b, g)), rng.integers(0, n + 1, b)
    group = jax.vmap(matched_box_iou, in_axes=(0, 0, None, None))
    got = jax.jit(jax.vmap(group))(
        pred, np.arange(m) < pred_count[..., None], target, np.arange(n) < target_count[:, None]
    )
    for i, j in np.ndindex(b, g):
        p, t = pred[i, j, : pred_count[i, j]], target[i, : target_count[i]]
        want = 1.0
        if len(p) or len(t):
            iou = np.array([[float(brute_iou(x, y)) for y in t] for x in p]).reshape(len(p), len(t))
            rows, columns = linear_sum_assignment(iou, maximize=True)
            want = iou[rows, columns].sum() / max(len(p), len(t))
        np.testing.assert_allclose(got[i, j], want, atol=1e-6)


def brute_iou(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def masks(*rows):
    return [jnp.array([[c == "1" for c in row]]) for row in rows]


@pytest.mark.parametrize(
    ("pred", "target", "valid", "want"),
    [
        ("0000", "0000", "1111", 1.0),
        ("1000", "0000", "1111", 0.0),
        ("0000", "0001", "1111", 0.0),
        ("1110", "0111", "1111", 0.5),
        ("1110", "0111", "0111", 2 / 3),
        ("1000", "0100", "0011", 1.0),
        ("1100", "0100", "0111", 1.0),
    ],
)
def test_mask_iou_by_hand(pred, target, valid, want):
    np.testing.assert_allclose(mask_iou(*masks(pred, target, valid)), want, rtol=1e-6)


def test_mask_iou_of_coverage_is_weighted_jaccard():
    pred, target = jnp.array([[0.5, 1.0, 0.25]]), jnp.array([[1.0, 0.5, 0.25]])
    np.testing.assert_allclose(mask_iou(pred, target, jnp.ones((1, 3), bool)), 1.25 / 2.25, rtol=1e-6)


def test_mask_iou_under_jit_and_two_vmaps_is_brute_force():
    rng = np.random.default_rng(2)
    pred, target, valid = (rng.random(s) < p for s, p in (((3, 4, 6, 7), 0.4), ((3, 6, 7), 0.4), ((3, 6, 7), 0.8)))
    got = jax.jit(jax.vmap(jax.vmap(mask_iou, in_axes=(0, None, None))))(pred, target, valid)
    for i, j in np.ndindex(3, 4):
        p, t = pred[i, j] & valid[i], target[i] & valid[i]
        np.testing.assert_allclose(got[i, j], (p & t).sum() / (p | t).sum(), rtol=1e-6)
