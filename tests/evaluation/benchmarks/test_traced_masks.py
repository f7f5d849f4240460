"""LQ and VQ of Visual Reasoning Tracer against all pairings, and by hand."""

import itertools

import numpy as np
import pytest

from dtr1_jax.evaluation.benchmarks import traced_masks


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.mark.parametrize("seed", range(12))
def test_pairs_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    preds, targets = ([rng.random((4, 5)) < 0.5 for _ in range(n)] for n in rng.integers(1, 5, 2))
    found = traced_masks.target_ious(preds, targets)
    best, n = -1.0, len(targets)
    for order in itertools.permutations(list(range(len(preds))) + [None] * n, n):
        values = [0.0 if i is None else iou(preds[i], target) for i, target in zip(order, targets)]
        best = max(best, sum(values))
    assert len(found) == n and sum(found) == pytest.approx(best)


def test_by_hand():
    left, right = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    half = np.array([[1, 0], [0, 0]], bool)
    assert traced_masks.target_ious([right, left, left], [left]) == [1.0], "more answers cost nothing"
    assert traced_masks.target_ious([], [left, right]) == [0.0, 0.0] and traced_masks.target_ious([left], []) == []
    assert traced_masks.target_ious([half], [left]) == [0.5]
    assert traced_masks.figures([0.5, 0.6, 0.8, 0.0]) == pytest.approx({"miou": 0.475, "lq": 0.5, "vq": 0.7})
    assert traced_masks.figures([0.5]) == {"miou": 0.5, "lq": 0.0, "vq": 0.0}, "one half is not above one half"
    with pytest.raises(ValueError, match="no targets"):
        traced_masks.figures([])
