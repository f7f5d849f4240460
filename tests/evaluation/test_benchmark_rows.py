"""Figures of public benchmarks from answers and from rows, each by hand."""

import dataclasses
import json

import numpy as np
import pytest
from scored import CANVAS, WANT_LEFT, Segmenter, example, say, say_boxes
from scored_tasks import in_words, question

from dtr1_jax.data.json_files import DataError
from dtr1_jax.evaluation import benchmark_rows, query_metrics, table
from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin.transcript import parse
from dtr1_jax.types import Target

BROKEN = parse("no", task="segmentation", canvas=CANVAS)
LEFT = np.zeros((4, 8), bool)
LEFT[:, :4] = True


def of(name, query, *tags, **target):
    target = dataclasses.replace(query.target, **target)
    return dataclasses.replace(query, benchmark=name, tags=tags, target=target)


def line(query, transcript):
    """The row of predictions.jsonl of an answer, with the fields that the table reads."""
    masked = [query.task == "segmentation"]
    outcome = answer_regions.outcomes([[transcript]], [query], [CANVAS], Segmenter(), masked)[0][0]
    measures = query_metrics.measure(query, transcript, outcome)
    row = {"task": query.task, "modality": "picture", "category": "", "level": 0, "sound": transcript.sound}
    field = benchmark_rows.measure(query, transcript, outcome)
    row = row | measures | ({"benchmark": field} if field else {})
    return json.loads(json.dumps(row))


def test_the_examples_are_as_expected():
    query = example(WANT_LEFT)
    np.testing.assert_array_equal(query.target.mask, LEFT)


def test_reasonseg_ignores_pixels_and_names_the_peers_convention():
    """Target: left half; ignored: columns 4 and 5. The answer covers all: 16 / 24 pixels; as targets 24 / 32."""
    ignore = np.zeros((4, 8), bool)
    ignore[:, 4:6] = True
    query = of("reasonseg", example(WANT_LEFT), "long", ignore=ignore)
    rows = [line(query, say(1, 7)), line(query, BROKEN)]
    assert rows[0]["benchmark"] == {
        "name": "reasonseg",
        "tags": ["long"],
        "target": 16,
        "answer": 24,
        "ignore": [24, 32],
    }
    assert rows[1]["benchmark"] == {
        "name": "reasonseg",
        "tags": ["long"],
        "target": 16,
        "answer": None,
        "ignore": [0, 24],
    }
    short = of("reasonseg", example(WANT_LEFT), "short")
    rows.append(line(short, say(1)))
    found = benchmark_rows.figures(rows)
    assert found["eval/reasonseg/giou"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found["eval/reasonseg/ciou"] == pytest.approx((16 + 0 + 16) / (24 + 16 + 16))
    assert found["eval/reasonseg/giou_ignore_as_target"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert found["eval/reasonseg/ciou_ignore_as_target"] == pytest.approx((24 + 0 + 16) / (32 + 24 + 16))
    assert found["eval/reasonseg/short/giou"] == 1 and found["eval/reasonseg/long/segmentation_queries"] == 2
    assert found["eval/reasonseg/giou"] == table.cell_metrics(rows)["eval/segmentation/picture/giou"]


def test_gres_and_grec():
    nothing, left = of("grefcoco", example()), of("grefcoco", example(WANT_LEFT))
    rows = [line(nothing, say()), line(nothing, say(1)), line(nothing, BROKEN), line(left, say(1)), line(left, say())]
    found = benchmark_rows.figures(rows)
    assert found["eval/grefcoco/giou"] == 2 / 5 and found["eval/grefcoco/ciou"] == 16 / (0 + 16 + 0 + 16 + 16)
    assert (found["eval/grefcoco/n_acc"], found["eval/grefcoco/t_acc"]) == (1 / 3, 1 / 2)
    nothing, left = (of("grefcoco", example(*w, task="grounding")) for w in ((), (WANT_LEFT,)))
    rows = [line(nothing, say_boxes()), line(nothing, BROKEN), line(left, say_boxes((0, 0, 4, 2))),
            line(left, say_boxes((0, 0, 4, 4), (0, 0, 4, 4)))]  # fmt: skip
    assert [r["benchmark"]["strict"] for r in rows] == [1, 0, 0, 0], "an IoU of exactly one half is not above it"
    found = benchmark_rows.figures(rows)
    assert (found["eval/grefcoco/f1"], found["eval/grefcoco/n_acc"], found["eval/grefcoco/t_acc"]) == (1 / 2, 1 / 2, 1)


def test_rec_and_res():
    left = of("refcoco", example(WANT_LEFT, task="grounding"))
    found = benchmark_rows.figures([line(left, say_boxes((0, 0, 4, 2))), line(left, BROKEN), line(left, say(1))])
    assert (found["eval/refcoco/acc"], found["eval/refcoco/acc_above"]) == (2 / 3, 1 / 3)
    left = of("refcoco", example(WANT_LEFT))
    found = benchmark_rows.figures([line(left, say(1)), line(left, say(1, 7))])
    assert (found["eval/refcoco/giou"], found["eval/refcoco/pr@0.5"], found["eval/refcoco/pr@0.6"]) == (0.75, 1, 0.5)


def test_words():
    people = ("red",) * 3 + ("blue",) * 7
    rows = [
        line(of("vqav2", question(*people), "other"), in_words("red")),
        line(of("vqav2", question(*people)), BROKEN),
    ]
    found = benchmark_rows.figures(rows)
    assert found["eval/vqav2/accuracy"] == pytest.approx((3 * 2 / 3 + 7) / 10 / 2)
    assert found["eval/vqav2/other/vqa_queries"] == 1
    rows = [line(of("gqa", question("two")), in_words(t)) for t in ("two", "2", "Two.", "two!")] + [
        line(of("gqa", question("two")), BROKEN)
    ]
    found = benchmark_rows.figures(rows)
    assert (found["eval/gqa/exact"], found["eval/gqa/exact_without_punctuation"]) == (2 / 5, 3 / 5)
    assert found["eval/gqa/read"] == 4 / 5, "our own reading takes 2 for two"


def test_questions_with_options():
    """3 causal, 2 temporal and 1 descriptive; an answer that names no option is wrong."""
    choices = ("a dog", "a cat", "two", "red", "home")
    kinds = ["CW", "CW", "CH", "TN", "TC", "DL"]
    answers = ["B", "B) a cat", "it is a cat", "C", None, "a cat or a dog"]
    groups = {"C": "causal", "T": "temporal", "D": "descriptive"}
    rows = []
    for kind, answer in zip(kinds, answers):
        query = of("nextqa", question("a cat"), groups[kind[0]], kind, choices=choices)
        rows.append(line(query, BROKEN if answer is None else in_words(answer)) | {"modality": "video"})
    found = benchmark_rows.figures(rows)
    assert found["eval/nextqa/acc"] == 3 / 6 and found["eval/nextqa/causal/acc"] == 1
    assert found["eval/nextqa/temporal/acc"] == 0 == found["eval/nextqa/descriptive/acc"]
    assert found["eval/nextqa/CW/acc"] == 1 and found["eval/nextqa/TN/vqa_queries"] == 1
    assert benchmark_rows.of_all(rows, 2) == {"eval/nextqa/missing": 2, "eval/nextqa/acc_of_all": pytest.approx(3 / 8)}
    assert all(benchmark_rows.fault(row) is None for row in rows)
    assert "benchmark.exact" in benchmark_rows.fault(rows[0] | {"benchmark": rows[0]["benchmark"] | {"exact": "x"}})


def test_captions(tmp_path):
    """The figures are those of all answers together, by COCO's rules; a failed answer is an empty caption."""
    references = [("a cat sits on a mat", "the cat is on a mat"), ("two dogs run fast", "dogs are running")]
    answers = ["a cat on a mat", None]
    rows = []
    for texts, answer in zip(references, answers):
        query = of("coco_captions", question(*texts, task="summary"))
        transcript = parse("no", task="summary", canvas=CANVAS) if answer is None else in_words(answer, "summary")
        row = line(query, transcript)
        assert row["benchmark"] == {"name": "coco_captions", "tags": []}
        row |= {"answer": None if answer is None else {"text": answer}, "references": list(texts)}
        rows.append(row)
    found = benchmark_rows.figures(rows)
    weights = captions.frequencies(references)
    cider = [captions.cider_d(answer, texts, weights) for answer, texts in zip(answers, references)]
    assert found["eval/coco_captions/cider"] == pytest.approx(sum(cider) / 2) and cider[0] > cider[1] == 0
    for n in range(1, 5):
        assert found[f"eval/coco_captions/bleu{n}"] == captions.bleu(answers, references, n)
    rouge = captions.rouge_l(answers[0], references[0])
    assert found["eval/coco_captions/rouge_l"] == pytest.approx(rouge / 2)
    assert found["eval/coco_captions/summary_queries"] == 2
    same = [row | {"benchmark": {"name": "msrvtt", "tags": []}, "modality": "video"} for row in rows]
    assert benchmark_rows.figures(same)["eval/msrvtt/cider"] == found["eval/coco_captions/cider"]
    missing = benchmark_rows.of_all(same, 2)
    assert missing == {"eval/msrvtt/missing": 2, "eval/msrvtt/rouge_l_of_all": pytest.approx(rouge / 4)}
    file = tmp_path / "predictions.jsonl"
    file.write_text("\n".join(map(json.dumps, [*rows, *same])))
    again = table.recompute(file)[1]
    assert again["eval/coco_captions/cider"] == again["eval/msrvtt/cider"] == found["eval/coco_captions/cider"]
    assert again["eval/summary/picture/cider"] == found["eval/coco_captions/cider"]


def test_queries_of_no_benchmark_have_no_field():
    assert (
        "benchmark" not in line(example(WANT_LEFT), say(1)) and benchmark_rows.figures([line(example(), say())]) == {}
    )


def test_missing_queries_count_as_wrong():
    rows = [line(of("reasonseg", example(WANT_LEFT)), say(1)), line(of("reasonseg", example(WANT_LEFT)), say(1, 7))]
    assert benchmark_rows.of_all(rows, 2) == {"eval/reasonseg/missing": 2, "eval/reasonseg/giou_of_all": 1.5 / 4}
    assert benchmark_rows.of_all(rows, 0) == benchmark_rows.of_all([line(example(WANT_LEFT), say(1))], 2) == {}


def test_figures_are_printed_by_benchmark_and_tag():
    rows = [line(of("reasonseg", example(WANT_LEFT), "a/b"), say(1))]
    text = benchmark_rows.format_figures(table.cell_metrics(rows))
    assert text == ("reasonseg: giou 1.0000, ciou 1.0000, segmentation_queries 1\n"
                    "reasonseg/a_b: giou 1.0000, ciou 1.0000, segmentation_queries 1")  # fmt: skip
    assert benchmark_rows.format_figures(table.cell_metrics([line(example(WANT_LEFT), say(1))])) == ""


@pytest.mark.parametrize(
    "change",
    [
        [], {"name": 3}, {"tags": None}, {"tags": [1]}, {"target": None}, {"target": "x"}, {"answer": -1},
        {"answer": float("inf")}, {"ignore": [3]}, {"ignore": [3, 2]}, {"ignore": None},
    ],
)  # fmt: skip
def test_broken_fields_are_named(tmp_path, change):
    row = line(of("reasonseg", example(WANT_LEFT)), say(1))
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps(row))
    assert table.recompute(file)[1]["eval/reasonseg/giou"] == 1
    row["benchmark"] = row["benchmark"] | change if change else 3
    file.write_text(json.dumps(row).replace("Infinity", "1e999"))
    with pytest.raises(DataError, match=r"line 1: benchmark"):
        table.recompute(file)


def test_words_of_a_target_without_references():
    query = of("gqa", question("x"))
    query = dataclasses.replace(query, target=Target(query.target.mask, query.target.boxes))
    assert line(query, in_words("x"))["benchmark"]["exact"] == 0
