"""Non-maximum suppression against a case by hand and against its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dtr1_jax.specialists.owlv2 import box_suppression


def test_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 5], [5, 5, 5, 5]], float)
    scores = np.array([0.5, 0.9, 0.1, 0.6, 0.3])
    assert box_suppression.kept(boxes, scores, 0.5).tolist() == [1, 4, 2]  # IoU 0.9 and 5/9 with the best box
    assert box_suppression.kept(boxes, scores, 0.6).tolist() == [1, 3, 4, 2]
    assert box_suppression.kept(boxes, scores, 1).tolist() == [1, 3, 0, 4, 2]
    assert box_suppression.kept(boxes[:0], scores[:0], 0.5).tolist() == []


def test_overlap():
    a, b = np.array([[0, 0, 2, 2], [1, 1, 1, 1]], float), np.array([[1, 1, 3, 3], [1, 1, 1, 1], [5, 5, 6, 6]], float)
    assert np.allclose(box_suppression.overlap(a, b), [[1 / 7, 0, 0], [0, 0, 0]])


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4, st.integers(0, 4)), max_size=12), st.floats(0, 0.99))
def test_definition(rows, threshold):
    table = np.array(rows, float).reshape(-1, 5)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], 1)
    kept = box_suppression.kept(boxes, table[:, 4], threshold)
    assert (np.diff(table[kept, 4]) <= 0).all()
    iou = box_suppression.overlap(boxes, boxes)
    better = {i: [j for j in kept if (-table[j, 4], j) < (-table[i, 4], i)] for i in range(len(boxes))}
    for i, others in better.items():
        assert (i in kept) == all(np.float32(iou[i, j]) <= threshold for j in others)
