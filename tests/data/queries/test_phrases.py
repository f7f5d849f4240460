"""Phrases of the splits."""

import itertools

import pytest

from dtr1_jax.data.queries import phrases, questions, summaries, temporal_phrases, uses


@pytest.mark.parametrize("module", [phrases, uses, temporal_phrases, questions, summaries])
def test_phrases_of_the_splits_are_disjoint(module):
    for pool in module.pools():
        assert all(pool)
        assert not any(set(a) & set(b) for a, b in itertools.combinations(pool, 2)), pool


def test_no_sentence_asks_to_point_and_for_words():
    """What points and what asks are different sentences, and a held-out one is of the form that it has in training."""
    pointing = {form for split in phrases.SENTENCES for form in split}
    asking = {form.replace("every {}", "{}") for pool in questions.pools() for split in pool for form in split}
    asking |= {form for pool in summaries.pools() for split in pool for form in split}
    assert not pointing & asking and {"{}.", "find {}."} <= pointing and "what colour is {}?" in asking
