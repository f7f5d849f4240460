"""`--mode=rescore`: the table of a predictions.jsonl, and files that are none."""

import json

import pytest

from dtr1_jax import config
from dtr1_jax.data.json_files import DataError
from dtr1_jax.evaluation import table
from dtr1_jax.modes import rescore

ROW = {
    "task": "segmentation", "modality": "picture", "category": "semantic", "level": 1, "sound": True, "iou": 0.5,
    "intersection": 5, "union": 10,
}  # fmt: skip


def test_the_table_and_the_figures_by_hand(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(ROW | {"iou": x, "intersection": int(10 * x)}) + "\n" for x in (0.5, 1.0)))
    *lines, last = rescore.run(str(path)).splitlines()
    numbers = json.loads(last)
    assert numbers["eval/segmentation/picture/giou"] == 0.75 == numbers["eval/mean"]
    assert numbers["eval/segmentation/picture/ciou"] == 15 / 20
    assert "\n".join(lines) == table.format_table(table.recompute(path)[0]) and "0.750" in lines[1]
    assert [cell["count"] for cell in numbers["table"]] == [2] * len(numbers["table"])


def test_perception_and_reasoning_are_counted_again(tmp_path):
    path = tmp_path / "predictions.jsonl"
    pairs = ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    path.write_text("".join(json.dumps(ROW | {"perception": p, "reasoning": r}) + "\n" for p, r in pairs))
    text = rescore.run(str(path))
    assert "segmentation  picture   25.0 % (1)  25.0 % (1)" in text
    assert json.loads(text.splitlines()[-1])["eval/program/segmentation/picture/both_wrong"] == 0.5
    for wrong in ({"perception": 2, "reasoning": 0}, {"perception": 1}, {"perception": True, "reasoning": True}):
        path.write_text(json.dumps(ROW | wrong) + "\n")
        with pytest.raises(DataError, match="expected 0 or 1"):
            rescore.run(str(path))


@pytest.mark.parametrize("predictions", [None, ""])
def test_without_a_file_it_says_what_is_missing(predictions):
    with pytest.raises(config.ConfigError, match="--mode=rescore needs --predictions=FILE"):
        rescore.run(predictions)


def test_a_file_that_holds_no_predictions_is_refused(tmp_path):
    (tmp_path / "x").write_text('{"task": "segmentation"}\n')
    for path, message in ((tmp_path / "x", "line 1: "), (tmp_path / "y", "cannot be read")):
        with pytest.raises(DataError, match=message):
            rescore.run(str(path))
