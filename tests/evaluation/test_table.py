"""The table by hand, from rows in memory and from a file, and files that hold no predictions."""

import json

import numpy as np
import pytest

from dtr1_jax.data.json_files import DataError
from dtr1_jax.evaluation import caption_figures, table
from dtr1_jax.evaluation.benchmarks import captions, segmentation


def row(task="segmentation", modality="picture", category="semantic", level=1, **more):
    shared = {"task": task, "modality": modality, "category": category, "level": level, "sound": True}
    return {**shared, "answer": None, "references": [], **more}


def region(intersection, union, **more):
    return row(iou=intersection / union if union else 1.0, intersection=intersection, union=union, **more)


def words(answer, references, rouge_l, **more):
    return row("summary", answer={"text": answer}, references=references, rouge_l=rouge_l, **more)


ROWS = [
    region(1, 4, level=1), region(3, 4, level=2), region(0, 0, category="spatial", level=2),
    region(0, 92, category="", level=0),
    row(modality="video", category="temporal", level=3, j=0.5, f=1.0), row("grounding", acc=1.0, iou=0.75),
    row("grounding", acc=0.0, iou=0.25), row("grounding", "video", "temporal", 4, iou=0.4),
    row("vqa", accuracy=1.0), row("vqa", "video", "temporal", 2, accuracy=0.0),
    words("a red mug on a table", ["a red mug stands on the table"], 0.75, category="", level=0),
    words("two cats", ["two dogs run", "a dog"], 0.5, category="", level=0),
]  # fmt: skip


def cell(cells, *key):
    (match,) = [c for c in cells if (c.task, c.modality, c.category, c.level) == key]
    return match


def test_figures_by_hand():
    figures = table.cell_metrics(ROWS)
    refs = [r["references"] for r in ROWS[-2:]]
    answers = [r["answer"]["text"] for r in ROWS[-2:]]
    weights = captions.frequencies(refs)
    assert figures == pytest.approx({
        "eval/segmentation/picture/giou": (0.25 + 0.75 + 1 + 0) / 4, "eval/segmentation/picture/ciou": 4 / 100,
        "eval/segmentation/picture/examples": 4,
        "eval/segmentation/video/jf": 0.75, "eval/segmentation/video/j": 0.5, "eval/segmentation/video/f": 1.0,
        "eval/segmentation/video/examples": 1, "eval/grounding/picture/acc": 0.5, "eval/grounding/picture/iou": 0.5,
        "eval/grounding/picture/examples": 2, "eval/grounding/video/viou": 0.4, "eval/grounding/video/examples": 1,
        "eval/vqa/picture/accuracy": 1.0, "eval/vqa/picture/examples": 1, "eval/vqa/video/accuracy": 0.0,
        "eval/vqa/video/examples": 1, "eval/summary/picture/rouge_l": 0.625, "eval/summary/picture/examples": 2,
        "eval/summary/picture/bleu4": captions.bleu(answers, refs),
        "eval/summary/picture/cider": np.mean([captions.cider_d(a, r, weights) for a, r in zip(answers, refs)]),
        "eval/mean": np.mean([0.5, 0.75, 0.5, 0.4, 1.0, 0.0, 0.625]),
    })  # fmt: skip
    assert table.cell_metrics([]) == {} and table.cells([]) == []


def test_cells_by_hand():
    cells = table.cells(ROWS)
    whole = cell(cells, "segmentation", "picture", "all", "all")
    assert (whole.count, whole.metric, whole.value) == (4, "giou", 0.5)
    overlaps = [segmentation.Overlap(r["intersection"], r["union"], r["iou"]) for r in ROWS[:4]]
    assert (whole.low, whole.high) == pytest.approx(segmentation.bootstrap(overlaps, segmentation.giou))
    assert cell(cells, "segmentation", "picture", "all", "L2").value == 0.875
    assert cell(cells, "segmentation", "picture", "semantic", "all").count == 2
    assert cell(cells, "segmentation", "picture", "unknown", "unknown").value == 0
    assert cell(cells, "grounding", "video", "temporal", "L4").metric == "viou"
    assert [c for c in cells if c.category == "spatial" and c.level == "L1"] == []
    by_level = [c for c in cells if c.level != "all" and c.category == "all"]
    assert sum(c.count for c in by_level) == len(ROWS)


def test_the_table_as_text():
    lines = table.format_table(table.cells(ROWS)).splitlines()
    assert lines[0].split() == ["task", "modality", "category", "metric", "all", "L1", "L2", "L3", "L4", "unknown"]
    assert lines[1].startswith("segmentation  picture   all") and "0.500 [" in lines[1] and "n=4" in lines[1]
    assert len(lines) == 1 + (1 + 3) + 2 + 2 + 2 + 2 + 2 + 2
    assert len({line.find("n=") for line in lines[1:2]}) == 1 and all(line == line.rstrip() for line in lines)


def test_failed_samples_and_those_without_references_stay_in_the_denominator():
    unsound = words("a red mug stands on the table", ["a red mug stands on the table"], 0.0) | {"sound": False}
    nothing = words("a", [], 0.0)
    good = words("two dogs run by the sea", ["two dogs run by the sea"], 1.0)
    other = words("one cat", ["two cats sit"], 0.2)
    alone = table.cell_metrics([good, other])
    more = table.cell_metrics([good, other, unsound, nothing])
    assert more["eval/summary/picture/rouge_l"] == pytest.approx(alone["eval/summary/picture/rouge_l"] / 2)
    assert 0 < more["eval/summary/picture/bleu4"] < alone["eval/summary/picture/bleu4"]
    assert (
        caption_figures.answer_text(unsound) is None
        and table.cell_metrics([nothing])["eval/summary/picture/cider"] == 0
    )


def write_rows(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_the_same_table_is_recomputed_from_the_file(tmp_path):
    cells, figures = table.recompute(write_rows(tmp_path / "predictions.jsonl", ROWS))
    assert cells == table.cells(ROWS) and figures == table.cell_metrics(ROWS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: expected JSON, got a malformed line"),
        ("[" * 100_000, "line 2: expected JSON"),
        ("\x00\xff", "line 2: expected JSON"),
        ("[1]", "line 2: expected an object, got list"),
        ({**ROWS[0], "task": "walking"}, "task: expected one of 'segmentation', .*, got 'walking'"),
        ({**ROWS[0], "task": ["segmentation"]}, "task: expected .*, got a value of type list"),
        ({**ROWS[0], "modality": "sound"}, "modality: expected"),
        ({**ROWS[0], "category": None}, "category: expected"),
        ({**ROWS[0], "level": 9}, "level: expected one of 0, 1, 2, 3, 4, got a value of type int"),
        ({**ROWS[0], "level": True}, "level: expected"),
        ({**ROWS[0], "sound": 1}, "sound: expected"),
        ({**ROWS[0], "iou": 1.5}, r"iou: expected a number in \[0, 1\], got 1\.5"),
        ({**ROWS[0], "iou": "1"}, "iou: expected a number"),
        ({**ROWS[0], "iou": 10**400}, "iou: expected a number"),
        (json.dumps({**ROWS[0], "iou": float("nan")}), "line 2: expected JSON"),
        ({**ROWS[0], "union": -1}, "union: expected a number of pixels"),
        ({**ROWS[0], "union": 1e30}, "union: expected a number of pixels"),
        ({**ROWS[0], "intersection": 5}, "union: expected at least the intersection, 5, got 4"),
        ({k: v for k, v in ROWS[0].items() if k != "union"}, "union: expected a number of pixels, got None"),
        ({**ROWS[-1], "references": "a"}, "references: expected a list of texts, got 'a'"),
        ({**ROWS[-1], "answer": {"text": 3}}, "answer: expected null or an object with a text"),
        ({**ROWS[-1], "answer": []}, "answer: expected null"),
    ],
)
def test_a_bad_line_is_an_error(tmp_path, line, message):
    line = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "p").write_bytes((json.dumps(ROWS[0]) + "\n").encode() + line.encode("latin-1") + b"\n")
    with pytest.raises(DataError, match=message):
        table.read_predictions(tmp_path / "p")


def test_a_missing_an_empty_and_a_bad_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        table.read_predictions(tmp_path / "nowhere")
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="expected a line for each prediction, got none"):
        table.read_predictions(tmp_path / "empty")
    with pytest.raises(DataError, match="and 3 more"):
        table.read_predictions(write_rows(tmp_path / "bad", [1] * 8))


def test_a_huge_answer_in_a_file_takes_no_time(tmp_path):
    rows = [words("a " * 200_000, ["a b"], 0.1), words("\ud800", ["a b c"], 0.0)]
    assert table.recompute(write_rows(tmp_path / "p", rows))[1]["eval/summary/picture/rouge_l"] == pytest.approx(0.05)
