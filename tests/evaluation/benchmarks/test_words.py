"""Words as PTBTokenizer splits them (stored results), n-grams, and the longest common subsequence."""

import json
import pathlib
import random

import pytest
from benchmark_cases import SENTENCES

from dtr1_jax.evaluation.benchmarks.words import lcs, ngrams, ptb_words

STORED = json.loads((pathlib.Path(__file__).parents[2] / "fixtures" / "benchmarks.json").read_text("utf-8"))["words"]


@pytest.mark.parametrize(("text", "want"), zip(SENTENCES, STORED))
def test_words_are_those_of_ptbtokenizer(text, want):
    assert " ".join(ptb_words(text)) == want


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
