"""Hard texts as Stanford's PTBTokenizer splits them (stored results of the Java program), and hostile ones."""

import json
import pathlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks import ptb_rules
from dtr1_jax.evaluation.benchmarks.words import ptb_words

STORED = json.loads((pathlib.Path(__file__).parents[2] / "fixtures" / "ptb_words.json").read_text("utf-8"))


def test_hard_texts_are_split_as_ptbtokenizer_splits_them():
    """Abbreviations, initials, prices, links, smileys, quotes, symbols of many scripts, and mixtures of them."""
    assert len(STORED) > 1500
    different = [(text, want, got) for text, want in STORED if (got := " ".join(ptb_words(text))) != want]
    assert not different, f"{len(different)} of {len(STORED)} differ, such as {different[:5]}"


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


def test_a_word_begins_a_rule_of_its_kind():
    kinds = {character: len(ptb_rules.rules_of(character)) for character in "a0<'"}
    assert all(0 < count < len(ptb_rules._all_rules()) for count in kinds.values())
