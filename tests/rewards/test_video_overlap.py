"""Masks and tracks over the frames of a video: the target, the scores of answers, and odd sizes."""

import dataclasses

import numpy as np
import pytest

from dtr1_jax.rewards import video_overlap
from dtr1_jax.types import Target

T, H, W = 3, 4, 8
LEFT, RIGHT = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
ABSENT = (0, 0, 0, 0)


def masks(*boxes, h=H, w=W):
    """bool[T, h, w]: one box filled in each frame."""
    out = np.zeros((len(boxes), h, w), bool)
    for t, (x1, y1, x2, y2) in enumerate(boxes):
        out[t, round(y1 * h) : round(y2 * h), round(x1 * w) : round(x2 * w)] = True
    return out


def target(*boxes, **more):
    """The target of one object that has these boxes, one in each frame."""
    track, filled = np.array([boxes], np.float32), masks(*boxes)
    return Target(filled[0], track[0, :1], masks=filled, tracks=track, **more)


TARGET = target(LEFT, LEFT, ABSENT)


def test_masks_by_hand():
    answers = [TARGET.masks, masks(LEFT, RIGHT, ABSENT), masks(LEFT, LEFT, LEFT), masks(ABSENT, ABSENT, ABSENT), None]
    got = video_overlap.mask_scores(answers, TARGET, 16, T)
    np.testing.assert_allclose(got, [1, 2 / 3, 2 / 3, 1 / 3, 0], rtol=1e-6)
    both = masks(LEFT, (0, 0, 1, 1), ABSENT)
    np.testing.assert_allclose(video_overlap.mask_scores([both], TARGET, 16, T), [(1 + 0.5 + 1) / 3], rtol=1e-6)


def test_only_labelled_frames_count():
    some = dataclasses.replace(TARGET, labelled=np.array([True, False, False]))
    wrong_later = masks(LEFT, RIGHT, RIGHT)
    np.testing.assert_allclose(video_overlap.mask_scores([wrong_later], some, 16, T), [1])
    tracks = np.array([[LEFT, RIGHT, RIGHT]], np.float32)
    right = video_overlap.truth(some, T)
    np.testing.assert_allclose(video_overlap.track_scores([tracks], right.tracks, right.labelled), [1])
    nothing = dataclasses.replace(TARGET, labelled=np.zeros(T, bool))
    assert video_overlap.mask_scores([wrong_later], nothing, 16, T) == 0


def test_tracks_by_hand():
    right = np.array([[LEFT, LEFT, ABSENT], [ABSENT, RIGHT, RIGHT]], np.float32)
    answers = [right[::-1], right[:1], right[:0], np.array([[LEFT] * T], np.float32)]
    got = video_overlap.track_scores(answers, right, np.ones(T, bool))
    np.testing.assert_allclose(got, [1, 1 / 2, 0, (2 / 3) / 2], rtol=1e-6)
    assert video_overlap.track_scores([right[:0], right], right[:0], np.ones(T, bool)).tolist() == [1, 0]


def test_ignored_pixels_of_the_first_frame():
    ignored = dataclasses.replace(TARGET, ignore=masks(RIGHT)[0])
    np.testing.assert_allclose(video_overlap.mask_scores([masks((0, 0, 1, 1), LEFT, ABSENT)], ignored, 16, T), [1])


def test_a_target_of_the_first_frame_alone():
    still = Target(masks(LEFT)[0], np.array([LEFT], np.float32))
    right = video_overlap.truth(still, T)
    assert right.labelled.tolist() == [True, False, False] and right.tracks.shape == (1, T, 4)
    np.testing.assert_allclose(video_overlap.mask_scores([masks(LEFT, RIGHT, RIGHT)], still, 16, T), [1])


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_target_of_another_number_of_frames(frames):
    right = video_overlap.truth(TARGET, frames)
    assert [len(x) for x in (right.masks, right.labelled, right.counted)] == [frames] * 3
    assert right.tracks.shape == (1, frames, 4) and right.labelled.sum() == min(frames, T)
    answers = [masks(*[LEFT] * frames)]
    np.testing.assert_allclose(
        video_overlap.mask_scores(answers, TARGET, 16, frames), [min(frames, 2) / min(frames, T)], rtol=1e-6
    )


def test_masks_of_another_size():
    large = masks(LEFT, LEFT, ABSENT, h=40, w=80)
    np.testing.assert_allclose(video_overlap.mask_scores([large], TARGET, 16, T), [1])
    np.testing.assert_array_equal(video_overlap.resize_mask(large[0], (H, W)), TARGET.masks[0])
    assert video_overlap.resize_mask(np.zeros((0, 0), bool), (2, 3)).shape == (2, 3)


def test_a_video_without_masks_on_either_side():
    nothing = target(ABSENT, ABSENT, ABSENT)
    assert video_overlap.mask_scores(
        [masks(ABSENT, ABSENT, ABSENT), masks(ABSENT, ABSENT, LEFT)], nothing, 16, T
    ).tolist() == pytest.approx([1, 2 / 3])


def test_many_tracks_stay_bounded():
    many = np.tile(np.array([[LEFT, LEFT, LEFT]], np.float32), (200, 1, 1))
    got = video_overlap.track_scores([many], many[:1], np.ones(T, bool))
    np.testing.assert_allclose(got, [1 / 200], rtol=1e-6)  # tracks that are left out of the match count too


@pytest.mark.parametrize("size", [1, 16, 300])
def test_masks_side_by_side_score_0_in_every_frame(size):
    stripes = np.zeros((2, 200, 260), bool)
    stripes[:, :, ::2] = True
    both = Target(stripes[0], np.zeros((0, 4), np.float32), masks=stripes, tracks=np.zeros((0, 2, 4), np.float32))
    half = np.stack([stripes[0], ~stripes[1]])
    got = video_overlap.mask_scores([~stripes, stripes, half], both, size, 2)
    np.testing.assert_allclose(got, [0, 1, 0.5], rtol=1e-6)
    assert got[0] == 0


def test_few_programs_are_compiled():
    video_overlap.mask_scores([masks(LEFT, LEFT, LEFT)] * 2, TARGET, 7, 3)
    size = video_overlap._mask_iou.__wrapped__._cache_size()
    video_overlap.mask_scores([masks(LEFT, LEFT, LEFT, LEFT)] * 2, TARGET, 7, 4)
    assert video_overlap._mask_iou.__wrapped__._cache_size() == size
