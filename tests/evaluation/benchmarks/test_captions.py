"""BLEU, ROUGE-L and CIDEr-D: by hand, against stored figures of the benchmarks' own code, and against that code."""

import json
import math
import pathlib
import random

import pytest
from benchmark_cases import CAPTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.evaluation.benchmarks.captions import Frequencies, bleu, cider_d, frequencies, rouge_l, rouge_l_f1
from dtr1_jax.evaluation.benchmarks.words import ptb_words

STORED = json.loads((pathlib.Path(__file__).parents[2] / "fixtures" / "benchmarks.json").read_text("utf-8"))
ANSWERS, REFERENCES = zip(*CAPTIONS)


def test_figures_are_those_of_pycocoevalcap_and_rouge_score():
    stored = STORED["captions"]
    assert [bleu(ANSWERS, REFERENCES, n) for n in (1, 2, 3, 4)] == pytest.approx(stored["bleu"], abs=1e-9)
    assert [rouge_l(*pair) for pair in CAPTIONS] == pytest.approx(stored["rouge_l"], abs=1e-9)
    assert [rouge_l_f1(*pair) for pair in CAPTIONS] == pytest.approx(stored["rouge_l_f1"], abs=1e-9)
    table = frequencies(REFERENCES)
    assert [cider_d(*pair, table) for pair in CAPTIONS] == pytest.approx(stored["cider_d"], abs=1e-9)
    assert max(stored["cider_d"]) > 6 and min(stored["cider_d"]) == 0


def corpus(seed, samples=40):
    """Answers and references of few words, so that n-grams of all lengths meet."""
    rng = random.Random(seed)
    say = lambda: " ".join(rng.choices("a b c d e f".split(), k=rng.randint(1, 14)))  # noqa: E731
    return [say() for _ in range(samples)], [[say() for _ in range(rng.randint(1, 5))] for _ in range(samples)]


def test_live_against_pycocoevalcap(capsys):
    bleu_module = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pip install pycocoevalcap")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    answers, references = corpus(0)
    texts, targets = {i: [a] for i, a in enumerate(answers)}, dict(enumerate(references))
    stored = bleu_module.Bleu(4).compute_score(targets, texts, verbose=0)[0]
    assert [bleu(answers, references, n) for n in (1, 2, 3, 4)] == pytest.approx(stored, abs=1e-9)
    pairs, table = list(zip(answers, references)), frequencies(references)
    assert [rouge_l(*p) for p in pairs] == pytest.approx(Rouge().compute_score(targets, texts)[1], abs=1e-9)
    assert [cider_d(*p, table) for p in pairs] == pytest.approx(Cider().compute_score(targets, texts)[1], abs=1e-9)


def test_live_against_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="pip install rouge-score").RougeScorer(["rougeL"])
    for answer, references in zip(*corpus(1, 50)):
        expected = scorer.score_multi(references, answer)["rougeL"].fmeasure
        assert rouge_l_f1(answer, references) == pytest.approx(expected)


def test_by_hand():
    # LCS "a c" = 2; P = 2/2, R = 2/4; (1 + 1.44) * 0.5 / (0.5 + 1.44)
    assert rouge_l("a c", ["a b c d"]) == pytest.approx(2.44 * 0.5 / 1.94)
    assert rouge_l_f1("a c", ["a b c d"]) == pytest.approx(2 / 3)
    # 1-grams 2/3, 2-grams 1/2; as long as the reference
    assert bleu(["a b x"], [["a b c"]], 2) == pytest.approx(math.sqrt(2 / 3 / 2))
    # 1 of 1, but half as long as the reference: exp(1 - 2)
    assert bleu(["a"], [["a b"]], 1) == pytest.approx(math.exp(-1))
    # All weights equal, unigrams alone: cosine 1 for a text like its reference, and one of the 4 n-gram lengths counts
    assert cider_d("cat", ["cat"], Frequencies(10, {})) == pytest.approx(10 / 4)
    # "cat" is in every document and weighs nothing; "dog" is shared, "owl" is not: cos = 1 / sqrt(1 * 2)
    table = Frequencies(10, {("cat",): 10})
    assert cider_d("cat dog", ["dog owl"], table) == pytest.approx(10 / 4 / math.sqrt(2), rel=1e-6)


def test_failed_samples_stay_in_the_denominator():
    answers, references = ["a b c d e", None], [["a b c d e"], ["a b c d e"]]
    assert bleu(answers, references) == pytest.approx(math.exp(1 - 2)) == bleu(["a b c d e", ""], references)
    for figure in (rouge_l, rouge_l_f1, lambda a, r: cider_d(a, r, Frequencies(10, {}))):
        assert figure(None, ["a b"]) == figure("", ["a b"]) == figure("?!", ["a b"]) == 0.0
        assert figure("a b", ["?!"]) == 0.0
    assert bleu([None], [["a b"]]) == 0.0


def test_a_table_is_read_as_it_was_written(tmp_path):
    table = frequencies(REFERENCES)
    captions.write_frequencies(tmp_path / "idf.json", table)
    assert captions.read_frequencies(tmp_path / "idf.json") == table


@pytest.mark.parametrize("content", [
    "", "[]", "{}", '{"documents":0,"counts":{}}', '{"documents":2,"counts":{"a":3}}', '{"documents":true,"counts":{}}',
    '{"documents":2,"counts":{"a":0.5}}', '{"documents":2,"counts":[1]}', "[" * 100_000,
])  # fmt: skip
def test_a_broken_table_is_an_error(tmp_path, content):
    (tmp_path / "idf.json").write_text(content)
    with pytest.raises(ValueError, match=r"idf\.json: expected JSON"):
        captions.read_frequencies(tmp_path / "idf.json")
    with pytest.raises(ValueError, match=r"none\.json: expected JSON"):
        captions.read_frequencies(tmp_path / "none.json")


def test_a_single_document_has_no_weights():
    assert cider_d("a b c d", ["a b c d"], frequencies([["a b c d"]])) == 0.0


@pytest.mark.parametrize("call", [
    lambda: bleu([], []), lambda: bleu(["a"], [[]]), lambda: bleu(["a"], [["a"], ["b"]]), lambda: rouge_l("a", []),
    lambda: rouge_l_f1("a", "a"), lambda: cider_d("a", [], Frequencies(1, {})), lambda: frequencies([]),
])  # fmt: skip
def test_no_references_is_an_error(call):
    with pytest.raises(ValueError, match="expected"):
        call()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.text("a b'.-,s(", max_size=60), st.text(max_size=30))
def test_any_text_is_scored(answer, reference):
    table = Frequencies(5, {})
    for value, most in ((rouge_l(answer, [reference]), 1), (rouge_l_f1(answer, [reference]), 1),
                        (cider_d(answer, [reference], table), 10), (bleu([answer], [[reference]]), 1)):  # fmt: skip
        assert 0 <= value <= most + 1e-9
    assert all(word and word == word.strip() for word in ptb_words(answer))


def test_a_huge_answer_is_scored():
    huge = "the cat sat on a mat, " * 5000  # 110 kB
    assert 0 < rouge_l(huge, ["the cat sat"]) < 1
    assert 0 <= cider_d(huge, ["the cat sat"], Frequencies(9, {})) < 1e-3
    assert captions.rouge_l_f1("x" * 100_000, ["x"]) == 0.0
    assert captions.bleu([huge], [["the cat sat"]]) < 1e-2
