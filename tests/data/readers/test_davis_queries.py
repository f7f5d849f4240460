"""Queries about objects in videos with masks whose motion is in doubt."""

import numpy as np

from dtr1_jax.data.readers import davis_queries
from dtr1_jax.types import Instance

SIDE, T = 40, 6
STILL_CAMERA = [np.eye(3)] * T


def thing(number, *boxes):
    """An object with these boxes in pixels, None where it is not visible, and masks that fill them."""
    masks = np.zeros((T, SIDE, SIDE), bool)
    for mask, box in zip(masks, boxes):
        if box is not None:
            mask[box[1] : box[3], box[0] : box[2]] = True
    unit = np.array([box or (0, 0, 0, 0) for box in boxes]) / SIDE
    return Instance(number, "object", tuple(unit[0]), masks[0], boxes=unit, masks=masks)


def thoughts(*scene):
    found = [
        davis_queries.temporal_query(np.random.default_rng(k), "train", scene, (1,), STILL_CAMERA) for k in range(100)
    ]
    return " ".join(query.thought for query in found if query is not None)


WAITS = thing(1, *[(16, 2, 24, 10)] * T)
RUNS = thing(2, *[(2 + 5 * t, 20, 8 + 5 * t, 28) for t in range(T)])


def test_what_leaves_at_the_edge_or_is_seen_twice_does_not_stand_still():
    """The box of what leaves lies in its first box, as if one end stood still."""
    leaves = thing(3, *[(0, 12, 14 - 3 * t, 18) if t < 4 else None for t in range(T)])
    twice = thing(3, *[None] * 4, (12, 32, 18, 38), (12, 32, 18, 38))
    assert "still 1." in thoughts(WAITS, RUNS) and "moves right 2." in thoughts(WAITS, RUNS)
    for doubtful in (leaves, twice):
        said = thoughts(WAITS, RUNS, doubtful)
        assert said and "still" not in said and "moves" not in said, said
