"""GrabCut from boxes: segments drawn objects, falls back to the box, is pure, and fails one sample at a time."""

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data.twinworld.picture_examples import example
from dtr1_jax.run.worker_pool import Failure
from dtr1_jax.specialists import segmenter as segmenters
from dtr1_jax.specialists.segmenter import Segmenter, grabcut


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max(1, (a | b).sum())


def disc(height: int, width: int, row: float, column: float, radius: float, colour=(210, 60, 40)):
    """A noisy picture with a disc: image, mask, unit box."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] + 0.5
    mask = (y - row) ** 2 + (x - column) ** 2 < radius**2
    image = rng.normal((120, 130, 120), 15, (height, width, 3))
    image[mask] = rng.normal(colour, 15, (mask.sum(), 3))
    box = (column - radius) / width, (row - radius) / height, (column + radius) / width, (row + radius) / height
    return image.clip(0, 255).astype(np.uint8), mask, box


@pytest.fixture(scope="module")
def segmenter():
    with Segmenter("grabcut", workers=1, deadline=20.0) as segmenter:
        yield segmenter


# Rows and columns a:b of 10 that a box covers, by hand: edges are rounded to whole pixels.
@pytest.mark.parametrize(
    "box, rows, columns",
    [
        ((0.2, 0.3, 0.5, 0.9), (3, 9), (2, 5)),
        ((0.0, 0.0, 1.0, 1.0), (0, 10), (0, 10)),
        ((-5.0, 0.5, 0.24, 7.0), (5, 10), (0, 2)),
        ((0.41, 0.41, 0.43, 0.43), (4, 5), (4, 5)),  # at least one pixel
        ((0.99, 0.99, 1.0, 1.0), (9, 10), (9, 10)),
        ((0.5, 0.5, 0.5, 0.9), (0, 0), (0, 0)),  # no area
        ((0.9, 0.1, 0.2, 0.5), (0, 0), (0, 0)),  # the wrong way round
        ((math.nan, 0.1, 0.2, 0.5), (0, 0), (0, 0)),
        ((0.1, 0.1, math.inf, 0.5), (0, 0), (0, 0)),
    ],
)
def test_box(box, rows, columns):
    expected = np.zeros((10, 10), bool)
    expected[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(segmenters.box_mask(np.zeros((10, 10, 3), np.uint8), box), expected)


@pytest.mark.parametrize("size", [(40, 40), (96, 96), (300, 200)])
def test_a_disc_is_segmented(size):
    image, mask, box = disc(*size, row=size[0] * 0.5, column=size[1] * 0.45, radius=size[1] * 0.25)
    assert iou(grabcut(image, box), mask) > 0.95 > 0.82 > iou(segmenters.box_mask(image, box), mask)


def test_a_mask_does_not_depend_on_earlier_calls():
    image, _, box = disc(60, 60, 30, 30, 15)
    first = grabcut(image, box)
    cv2.setRNGSeed(123)
    grabcut(*disc(50, 70, 20, 20, 9)[::2])
    np.testing.assert_array_equal(grabcut(image, box), first)


def test_the_mask_stays_in_the_box():
    image, *_ = disc(60, 60, 30, 30, 20)
    half = (0.0, 0.0, 0.5, 1.0)
    cut = grabcut(image, half)
    assert not cut[:, 30:].any() and cut.any()


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.5, 0.5, 0.51, 0.9), (0.2, 0.2, 0.201, 0.201)])
def test_boxes_without_object_or_background_are_filled(box):
    image, *_ = disc(60, 60, 30, 30, 20)
    np.testing.assert_array_equal(grabcut(image, box), segmenters.box_mask(image, box))


def test_an_empty_mask_becomes_the_filled_box(monkeypatch):
    image, _, box = disc(60, 60, 30, 30, 20)
    monkeypatch.setattr(segmenters, "segment_patch", lambda patch: np.zeros(patch[0].shape[:2], bool))
    np.testing.assert_array_equal(grabcut(image, box), segmenters.box_mask(image, box))


def test_flat_picture():
    image = np.full((50, 50, 3), 9, np.uint8)
    np.testing.assert_array_equal(
        grabcut(image, (0.2, 0.2, 0.6, 0.6)), segmenters.box_mask(image, (0.2, 0.2, 0.6, 0.6))
    )


NUMBERS = st.floats(-0.5, 1.5) | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf, 1e300, -1e-300])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), st.integers(0, 9))
def test_any_box_on_any_picture(height, width, box, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    mask, filled = grabcut(image, box), segmenters.box_mask(image, box)
    assert mask.shape == (height, width) and mask.dtype == bool
    assert not (mask & ~filled).any() and mask.any() == filled.any()


def test_oracle_boxes_on_twinworld():
    """Masks from annotated boxes bound the reward on these scenes."""
    pairs = [(e.image, o) for e in (example(0, "heldout", i) for i in range(24)) for o in e.scene]
    assert np.mean([iou(grabcut(image, o.box), o.mask) for image, o in pairs]) > 0.85
    assert np.mean([iou(segmenters.box_mask(image, o.box), o.mask) for image, o in pairs]) < 0.65


def test_batches_are_unions_of_single_masks(segmenter):
    one, two = disc(60, 80, 30, 20, 12), disc(60, 80, 30, 55, 15)
    boxes = [np.array([one[2], two[2]], np.float32), np.zeros((0, 4), np.float32), np.array([two[2]], np.float32)]
    masks = segmenter([one[0], one[0], two[0]], boxes)
    rounded = [[tuple(round(float(v), 4) for v in b) for b in group] for group in boxes]
    np.testing.assert_array_equal(masks[0], grabcut(one[0], rounded[0][0]) | grabcut(one[0], rounded[0][1]))
    assert masks[1].shape == (60, 80) and masks[1].dtype == bool and not masks[1].any()
    np.testing.assert_array_equal(masks[2], grabcut(two[0], rounded[2][0]))
    assert segmenter([], []) == []


def spy(segmenter, monkeypatch) -> list[int]:
    """Sizes of the batches that reach the workers."""
    sizes = []
    whole = segmenter._pool.map
    monkeypatch.setattr(segmenter._pool, "map", lambda items: sizes.append(len(items)) or whole(items))
    return sizes


def test_each_box_is_segmented_once(segmenter, monkeypatch):
    sizes = spy(segmenter, monkeypatch)
    image, _, box = disc(50, 50, 25, 25, 11)
    near = tuple(v + 2e-5 for v in (0.2, 0.2, 0.7, 0.7))
    boxes = [np.array([box]), np.array([box, (0.2, 0.2, 0.7, 0.7)]), np.array([near])]
    first = segmenter([image, image.copy(), image], boxes)
    again = segmenter([image, image, image], boxes)
    assert sizes == [2, 0]
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    other = image.copy()
    other[0, 0] ^= 1  # another picture is another key
    segmenter([other], [np.array([box])])
    assert sizes[-1] == 1


def test_the_cache_drops_the_oldest(monkeypatch):
    monkeypatch.setattr(segmenters, "_CACHE", 2 * 50 * 50 // 8 + 8)  # two masks of 50 x 50 bits
    image, *_ = disc(50, 50, 25, 25, 11)
    a, b, c = (np.array([(0.1, 0.1, x, 0.8)]) for x in (0.5, 0.6, 0.7))
    with Segmenter("grabcut", workers=1, deadline=20.0) as segmenter:
        sizes = spy(segmenter, monkeypatch)
        for boxes in (a, b, a, c, a, b):  # c displaces b, because a was used since
            segmenter([image], [boxes])
        assert sizes == [1, 1, 0, 1, 0, 1]


def test_a_failed_box_costs_its_sample_only(segmenter, monkeypatch):
    image, _, box = disc(40, 40, 20, 20, 9)
    fails, works = np.array([box, (0.11, 0.1, 0.8, 0.8)]), np.array([(0.12, 0.1, 0.8, 0.8)])
    whole = segmenter._pool.map
    monkeypatch.setattr(segmenter._pool, "map", lambda items: [Failure("timeout", "x"), *whole(items[1:])])
    masks = segmenter([image, image], [fails, works])
    assert masks[0] is None and masks[1].any()
    monkeypatch.undo()
    assert segmenter([image], [fails])[0] is not None  # failures are not remembered


def test_failures_are_counted(monkeypatch):
    image, _, box = disc(40, 40, 20, 20, 9)
    with Segmenter("grabcut", workers=1, deadline=1e-6) as segmenter:
        assert segmenter([image], [np.array([box])]) == [None]
        assert segmenter.failures == {"timeouts": 1, "crashes": 0, "errors": 0}


def test_box_segmenter_runs_here():
    image, _, box = disc(40, 40, 20, 20, 9)
    with Segmenter("box") as segmenter:
        assert segmenter._pool is None and sum(segmenter.failures.values()) == 0
        masks = segmenter([image, image], [np.array([box, (0, 0, 0.1, 0.1)]), np.zeros((0, 4))])
    np.testing.assert_array_equal(
        masks[0], segmenters.box_mask(image, box) | segmenters.box_mask(image, (0, 0, 0.1, 0.1))
    )
    assert not masks[1].any()


def test_names_and_descriptions(segmenter):
    assert "GrabCut" in segmenter.description and "no learned weights" in segmenter.description
    with pytest.raises(ValueError, match="known: grabcut, box"):
        Segmenter("sam")
    with pytest.raises(ValueError, match="got 1 and 0"):
        segmenter([np.zeros((2, 2, 3), np.uint8)], [])


def test_workers_do_not_import_jax():
    code = "import sys; import dtr1_jax.specialists.segmenter; print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
