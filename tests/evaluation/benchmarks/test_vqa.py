"""VQA accuracy: by hand and against stored results of the benchmark's own code."""

import itertools
import json
import pathlib

import pytest
from benchmark_cases import ANSWERS, QUESTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks import vqa

STORED = json.loads((pathlib.Path(__file__).parents[2] / "fixtures" / "benchmarks.json").read_text("utf-8"))["vqa"]


@pytest.mark.parametrize("text", ANSWERS)
def test_normalised_as_the_benchmark_does(text):
    assert vqa.normalise(text) == STORED["normalised"][text]


def test_contractions_are_those_of_the_benchmark():
    assert len(STORED["contractions"]) > 100
    assert {word: vqa.normalise(word) for word in STORED["contractions"]} == STORED["contractions"]
    assert {word for word, correction in vqa._CORRECTIONS.items() if word != correction} <= set(STORED["contractions"])


def test_accuracy_is_that_of_the_benchmark():
    scores = [vqa.soft_accuracy(*question) for question in QUESTIONS]
    assert scores == pytest.approx(STORED["accuracy"], abs=1e-9)
    assert sum(scores) / len(scores) == pytest.approx(STORED["overall"], abs=1e-9)
    assert {0.0, 1.0} < set(scores)


def leave_one_out(answer, people):
    subsets = [people[:i] + people[i + 1 :] for i in range(len(people))]
    return sum(min(1, subset.count(answer) / 3) for subset in subsets) / len(people)


@pytest.mark.parametrize("same", range(11))
def test_leave_one_out_by_hand(same):
    people = ["cat"] * same + [f"other{i}" for i in range(10 - same)]
    accuracy = vqa.soft_accuracy("cat", people)
    assert accuracy == pytest.approx(leave_one_out("cat", people))
    assert accuracy == pytest.approx(min(1, 0.3 * same))  # the closed form for ten people


def test_unanimous_people_are_compared_word_for_word():
    assert vqa.soft_accuracy("Yes", ["yes"] * 10) == 0.0
    assert vqa.soft_accuracy("Yes", ["yes"] * 9 + ["yeah"]) == 1.0


def test_exact():
    assert vqa.exact("The  Dog!", "dog") == 1.0 and vqa.exact("dogs", "dog") == 0.0


def test_no_answer_counts_as_wrong():
    assert vqa.soft_accuracy(None, ["cat"] * 10) == vqa.exact(None, "") == 0.0
    assert vqa.soft_accuracy("", ["cat"] * 10) == 0.0


@pytest.mark.parametrize(("text", "want"), [
    ("3", 3.0), (" 3. ", 3.0), ("-3.5", -3.5), ("+4", 4.0), ("1,000.5", 1000.5), ("12,34", None), ("1,0000", None),
    ("45%", 45.0), ("None", 0.0), ("ten", 10.0), ("eleven", None), ("3 dogs", None), ("nan", None), ("inf", None),
    ("1e9999", None), ("1e3", 1000.0), (".5", 0.5), ("", None), ("9" * 100_000, None), ("٣", None), ("1_000", None),
])  # fmt: skip
def test_numbers(text, want):
    assert vqa.number(text) == want


@pytest.mark.parametrize("people", [[], "a"])
def test_bad_targets_are_errors(people):
    with pytest.raises(ValueError, match="expected"):
        vqa.soft_accuracy("a", people)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.text(" .,'-aT1", max_size=80))
def test_any_text_is_scored(text):
    assert vqa.exact(text, text) == 1.0
    assert 0 <= vqa.soft_accuracy(text, [text] * 4 + ["x"] * 6) <= 1
    vqa.number(text)


def test_a_huge_answer_is_scored():
    for text in ("x" * 100_000, ". , " * 30_000, "the " * 30_000, "1," * 50_000):
        assert vqa.soft_accuracy(text, ["cat", "dog"] * 5) == 0.0


def test_every_missing_apostrophe():
    """A contraction with two apostrophes is corrected if exactly one is missing."""
    for right, wrong in itertools.product(["couldn't've"], ["couldn'tve", "couldnt've"]):
        assert vqa.normalise(wrong) == right
    assert vqa.normalise("couldntve") == "couldntve"
