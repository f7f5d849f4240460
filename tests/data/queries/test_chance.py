"""Random choice between items."""

from collections import Counter

import numpy as np

from dtr1_jax.data.queries.chance import pick


def test_all_items_are_equally_probable_and_a_seed_repeats():
    counts = Counter(pick(np.random.default_rng(seed), "abc") for seed in range(900))
    assert set(counts) == set("abc") and min(counts.values()) > 240
    assert pick(np.random.default_rng(3), range(100)) == pick(np.random.default_rng(3), range(100))
