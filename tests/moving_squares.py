"""Scenes of squares that move along given paths, for tests of queries about time."""

import numpy as np

from dtr1_jax.types import Instance

# Left edges in each frame; None = not visible.
RIGHT, SLOW, LATE = [0.1, 0.3, 0.5, 0.7], [0.1, 0.15, 0.2, 0.25], [None, None, 0.5, 0.5]
GONE, STILL, BACK = [0.5, 0.5, None, None], [0.8] * 4, [0.1, 0.5, 0.5, 0.1]


def boxes_along(lefts, top):
    """float64[T, 4]: boxes of a square with these left edges; all 0 where a left edge is None."""
    return np.array([(0, 0, 0, 0) if x is None else (x, top, x + 0.1, top + 0.1) for x in lefts])


def instances_along(*paths, label="key"):
    """One instance for each (left edges, top edge), with ids 1, 2, ... and the labels key1, key2, ..."""
    mask = np.zeros((1, 1), bool)
    boxes = [boxes_along(*path) for path in paths]
    return [Instance(i, f"{label}{i}", tuple(b[0]), mask, boxes=b) for i, b in enumerate(boxes, 1)]
