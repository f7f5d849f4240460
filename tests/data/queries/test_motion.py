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


IN = (0.4, 0.4, 0.6, 0.8)
TREMBLES = [IN, (0.41, 0.4, 0.61, 0.8), (0.4, 0.41, 0.6, 0.8)]


@pytest.mark.parametrize(
    ("boxes", "moves"),
    [
        (TREMBLES, False),
        ([(x, 0.4, x + 0.2, 0.8) for x in (0.1, 0.3, 0.5)], True),
        ([NONE, IN, NONE, NONE], None),  # seen once
        ([IN, NONE, NONE, IN], None),
        ([(0.1, 0.4, 0.3, 0.8), NONE, (0.5, 0.4, 0.7, 0.8)], None),  # two may be mistaken for one another
        ([(0.6, 0.05 + 0.12 * t, 0.8, 0.9) for t in range(6)], None),  # one edge stays
        ([(0.0, 0.4, 0.5 - 0.1 * t, 0.8) for t in range(4)], None),  # it leaves at the left edge
        ([(0.5 - s, 0.5 - s, 0.5 + s, 0.5 + s) for s in (0.1, 0.15, 0.2)], None),  # it comes nearer
        ([(0.5 - s, 0.5 - s, 0.5 + s, 0.5 + s) for s in (0.03, 0.04, 0.05)], None),  # the same from far away
        ([(0.0, 0.4, 1.0, 0.8)] * 4, None),  # cut at both ends
        ([(0.0, 0.4, 0.6, 0.8)] * 4, False),
    ],
)
def test_a_track_that_leaves_a_doubt(boxes, moves):
    boxes = np.array(boxes)
    item = Instance(1, "a", tuple(boxes[0]), np.zeros((1, 1), bool), boxes=boxes)
    measured = motion.measure_track(item, boxes)
    assert measured.moves is moves
    assert (measured.direction is None) == (measured.turns is None) == (moves is None)
    assert (measured.first, measured.hidden) == (motion.measure_motion(item).first, motion.measure_motion(item).hidden)


def test_what_is_cut_is_seen_in_the_picture_and_what_moves_in_the_world():
    boxes = np.array(TREMBLES)
    item = Instance(1, "a", tuple(boxes[0]), np.zeros((1, 1), bool), boxes=boxes)
    assert motion.measure_track(item, boxes + 0.1).moves is False
    assert motion.measure_track(item, boxes * (1, 0, 1, 0) + (0, 0, 0, 1)).moves is None
    assert motion.measure_track(Instance(1, "a", NONE, item.mask, boxes=np.zeros((3, 4))), boxes) is None
