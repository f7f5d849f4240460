"""The table finds the end of a text in any cut into tokens, at the same token as a search in the text does."""

import numpy as np
import pytest

from dtr1_jax.data import closing_tags, tokenizer
from dtr1_jax.policies import policy_files

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
TAG = "</construct>"


def end_by_table(ids, table, text):
    matched = 0
    for place, token in enumerate(ids):
        matched = table[token, matched]
        if matched == len(text):
            return place
    return None


def end_by_search(ids, text):
    return next((i for i in range(len(ids)) if text in T.decode(ids[: i + 1])), None)


@pytest.mark.parametrize(
    "text",
    [
        '<construct>{"ops":[]}</construct><twin>', "</construct", "a</construct>b", "</</construct>",
        "</construc</construct>",
        "<</construct>>", "</construct ></construct>", "</Construct>", "</con</cons</const</construct>", "",
    ],
)  # fmt: skip
def test_ordinary_cuts(text):
    table, ids = closing_tags.closing_table(T, 2000, TAG), T.encode(text)
    assert end_by_table(ids, table, TAG) == end_by_search(ids, TAG)
    assert (TAG in text) == (end_by_table(ids, table, TAG) is not None)


@pytest.mark.parametrize("text", [TAG, "aab", "abab"])
def test_random_cuts(text):
    """Tokens of the text's own characters, in any order, also for texts that overlap with themselves."""
    table, rng = closing_tags.closing_table(T, T.size, text), np.random.default_rng(0)
    parts = {text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    pool = [
        i for i in range(T.size) if T.decode([i]) in parts or (T.decode([i]) and set(T.decode([i])) <= set(text + "{"))
    ]
    assert len(pool) >= 3 and table.dtype == np.int8
    found = 0
    for _ in range(400):
        ids = rng.choice(pool, rng.integers(1, 12)).tolist()
        if rng.random() < 0.5:
            ids = ids[:3] + T.encode(text) + ids[3:]
        assert end_by_table(ids, table, text) == end_by_search(ids, text)
        found += end_by_search(ids, text) is not None
    assert 100 < found < 400


def test_a_vocabulary_may_be_larger_than_the_tokenizer():
    table = closing_tags.closing_table(T, T.size + 5, TAG)
    assert table.shape == (T.size + 5, len(TAG)) and not table[T.size :].any()
    assert closing_tags.closing_table(T, T.size + 5, TAG) is table and not table.flags.writeable
