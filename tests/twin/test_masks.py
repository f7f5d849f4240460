"""Masks, RLE and polygons: by hand, and bit for bit as pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dtr1_jax.twin import masks

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@pytest.fixture(scope="module")
def coco():
    return pytest.importorskip("pycocotools.mask", reason="pycocotools, the reference, is in the test extra")


def test_encode_by_hand():
    # Columns: [F T], [T T], [F F]. Runs: 1 F, 3 T, 2 F; each below 16 is one character, 48 + the run.
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert masks.encode(mask) == {"size": [2, 3], "counts": b"132"}
    assert (masks.decode({"size": [2, 3], "counts": [1, 3, 2]}) == mask).all()


def test_a_mask_that_starts_with_true_starts_with_an_empty_run():
    assert masks.encode(np.ones((2, 2), bool))["counts"] == b"04"


@settings(deadline=None, max_examples=60)
@given(MASKS)
def test_decode_inverts_encode(mask):
    rle = masks.encode(mask)
    assert (masks.decode(rle) == mask).all()
    assert (masks.decode({**rle, "counts": rle["counts"].decode()}) == mask).all()


def test_encode_equals_pycocotools(coco):
    rng = np.random.default_rng(0)
    for density in (0, 0.001, 0.01, 0.5, 0.99, 1):
        for _ in range(30):
            mask = rng.random(rng.integers(1, 200, 2)) < density  # long runs and short, growing and shrinking
            expected = coco.encode(np.asfortranarray(mask, np.uint8))
            assert masks.encode(mask) == expected
            assert (masks.decode(expected) == coco.decode(expected).astype(bool)).all()
            assert masks.area(mask) == coco.area(expected)


def test_uncompressed_counts_equal_pycocotools(coco):
    rle = {"size": [7, 9], "counts": [5, 20, 0, 10, 28]}
    expected = coco.decode(coco.frPyObjects(rle, 7, 9)).astype(bool)
    assert (masks.decode(rle) == expected).all()


@pytest.mark.parametrize("kind", ["real", "whole", "half", "doubled points"])
def test_polygons_equal_pycocotools(coco, kind):
    rng = np.random.default_rng(1)
    for _ in range(150):
        h, w = (int(n) for n in rng.integers(1, 60, 2))
        points = rng.uniform(-0.5, 1.5, (int(rng.integers(3, 12)), 2)) * [w, h] * rng.choice([0.2, 1, 3])
        if kind == "whole":
            points = np.round(points)
        if kind == "half":
            points = np.round(2 * points) / 2
        if kind == "doubled points":
            points = np.repeat(points, 2, axis=0)
        polygons = [points.ravel().tolist(), (rng.random((4, 2)) * [w, h]).ravel().tolist()]
        expected = coco.merge(coco.frPyObjects(polygons, h, w))
        assert masks.encode(masks.from_polygons(polygons, h, w)) == expected


def test_a_square_covers_the_pixels_whose_corners_it_joins():
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    assert (masks.from_polygons([[2, 1, 6, 1, 6, 4, 2, 4]], 6, 8) == expected).all()


def test_polygon_outside_the_picture_is_empty_and_a_huge_one_is_cut():
    assert not masks.from_polygons([[20, 20, 30, 20, 30, 30]], 10, 10).any()
    assert masks.from_polygons([[-500, -500, 500, -500, 500, 500, -500, 500]], 10, 10).all()


def test_no_polygon_is_an_empty_mask():
    assert not masks.from_polygons([], 3, 4).any()


@pytest.mark.parametrize(
    ("polygon", "problem"),
    [
        ([1, 2, 3, 4], "3 points"),
        ([1, 2, 3, 4, 5, 6, 7], "3 points"),
        ([[1, 2], [3, 4], [5, 6]], "3 points"),
        (["1", "2", "3", "4", "5", "6"], "numbers"),
        ([1, 2, 3, [4], 5, 6], "numbers"),
        ([1, 2, 3, 4, 5, 10**5000], "numbers"),
        (None, "null"),
        ([1, 2, 3, float("nan"), 5, 6], r"polygons\[0\]\[3\].*finite.*nan"),
        ([1, 2, 3, 4, float("inf"), 6], r"polygons\[0\]\[4\].*finite.*inf"),
        ([0, 0, 5e7, 0, 0, 5e7], "outline of at most"),
    ],
)
def test_bad_polygons_are_refused(polygon, problem):
    with pytest.raises(ValueError, match=problem):
        masks.from_polygons([polygon], 10, 10)


@pytest.mark.parametrize(
    ("rle", "problem"),
    [
        ([], "dict with size and counts"),
        ({"size": [2, 2]}, "dict with size and counts"),
        ({"size": [2], "counts": [4]}, r"expected \[h, w\]"),
        ({"size": [2, -2], "counts": [4]}, r"got \[2, -2\]"),
        ({"size": [2, True], "counts": [2]}, r"expected \[h, w\]"),
        ({"size": [10**5000, 1], "counts": [1]}, "huge integer"),
        ({"size": [1 << 20, 1 << 20], "counts": [1 << 40]}, "at most 134217728 pixels"),
        ({"size": [2, 2], "counts": [1, 2]}, "sum of 2 x 2 = 4 pixels, got 3"),
        ({"size": [2, 2], "counts": []}, "got 0"),
        ({"size": [2, 2], "counts": ""}, "got 0"),
        ({"size": [2, 2], "counts": [5, -1]}, "at position 1"),
        ({"size": [2, 2], "counts": ["4"]}, "at position 0"),
        ({"size": [2, 2], "counts": [10**30]}, "at position 0"),
        ({"size": [2, 2], "counts": 4}, "list, str or bytes, got 4"),
        ({"size": [2, 2], "counts": "1 2"}, "got b' ' at position 1"),
        ({"size": [2, 2], "counts": "1é"}, "at position 1"),
        ({"size": [2, 2], "counts": "1\ud800"}, "at position 1"),
        ({"size": [2, 2], "counts": "1P"}, "cut off"),  # "P": another chunk follows
        ({"size": [2, 2], "counts": b"oooooooo0"}, "at most 7 characters"),
        ({"size": [2, 2], "counts": b"5O"}, "at position 1"),  # "O" is -1
    ],
)
def test_hostile_rle_is_refused(rle, problem):
    with pytest.raises(ValueError, match=problem):
        masks.decode(rle)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=2), st.text() | st.binary() | st.lists(st.integers()))
def test_decode_returns_a_mask_or_raises_value_error(size, counts):
    try:
        mask = masks.decode({"size": size, "counts": counts})
    except ValueError:
        return
    assert mask.shape == tuple(size) and mask.dtype == bool


def test_bbox(coco):
    mask = np.zeros((4, 8), bool)
    mask[1:3, 2:7] = True
    assert masks.bbox(mask) == (0.25, 0.25, 0.875, 0.75)
    x, y, w, h = coco.toBbox(coco.encode(np.asfortranarray(mask, np.uint8)))
    assert (x / 8, y / 4, (x + w) / 8, (y + h) / 4) == masks.bbox(mask)
    assert masks.bbox(np.zeros((4, 8), bool)) is None


def test_union():
    a, b = np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]
    assert (masks.union([a, b], 3, 3) == (a | b)).all()
    assert not masks.union([], 2, 5).any()
    with pytest.raises(ValueError, match=r"masks\[1\]: expected bool\[3, 3\], got shape \(2, 3\)"):
        masks.union([a, np.zeros((2, 3), bool)], 3, 3)
