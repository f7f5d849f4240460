"""Video examples: annotations that fit the pixels of each frame."""

import numpy as np
import pytest

from dtr1_jax.data.twinworld import categories, picture_examples, video_examples
from dtr1_jax.types import Video

COUNT = 60


@pytest.fixture(scope="module")
def examples():
    return {split: [video_examples.example(7, split, i) for i in range(COUNT)] for split in picture_examples.SPLITS}


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
        target, answers = example.target, [thing for thing in example.scene if thing.id in example.answer_ids]
        assert target.masks.shape == (8, 96, 96) and target.tracks.shape == (len(answers), 8, 4)
        assert target.tracks.dtype == np.float32
        union = np.any([thing.masks for thing in answers], 0) if answers else np.zeros((8, 96, 96), bool)
        np.testing.assert_array_equal(target.masks, union)
        np.testing.assert_array_equal(target.mask, union[0])
        first_boxes = [thing.box for thing in answers if thing.mask.any()]
        np.testing.assert_allclose(target.boxes, np.reshape(first_boxes, (-1, 4)), rtol=1e-6)
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


def test_unseen_combinations_stay_out_of_training(examples):
    combinations_of = {
        split: [{(thing.label, thing.attributes[0]) for thing in example.scene} for example in part]
        for split, part in examples.items()
    }
    assert not any(combinations & categories.UNSEEN for combinations in combinations_of["train"])
    for split, own in categories.UNSEEN_IN.items():
        assert all(combinations & own for combinations in combinations_of[split])


@pytest.mark.parametrize(
    ("frames", "size", "low", "high"), [(4, 96, 1, 1), (5, 96, 6, 6), (20, 96, 2, 3), (6, 160, 2, 4)]
)
def test_other_numbers_of_frames_and_objects(frames, size, low, high):
    for i in range(6):
        example = video_examples.example(
            0, picture_examples.SPLITS[i % 3], i, frames=frames, size=size, min_objects=low, max_objects=high
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
