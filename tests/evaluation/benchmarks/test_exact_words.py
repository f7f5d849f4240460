"""Exact match by hand, and the peers' VQA accuracy against its definition."""

import itertools

import pytest

from dtr1_jax.evaluation.benchmarks import exact_words, vqa


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "plain"),
    [
        ("yes", "yes", 1, 1), ("Yes.", "yes", 1, 1), (" Yes ", "yes", 1, 1), ("yes!", "yes", 0, 1),
        ("t-shirt", "tshirt", 0, 1), ("it is yes", "yes", 0, 0), ("", "yes", 0, 0), (None, "yes", 0, 0),
        ("two", "2", 0, 0), ("a dog", "dog", 0, 0), ("fire  hydrant", "fire hydrant", 0, 1),
    ],
)  # fmt: skip
def test_exact(answer, reference, exact, plain):
    assert exact_words.exact(answer, reference) == exact and exact_words.plain(answer, reference) == plain


@pytest.mark.parametrize("same", range(11))
def test_vqa_where_both_sides_are_always_normalised(same):
    """The mean over the ten subsets of nine people; the benchmark's own code does not normalise where all agree."""
    people = ["A dog."] * same + ["cat"] * (10 - same)
    subsets = itertools.combinations(people, 9)
    expected = sum(min(1, sum(p == "A dog." for p in nine) / 3) for nine in subsets) / 10
    assert exact_words.normalised("dog", people) == pytest.approx(expected)
    assert exact_words.normalised(None, people) == 0
    if same == 10:
        assert vqa.soft_accuracy("dog", people) == 0 and exact_words.normalised("dog", people) == 1
