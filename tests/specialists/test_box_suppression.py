"""Suppression of overlapping boxes: cases by hand, and properties for random boxes."""

import numpy as np
import pytest

from dtr1_jax.specialists import box_suppression

BOXES = np.array([[0, 0, 0.5, 1], [0.02, 0, 0.5, 1], [0.5, 0, 1, 1], [0.5, 0, 0.5, 1]], np.float32)


def test_by_hand():
    assert box_suppression.suppress(BOXES, np.array([0.5, 0.9, 0.1, 0.2]), 0.5, 10).tolist() == [1, 3, 2]
    assert box_suppression.suppress(BOXES, np.array([0.5, 0.9, 0.1, 0.2]), 0.99, 10).tolist() == [1, 0, 3, 2]
    assert box_suppression.suppress(BOXES, np.array([0.5, 0.5, 0.5, 0.5]), 0.5, 1).tolist() == [0]
    assert box_suppression.suppress(BOXES[:0], np.zeros(0), 0.5, 1).tolist() == []
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 5], [5, 5, 5, 5]], np.float32)
    scores = np.array([0.5, 0.9, 0.1, 0.6, 0.3])  # IoU 0.9 and 5/9 with the best box
    assert box_suppression.suppress(boxes, scores, 0.5, 5).tolist() == [1, 4, 2]
    assert box_suppression.suppress(boxes, scores, 0.6, 5).tolist() == [1, 3, 4, 2]
    assert box_suppression.suppress(boxes, scores, 1, 5).tolist() == [1, 3, 0, 4, 2]


def test_iou_equal_to_the_bound_stays():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]])
    assert box_suppression.pairwise_iou(boxes[:1], boxes[1:])[0, 0] == 0.5
    assert len(box_suppression.suppress(boxes, np.array([1, 0.5]), 0.5, 2)) == 2


def test_classes_do_not_suppress_one_another():
    scores = np.array([[0.9, 0.1], [0.8, 0.7], [0.3, 0], [0.9, 0.9]])
    box, score, column, row = box_suppression.per_class(BOXES, scores, 0.2, 0.5, 10)
    np.testing.assert_allclose(score, [0.9, 0.7, 0.3])  # box 1 goes in class 0 only, box 3 has no area
    assert column.tolist() == [0, 1, 0] and row.tolist() == [0, 1, 2] and box.dtype == np.float32
    assert len(box_suppression.per_class(BOXES, scores, 0.2, 0.5, 2)[0]) == 2
    assert box_suppression.per_class(BOXES, scores, 0.95, 0.5, 2)[0].shape == (0, 4)


def test_boxes_are_clipped_and_bad_ones_left_out():
    boxes = np.array([[-1, 0.5, 0.5, 3], [2, 2, 3, 3], [np.nan, 0, 1, 1], [0, 0, np.inf, 1]], np.float32)
    box, _, _, _ = box_suppression.per_class(boxes, np.full((4, 1), 0.9), 0.5, 0.5, 10)
    np.testing.assert_allclose(box, [[0, 0.5, 0.5, 1]])


@pytest.mark.parametrize("seed", range(3))
def test_what_stays_does_not_overlap_and_what_goes_does(seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.7, (60, 2))
    boxes, scores = np.concatenate([low, low + rng.uniform(0.05, 0.3, (60, 2))], 1), rng.uniform(size=60)
    stay = box_suppression.suppress(boxes, scores, 0.3, 100)
    assert (np.diff(scores[stay]) <= 0).all()
    iou = box_suppression.pairwise_iou(boxes, boxes)
    assert (np.triu(iou[np.ix_(stay, stay)], 1) <= 0.3).all()
    for i in set(range(60)) - set(stay.tolist()):
        assert any(iou[i, j] > 0.3 and scores[j] >= scores[i] for j in stay)
