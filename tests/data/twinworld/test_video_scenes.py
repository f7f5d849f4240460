"""Scenes of videos: visible pixels, and motions that are what they are called."""

from collections import Counter

import numpy as np
import pytest

from dtr1_jax.data.queries import motion
from dtr1_jax.data.twinworld import motion_paths, video_scenes


@pytest.fixture(scope="module")
def annotated():
    """(scene, its instances) of some videos."""
    rngs = (np.random.default_rng([3, i]) for i in range(70))
    videos = [video_scenes.sample_video_scene(rng, "train", 2 + i % 4, 96, 8) for i, rng in enumerate(rngs)]
    return [(scene, video_scenes.video_instances(scene)) for scene in videos]


def test_every_painted_pixel_has_its_owner(annotated):
    for scene, _ in annotated:
        for t, corners in enumerate(scene.corners):
            painted = np.zeros((96, 96), int)
            for k, (item, (left, top)) in enumerate(zip(scene.sprites, corners), 1):
                if scene.visible[t, k - 1]:
                    y, x = (np.argwhere(item.tones > 0) + (top, left)).T
                    inside = (y >= 0) & (y < 96) & (x >= 0) & (x < 96)
                    painted[y[inside], x[inside]] = k
            np.testing.assert_array_equal(painted, scene.owner[t])


def test_objects_are_seen_enough_or_not_at_all(annotated):
    for scene, _ in annotated:
        for k, item in enumerate(scene.sprites, 1):
            pixels = (scene.owner == k).sum((1, 2))
            assert ((pixels > 0) == scene.visible[:, k - 1]).all()
            assert (pixels[pixels > 0] >= max(30, video_scenes.SEEN_SHARE * item.area) * 0.5).all()
            assert scene.visible[:, k - 1].sum() >= 2


def things_by_sprite(scene, things):
    """(motion, path in the unit frame, thing) of each sprite; depth tells which is which."""
    by_depth = {thing.depth: thing for thing in things}
    return [
        (scene.motions[k], scene.paths[k] / 96, by_depth[len(scene.sprites) - k]) for k in range(len(scene.sprites))
    ]  # fmt: skip


def test_motions_are_what_they_are_called(annotated):
    names = Counter()
    for scene, things in annotated:
        for name, path, thing in things_by_sprite(scene, things):
            names[name] += 1
            measured, step = motion.measure_motion(thing), np.diff(path, axis=0)
            if name == "still":
                assert not step.any() and measured.moves is False and thing.velocity == (0, 0)
            else:
                assert measured.moves is True
            if name in ("constant", "crossing"):
                np.testing.assert_allclose(step, step[:1].repeat(7, 0), atol=1e-9)
            if name == "accelerating":
                lengths = np.abs(step).sum(1)
                assert (np.diff(lengths) > 0).all() or (np.diff(lengths) < 0).all()
            assert measured.turns == (name == "bouncing") or name == "hiding"
            if name == "hiding":
                assert measured.hidden and measured.first == 0 and measured.last == 7
            assert (measured.first > 0) == (name in ("entering", "passing")), "nothing comes from behind another"
            assert (measured.last < 7) == (name in ("leaving", "passing"))
    assert set(names) == {*motion_paths.MOTIONS, "hiding", "crossing"}


def test_velocities_are_the_mean_of_the_path_while_it_is_seen(annotated):
    for scene, things in annotated:
        for name, path, thing in things_by_sprite(scene, things):
            there = np.flatnonzero(thing.boxes[:, 2])
            first, last = there[0], there[-1]
            expected = (path[last] - path[first]) / max(last - first, 1)
            np.testing.assert_allclose(thing.velocity, expected, atol=1e-12)
            if name == "constant":
                np.testing.assert_allclose(thing.velocity, path[1] - path[0], atol=1e-9)


def test_some_go_past_one_another(annotated):
    for scene, things in annotated:
        pair = [thing for name, _, thing in things_by_sprite(scene, things) if name == "crossing"]
        if pair:
            left, right = (thing.boxes[[0, -1], 0] for thing in pair)
            assert (left - right)[0] * (left - right)[1] < 0


def test_when_nothing_fits_all_stand_still(monkeypatch):
    monkeypatch.setattr(video_scenes, "_is_faultless", lambda *a: False)
    scene = video_scenes.sample_video_scene(np.random.default_rng(0), "heldout", 4, 96, 5)
    assert scene.motions == ("still",) * 4 and scene.visible.all() and len(video_scenes.video_instances(scene)) == 4
