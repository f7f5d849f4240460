"""Words as PTBTokenizer splits them (stored results), n-grams, and the longest common subsequence."""

import json
import pathlib
import random
import time

import pytest
from benchmark_cases import SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks.words import lcs, ngrams, ptb_words

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"
STORED = json.loads((FIXTURES / "benchmarks.json").read_text("utf-8"))["words"]
HARD = json.loads((FIXTURES / "ptb_words.json").read_text("utf-8"))  # results of the Java program itself


@pytest.mark.parametrize(("text", "want"), zip(SENTENCES, STORED))
def test_words_are_those_of_ptbtokenizer(text, want):
    assert " ".join(ptb_words(text)) == want


def test_hard_texts_are_split_as_ptbtokenizer_splits_them():
    """Abbreviations, initials, prices, links, smileys, quotes, symbols of many scripts, and mixtures of them."""
    assert len(HARD) > 1500
    different = [(text, want, got) for text, want in HARD if (got := " ".join(ptb_words(text))) != want]
    assert not different, f"{len(different)} of {len(HARD)} differ, such as {different[:5]}"


@pytest.mark.parametrize(
    "text",
    ["a," * 50_000, "<a " * 30_000, "x" * 100_000, "(555) " * 16_000, "&" * 100_000, "1-" * 50_000, " " * 100_000,
     "a,b" * 30_000 + "-@", '<a b="' * 20_000, "\ud800\U0001f600" * 20_000, "'s" * 50_000],
)  # fmt: skip
def test_hostile_texts_take_linear_time(text):
    start = time.process_time()
    ptb_words(text)
    assert time.process_time() - start < 8


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_has_words(text):
    assert all(word and word == word.lower() and " " not in word for word in ptb_words(text))


def plain_lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_lcs_equals_that_of_dynamic_programming():
    rng = random.Random(0)
    for _ in range(300):
        a, b = (rng.choices(words, k=rng.randint(0, 20)) for words in ("abc", "abcd"))
        assert lcs(a, b) == lcs(b, a) == plain_lcs(a, b)


def test_ngrams():
    assert ngrams("a b a b".split(), 2) == {("a",): 2, ("b",): 2, ("a", "b"): 2, ("b", "a"): 1}
    assert ngrams([]) == {}
