"""Held-out scores: what is written is enough to work the figures out again, and they are those of the answers."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import tiny
from heldout import heldout

from dtr1_jax import config
from dtr1_jax.data import image_files, json_files, pipeline, prompts, sources
from dtr1_jax.evaluation import figures, predictions_file, table
from dtr1_jax.modes import results
from dtr1_jax.policies import pretrained
from dtr1_jax.twin import transcript
from dtr1_jax.twin.schema import Answer


def oracles(c, count):
    """Held-out examples with their canvases and the transcripts that are right about them."""
    source, style = sources.open_source(c.data, c.data.eval_split), pretrained.load_policy(c).style
    examples = [source[i] for i in range(count)]
    canvases = [prompts.prompt(e, style)[2] for e in examples]
    return examples, canvases, [prompts.oracle(e, canvas) for e, canvas in zip(examples, canvases)]


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

    numbers = figures.figures(predictions)
    predictions_file.write_predictions(tmp_path, predictions, pictures=2)
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


def test_masks_are_judged_even_where_the_reward_does_not_ask_for_them(path, small):
    c = tiny.settings(path, reward__weights__segmentation__mask_iou=0.0, train__eval_examples=2)
    tiny.speak(small, c, oracles(c, 2)[2])
    predictions = heldout(c)
    assert "mask_iou" not in predictions[0].columns and figures.figures(predictions)["eval/giou"] > 0.3


def test_the_same_policy_answers_the_same(path, small):
    c = tiny.settings(path)
    texts = [p.transcript.text for p in heldout(c)]
    assert texts == [p.transcript.text for p in heldout(c)] and len(texts) == 4
    warm = dataclasses.replace(c, train=dataclasses.replace(c.train, eval_temperature=1.0))
    warm_texts = [p.transcript.text for p in heldout(warm)]
    assert warm_texts != texts and warm_texts == [p.transcript.text for p in heldout(warm)]


def test_on_eight_devices(path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        one = [p.transcript.text for p in heldout(tiny.settings(path, train__eval_examples=3))]  # batches of 2 and 1
    tiny.install(monkeypatch, devices=8)
    c = tiny.settings(path, train__eval_examples=3, mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
    assert [p.transcript.text for p in heldout(c)] == one  # 3 queries over 4 shares


class Broken:
    """A source whose first examples can not be read."""

    def __init__(self, source, broken):
        self._source, self._broken = source, broken

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index < self._broken:
            raise image_files.ImageError(f"photo {index}: corrupt")
        return self._source[index]


def test_unreadable_examples_are_left_out_and_counted(path, small, caplog):
    c = tiny.settings(path)
    source = sources.open_source(c.data, "heldout")
    skipped = pipeline.SkipCounter()
    predictions = heldout(c, Broken(source, 3), skipped=skipped)
    assert [p.example.uid for p in predictions] == [source[3].uid]
    numbers = figures.figures(predictions, skipped.count)
    assert (numbers["eval/examples"], numbers["eval/examples_skipped"]) == (1, 3)
    assert "photo 2: corrupt" in caplog.text
    with pytest.raises(json_files.DataError, match="none of the 4 held-out examples"):
        heldout(c, Broken(source, 4))


def test_the_caller_may_stop_it_around_every_batch(path, small):
    c = tiny.settings(path, train__eval_batch=2)
    calls = []
    heldout(c, check=lambda: calls.append(None))
    assert len(calls) == 3


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(config.ConfigError, match=r"cannot write to .*file/run: Not a directory; .*another --workdir"):
        results.open_folder(tmp_path / "file" / "run")
    assert list(results.open_folder(tmp_path / "a" / "b").iterdir()) == []


def test_nothing_to_evaluate_gives_no_figure():
    assert figures.figures([], 3) == {"eval/examples": 0, "eval/examples_skipped": 3}
    assert jax.device_count() == 8
