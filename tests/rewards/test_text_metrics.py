"""Text rewards by hand, against sacrebleu's stored figures, and on odd texts of a policy."""

import json
import pathlib
import time

import numpy as np
import pytest
from benchmark_cases import CAPTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.rewards import text_metrics
from dtr1_jax.run import worker_pool

STORED = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "benchmarks.json").read_text("utf-8"))["captions"]
TABLE = captions.frequencies([r for _, r in CAPTIONS])
PLAIN = {"rouge_l": text_metrics.rouge_l, "bleu4": text_metrics.bleu4, "cider": text_metrics.cider}


def bags(texts):
    """An embedding that looks at letters alone."""
    rows = np.array([[t.lower().count(c) for c in "abcdefghijklmnop"] for t in texts], np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def similar(answer, references):
    return text_metrics.similarity([answer], [references], bags)[0]


def test_figures_of_the_reference_code():
    assert [text_metrics.bleu4(*pair) for pair in CAPTIONS] == pytest.approx(STORED["sentence_bleu"], abs=1e-9)
    assert [text_metrics.rouge_l(*pair) for pair in CAPTIONS] == pytest.approx(STORED["rouge_l"], abs=1e-9)
    got = [text_metrics.cider(*pair, TABLE) for pair in CAPTIONS]
    assert got == pytest.approx([x / 10 for x in STORED["cider_d"]], abs=1e-9)


SCRIPTS = ("the cat sat on the mat", "кот сидит на большом ковре", "القط جلس على السجادة الحمراء",
           "החתול ישב על השטיח האדום", "猫坐在垫子上", "แมวนั่งบนเสื่อ")  # fmt: skip
UNITS = ("the cat sat ", "a", "猫", "\u202b", "'", "!", "é", "\ufdfa", "1,", "a.", "-", "\ud800")


@pytest.mark.parametrize("words", SCRIPTS)
@pytest.mark.parametrize("name", PLAIN)
def test_every_script_is_scored(name, words):
    score = PLAIN[name]
    assert score(words, [words]) == pytest.approx(1.0)
    assert score(f"\u202b{words}\u200f", [words]) == pytest.approx(1.0)  # marks of direction are no words
    half = words[: len(words) // 2]
    assert 0 < score(half, [words]) < score(words, [words])
    assert score("xyz", [words]) == 0.0


@pytest.mark.parametrize("score", [*PLAIN.values(), similar])
def test_nothing_to_compare_is_0(score):
    for answer in (None, "", "  ", "?!", "\ud800", "\u200f"):
        assert score(answer, ["a cat"]) == 0.0
        assert score(answer, []) == score(answer, [""]) == 0.0
    assert score("a cat", []) == score("a cat", ["..."]) == 0.0


@pytest.mark.parametrize(
    "unit", ["the cat sat ", "a", "猫", "\u202b", "'", "!", "é", "\ufdfa", "1,", "a.", "-", "\ud800"]
)
@pytest.mark.parametrize("score", [*PLAIN.values(), similar])
def test_a_huge_answer_is_scored_soon(score, unit):
    huge = unit * (120_000 // len(unit))
    start = time.process_time()
    assert 0 <= score(huge, ["the cat sat on the mat", huge]) <= 1 + 1e-9
    assert time.process_time() - start < 5  # of the CPU; it takes some 20 ms, and far more would hold up a run


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec=None), max_size=60), st.lists(st.text(max_size=20), max_size=3))
def test_any_text_is_scored(answer, references):
    for score in (*PLAIN.values(), similar):
        assert 0 <= score(answer, references) <= 1 + 1e-9


def test_a_table_weighs_rare_words_more():
    references = [["the ball"], ["the cube"], ["the cone"], ["the ring"]]
    table = captions.frequencies(references)
    assert text_metrics.cider("the cone", ["the ball"], table) < text_metrics.cider("red ball", ["the ball"], table)
    assert text_metrics.cider("the cone", ["the ball"]) == pytest.approx(text_metrics.cider("red ball", ["the ball"]))


def test_the_best_reference_counts():
    assert text_metrics.rouge_l("a b", ["x y", "a b"]) == 1.0 and text_metrics.bleu4(
        "a b", ["x y", "a b"]
    ) == pytest.approx(1.0)
    assert similar("abc", ["xyz", "cab"]) == pytest.approx(1.0)


def test_similarity_embeds_each_text_once_and_maps_to_the_unit_interval():
    calls = []

    def embed(texts):
        calls.append(list(texts))
        return np.array([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]][: len(texts)])

    got = text_metrics.similarity(["a", "a", None, "c"], [["b"], ["b", "c"], ["b"], ["a"]], embed)
    assert calls == [["a", "b", "c"]]
    assert got == pytest.approx([0.0, 0.6, 0.0, 0.6])
    assert text_metrics.similarity([None], [["b"]], embed) == [0.0] and len(calls) == 1


def test_similarity_without_rows_is_an_error_and_nan_is_0():
    with pytest.raises(ValueError, match="expected 2 rows"):
        text_metrics.similarity(["a"], [["b"]], lambda texts: np.zeros((1, 4)))
    assert text_metrics.similarity(["a"], [["b"]], lambda texts: np.full((2, 4), np.nan)) == [0.0]


def test_in_worker_processes(tmp_path):
    captions.write_frequencies(tmp_path / "idf.json", TABLE)
    columns = ["cider", "rouge_l", "bleu"]
    path = str(tmp_path / "idf.json")
    items = [{"columns": columns, "answer": a, "references": list(r)} for a, r in CAPTIONS]
    items.append({"columns": columns, "answer": None, "references": ["a"]})
    with worker_pool.Pool("dtr1_jax.rewards.text_metrics:scorer", workers=1, deadline=60.0, argument=path) as pool:
        got = pool.map(items)
    want = [
        [text_metrics.cider(a, r, TABLE), text_metrics.rouge_l(a, r), text_metrics.bleu4(a, r)] for a, r in CAPTIONS
    ] + [[0.0] * 3]
    np.testing.assert_allclose(got, want)


def test_live_against_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    for answer, references in (("a cat sat on a mat", ["the cat sat on the mat"]), ("dogs", ["two dogs run", "a dog"])):
        want = sacrebleu.sentence_bleu(answer, references, tokenize="none").score / 100
        assert text_metrics.bleu4(answer, references) == pytest.approx(want)
