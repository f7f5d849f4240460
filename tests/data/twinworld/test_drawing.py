"""Painting: pixels belong to the objects that the scene says, and the random numbers decide the rest."""

import numpy as np

from dtr1_jax.data.twinworld import drawing, scenes, video_scenes


def test_an_object_changes_its_own_pixels_only():
    """The frames of a video differ where its nearest object is painted or left out, and nowhere else."""
    for i in range(12):
        scene = video_scenes.sample_video_scene(np.random.default_rng([3, i]), "train", 2 + i % 4, 96, 8)

        def painted(visible, scene=scene):
            return drawing.paint_video(np.random.default_rng(1), 96, scene.sprites, scene.corners, visible)

        whole = painted(scene.visible)
        np.testing.assert_array_equal(whole, painted(scene.visible))
        without_nearest = scene.visible.copy()
        without_nearest[:, -1] = False  # nothing covers the nearest object
        without = painted(without_nearest)
        changed = (whole != without).any(-1)
        own = scene.owner == len(scene.sprites)
        assert (changed & own).sum() > 0.8 * own.sum()
        assert not changed[~scene.visible[:, -1]].any()


def test_a_picture_is_a_frame_of_its_video():
    scene = scenes.sample_picture_scene(np.random.default_rng(0), "train", 4, 96)
    picture = drawing.paint_picture(np.random.default_rng(1), scene)
    corners, visible = np.array([scene.corners]), np.ones((1, 4), bool)
    (frame,) = drawing.paint_video(np.random.default_rng(1), 96, scene.sprites, corners, visible)
    np.testing.assert_array_equal(picture, frame)
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
