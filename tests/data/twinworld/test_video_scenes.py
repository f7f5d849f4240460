"""TwinWorld's videos: annotations that fit the pixels of each frame, motions that are what they are called."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from dtr1_jax.data.queries import motion
from dtr1_jax.data.twinworld import categories, drawing, motion_paths, picture_examples, video_examples, video_scenes
from dtr1_jax.types import Video

COUNT = 60


@pytest.fixture(scope="module")
def examples():
    return {split: [video_examples.example(7, split, i) for i in range(COUNT)] for split in picture_examples.SPLITS}


@pytest.fixture(scope="module")
def shot():
    """Films with what their instances are called."""
    made = [video_scenes.film(np.random.default_rng([3, i]), "train", 2 + i % 4, 96, 8) for i in range(70)]
    return [(film, video_scenes.instances(film)) for film in made]


def test_same_arguments_same_example_and_others_differ():
    one, two, other = (video_examples.example(3, "train", i) for i in (17, 17, 18))
    assert (one.uid, one.query, one.thought) == (two.uid, two.query, two.thought)
    assert one.uid == "twinworld-video/train/3/17"
    np.testing.assert_array_equal(one.visuals[0].frames, two.visuals[0].frames)
    np.testing.assert_array_equal(one.target.masks, two.target.masks)
    frames = one.visuals[0].frames
    for unlike in (other, video_examples.example(4, "train", 17), video_examples.example(3, "heldout", 17)):
        assert not np.array_equal(frames, unlike.visuals[0].frames)


def test_shapes_and_the_first_frame(examples):
    for example in examples["train"] + examples["heldout"]:
        (video,) = example.visuals
        assert isinstance(video, Video) and video.frames.shape == (8, 96, 96, 3) and video.frames.dtype == np.uint8
        assert video.index.tolist() == list(range(8)) and video.total == 8
        np.testing.assert_array_equal(example.image, video.frames[0])
        target, wanted = example.target, [thing for thing in example.scene if thing.id in example.answer_ids]
        assert target.masks.shape == (8, 96, 96) and target.tracks.shape == (len(wanted), 8, 4)
        assert target.tracks.dtype == np.float32
        union = np.any([thing.masks for thing in wanted], 0) if wanted else np.zeros((8, 96, 96), bool)
        np.testing.assert_array_equal(target.masks, union)
        np.testing.assert_array_equal(target.mask, union[0])
        seen_first = [thing.box for thing in wanted if thing.mask.any()]
        np.testing.assert_allclose(target.boxes, np.reshape(seen_first, (-1, 4)), rtol=1e-6)
        assert example.task == "segmentation" and example.target.references == ()


def test_boxes_are_tight_in_each_frame_and_masks_disjoint(examples):
    for example in examples["train"][:40]:
        assert np.sum([thing.masks for thing in example.scene], 0).max() == 1
        for thing in example.scene:
            np.testing.assert_array_equal(thing.box, thing.boxes[0])
            np.testing.assert_array_equal(thing.mask, thing.masks[0])
            for mask, box in zip(thing.masks, thing.boxes):
                rows, columns = np.nonzero(mask)
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
                np.testing.assert_allclose(box, np.array(tight) / 96)


def test_ids_run_in_the_order_of_appearance_and_then_from_left_to_right(examples):
    for example in examples["heldout"]:
        keys = []
        for thing in example.scene:
            t = int(np.flatnonzero(thing.boxes[:, 2])[0])
            keys.append((t, round(thing.boxes[t, 0] + thing.boxes[t, 2], 6)))
        assert keys == sorted(keys)
        assert [thing.id for thing in example.scene] == list(range(1, len(keys) + 1))
        assert sorted(thing.depth for thing in example.scene) == list(range(1, len(keys) + 1))


def test_what_is_painted_is_what_is_annotated(shot):
    """Where an object is shown or not, the frames differ, and the others do not."""
    for film, _ in shot[:12]:
        size, rng = 96, np.random.default_rng
        whole = drawing.film(rng(1), size, film.sprites, film.corners, film.shown)
        np.testing.assert_array_equal(whole, drawing.film(rng(1), size, film.sprites, film.corners, film.shown))
        hidden = film.shown.copy()
        hidden[:, -1] = False  # the nearest: nothing covers it
        without = drawing.film(rng(1), size, film.sprites, film.corners, hidden)
        changed = (whole != without).any(-1)
        own = film.owner == len(film.sprites)
        assert (changed & own).sum() > 0.8 * own.sum()
        assert not changed[~film.shown[:, -1]].any()


def test_every_painted_pixel_has_its_owner(shot):
    for film, _ in shot:
        for t, corners in enumerate(film.corners):
            painted = np.zeros((96, 96), int)
            for k, (item, (left, top)) in enumerate(zip(film.sprites, corners), 1):
                if film.shown[t, k - 1]:
                    y, x = (np.argwhere(item.tones > 0) + (top, left)).T
                    inside = (y >= 0) & (y < 96) & (x >= 0) & (x < 96)
                    painted[y[inside], x[inside]] = k
            np.testing.assert_array_equal(painted, film.owner[t])


def test_objects_are_seen_enough_or_not_at_all(shot):
    for film, _ in shot:
        for k, item in enumerate(film.sprites, 1):
            pixels = (film.owner == k).sum((1, 2))
            assert ((pixels > 0) == film.shown[:, k - 1]).all()
            assert (pixels[pixels > 0] >= max(30, video_scenes.SEEN_SHARE * item.area) * 0.5).all()
            assert film.shown[:, k - 1].sum() >= 2


def things_by_sprite(film, things):
    """(motion, path in the unit frame, thing) of each sprite; depth tells which is which."""
    by_depth = {thing.depth: thing for thing in things}
    return [
        (film.motions[k], film.paths[k] / 96, by_depth[len(film.sprites) - k]) for k in range(len(film.sprites))
    ]  # fmt: skip


def test_motions_are_what_they_are_called(shot):
    names = Counter()
    for film, things in shot:
        for name, path, thing in things_by_sprite(film, things):
            names[name] += 1
            found, step = motion.measure_motion(thing), np.diff(path, axis=0)
            if name == "still":
                assert not step.any() and found.moves is False and thing.velocity == (0, 0)
            else:
                assert found.moves is True
            if name in ("constant", "crossing"):
                np.testing.assert_allclose(step, step[:1].repeat(7, 0), atol=1e-9)
            if name == "accelerating":
                lengths = np.abs(step).sum(1)
                assert (np.diff(lengths) > 0).all() or (np.diff(lengths) < 0).all()
            assert found.turns == (name == "bouncing") or name == "hiding"
            if name == "hiding":
                assert found.hidden and found.first == 0 and found.last == 7
            assert (found.first > 0) == (name in ("entering", "passing")), "nothing comes from behind another"
            assert (found.last < 7) == (name in ("leaving", "passing"))
    assert set(names) == {*motion_paths.MOTIONS, "hiding", "crossing"}


def test_velocities_are_the_mean_of_the_path_while_it_is_seen(shot):
    for film, things in shot:
        for name, path, thing in things_by_sprite(film, things):
            there = np.flatnonzero(thing.boxes[:, 2])
            first, last = there[0], there[-1]
            expected = (path[last] - path[first]) / max(last - first, 1)
            np.testing.assert_allclose(thing.velocity, expected, atol=1e-12)
            if name == "constant":
                np.testing.assert_allclose(thing.velocity, path[1] - path[0], atol=1e-9)


def test_some_go_past_one_another(shot):
    for film, things in shot:
        pair = [thing for name, _, thing in things_by_sprite(film, things) if name == "crossing"]
        if pair:
            left, right = (thing.boxes[[0, -1], 0] for thing in pair)
            assert (left - right)[0] * (left - right)[1] < 0


def test_unseen_combinations_stay_out_of_training(examples):
    shown = {
        split: [{(thing.label, thing.attributes[0]) for thing in example.scene} for example in part]
        for split, part in examples.items()
    }
    assert not any(combinations & categories.UNSEEN for combinations in shown["train"])
    assert all(combinations & categories.UNSEEN for combinations in shown["heldout"])


@pytest.mark.parametrize(
    ("frames", "size", "low", "high"), [(4, 96, 1, 1), (5, 96, 6, 6), (20, 96, 2, 3), (6, 160, 2, 4)]
)
def test_other_numbers_of_frames_and_objects(frames, size, low, high):
    for i in range(6):
        example = video_examples.example(
            0, picture_examples.SPLITS[i % 2], i, frames=frames, size=size, min_objects=low, max_objects=high
        )
        assert example.visuals[0].frames.shape == (frames, size, size, 3)
        assert low <= len(example.scene) <= high
        assert all(thing.boxes.shape == (frames, 4) and thing.boxes.any() for thing in example.scene)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split"),
        ({"min_objects": 0}, "min_objects"),
        ({"max_objects": 7}, "max_objects"),
        ({"size": 32}, "size"),
        ({"frames": 3}, "frames"),
        ({"frames": 65}, "frames"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        video_examples.example(**{"seed": 0, "split": "train", "index": 0} | arguments)


def test_when_nothing_fits_all_stand_still(monkeypatch):
    monkeypatch.setattr(video_scenes, "_sound", lambda *a: False)
    film = video_scenes.film(np.random.default_rng(0), "heldout", 4, 96, 5)
    assert film.motions == ("still",) * 4 and film.shown.all() and len(video_scenes.instances(film)) == 4


@pytest.mark.parametrize(
    ("split", "index", "digest"),
    [("train", 0, "57423d2e868e2296"), ("train", 17, "ce3e4081ec5d4895"), ("heldout", 5, "6d03878333be7548")],
)
def test_pictures_are_what_they_always_were(split, index, digest):
    """The random numbers of the picture examples, on which policies were trained, do not move."""
    e = picture_examples.example(11, split, index)
    words = (e.query, e.answer_ids, e.category, e.level)
    scene = [(t.id, t.label, t.box, t.depth, t.attributes) for t in e.scene]
    found = hashlib.sha256(e.image.tobytes() + e.target.mask.tobytes() + repr((*words, scene)).encode())
    assert found.hexdigest()[:16] == digest
