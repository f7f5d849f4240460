"""Uses of objects."""

import re

from dtr1_jax.data.queries import uses
from dtr1_jax.data.twinworld import categories


def test_no_phrase_of_a_use_says_its_category():
    for use in uses.USES + uses.GROUPS:
        words = " ".join(sum(use.clauses + use.needs, ()))
        assert not set(use.labels) & set(re.findall(r"\w+", words)), use.name
    assert set(uses.BY_LABEL) == set(categories.LABELS)
