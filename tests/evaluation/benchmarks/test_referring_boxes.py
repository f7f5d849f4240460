"""REC and GREC: the generalised IoU against a count of pixels, the matching against all pairings, figures by hand."""

import itertools

import numpy as np
import pytest

from dtr1_jax.evaluation.benchmarks import boxes, referring_boxes
from dtr1_jax.evaluation.benchmarks.referring_boxes import BoxAnswer


def random_boxes(rng, count):
    corners = rng.integers(0, 16, (count, 2, 2))
    low, high = corners.min(1), corners.max(1) + 1
    return np.concatenate([low, high], 1).astype(float)


def test_generalised_iou_is_a_count_of_pixels():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 12), random_boxes(rng, 9)
    found = referring_boxes.generalised_iou(a, b)
    for (i, x), (j, y) in itertools.product(enumerate(a.astype(int)), enumerate(b.astype(int))):
        one, two, hull = (np.zeros((20, 20), bool) for _ in range(3))
        one[x[1] : x[3], x[0] : x[2]] = True
        two[y[1] : y[3], y[0] : y[2]] = True
        hull[min(x[1], y[1]) : max(x[3], y[3]), min(x[0], y[0]) : max(x[2], y[2])] = True
        union = (one | two).sum()
        assert found[i, j] == pytest.approx((one & two).sum() / union - (hull.sum() - union) / hull.sum())
    assert (found <= boxes.iou_matrix(a, b) + 1e-12).all()


def test_boxes_without_area_have_no_iou():
    point = np.array([[3.0, 3, 3, 3]])
    assert referring_boxes.generalised_iou(point, point).tolist() == [[0.0]]


@pytest.mark.parametrize("above", [False, True])
def test_matching_is_greedy_from_the_highest_value(above):
    rng = np.random.default_rng(1)
    for _ in range(60):
        values = rng.integers(4, 9, (3, 3)) / 10
        pairs, used = [], (set(), set())
        for i, j in sorted(itertools.product(range(3), range(3)), key=lambda p: -values[p]):
            if i not in used[0] and j not in used[1]:
                used[0].add(i), used[1].add(j), pairs.append(values[i, j])
        expected = all(v > 0.5 if above else v >= 0.5 for v in pairs)
        assert referring_boxes.pairs_off(values, above) == expected
    assert referring_boxes.pairs_off(np.zeros((0, 0))) and not referring_boxes.pairs_off(np.ones((2, 1)))


def test_figures_by_hand():
    """Six queries: right, right only by IoU, wrong, failed; without a target: right, and with a box too many."""
    rows = [
        BoxAnswer(1, 1, 1, 2, 2), BoxAnswer(1, 0, 0, 1, 1), BoxAnswer(0, 0, 0, 1, 0), BoxAnswer(0, 0, 0, 1, None),
        BoxAnswer(1, 1, 1, 0, 0), BoxAnswer(0, 0, 0, 0, 1),
    ]  # fmt: skip
    found = referring_boxes.grec(rows)
    assert found == {"f1": 3 / 6, "f1_generalised": 2 / 6, "n_acc": 1 / 2, "t_acc": 2 / 4}
    assert referring_boxes.grec([BoxAnswer(0, 0, 0, 0, None)])["n_acc"] == 0, "a failed sample is no empty answer"
    assert referring_boxes.rec(rows[:4]) == {"acc": 0.5, "acc_above": 0.25}
