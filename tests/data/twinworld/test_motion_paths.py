"""Random paths, by hand-written rules for each motion."""

import numpy as np
import pytest

from dtr1_jax.data.twinworld import motion_paths

WIDTH, HEIGHT, SIZE, FRAMES = 20, 30, 96, 8


def outside(path):
    """bool[T]: whether no pixel of the silhouette lies inside the picture."""
    return ((path <= (-WIDTH, -HEIGHT)) | (path >= SIZE)).any(-1)


@pytest.mark.parametrize("motion", motion_paths.MOTIONS)
def test_paths_start_and_end_inside_or_outside(motion):
    for seed in range(50):
        path = motion_paths.sample_path(np.random.default_rng(seed), motion, WIDTH, HEIGHT, SIZE, FRAMES)
        assert path.shape == (FRAMES, 2)
        assert outside(path)[0] == (motion in ("entering", "passing"))
        assert outside(path)[-1] == (motion in ("leaving", "passing"))
        assert (np.ptp(path, axis=0) > 0).sum() == (motion != "still"), "a motion changes one coordinate"


def test_a_hiding_path_passes_behind_its_cover():
    for seed in range(20):
        cover = np.array([40.0, 30.0])
        path = motion_paths.sample_hiding_path(np.random.default_rng(seed), cover, 36, 38, WIDTH, HEIGHT, SIZE, FRAMES)
        hidden = ((path >= cover) & (path + (WIDTH, HEIGHT) <= cover + (36, 38))).all(-1)
        assert hidden.any() and not hidden[0] and not hidden[-1] and not outside(path).any()


def test_crossing_paths_change_sides():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        one, two = motion_paths.sample_crossing_paths(rng, (WIDTH, 25), (HEIGHT, 20), SIZE, FRAMES)
        gap = one[:, 0] - two[:, 0]
        assert gap[0] * gap[-1] < 0


def test_motions_and_plans_all_occur():
    rng = np.random.default_rng(0)
    assert {motion_paths.sample_motion(rng) for _ in range(200)} == set(motion_paths.MOTIONS)
    assert {motion_paths.sample_plan(rng, 2) for _ in range(50)} == {"hide", "cross", "free"}
    assert {motion_paths.sample_plan(rng, 1) for _ in range(50)} == {"free"}
