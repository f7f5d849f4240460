"""Checks of a line's fields, and boxes in pixels as unit boxes and masks."""

import numpy as np
import pytest

from dtr1_jax.data.readers import jsonl_fields
from dtr1_jax.types import Instance


@pytest.mark.parametrize(
    "value, is_text", [("a", True), (" ", False), ("", False), ("a\0b", False), ("\ud800", False), (3, False)]
)
def test_text(value, is_text):
    assert jsonl_fields.is_text(value) is is_text


def test_choices_are_appended():
    assert jsonl_fields.append_choices("what?", ["a dog", "a cat"]) == "what? (A) a dog (B) a cat"
    assert jsonl_fields.append_choices("what?", []) == "what?"


def test_a_box_is_clipped_and_filled():
    assert jsonl_fields.unit_box([-5, 5, 10, 99], h=10, w=20) == (0, 0.5, 0.5, 1)
    with pytest.raises(ValueError, match=r"boxes in the picture of 20 x 10 pixels, got \[20, 0, 30, 5\]; write coord"):
        jsonl_fields.unit_box([20, 0, 30, 5], h=10, w=20)
    mask = jsonl_fields.fill_box([1.5, 8, 3.2, 99], h=10, w=20)
    assert np.argwhere(mask).tolist() == [[y, x] for y in (8, 9) for x in (1, 2, 3)]


BOXES = [(0.0, 0.0, 0.1, 0.1), (0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 1.0, 1.0)]
AREAS = [0.01, 0.25, 1.0]


@pytest.mark.parametrize("target, indices", [([], [1, 2]), ([BOXES[0]], [0, 2]), (BOXES[:2], [0, 1])])
def test_objects_of_the_target_are_kept_then_the_largest(target, indices):
    assert jsonl_fields.keep_objects(AREAS, BOXES, np.float32(target).reshape(-1, 4), 2) == indices


def test_the_largest_are_kept_in_their_order():
    assert jsonl_fields.keep_largest([3.0, 1.0, 3.0, 4.0], 2) == [0, 3] and jsonl_fields.keep_largest([1.0], 2) == [0]


def test_answer_ids_are_those_of_equal_boxes():
    scene = [Instance(i, "cup", box, np.zeros((1, 1), bool)) for i, box in enumerate(BOXES, 1)]
    assert jsonl_fields.answer_ids(np.float32([BOXES[2], BOXES[0]]), scene) == (1, 3)
    assert jsonl_fields.answer_ids(np.float32([BOXES[0], BOXES[0]]), scene) is None
    assert jsonl_fields.answer_ids(np.zeros((0, 4), np.float32), scene) == ()
    assert jsonl_fields.answer_ids(np.float32([BOXES[0]]), []) is None
