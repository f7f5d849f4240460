"""Prompts become points with labels, padded to powers of two."""

import numpy as np
import pytest

from dtr1_jax.specialists.sam2 import video_prompts
from dtr1_jax.specialists.sam2.video_prompts import Prompt


def test_a_box_and_points():
    points, labels = video_prompts.as_points([0.1, 0.2, 1.5, 0.9], [[0.5, 0.6], [0.7, 0.8]], [0, -1], "here")
    np.testing.assert_allclose(points, [[0.1, 0.2], [1.0, 0.9], [0.5, 0.6]])
    assert labels.tolist() == [2, 3, 0]


def test_padding():
    rows = [video_prompts.as_points(None, [[0.5, 0.5]], None, ""), video_prompts.points_of(None)]
    points, labels = video_prompts.padded(rows, 4)
    assert labels.tolist() == [[1, -1, -10, -10], [-1, -1, -10, -10]] and points.shape == (2, 4, 2)
    assert [video_prompts.places_needed([(None, range(n))]) for n in (0, 1, 2, 3, 4, 7, 8)] == [2, 2, 4, 4, 8, 8, 16]


def test_area():
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.2, 0.2, 0.9], [2, 2, 3, 3], [-1, -1, 2, 2], [np.inf, 0, 1, 1]])
    assert video_prompts.has_area(boxes).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("frame", [-1, 1.5, True])
def test_frames_are_whole_numbers(frame):
    with pytest.raises(ValueError, match="expected a frame of at least 0"):
        video_prompts.checked([Prompt(frame, 1, box=[0, 0, 1, 1])], None)


def test_prompts_are_sorted_by_frame():
    named = video_prompts.checked([Prompt(4, "b", box=[0, 0, 1, 1]), Prompt(1, "a", points=[[0.5, 0.5]])], None)
    assert list(named) == [1, 4] and list(named[4]) == ["b"]
