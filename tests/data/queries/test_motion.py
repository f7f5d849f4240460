"""Motions measured from boxes, by hand."""

import numpy as np
import pytest

from dtr1_jax.data.queries import motion
from dtr1_jax.types import Instance

NONE = (0, 0, 0, 0)


def motion_along(xs, ys=None, side=0.2, **more):
    """The motion of a square with these left edges; None = not visible."""
    ys = ys or [0.4] * len(xs)
    boxes = np.array([NONE if x is None else (x, y, x + side, y + side) for x, y in zip(xs, ys)])
    return motion.measure_motion(Instance(1, "a", tuple(boxes[0]), np.zeros((1, 1), bool), boxes=boxes, **more))


def test_a_straight_way():
    measured = motion_along([0.1, 0.2, 0.3, 0.4])
    assert (measured.first, measured.last, measured.hidden) == (0, 3, ())
    assert (measured.moves, measured.direction, measured.turns) == (True, "right", 0)
    assert measured.speed == pytest.approx(0.1) and measured.visible.all()
    np.testing.assert_allclose(measured.centre[0], (0.2, 0.5))


@pytest.mark.parametrize(
    ("xs", "ys", "way"),
    [
        ([0.5, 0.3], None, "left"),
        ([0.1, 0.1], [0.5, 0.2], "up"),
        ([0.1, 0.2], [0.2, 0.5], "down"),
        ([0.1, 0.3], [0.2, 0.4], None),  # both: no name
        ([0.1, 0.11], None, ""),  # stands still
        ([0.1, 0.16], None, None),  # doubtful
    ],
)
def test_ways(xs, ys, way):
    assert motion_along(xs, ys).direction == way


def test_appearing_hiding_and_being_gone():
    measured = motion_along([None, 0.1, None, None, 0.2, 0.3, None])
    assert (measured.first, measured.last, measured.hidden) == (1, 5, ((2, 4),))
    assert measured.visible.tolist() == [False, True, False, False, True, True, False]
    np.testing.assert_allclose(measured.centre[:, 0], [0.2, 0.2, 0.2, 0.2, 0.3, 0.4, 0.4])
    assert motion_along([None, None]) is None


def test_turning_back():
    assert motion_along([0.1, 0.3, 0.5, 0.3, 0.1]).turns == 1
    assert motion_along([0.1, 0.4, 0.1, 0.4]).turns == 2
    assert motion_along([0.1, 0.3, 0.5, 0.49, 0.5]).turns == 0  # less than boxes tremble by
    assert motion_along([0.1, 0.3, 0.5, 0.45]).turns is None
    assert motion_along([0.5, 0.3, 0.1, 0.3]).turns == 1
    assert motion_along([0.1, 0.3, 0.5, 0.3, 0.1]).direction is None


def test_a_covered_thing_stands_still_and_a_known_velocity_goes_before_boxes():
    boxes = np.array([(0.1, 0.1, 0.5, 0.5), (0.3, 0.1, 0.5, 0.5), (0.1, 0.1, 0.4, 0.5)])
    item = Instance(1, "a", tuple(boxes[0]), np.zeros((1, 1), bool), boxes=boxes)
    assert motion.measure_motion(item).moves is False and motion.measure_motion(item).speed == 0
    assert motion_along([0.1, 0.2, 0.3], velocity=(0.2, 0.0)).speed == pytest.approx(0.2)
    assert motion_along([0.1, 0.2, 0.3], velocity=(-0.2, 0.0)).direction is None  # velocity and boxes disagree


def test_one_frame_says_nothing_of_a_motion():
    measured = motion_along([0.3])
    assert measured.moves is False and measured.turns == 0 and measured.direction == "" and not measured.hidden
