"""The IoU of masks that were counted on a grid is the exact IoU in pixels, for any size of mask and grid."""

import itertools
import json

import cv2
import jax
import numpy as np
import pytest
from assets import path
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards.geometry import mask_iou
from dtr1_jax.rewards.mask_cells import overlap_cells

jitted = jax.jit(mask_iou)


def iou_on_grid(pred, target, keep=None, size=96):
    inter, union = overlap_cells(pred, target, keep, size)
    assert inter.shape == union.shape == (size, size) and (inter <= union).all()
    return float(jitted(inter, union, union > 0))


def exact_iou(pred, target, keep=True):
    union = (pred | target) & keep
    return ((pred & target) & keep).sum() / union.sum() if union.any() else 1.0


def random_mask(rng, shape):
    """A rectangle, scattered pixels, stripes, or nothing."""
    h, w = shape
    y, x = sorted(rng.integers(0, h + 1, 2)), sorted(rng.integers(0, w + 1, 2))
    mask = np.zeros(shape, bool)
    mask[y[0] : y[1], x[0] : x[1]] = True
    return (mask, mask & (rng.random(shape) < 0.4), mask & (np.arange(w) % 2 == rng.integers(2)))[rng.integers(3)]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 2, 7, 16, 96]), st.booleans()
)
def test_random_masks(seed, h, w, size, ignored):
    rng = np.random.default_rng(seed)
    pred, target = random_mask(rng, (h, w)), random_mask(rng, (h, w))
    keep = rng.random((h, w)) < 0.8 if ignored else None
    want = exact_iou(pred, target, True if keep is None else keep)
    assert iou_on_grid(pred, target, keep, size) == pytest.approx(want, abs=1e-6)
    assert iou_on_grid(None, target, keep, size) == (0.0 if (target if keep is None else target & keep).any() else 1.0)
    assert iou_on_grid(pred, ~pred, keep, size) == (1.0 if keep is not None and not keep.any() else 0.0)


def test_a_union_that_fits_the_grid_is_kept_pixel_by_pixel():
    pred, target = np.zeros((2, 300, 400), bool)
    pred[100:110, 200:220], target[95:105, 210:230] = True, True
    inter, union = overlap_cells(pred, target, None, 30)
    np.testing.assert_array_equal(union[:15, :30], (pred | target)[95:110, 200:230])
    np.testing.assert_array_equal(inter[:15, :30], (pred & target)[95:110, 200:230])
    assert union.sum() == (pred | target).sum() and inter.sum() == 50


def test_a_photo_of_twelve_megapixels_is_counted_exactly():
    rng = np.random.default_rng(0)
    pred, target = (rng.random((3000, 4000)) < p for p in (0.5, 0.9))
    assert iou_on_grid(pred, target) == pytest.approx(exact_iou(pred, target), abs=1e-6)


def small_objects():
    """bool[h, w] of each outlined object of COCO whose box has less than 32 px a side, in its picture."""
    content = json.loads((path("coco_mini") / "annotations" / "instances_val2017.json").read_text("utf-8"))
    sizes = {picture["id"]: (picture["height"], picture["width"]) for picture in content["images"]}
    for thing in content["annotations"]:
        if isinstance(thing["segmentation"], list) and max(thing["bbox"][2:]) < 32:
            mask = np.zeros(sizes[thing["image_id"]], np.uint8)
            cv2.fillPoly(mask, [np.reshape(x, (-1, 2)).round().astype(np.int32) for x in thing["segmentation"]], 1)
            yield mask > 0


def test_small_objects_of_coco():
    """Each object is compared with itself shifted by 0 to 32 px. A grid over the whole picture was off by up to 0.9."""
    shifts = ((0, 0), (0, 1), (2, 0), (3, 3), (0, 8), (12, 0), (32, 0), (1, -2))
    errors = [
        abs(iou_on_grid(moved, mask) - exact_iou(moved, mask))
        for mask in itertools.islice(small_objects(), 60)
        for moved in (np.roll(mask, shift, (0, 1)) for shift in shifts)
    ]
    assert len(errors) >= 200 and max(errors) < 1e-6
