"""The camera's motion is measured on the background: pans and zooms that are known, objects that move on their own."""

import cv2
import numpy as np
import pytest

from dtr1_jax import camera_motion


def world(seed=0):
    """uint8[300, 400, 3], a picture with texture."""
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    return cv2.resize(noise, (400, 300), interpolation=cv2.INTER_CUBIC)


def video(shifts, zooms=None, square=None):
    """Frames of 200 x 150 cut out of the world at x = 40 + shift; `square`: x of an object in each frame."""
    frames, objects = [], []
    for t, shift in enumerate(shifts):
        zoom = 1.0 if zooms is None else zooms[t]
        matrix = np.array([[zoom, 0, -zoom * (40 + shift)], [0, zoom, -zoom * 40]], np.float64)
        frame, mask = cv2.warpAffine(world(), matrix, (200, 150)), np.zeros((150, 200), bool)
        if square is not None:
            x = square[t]
            mask[60:100, x : x + 40] = True
            frame[mask] = 255
        frames.append(frame)
        objects.append(mask)
    return frames, objects


def test_a_pan_is_measured():
    shifts = [0, 4, 8, 12, 20, 28]
    path = camera_motion.camera_path(*video(shifts))
    for shift, matrix in zip(shifts, path):
        np.testing.assert_allclose(matrix @ [0.5, 0.5, 1], [0.5 + shift / 200, 0.5, 1], atol=0.004)
    assert camera_motion.moved_share(path) == pytest.approx(28 / 200, abs=0.005)


def test_a_zoom_is_measured():
    path = camera_motion.camera_path(*video([0] * 4, [1, 1.02, 1.05, 1.1]))
    x, y, scale = path[-1] @ [1, 1, 1]
    np.testing.assert_allclose([x / scale, y / scale], [1 / 1.1, 1 / 1.1], atol=0.01)


@pytest.mark.parametrize("speed", [0, 5])
def test_an_object_is_judged_against_the_background(speed):
    """The camera pans right by 5 pixels a frame. An object that stands in the world moves left in the picture; one
    that the camera follows stands in the picture and moves right in the world."""
    shifts = [5 * t for t in range(6)]
    square = [120 - shift + speed * t for t, shift in enumerate(shifts)]
    frames, objects = video(shifts, square=square)
    boxes = np.array([[x / 200, 60 / 150, (x + 40) / 200, 100 / 150] for x in square])
    placed = camera_motion.in_first_frame(boxes, camera_motion.camera_path(frames, objects))
    wanted = boxes[0] + np.outer([speed * t / 200 for t in range(6)], [1, 0, 1, 0])
    np.testing.assert_allclose(placed, wanted, atol=0.01)


def test_a_still_camera_without_texture():
    frames = [np.full((30, 40, 3), 90, np.uint8) for _ in range(3)]
    objects = [np.zeros((30, 40), bool) for _ in range(3)]
    for t in range(3):
        frames[t][5:10, 5 * t : 5 * t + 5] = 200
        objects[t][5:10, 5 * t : 5 * t + 5] = True
    path = camera_motion.camera_path(frames, objects)
    assert all((matrix == np.eye(3)).all() for matrix in path) and camera_motion.moved_share(path) == 0


def test_a_background_that_cannot_be_followed():
    frames, objects = video([0, 4, 8, 12])
    frames[2] = world(7)[:150, :200]  # a cut
    path = camera_motion.camera_path(frames, objects)
    assert path[1] is not None and path[2] is None and path[3] is None
    objects[1][:] = True
    assert camera_motion.camera_path(frames, objects)[1:] == [None] * 3
    assert camera_motion.camera_path([frames[0], frames[1][:100]], [None, None])[1] is None


def test_absent_objects_stay_absent():
    boxes = np.array([[0.1, 0.1, 0.3, 0.3], [0, 0, 0, 0]])
    shift = np.array([[1, 0, 0.2], [0, 1, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(camera_motion.in_first_frame(boxes, [shift, shift]), [[0.3, 0.1, 0.5, 0.3], [0] * 4])
