"""Figures over all frames of a video: those between the shown ones, empty and failed answers, averages by benchmark."""

import dataclasses
import json

import numpy as np
import pytest
from referred_folders import H, T, W, square, write_mevis, write_revos
from scored import Segmenter
from square_answers import CANVAS, Filled, say, source

from dtr1_jax.data.readers import revos
from dtr1_jax.evaluation import benchmark_rows, table, whole_videos
from dtr1_jax.evaluation.benchmarks import video_segmentation
from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin.transcript import parse


def measured(example, transcript, segmenter=None):
    segmenter = segmenter or Filled()
    (outcome,) = answer_regions.outcomes([[transcript]], [example], [CANVAS], segmenter, [True])[0]
    return whole_videos.measure(example, transcript, CANVAS, outcome, segmenter)


def row(example, transcript):
    (outcome,) = answer_regions.outcomes([[transcript]], [example], [CANVAS], Filled(), [True])[0]
    whole = whole_videos.measure(example, transcript, CANVAS, outcome, Filled())
    field = benchmark_rows.measure(example, transcript, outcome, (), whole)
    line = {
        "task": "segmentation", "modality": "video", "category": "", "level": 0, "sound": transcript.sound,
        "j": 0.5, "f": 0.5, "benchmark": field,
    }  # fmt: skip
    return json.loads(json.dumps(line))


def test_frames_between_the_shown_ones_follow_the_track(tmp_path):
    example = source(write_mevis(tmp_path))[0]
    transcript = say({"objects": [1]})
    assert transcript.sound
    segmenter = Filled()
    found = measured(example, transcript, segmenter)
    assert found == {"j": 1.0, "f": 1.0, "target": T * 64, "answer": T * 64}  # a straight line is the whole motion
    assert sorted(segmenter.pictures) == list(range(T))
    # The square stands still until frame 2 and then jumps: each frame by hand.
    still = say({"objects": [1]}, last=(2, 5, 10, 13))
    masks = [square(0)] * T
    expected = video_segmentation.score(masks, [square(t) for t in range(T)])
    found = measured(example, still)
    assert (found["j"], found["f"]) == pytest.approx(tuple(expected)) and found["j"] < 0.5


def test_answers_that_are_empty_or_failed(tmp_path):
    one, _, none = (source(write_mevis(tmp_path))[i] for i in range(3))
    empty, broken = say({"objects": []}), parse("no", task="segmentation", canvas=CANVAS)
    assert measured(one, empty) == {"j": 0.0, "f": 0.0, "target": T * 64, "answer": 0}
    assert measured(none, empty) == {"j": 1.0, "f": 1.0, "target": 0, "answer": 0}
    assert measured(none, broken) == {"j": 0.0, "f": 0.0, "target": 0, "answer": None}
    assert measured(none, say({"objects": [1]}))["answer"] == T * 64
    # An object that leaves after frame 2 has no mask in frames 3 to 5.
    leaves = measured(one, say({"objects": [1]}, last=(8, 5, 16, 13), numbers=(0, 2)))
    assert (leaves["j"], leaves["answer"]) == (pytest.approx(0.5), 3 * 64)


def test_frames_that_fail_or_cannot_be_read_count_as_wrong(tmp_path, caplog):
    example = source(write_mevis(tmp_path))[0]
    found = measured(example, say({"objects": [1]}), Filled(fails=(1, 3)))
    assert found["j"] == pytest.approx(4 / 6) and found["answer"] == 4 * 64
    (tmp_path / "valid_u/JPEGImages/a/00004.jpg").write_bytes(b"")
    found = measured(example, say({"objects": [1]}))
    assert found["j"] == pytest.approx(5 / 6) and "this frame counts as wrong" in caplog.text


def test_accuracy_and_robustness_of_revos(tmp_path):
    """Target: 64 pixels; foreground: 64 in frames 0 and 1, else two squares; the answer is 8 pixels too far down."""
    example = source(write_revos(tmp_path), revos.open_revos_source, "valid")[0]
    found = measured(example, say({"objects": [1]}, track=(2, 13, 10, 21), last=(17, 13, 25, 21)))
    assert found["j"] == 0 and found["a"] == pytest.approx(1 - 128 / (H * W))
    robust = [max(0, 1 - 64 / (ground + 1e-6)) for ground in (64, 64, *[128 - overlap(t) for t in range(2, T)])]
    assert found["r"] == pytest.approx(np.mean(robust))
    broken = measured(example, parse("no", task="segmentation", canvas=CANVAS))
    assert (broken["a"], broken["r"]) == (0, 0)


def overlap(t):
    return int((square(t) & square(t, y0=18, step=1)).sum())


def test_revos_averages_the_types_of_queries(tmp_path):
    found = source(write_revos(tmp_path), revos.open_revos_source, "valid")
    right, empty = say({"objects": [1]}), say({"objects": []})
    rows = [
        row(found[0], right),
        row(found[0], empty),
        row(found[0], empty),
        row(found[1], right),
        row(found[2], empty),
    ]
    numbers = benchmark_rows.figures(rows)
    assert numbers["eval/revos/j"] == pytest.approx((1 / 3 + 1) / 2) == numbers["eval/revos/jf"]
    assert numbers["eval/revos/jf_of_queries"] == pytest.approx(3 / 5)
    assert numbers["eval/revos/referring/j"] == pytest.approx(1 / 3) and numbers["eval/revos/reasoning/j"] == 1
    assert numbers["eval/revos/hallucination/n_acc"] == 1 == numbers["eval/revos/n_acc"]
    assert numbers["eval/revos/t_acc"] == pytest.approx(2 / 4) and numbers["eval/revos/segmentation_queries"] == 5
    part = benchmark_rows.figures(rows[:3])
    assert part["eval/revos/j"] == pytest.approx(1 / 3) and "eval/revos/n_acc" not in part
    missing = benchmark_rows.of_all(rows, 5)
    assert missing == {"eval/revos/missing": 5, "eval/revos/jf_of_queries_of_all": pytest.approx(3 / 10)}
    assert "jf 0.6667" in benchmark_rows.format_figures(numbers)


def test_rows_are_read_again(tmp_path):
    rows = [row(source(write_mevis(tmp_path))[i], say({"objects": [1]})) for i in range(3)]
    file = tmp_path / "predictions.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert table.read_predictions(file) == rows
    for change, fault in (
        ({"j": 2}, "benchmark.j"), ({"f": None}, "benchmark.f"), ({"answer": -1}, "benchmark.answer"),
        ({"target": None}, "benchmark.target"), ({"a": "1"}, "benchmark.a"), ({"answer": True}, "benchmark.answer"),
    ):  # fmt: skip
        file.write_text(json.dumps(rows[0] | {"benchmark": rows[0]["benchmark"] | change}))
        with pytest.raises(table.DataError, match=fault):
            table.read_predictions(file)


def test_pictures_have_no_such_figures(tmp_path):
    example = dataclasses.replace(source(write_mevis(tmp_path))[0], whole=None)
    transcript = say({"objects": [1]})
    (outcome,) = answer_regions.outcomes([[transcript]], [example], [CANVAS], Segmenter(), [True])[0]
    assert whole_videos.measure(example, transcript, CANVAS, outcome, Segmenter()) is None
    assert benchmark_rows.measure(example, transcript, outcome) is None
