"""Filters of queries about time, by hand."""

import numpy as np
from moving_squares import BACK, GONE, LATE, RIGHT, SLOW, STILL, instances_along

from dtr1_jax.data.queries.chains import Draft, all_objects
from dtr1_jax.data.queries.temporal_chains import (
    filter_by_event_time,
    filter_by_motion_relation,
    filter_by_order,
    filter_by_speed,
    filter_by_state,
    video_context,
)
from dtr1_jax.data.queries.temporal_phrases import STATES


def scene_context(*paths):
    return video_context(np.random.default_rng(0), "train", instances_along(*paths), "one")


def test_states_by_hand():
    context = scene_context((RIGHT, 0.1), (LATE, 0.3), (GONE, 0.5), (STILL, 0.7), (BACK, 0.8))
    everything = all_objects(context)
    drafts = {name: filter_by_state(context, everything, name) for name in STATES}
    ids = {name: draft.ids for name, draft in drafts.items() if draft}
    assert drafts["moves right"] is None, "an object that turns back has no direction"
    assert ids["still"] == (2, 3, 4) and ids["moves"] == (1, 5) and ids["turns"] == (5,)
    assert ids["enters"] == (2,) and ids["leaves"] == (3,) and ids["stays"] == (1, 4, 5) and ids["hidden"] == ()


def test_orders_and_speeds_by_hand():
    context = scene_context((RIGHT, 0.1), (SLOW, 0.3), (GONE, 0.5), ([0.5, None, None, None], 0.7))
    everything = all_objects(context)
    assert filter_by_speed(context, everything, "fastest").steps == ("moves 1 2.", "fastest 1.")
    assert filter_by_speed(context, everything, "slowest").ids == (2,)
    assert filter_by_order(context, everything, "first to leave").steps == (
        "leaves 3 4.",
        "first to leave 4.",
    )
    assert filter_by_order(context, everything, "last to leave").ids == (3,)
    assert filter_by_order(context, everything, "first to enter") is None
    close = scene_context((RIGHT, 0.1), ([0.1, 0.28, 0.46, 0.64], 0.3))
    assert filter_by_speed(close, all_objects(close), "fastest") is None


def test_relations_by_hand():
    context = scene_context(
        (RIGHT, 0.1), ([0.9, 0.8, 0.7, 0.6], 0.1), (STILL, 0.1), (SLOW, 0.7), (LATE, 0.9), (GONE, 0.3)
    )
    everything = all_objects(context)
    assert filter_by_motion_relation(context, everything, "same way as", Draft((1,))).ids == (4,)
    assert filter_by_motion_relation(context, everything, "faster than", Draft((4,))).ids == (1, 2)
    assert filter_by_motion_relation(context, everything, "slower than", Draft((1,))).ids == (2, 4), (
        "an object that stands still is not slower"
    )
    assert filter_by_motion_relation(context, everything, "towards", Draft((1,))) is None, "the anchor moves"
    b = scene_context((RIGHT, 0.1), (STILL, 0.1), ([0.6, 0.4, 0.2, 0.1], 0.1))
    assert filter_by_motion_relation(b, all_objects(b), "towards", Draft((2,))).ids == (1,)
    assert filter_by_motion_relation(b, all_objects(b), "away from", Draft((2,))).ids == (3,)
    past = scene_context(([0.2, 0.5, 0.8], 0.1), ([0.5] * 3, 0.3))
    assert filter_by_motion_relation(past, all_objects(past), "towards", Draft((2,))) is None, "it passes the anchor"
    assert filter_by_event_time(context, everything, "leaves", "before", Draft((5,)), "enters") is None, (
        "both events are between frames 1 and 2"
    )
    assert filter_by_event_time(context, everything, "enters", "after", Draft((6,)), "leaves") is None
    assert filter_by_event_time(context, everything, "enters", "after", Draft((1,)), "leaves") is None, (
        "the anchor does not leave"
    )
    # 2 leaves before 1 enters, 3 leaves after it
    c = scene_context((LATE, 0.1), ([0.5, None, None, None], 0.3), ([0.5, 0.5, 0.5, None], 0.5))
    assert filter_by_event_time(c, all_objects(c), "leaves", "before", Draft((1,)), "enters").ids == (2,)
    assert filter_by_event_time(c, all_objects(c), "leaves", "after", Draft((1,)), "enters").ids == (3,)
    assert filter_by_event_time(c, all_objects(c), "enters", "before", Draft((3,)), "leaves").ids == (1,)
