"""Queries about a perceived video, of objects whose velocity is known or not."""

import numpy as np
import pytest

from dtr1_jax.modes.perceived_video_queries import video_queries
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.types import Instance, Video

SIDE, T = 64, 5


def person(number, lefts, velocity):
    """A square of 10 pixels with these left edges; None = not seen."""
    boxes = np.zeros((T, 4))
    masks = np.zeros((T, SIDE, SIDE), bool)
    for t, x in enumerate(lefts):
        if x is not None:
            boxes[t] = np.array((x, 12 * number, x + 10, 12 * number + 10)) / SIDE
            masks[t, 12 * number : 12 * number + 10, x : x + 10] = True
    return Instance(number, "person", tuple(boxes[0]), masks[0], boxes=boxes, masks=masks, velocity=velocity)


WAITS, RUNS = person(1, [20] * T, (0.0, 0.0)), person(2, [5, 15, 25, 35, 45], (10 / SIDE, 0.0))


def steps(*objects):
    video = Video(np.full((T, SIDE, SIDE, 3), 90, np.uint8), np.arange(T), 2.0, T)
    scene = PerceivedScene(objects, frames=tuple(range(T)))
    return {name for query in video_queries(video, scene, 60, 0, "a") for name in query.program[:1]}


@pytest.mark.parametrize(
    "doubtful",
    [person(3, [None, None, 20, None, None], (0.0, 0.0)), person(3, [20] * T, None)],
    ids=["seen once", "no velocity"],
)
def test_nothing_about_motion_is_asked_where_it_is_not_known(doubtful):
    motion = {"still", "moves", "moves right"}
    assert motion <= steps(WAITS, RUNS)
    assert not motion & steps(WAITS, RUNS, doubtful)
