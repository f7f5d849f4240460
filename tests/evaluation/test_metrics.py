"""The figures of an evaluation against the rows on disk, from which they can be worked out again."""

import json
import re

import jax
import numpy as np
import pytest
import tiny
from heldout import heldout

from dtr1_jax.data import demonstrations, image_files, prompts, sources
from dtr1_jax.evaluation import answered, metrics, predictions_file, table
from dtr1_jax.policies import pretrained
from dtr1_jax.twin import transcript
from dtr1_jax.twin.schema import Answer


def oracles(c, count):
    """Held-out examples with their canvases and the transcripts that are right about them."""
    source, style = sources.open_source(c.data, c.data.eval_split), pretrained.load_policy(c).style
    examples = [source[i] for i in range(count)]
    canvases = [prompts.prompt(e, style)[2] for e in examples]
    return examples, canvases, [demonstrations.oracle(e, canvas) for e, canvas in zip(examples, canvases)]


def test_figures_are_those_of_the_answers(path, small, tmp_path):
    c = tiny.settings(path, train__eval_examples=5, train__eval_batch=2, train__gallery=2)
    examples, canvases, texts = oracles(c, 5)
    parsed = transcript.parse(texts[1], task="segmentation", canvas=canvases[1])
    texts[1] = transcript.compose(
        parsed.twin, "nothing", Answer(objects=())
    )  # sound, and wrong where there is a target
    texts[2] = texts[2].replace("</think>", "")  # unsound
    tiny.speak(small, c, texts)
    predictions = heldout(c)
    assert [p.example.uid for p in predictions] == [e.uid for e in examples]
    assert [p.transcript.sound for p in predictions] == [True, True, False, True, True]
    by_hand = []
    for i, e in enumerate(examples):
        filled = np.zeros_like(e.target.mask)
        for box in e.target.boxes if i not in (1, 2) else ():
            # the box as the text has it: integers of the canvas
            w, h = canvases[i].size
            x1, y1, x2, y2 = np.round(box * [w, h, w, h]) / [w, h, w, h] * 96
            filled[round(y1) : round(y2), round(x1) : round(x2)] = True
        union = (filled | e.target.mask).sum()
        by_hand.append(0.0 if i == 2 else (filled & e.target.mask).sum() / union if union else 1.0)
    assert [p.measures["iou"] for p in predictions] == pytest.approx(by_hand, abs=0.03)

    numbers = metrics.compute_metrics([answered.of_prediction(p) for p in predictions])
    predictions_file.write_predictions(tmp_path, [answered.of_prediction(p, i < 2) for i, p in enumerate(predictions)])
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert numbers["eval/giou"] == pytest.approx(np.mean([r["iou"] for r in rows]))
    assert numbers["eval/ciou"] == pytest.approx(sum(r["intersection"] for r in rows) / sum(r["union"] for r in rows))
    assert numbers["eval/sound"] == pytest.approx(np.mean([r["sound"] for r in rows])) == 0.8
    thoughts = [re.search(r"<think>(.+)</think>", r["transcript"]) for r in rows]
    assert numbers["eval/reasoned"] == pytest.approx(np.mean([t is not None for t in thoughts]))
    for name in ("reward", "structure", "mask_iou", "box_iou"):
        assert numbers[f"eval/{name}"] == pytest.approx(np.mean([r["columns"][name] for r in rows]))
    for r in rows:
        same = [x["iou"] for x in rows if x["category"] == r["category"]]
        assert numbers[f"eval/giou/category/{r['category']}"] == pytest.approx(np.mean(same))
        same = [x["iou"] for x in rows if x["level"] == r["level"]]
        assert numbers[f"eval/giou/level/{r['level']}"] == pytest.approx(np.mean(same))
    assert numbers["eval/segmentation/picture/giou"] == numbers["eval/mean"] == numbers["eval/giou"]
    assert table.recompute(tmp_path / "predictions.jsonl")[1].items() <= numbers.items()
    assert numbers["eval/giou_low"] <= numbers["eval/giou"] <= numbers["eval/giou_high"]
    # four oracle twins, boxes rounded to the canvas, and one that lies in an unsound transcript but is sound itself
    assert numbers["eval/twin/count_right"] == numbers["eval/twin/label"] == numbers["eval/twin/found"] == 1
    assert numbers["eval/twin/excess"] == 0 and 0.85 < numbers["eval/twin/iou"] < 1

    assert [r["transcript"] for r in rows] == texts and [bool(r["faults"]) for r in rows] == [0, 0, 1, 0, 0]
    assert rows[1]["answer"] == {"objects": []} and rows[0]["twin"]["objects"][0]["id"] == 1
    assert [sorted(r.get("pictures", {})) for r in rows[1:]] == [["answer", "image", "target", "twin"], [], [], []]
    for name in rows[0]["pictures"].values():
        assert image_files.load_image(tmp_path / name).shape[2] == 3


def test_nothing_to_evaluate_gives_no_figure():
    assert metrics.compute_metrics([], 3) == {"eval/examples": 0, "eval/examples_skipped": 3}
    assert jax.device_count() == 8
