"""The columns are those of the metrics themselves, equal answers are sent once, and a failure costs one answer only."""

import dataclasses
import pathlib

import buckets
import numpy as np
import pytest
from scored import settings

from dtr1_jax import config, places
from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.rewards import answer_matching, text_metrics
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.run.worker_pool import Failure

ROWS = [
    ("what?", "a red mug", ("the red mug", "a mug")),
    ("what?", "a red mug", ("the red mug", "a mug")),
    ("what?", None, ("the red mug",)),
    ("say", "猫 " * 3000, ("a cat", "猫")),
    ("say", "no reference", ()),
]
SLOW = {"deadline": 60.0, "workers": 1}  # of a test's machine


def embed(texts):
    rows = np.array([[len(t), t.count("a"), 1.0] for t in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_columns_are_those_of_the_functions(tmp_path):
    path = str(tmp_path / "idf.json")
    table = captions.frequencies([["the red mug", "a mug"], ["a cat"], ["the dog"]])
    captions.write_frequencies(path, table)
    weights = {"rouge_l": 1.0, "bleu": 1.0, "cider": 1.0, "token_f1": 1.0, "similarity": 1.0}
    reward = dataclasses.replace(settings(**weights), idf=path, sentences="folder", **SLOW)
    names = [tuple(weights)] * 3 + [("rouge_l",), tuple(weights)]
    with TextScorers(reward, lambda folder: embed if folder == "folder" else None) as text_scorers:
        got = text_scorers.columns(ROWS, names)
        assert text_scorers.failures == 0
    _, answer, references = ROWS[0]
    assert got[0] == got[1] == pytest.approx({
        "rouge_l": text_metrics.rouge_l(answer, references), "bleu": text_metrics.bleu4(answer, references),
        "cider": text_metrics.cider(answer, references, table),
        "token_f1": float(answer_matching.f1_scores([answer], [references])[0]),
        "similarity": text_metrics.similarity([answer], [references], embed)[0],
    })  # fmt: skip
    assert got[0]["token_f1"] == pytest.approx(1.0) and got[0]["cider"] > 0  # articles do not count
    assert got[3] == {"rouge_l": text_metrics.rouge_l(*ROWS[3][1:])} and got[3]["rouge_l"] > 0
    assert got[2] == got[4] == dict.fromkeys(weights, 0.0)


def test_document_frequencies_in_a_bucket_are_copied_first(tmp_path, monkeypatch):
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "copies"))
    captions.write_frequencies(tmp_path / "idf.json", captions.frequencies([["the red mug"], ["a cat"]]))
    with buckets.installed():
        buckets.put("bucket/idf.json", (tmp_path / "idf.json").read_bytes())
        with TextScorers(dataclasses.replace(settings(cider=1.0), idf="gs://bucket/idf.json")) as text_scorers:
            copy = pathlib.Path(text_scorers._reward.idf)  # what the workers are told, which know no bucket
            assert copy.is_relative_to(tmp_path / "copies")
            assert captions.read_frequencies(copy).documents == 2
        with pytest.raises(places.PlaceError, match=r"config\.reward\.idf=gs://bucket/none: cannot be copied"):
            TextScorers(dataclasses.replace(settings(cider=1.0), idf="gs://bucket/none"))


class FailingPool:
    """A pool that loses the first item."""

    failures = {"timeouts": 1}  # noqa: RUF012

    def __init__(self):
        self.sent = []

    def map(self, items):
        self.sent += items
        return [Failure("timeout", "slow")] + [text_metrics.scorer("")(item) for item in items[1:]]

    def close(self):
        pass


def test_equal_answers_are_sent_once_and_a_failure_costs_its_answer():
    text_scorers = TextScorers(settings(rouge_l=1.0))
    text_scorers._pool = FailingPool()
    rows = [ROWS[0], ("", "the red mug", ("the red mug",)), ROWS[1], ("", "x" * 100_000, ("x",))]
    got = text_scorers.columns(rows, [("rouge_l",)] * 4)
    assert [item["answer"] for item in text_scorers._pool.sent] == ["a red mug", "the red mug", "x" * text_metrics.CUT]
    assert [row["rouge_l"] for row in got] == [0.0, 1.0, 0.0, 0.0] and text_scorers.failures == 1


def test_no_worker_starts_for_nothing():
    with TextScorers(settings(rouge_l=1.0, token_f1=1.0)) as text_scorers:
        assert (
            text_scorers.columns([ROWS[2], ROWS[4], ROWS[0]], [("rouge_l",), ("rouge_l",), ("token_f1",)])[2][
                "token_f1"
            ]
            > 0
        )
        assert text_scorers.columns([], []) == [] and text_scorers._pool is None


def test_the_judge_is_asked():
    class Judge:
        failures = {"garbage": 2}  # noqa: RUF012

        def scores(self, questions):
            return [0.7 if questions == [ROWS[0]] else 0.0]

        def close(self):
            self.closed = True

    with TextScorers(settings(rouge_l=1.0)) as text_scorers:
        text_scorers._judge = judge = Judge()
        assert text_scorers.columns(ROWS[:1], [("judge",)]) == [{"judge": 0.7}] and text_scorers.failures == 2
    assert judge.closed


@pytest.mark.parametrize(
    ("weights", "changes", "message"),
    [
        ({"cider": 1.0}, {"idf": "nowhere.json"}, "config.reward.idf: nowhere.json: expected JSON"),
        ({"similarity": 1.0}, {}, "config.reward.sentences: expected the folder of a sentence model, got ''"),
        ({"judge": 1.0}, {}, "config.reward.judge: expected url and model, got '' and ''"),
        ({"judge": 1.0}, {"judge__url": "ftp://x", "judge__model": "m"}, r"config\.reward\.judge\.url: expected http"),
    ],
)
def test_a_missing_setting_is_an_error_at_the_start(weights, changes, message):
    reward = settings(**weights)
    judge = {name.removeprefix("judge__"): value for name, value in changes.items() if name.startswith("judge__")}
    changes = {name: value for name, value in changes.items() if not name.startswith("judge__")}
    reward = dataclasses.replace(reward, judge=dataclasses.replace(reward.judge, **judge), **changes)
    with pytest.raises(config.ConfigError, match=message):
        TextScorers(reward, lambda folder: embed)
