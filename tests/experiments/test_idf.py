"""experiments/idf.py: the table of document frequencies of a data set's answers."""

import json

import numpy as np
import pytest
import scripts
from PIL import Image

from dtr1_jax.evaluation.benchmarks import captions


@pytest.fixture(scope="module")
def idf():
    return scripts.load_script("experiments/idf.py")


def lines(tmp_path, *answers):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "query": "sum up", "task": "summary", "answers": texts} for texts in answers]
    rows.append({"image": "none.png", "query": "sum up", "task": "summary", "answers": ["a red mug"]})
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row | {"split": "train"}) + "\n" for row in rows))
    return f"--root={tmp_path / 'data.jsonl'}"


def test_counts_by_hand(idf, tmp_path, capsys):
    root = lines(tmp_path, ["a red mug", "the red mug"], ["a red car"], ["red"])
    out = tmp_path / "idf.json"
    idf.main([f"--out={out}", "--source=jsonl", root])
    output = capsys.readouterr()
    assert json.loads(output.out) == {"samples": 3, "runs": 3} and "none.png" in output.err
    table = captions.read_frequencies(out)
    assert table == captions.Frequencies(3, {("a",): 2, ("red",): 3, ("a", "red"): 2})
    whole = captions.frequencies([["a red mug", "the red mug"], ["a red car"], ["red"]])
    for answer in ("a red mug", "the car is red", ""):
        both = [captions.cider_d(answer, ["a red mug"], frequencies) for frequencies in (table, whole)]
        assert both[0] == both[1]


def test_summaries_of_twinworld_weigh_common_words_less(idf, tmp_path, capsys):
    out = tmp_path / "idf.json"
    idf.main([f"--out={out}", "--n=30"])
    assert json.loads(capsys.readouterr().out)["samples"] == 30
    table = captions.read_frequencies(out)
    assert all(1 < count <= 30 for count in table.counts.values())
    counts = np.array([table.counts.get((word,), 1) for word in ("a", "guitar")])
    assert counts[0] > 20 > counts[1]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--source=cocoo"], 'did you mean "coco"'),
        (["--source=jsonl", "--root=none.jsonl"], "none.jsonl"),
        (["--source=coco", "--root=x"], "data.task: expected one of segmentation, grounding"),
        (["--n=0"], "--n: expected at least 1, got 0"),
    ],
)
def test_bad_arguments(idf, tmp_path, capsys, arguments, fault):
    with pytest.raises(SystemExit):
        idf.main([f"--out={tmp_path / 'idf.json'}", *arguments])
    assert fault in capsys.readouterr().err and not (tmp_path / "idf.json").exists()


def test_data_without_answers(idf, tmp_path, capsys):
    row = {"image": "a.png", "query": "it", "task": "grounding", "boxes": [[0, 0, 4, 4]]}
    (tmp_path / "data.jsonl").write_text(2 * (json.dumps(row) + "\n"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit):
        idf.main([f"--out={tmp_path / 'idf.json'}", "--source=jsonl", f"--root={tmp_path / 'data.jsonl'}"])
    assert "data.jsonl: no answers in words" in capsys.readouterr().err
