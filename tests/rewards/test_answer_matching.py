"""Token matches against brute force, and typed answers by hand."""

import collections

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks import vqa
from dtr1_jax.rewards import answer_matching
from dtr1_jax.rewards.answer_matching import answer_kind, answer_scores, choice_index, typed_score


def brute_f1(a, b):
    if not a and not b:
        return 1.0
    return 2 * sum((collections.Counter(a) & collections.Counter(b)).values()) / (len(a) + len(b))


def test_matches_are_brute_force_under_two_vmaps():
    rng = np.random.default_rng(0)
    texts = [[" ".join(rng.choice(list("pqrs"), rng.integers(0, 7))) for _ in range(20)] for _ in range(2)]
    texts[1][:5] = texts[0][:5]
    vocabulary = {}
    a, b = (answer_matching.word_ids(group, vocabulary, 8) for group in texts)
    for pair, brute in (
        (answer_matching.exact_match, lambda x, y: float(x == y)),
        (answer_matching.token_f1, brute_f1),
    ):
        got = jax.jit(jax.vmap(jax.vmap(pair, in_axes=(None, None, 0, 0)), in_axes=(0, 0, None, None)))(*a, *b)
        want = [[brute(x.split(), y.split()) for y in texts[1]] for x in texts[0]]
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_sizes_may_differ_and_padding_is_no_word():
    a, b = np.array([3, 0, 0]), np.array([0, 3])
    on = np.array([True, False, False])
    assert answer_matching.token_f1(a, on, b, np.array([False, True])) == 1.0
    assert answer_matching.token_f1(a, on, b, np.array([True, False])) == 0.0
    assert (
        answer_matching.exact_match(
            np.array([3, 5]), np.array([True, False]), np.array([3, 7]), np.array([True, False])
        )
        == 1
    )


def test_words_are_normalised_and_the_rest_of_a_long_text_is_one_word():
    vocabulary = {}
    ids, valid = answer_matching.word_ids(
        ["The two Cats!", "2 cats", "1 2 3 4 5", "1 2 3 4 6", "1 2 3 4", ""], vocabulary, 4
    )
    np.testing.assert_array_equal(ids[0], ids[1])
    np.testing.assert_array_equal(valid.sum(1), [2, 2, 4, 4, 4, 0])
    assert len({tuple(row) for row in ids[2:5]}) == 3


@pytest.mark.parametrize(("references", "choices", "want"), [
    (["yes"], (), "yesno"), (["Yes.", "no"], (), "yesno"), (["3"], (), "number"), (["two", "2"], (), "number"),
    (["3 dogs"], (), "open"), (["yes", "maybe"], (), "open"), (["B"], ("cat", "dog"), "choice"), ([], (), "open"),
])  # fmt: skip
def test_kind(references, choices, want):
    assert answer_kind(references, choices) == want


@pytest.mark.parametrize(("text", "want"), [
    ("3", 3), ("There are 3 dogs.", 3), ("three", 3), ("there are three dogs", 3), ("3 or 4", None), ("3, 3", 3),
    ("the one on the left is 3", 3), ("none", 0), ("no dogs", 0), ("-2.5 m", -2.5), ("1,200 people", 1200),
    ("1.2.3", None), ("x3", None), ("", None), ("1" * 400, None), ("two or three", None), ("45%", 45),
])  # fmt: skip
def test_the_number(text, want):
    assert answer_matching.the_number(text) == want


@pytest.mark.parametrize(("text", "want"), [
    ("yes", "yes"), ("Yes, there is no dog.", "yes"), ("I think NO", "no"), ("nope", "no"), ("true", "yes"),
    ("", None), ("a knot", None), ("yesterday", None), ("نعم", None),
])  # fmt: skip
def test_yes_or_no(text, want):
    assert answer_matching.yes_or_no(text) == want


CHOICES = ("a cat", "the dog", "bird", "a cat and the dog")


@pytest.mark.parametrize(("text", "want"), [
    ("B", 1), ("b", 1), ("(b)", 1), ("B. the dog", 1), ("b) dog", 1), ("[C]: bird", 2), ("The Dog!", 1), ("dog", 1),
    ("the answer is B", 1), ("Answer: (c)", 2), ("The answer is B because it barks", 1), ("the answer is a dog", 1),
    ("A cat", 0), ("a fish", None), ("E", None), ("", None), ("Both", None), ("cat and dog", 3), ("D.", 3),
])  # fmt: skip
def test_choice_index(text, want):
    assert choice_index(text, CHOICES) == want


def test_a_letter_alone_needs_no_choices():
    assert choice_index("z") == 25 and choice_index("the answer is q.") == 16 and choice_index("zebra") is None


def test_typed():
    assert typed_score("four", ["4"], "number") == 1.0 and typed_score("5", ["4"], "number") == 0.0
    assert (
        typed_score("96", ["100"], "number", tolerance=0.05) == 1.0
        and typed_score("94", ["100"], "number", tolerance=0.05) == 0
    )
    assert typed_score("Yes!", ["yes"], "yesno") == 1.0 and typed_score("dog", ["yes"], "yesno") == 0.0
    assert typed_score("B", ["the dog"], "choice", CHOICES) == typed_score("the dog", ["(b)"], "choice", CHOICES) == 1.0
    assert typed_score("A", ["B"], "choice", CHOICES) == 0.0
    assert (
        typed_score("2", ["2", "2", "3", "3"], "number") == 0.5
        and typed_score("2", ["2"] * 5 + ["3"] * 5, "number") == 1.0
    )
    assert typed_score("3", ["3", "4"], "number") == typed_score("no", ["yes", "no"], "yesno") == 1.0, (
        "any of them is right"
    )
    assert typed_score("5", ["3", "4"], "number") == 0.0
    with pytest.raises(ValueError, match="got 'open'"):
        typed_score("a", ["a"], "open")


def test_scores_of_a_batch():
    answers = [["3", "4", None], ["a red ball", "Red ball.", "ball"], ["", "x", "x"], ["B", "cat", "dog"]]
    references = [["three"], ["red ball"], [], ["dog"]]
    got = answer_scores(answers, references, [(), (), (), ("cat", "dog")])
    # "ball" against "red ball": F1 = 2/3, of which PARTIAL
    want = [[1, 0, 0], [1, 1, answer_matching.PARTIAL * 2 / 3], [0, 0, 0], [1, 0, 1]]
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert got.dtype == np.float32


def test_many_people_are_scored_as_the_benchmark_does():
    people = ["cat"] * 2 + ["a kitten"] * 5 + ["dog", "pup", "Cat!"]
    got = answer_scores([["cat", "kitten", "dog", "bird", "the cat"]], [people])[0]
    want = [vqa.soft_accuracy(answer, people) for answer in ("cat", "kitten", "dog", "bird")]
    np.testing.assert_allclose(got[:4], [max(want[0], 0.5), want[1], 0.5, 0], atol=1e-6)
    assert got[4] == got[0] == pytest.approx(0.9)


def test_an_empty_answer_is_no_answer_even_where_the_reference_has_no_words():
    assert answer_scores([["", "?", "a"]], [["the", "?"]]).tolist() == [[0, 0, 0]]


def test_groups_must_fit():
    with pytest.raises(ValueError, match="2 groups and 1"):
        answer_scores([["a"], ["b"]], [["a"]])
    assert answer_scores([], []).shape == (0, 0)


HUGE = ["x" * 100_000, "the cat " * 13_000, "1 " * 50_000, "yes " * 25_000, "(b) " * 25_000, "שלום " * 20_000,
        "1," * 50_000, "\u202e" * 100_000]  # fmt: skip


@pytest.mark.parametrize("references", [["3"], ["yes"], ["cat"], ["שלום"], ["dog"] * 40])
def test_huge_answers_are_scored(references):
    got = answer_scores([HUGE], [references])
    assert got.shape == (1, len(HUGE)) and np.all((got >= 0) & (got <= 1))
    assert np.all(answer_scores([HUGE], [references], [CHOICES]) <= 1)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec=None), max_size=40), st.sampled_from([["4"], ["no"], ["cat"], ["", "?"]]))
def test_any_answer_is_scored(answer, references):
    assert 0 <= answer_scores([[answer]], [references])[0, 0] <= 1
    choice_index(answer, CHOICES)


def test_right_to_left_and_accents():
    got = answer_scores([["\u200fכלב אדום", "כלב", "cafe\u0301"]], [["כלב אדום", "café"]])
    np.testing.assert_allclose(got, [[1, answer_matching.PARTIAL * 2 / 3, 1]], atol=1e-6)
