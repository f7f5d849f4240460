"""A box and a mask are carried through videos whose motion is known."""

import numpy as np
import pytest
import textured

from dtr1_jax.evaluation.benchmarks.video_segmentation import region
from dtr1_jax.specialists.box_suppression import pairwise_iou
from dtr1_jax.specialists.trackers import carry_box, carry_mask
from dtr1_jax.specialists.trackers.propagation import tight_box


@pytest.fixture(scope="module")
def moving():
    """An object that moves to the right and down while the camera pans to the right."""
    frames, masks = textured.video(8, (160, 220), (3, 0), [(50, 30, 40, 5, 3)])
    return frames, masks[0]


def test_a_mask_is_carried(moving):
    frames, masks = moving
    carried = carry_mask(frames, masks[0])
    assert carried.dtype == bool and carried.shape == masks.shape
    np.testing.assert_array_equal(carried[0], masks[0])
    assert min(region(a, b) for a, b in zip(carried, masks)) > 0.85
    np.testing.assert_array_equal(carried, carry_mask(frames, masks[0]))


def test_a_box_is_carried(moving):
    frames, masks = moving
    boxes = carry_box(frames, tight_box(masks[0]))
    assert boxes.dtype == np.float32
    truth = np.stack([tight_box(mask) for mask in masks])
    assert min(pairwise_iou(a[None], b[None])[0, 0] for a, b in zip(boxes, truth)) > 0.8


def test_a_loose_box_follows_the_object_and_not_the_background(moving):
    frames, masks = moving
    height, width = masks.shape[1:]
    first = tight_box(masks[0]) + np.array([-12 / width, -12 / height, 12 / width, 12 / height], np.float32)
    last = carry_box(frames, first)[-1]
    truth = tight_box(masks[-1])
    np.testing.assert_allclose((last[:2] + last[2:]) / 2, (truth[:2] + truth[2:]) / 2, atol=0.03)


def test_a_segmenter_takes_the_carried_box(moving):
    frames, masks = moving
    seen = []

    def segment(frame, box):
        seen.append(box)
        return masks[next(t for t, f in enumerate(frames) if f is frame)]

    carried = carry_mask(frames, masks[0], segment)
    np.testing.assert_array_equal(carried, masks)
    truth = np.stack([tight_box(mask) for mask in masks[1:]])
    assert min(pairwise_iou(a[None], b[None])[0, 0] for a, b in zip(np.stack(seen), truth)) > 0.8
    lost = carry_mask(frames, masks[0], lambda frame, box: np.zeros(frame.shape[:2], bool))
    assert lost[0].any() and not lost[1:].any()


def test_an_object_that_leaves_the_picture():
    """Its last pixels may stay at the border."""
    frames, masks = textured.video(12, (120, 160), (0, 0), [(40, 100, 40, 12, 0)])
    carried = carry_mask(frames, masks[0, 0])
    assert carried[-1].sum() < 0.6 * carried[0].sum() and not carried[-1][:, :120].any()
    boxes = carry_box(frames, tight_box(masks[0, 0]))
    assert boxes[2].any() and (not boxes[-1].any() or boxes[-1, 2] == 1)


def test_flat_pictures_and_single_frames():
    flat = [np.full((30, 40, 3), 90, np.uint8)] * 3
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5:20] = True
    assert carry_mask(flat, mask).all(0).sum() > 0.8 * mask.sum()
    np.testing.assert_allclose(carry_box(flat, [0.1, 0.1, 0.5, 0.5]), [[0.1, 0.1, 0.5, 0.5]] * 3, atol=0.02)
    assert carry_mask(flat[:1], mask).shape == (1, 30, 40) and carry_box(flat[:1], [-1, 0, 2, 1]).tolist() == [
        [0, 0, 1, 1]
    ]
    whole = np.ones((30, 40), bool)
    assert carry_mask(flat, whole)[-1].mean() > 0.9
    dot = np.zeros((30, 40), bool)
    dot[3, 3] = True
    assert carry_mask(flat, dot).shape == (3, 30, 40)


@pytest.mark.parametrize("box", [[0, 0, 0, 1], [2, 2, 3, 3], [0, 0, np.nan, 1], [0, 0, 1], [0.5, 0.5, 0.1, 0.9]])
def test_bad_boxes(box):
    with pytest.raises(ValueError, match="expected a box x1,y1,x2,y2"):
        carry_box([np.zeros((20, 20, 3), np.uint8)], box)


def test_bad_videos_and_masks():
    frame, mask = np.zeros((20, 30, 3), np.uint8), np.ones((20, 30), bool)
    with pytest.raises(ValueError, match="at least one frame"):
        carry_box([], [0, 0, 1, 1])
    for frames in ([], [frame, frame[:10]]):
        with pytest.raises(ValueError, match="frames of one size"):
            carry_mask(frames, mask)
    for wrong in (mask[:10], np.zeros_like(mask)):
        with pytest.raises(ValueError, match="expected a mask"):
            carry_mask([frame], wrong)
    assert tight_box(np.zeros((3, 4), bool)).tolist() == [0, 0, 0, 0]
