"""Scenes of objects at given places, for tests of queries about pictures."""

import numpy as np

from dtr1_jax.data.queries.chains import Context
from dtr1_jax.types import Instance


def context_of(*objects, answer_count="one", seed=0):
    """A context with one object for each (label, centre x, centre y, attributes); ids and depths are 1, 2, ..."""
    mask = np.zeros((1, 1), bool)
    scene = {
        i: Instance(i, label, (x - 0.05, y - 0.05, x + 0.05, y + 0.05), mask, i, attributes)
        for i, (label, x, y, attributes) in enumerate(objects, 1)
    }
    return Context(np.random.default_rng(seed), "train", scene, answer_count)


# A red mug, a blue hat and a red hat, from left to right.
THREE = (
    ("mug", 0.2, 0.3, ("red", "small", "metal")),
    ("hat", 0.4, 0.7, ("blue", "small", "cloth")),
    ("hat", 0.8, 0.2, ("red", "small", "cloth")),
)
