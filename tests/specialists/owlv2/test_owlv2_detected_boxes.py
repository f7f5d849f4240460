"""Which boxes are detections: thresholds, the tenth of the best score, boxes in the padding, bad options."""

import numpy as np
import pytest

from dtr1_jax.specialists.owlv2 import detected_boxes


def test_boxes_in_the_padding_are_left_out():
    picture = {
        "boxes": np.float32([[0.5, 0.2, 0.2, 0.2], [0.5, 0.8, 0.2, 0.2]]),  # the lower half of the square is padding
        "objectness": np.zeros(2, np.float32),
    }
    found = detected_boxes.by_phrases(picture, np.zeros(2), ["a", "b"], (50, 100), 0.1, None, None)
    assert found.labels == ("a",)
    assert np.allclose(found.boxes, [[0.4, 0.2, 0.6, 0.6]])


def test_by_example_keeps_what_is_above_a_tenth_of_the_best():
    boxes = np.float32([[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])
    picture = {"boxes": boxes, "objectness": np.float32([0, 1, 2])}
    logits = np.log(np.float64([0.5, 0.06, 0.04]) / (1 - np.float64([0.5, 0.06, 0.04])))
    found = detected_boxes.by_example(picture, logits, "x", (10, 10), 0.0, 0.3, None)
    assert np.allclose(found.scores, [0.5, 0.06]) and found.labels == ("x", "x")
    found = detected_boxes.by_example(picture, logits, "x", (10, 10), 0.1, 0.3, None)
    assert np.allclose(found.scores, [0.5]) and np.allclose(found.objectness, [0.5])


def test_a_score_must_be_above_the_threshold():
    picture = {"boxes": np.float32([[0.5, 0.5, 0.2, 0.2]]), "objectness": np.zeros(1, np.float32)}
    assert not len(detected_boxes.by_phrases(picture, np.zeros(1), ["a"], (9, 9), 0.5, None, None).scores)
    assert len(detected_boxes.by_phrases(picture, np.zeros(1), ["a"], (9, 9), 0.49, None, None).scores)


def test_query_boxes_are_clipped():
    assert np.allclose(detected_boxes.checked_boxes([[-1, 0.2, 0.5, 3]], 1), [[0, 0.2, 0.5, 1]])
    with pytest.raises(ValueError, match="a box for each query picture"):
        detected_boxes.checked_boxes(np.zeros((2, 4)), 1)
