"""Picture examples: annotations that fit the pixels, targets that fit the annotations."""

import hashlib
import types

import numpy as np
import pytest
from scene_thoughts import middle, replay

from dtr1_jax.data.queries import (
    attributes,
)
from dtr1_jax.data.twinworld import (
    categories,
    picture_examples,
)


def test_same_arguments_same_example_and_others_differ():
    one, two, other = (picture_examples.example(3, "train", i) for i in (17, 17, 18))
    assert (one.uid, one.query, one.thought) == (two.uid, two.query, two.thought)
    assert one.uid == "twinworld/train/3/17"
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.target.mask, two.target.mask)
    assert not np.array_equal(one.image, other.image)
    assert not np.array_equal(one.image, picture_examples.example(4, "train", 17).image)
    assert not np.array_equal(one.image, picture_examples.example(3, "heldout", 17).image)


def test_boxes_are_tight_and_masks_disjoint_and_ids_run_from_left_to_right(all_pictures):
    for example in all_pictures:
        assert example.image.shape == (96, 96, 3) and example.image.dtype == np.uint8
        assert np.sum([thing.mask for thing in example.scene], 0).max() == 1
        for thing in example.scene:
            rows, columns = np.nonzero(thing.mask)
            tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 96
            np.testing.assert_allclose(thing.box, tight)
        centres = [(round(middle(thing, 0), 6), round(middle(thing, 1), 6)) for thing in example.scene]
        assert centres == sorted(centres)
        assert [thing.id for thing in example.scene] == list(range(1, len(centres) + 1))
        assert sorted(thing.depth for thing in example.scene) == list(range(1, len(centres) + 1))


def test_attribute_words_stand_in_their_order(all_pictures):
    for thing in (thing for example in all_pictures for thing in example.scene):
        assert thing.label in categories.LABELS
        colour, size, material = thing.attributes
        assert colour in attributes.COLOURS and size in attributes.SIZES and material in attributes.MATERIALS


def test_target_is_the_union_of_the_answers(all_pictures):
    for example in all_pictures:
        targets = [thing for thing in example.scene if thing.id in example.answer_ids]
        assert list(example.answer_ids) == [thing.id for thing in targets]
        union = np.any([thing.mask for thing in targets], 0) if targets else np.zeros((96, 96), bool)
        np.testing.assert_array_equal(example.target.mask, union)
        assert example.target.boxes.dtype == np.float32 and example.target.boxes.shape == (len(targets), 4)
        np.testing.assert_allclose(example.target.boxes, np.reshape([t.box for t in targets], (-1, 4)), rtol=1e-6)


def test_practice_asks_several_right_queries_of_a_scene():
    for index in range(60):
        things, queries = picture_examples.practice_queries(3, index, 2 + index % 6, 4, 2)
        assert len(things) == 2 + index % 6 and len(queries) == 6
        for query in queries[2:]:
            scene = types.SimpleNamespace(scene=things, thought=query.thought)
            assert tuple(replay(scene)) == query.ids, query
    one, same, other = (picture_examples.practice_queries(seed, 59, 7, 4)[1] for seed in (3, 3, 4))
    assert one == same != other


def test_queries_of_the_splits_are_disjoint(pictures):
    queries_of = {split: {example.query for example in part} for split, part in pictures.items()}
    assert not queries_of["train"] & queries_of["heldout"]


@pytest.mark.parametrize("low, high", [(1, 1), (2, 2), (3, 4), (9, 9)])
def test_number_of_objects_is_kept(low, high):
    for i in range(40):
        example = picture_examples.example(0, picture_examples.SPLITS[i % 3], i, min_objects=low, max_objects=high)
        assert low <= len(example.scene) <= high
        assert tuple(replay(example)) == example.answer_ids


def test_larger_pictures():
    for i in range(6):
        example = picture_examples.example(0, "heldout", i, size=224)
        assert example.image.shape == (224, 224, 3) and example.target.mask.shape == (224, 224)
        for thing in example.scene:
            longest = max(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1])
            assert longest <= 42 / 96 and thing.mask.sum() >= 60 * (224 / 96) ** 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "test"}, "split"),
        ({"min_objects": 0}, "min_objects"),
        ({"min_objects": 5, "max_objects": 4}, "min_objects"),
        ({"max_objects": 10}, "max_objects"),
        ({"size": 32}, "size"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        picture_examples.example(**{"seed": 0, "split": "train", "index": 0} | arguments)


@pytest.mark.parametrize(
    ("split", "index", "digest"),
    [("train", 0, "dee19375b5f4db62"), ("train", 17, "1be6a0d762e8cb6b"), ("heldout", 5, "fef549690e2b89ba")],
)
def test_pictures_are_what_they_always_were(split, index, digest):
    """The random numbers of the picture examples, on which policies were trained, do not move."""
    e = picture_examples.example(11, split, index)
    words = (e.query, e.answer_ids, e.category, e.level)
    scene = [(t.id, t.label, t.box, t.depth, t.attributes) for t in e.scene]
    found = hashlib.sha256(e.image.tobytes() + e.target.mask.tobytes() + repr((*words, scene)).encode())
    assert found.hexdigest()[:16] == digest
