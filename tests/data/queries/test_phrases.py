"""Phrases of the splits."""

import itertools

import pytest

from dtr1_jax.data.queries import phrases, questions, summaries, temporal_phrases, uses


@pytest.mark.parametrize("module", [phrases, uses, temporal_phrases, questions, summaries])
def test_phrases_of_the_splits_are_disjoint(module):
    for pool in module.pools():
        assert all(pool)
        assert not any(set(a) & set(b) for a, b in itertools.combinations(pool, 2)), pool


def test_training_words_do_not_tell_what_form_of_answer_is_wanted():
    """Else a policy goes by their sound, and takes held-out queries such as "where is ..." for questions."""
    pointing = set(phrases.SENTENCES.train)
    asking = {form.replace("every {}", "{}") for pool in questions.pools() for form in pool.train}
    assert len(pointing & asking) >= len(pointing) / 2
    assert {"{}.", "find {}."} <= pointing & asking and {"what colour is {}?", "count {}."} <= pointing & asking
    assert not pointing & set(phrases.SENTENCES.heldout) and "where" not in " ".join(pointing)
