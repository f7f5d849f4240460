"""The homography between frames: known motions, moving objects, pictures without corners."""

import cv2
import numpy as np
import pytest
import textured

from dtr1_jax.specialists.trackers import frame_motion


def test_a_pan_is_measured():
    frames, _ = textured.video(4, (120, 160), (6, -3), [])
    motions = frame_motion.homographies(frames)
    np.testing.assert_array_equal(motions[0], np.eye(3))
    for motion in motions[1:]:
        x, y, z = motion @ [0.5, 0.5, 1]
        np.testing.assert_allclose([x / z, y / z], [0.5 - 6 / 160, 0.5 + 3 / 120], atol=2e-3)


@pytest.mark.parametrize("told", [False, True])
def test_a_moving_object_does_not_disturb(told):
    frames, _ = textured.video(3, (120, 160), (5, 0), [(60, 20, 30, 8, 2)])
    boxes = [np.array([[20 + 8 * t, 30 + 2 * t, 80 + 8 * t, 90 + 2 * t]]) / [160, 120, 160, 120] for t in range(3)]
    for motion in frame_motion.homographies(frames, boxes if told else None)[1:]:
        x, _, z = motion @ [0.9, 0.1, 1]
        assert x / z == pytest.approx(0.9 - 5 / 160, abs=3e-3)


def test_zoom_and_rotation():
    image = textured.texture(200, 300, 0)
    matrix = cv2.getRotationMatrix2D((150, 100), 4, 1.05)
    turned = cv2.warpAffine(image, matrix, (300, 200), borderMode=cv2.BORDER_REFLECT)
    motion = frame_motion.homographies([image, turned])[1]
    for x, y in ((0.3, 0.3), (0.7, 0.4), (0.5, 0.8)):
        expected = matrix @ [x * 300, y * 200, 1] / [300, 200]
        point = motion @ [x, y, 1]
        np.testing.assert_allclose(point[:2] / point[2], expected, atol=3e-3)


def test_pictures_that_say_nothing():
    flat = np.full((40, 50, 3), 90, np.uint8)
    noise = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8) for i in range(2)]
    for frames in ([flat, flat], noise, [flat[:1, :1], flat[:1, :1]], [flat]):
        np.testing.assert_array_equal(frame_motion.homographies(frames), np.tile(np.eye(3), (len(frames), 1, 1)))
    assert frame_motion.homographies([]).shape == (0, 3, 3)
    box = np.array([[0, 0, 1, 1.0]])
    frames, _ = textured.video(2, (120, 160), (6, 0), [])
    assert frame_motion.homographies(frames, [box, box])[1][0, 2] != 0  # a box of the whole frame hides no corners


def test_frames_of_different_sizes():
    frames, _ = textured.video(2, (120, 160), (6, 0), [])
    frames[1] = cv2.resize(frames[1], (320, 240))
    x, _, z = frame_motion.homographies(frames)[1] @ [0.5, 0.5, 1]
    assert x / z == pytest.approx(0.5 - 6 / 160, abs=4e-3)


def test_a_box_by_hand():
    motion = np.array([[1, 0, 0.1], [0, 2, 0], [0, 0, 1]])
    np.testing.assert_allclose(frame_motion.moved_box(np.array([0.2, 0.1, 0.4, 0.3]), motion), [0.3, 0.2, 0.5, 0.6])
