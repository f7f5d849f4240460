"""All tasks on pictures and videos of TwinWorld: what the oracle says is worth all there is, and the file says so."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from heldout import heldout
from scored import Segmenter

from configs import default
from dtr1_jax import config
from dtr1_jax.data import demonstrations
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.evaluation import answered, metrics, predict, predictions_file, query_metrics, table
from dtr1_jax.rewards import score, twin_truth
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.types import TASKS

EACH = 2


def oracle(example):
    """(canvas, transcript) of a flawless policy."""
    frames = tuple(map(int, example.visuals[0].index)) if example.visuals else ()
    canvas = Canvas(Frame.NORM1000, example.image.shape[1::-1], frames)
    parsed = transcript.parse(demonstrations.oracle(example, canvas), task=example.task, canvas=canvas)
    assert parsed.sound, parsed.faults
    return canvas, parsed


@pytest.fixture(scope="module")
def scored():
    """Predictions of the oracle on all eight cells in one batch, and its rewards."""
    reward = config.from_configdict(default.get_config()).reward
    reward = dataclasses.replace(reward, segmenter="box", deadline=60.0, workers=1)
    examples = [tasks.example(task, 3, "heldout", i, video=video, max_objects=5)
                for task in TASKS for video in (False, True) for i in range(EACH)]  # fmt: skip
    said = [oracle(example) for example in examples]
    with TextScorers(reward) as text_scorers:
        rewards, outcomes = score.score(
            [[parsed] for _, parsed in said],
            examples,
            [canvas for canvas, _ in said],
            Segmenter(),
            reward,
            text_scorers,
        )
    predictions = [
        predict.Prediction(
            e, canvas, parsed, outcome,
            {name: float(x[i, 0]) for name, x in rewards.columns.items() if rewards.own[name][i]},
            query_metrics.measure(e, parsed, outcome),
        )
        for i, (e, (canvas, parsed), (outcome,)) in enumerate(zip(examples, said, outcomes))
    ]  # fmt: skip
    return predictions, rewards


def test_the_oracle_earns_all_but_what_masks_lose(scored):
    _, rewards = scored
    for name, column in rewards.columns.items():
        # Boxes and tracks are rounded to whole pixels, and velocities with them.
        least = {"mask_iou": 0.3, "box_iou": 0.85, "twin_iou": 0.85, "twin_tracks": 0.5}.get(name, 1.0)
        assert (column[rewards.own[name]] >= least - 1e-6).all(), (name, column)
    answers = {"structure", "mask_iou", "box_iou", "answer", "facts", "rouge_l"}
    assert set(rewards.columns) == answers | set(twin_truth.COLUMNS)


def test_figures_of_all_tasks(scored, tmp_path):
    predictions, _ = scored
    numbers = metrics.compute_metrics([answered.of_prediction(p) for p in predictions])
    for task in TASKS:
        for modality in query_metrics.MODALITIES:
            assert numbers[f"eval/{task}/{modality}/examples"] == EACH
    for name in ("vqa/picture/accuracy", "vqa/video/accuracy", "summary/picture/rouge_l", "summary/video/rouge_l",
                 "grounding/picture/acc"):  # fmt: skip
        assert numbers[f"eval/{name}"] == pytest.approx(1.0), name
    assert numbers["eval/grounding/video/viou"] > 0.85 and numbers["eval/segmentation/video/jf"] > 0.3
    assert numbers["eval/giou"] == numbers["eval/segmentation/picture/giou"] > 0.3
    assert numbers["eval/answer"] == numbers["eval/rouge_l"] == 1.0
    mains = [c.value for c in table.cells([answered.row(p) for p in predictions]) if c.category == c.level == "all"]
    assert len(mains) == 8 and numbers["eval/mean"] == pytest.approx(np.mean(mains))

    predictions_file.write_predictions(tmp_path, [answered.of_prediction(p, draws=True) for p in predictions])
    cells, again = table.recompute(tmp_path / "predictions.jsonl")
    assert again.items() <= numbers.items() and cells == table.cells([answered.row(p) for p in predictions])
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    for r in rows:
        kinds = {"image", "twin"} | ({"target", "answer"} if r["task"] in ("segmentation", "grounding") else set())
        assert set(r["pictures"]) == kinds and r["thought"] in r["transcript"] and 0 <= r["value"] <= 1
        assert bool(r["references"]) == (r["task"] in ("vqa", "summary"))


def test_a_column_is_in_the_row_of_its_tasks_alone(scored):
    for p in scored[0]:
        assert ("mask_iou" in p.columns) == (p.example.task == "segmentation")
        assert ("answer" in p.columns) == (p.example.task == "vqa") and "structure" in p.columns


class Mixed:
    """A source of all tasks on pictures."""

    def __init__(self):
        self.examples = [tasks.example(task, 0, "heldout", 1) for task in TASKS]

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


def test_a_policy_on_a_source_of_all_tasks(path, small):
    c = tiny.settings(path, train__eval_examples=4, train__eval_batch=4, reward__weights__summary__rouge_l=0.0,
                      reward__weights__summary__bleu=0.0, reward__weights__summary__cider=0.0,
                      reward__weights__segmentation__mask_iou=0.0, data__max_objects=7)  # fmt: skip
    source = Mixed()
    texts = []
    for e in source.examples:
        canvas = Canvas(Frame.PIXEL, (64, 64))
        texts.append(demonstrations.oracle(e, canvas))
    tiny.speak(small, c, texts)
    predictions = heldout(c, source)
    assert [p.transcript.sound for p in predictions] == [True] * 4
    assert [list(p.measures) for p in predictions] == [
        ["intersection", "union", "iou", "perception", "reasoning"], ["acc", "iou", "perception", "reasoning"],
        ["accuracy", "perception", "reasoning"], ["rouge_l"],
    ]  # fmt: skip
    assert [p.outcome.mask is None for p in predictions] == [False, True, True, True]
    numbers = metrics.compute_metrics([answered.of_prediction(p) for p in predictions])
    assert numbers["eval/vqa/picture/accuracy"] == numbers["eval/summary/picture/rouge_l"] == 1.0
    assert numbers["eval/twin/label"] == 1.0
    assert all(
        numbers[f"eval/program/{task}/picture/both_right"] == 1.0 for task in ("segmentation", "grounding", "vqa")
    )
