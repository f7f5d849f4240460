"""Filters of pictures, by hand."""

import numpy as np

from dtr1_jax.data.queries import chains
from dtr1_jax.types import Instance


def test_relations_leave_a_clear_gap():
    mask, words = np.zeros((1, 1), bool), ("red", "small", "wood")
    near, thin, far = (
        Instance(i, "key", (x, 0.4, x + 0.1, 0.6), mask, i, words) for i, x in enumerate((0.5, 0.46, 0.3), 1)
    )
    context = chains.Context(np.random.default_rng(0), "train", {1: near, 2: thin, 3: far}, "one")
    assert chains.filter_by_relation(context, chains.Draft((3,)), "left of", chains.Draft((1,))).ids == (3,)
    assert chains.filter_by_relation(context, chains.Draft((3,)), "right of", chains.Draft((1,))).ids == ()
    assert chains.filter_by_relation(context, chains.Draft((2, 3)), "left of", chains.Draft((1,))) is None
    assert chains.filter_by_extreme(context, chains.Draft((1, 3)), "largest") is None
    assert chains.filter_by_extreme(context, chains.Draft((1, 2, 3)), "rightmost") is None
    assert chains.filter_by_extreme(context, chains.Draft((1, 2, 3)), "leftmost").ids == (3,)
