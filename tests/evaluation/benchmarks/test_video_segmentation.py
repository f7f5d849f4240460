"""J and F: by hand, by brute force over pixel pairs, and against stored figures of DAVIS's own code."""

import json
import math
import pathlib

import numpy as np
import pytest
from benchmark_cases import SIZES, masks

from dtr1_jax.evaluation.benchmarks import video_segmentation
from dtr1_jax.evaluation.benchmarks.video_segmentation import VideoScore, boundary, region

STORED = json.loads((pathlib.Path(__file__).parents[2] / "fixtures" / "benchmarks.json").read_text("utf-8"))["davis"]


@pytest.mark.parametrize(("size", "stored"), zip(SIZES, STORED))
def test_figures_are_those_of_davis(size, stored):
    figures = [(region(*frame), boundary(*frame)) for frame in masks(*size)]
    np.testing.assert_allclose(figures, stored, atol=1e-12)
    assert any(0 < f < 1 for _, f in stored)


def brute_edge(mask):
    """Pixels with a different right, lower or lower right neighbour inside the frame."""
    h, w = mask.shape
    edge = set()
    for y, x in np.ndindex(h, w):
        around = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
        if any(v < h and u < w and mask[v, u] != mask[y, x] for v, u in around):
            edge.add((y, x))
    return edge


def brute_f(pred, target):
    a, b = brute_edge(pred), brute_edge(target)
    radius = math.ceil(0.008 * math.sqrt(pred.shape[0] ** 2 + pred.shape[1] ** 2))
    near = lambda p, points: any((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= radius**2 for q in points)  # noqa: E731
    if not a or not b:
        return float(not a and not b)
    precision, recall = sum(near(p, b) for p in a) / len(a), sum(near(p, a) for p in b) / len(b)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("size", [(12, 17), (160, 20)])  # radii of 1 and 2
def test_boundary_is_brute_force(size):
    rng = np.random.default_rng(0)
    for density in (0.02, 0.2, 0.5):
        pred, target = rng.random((2, *size)) < density
        target[:, : size[1] // 2] = pred[:, : size[1] // 2]
        assert boundary(pred, target) == pytest.approx(brute_f(pred, target))


def frame(*rows):
    return np.array([[c == "1" for c in row] for row in rows])


EMPTY, BLOCK, FULL = frame("0000", "0000"), frame("0110", "0000"), frame("1111", "1111")


@pytest.mark.parametrize(
    ("pred", "target", "j", "f"),
    [
        (EMPTY, EMPTY, 1, 1),
        (BLOCK, BLOCK, 1, 1),
        (EMPTY, BLOCK, 0, 0),
        (BLOCK, EMPTY, 0, 0),
        (FULL, EMPTY, 0, 1),  # neither mask has a boundary, so F is 1
        (FULL, BLOCK, 0.25, 0),
        (None, EMPTY, 0, 0),
        (None, BLOCK, 0, 0),
    ],
)
def test_frames_by_hand(pred, target, j, f):
    assert (region(pred, target), boundary(pred, target)) == (j, f)


def test_ignored_pixels_count_neither_way():
    ignore = frame("0010", "0000")
    assert region(frame("0110", "0000"), frame("0100", "0000"), ignore) == 1.0
    assert boundary(frame("0110", "0000"), frame("0100", "0000"), ignore) == 1.0


def test_absent_frames_count_and_frames_may_differ_in_size():
    wide = np.zeros((3, 9), bool)
    answers, targets = [BLOCK, EMPTY, wide, BLOCK], [BLOCK, EMPTY, wide, EMPTY]
    assert video_segmentation.score(answers, targets) == VideoScore(0.75, 0.75)
    assert video_segmentation.score([BLOCK, None], [BLOCK, EMPTY]) == VideoScore(0.5, 0.5)
    assert video_segmentation.score(None, [BLOCK, EMPTY]) == VideoScore(0.0, 0.0)
    assert video_segmentation.score([BLOCK], [BLOCK]) == VideoScore(1.0, 1.0)
    half = video_segmentation.score([frame("0100", "0000")], [BLOCK], [None])
    assert half.j == 0.5


@pytest.mark.parametrize("call", [
    lambda: video_segmentation.score([], []), lambda: video_segmentation.score([BLOCK], [BLOCK, EMPTY]),
    lambda: video_segmentation.score([BLOCK], [np.zeros((3, 4), bool)]),
    lambda: region(None, BLOCK, np.zeros((3, 4), bool)),
    lambda: boundary(np.zeros((1, 2, 4), bool), np.zeros((1, 2, 4), bool)),
])  # fmt: skip
def test_masks_that_cannot_be_compared_are_an_error(call):
    with pytest.raises(ValueError, match=r"expected|must have"):
        call()
