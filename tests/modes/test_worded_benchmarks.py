"""Benchmarks that are answered in words: --mode=check, a step of GRPO and the figures of its evaluation."""

import json

import numpy as np
import pytest
import tiny
import worded_folders

from dtr1_jax.modes import check, train
from dtr1_jax.run import run_log

VIDEO = {"data__frames": 4, "policy__prompt_tokens": 96}  # the shapes of test_formats.py, which are compiled once


def nextqa(root):
    for split in ("train", "val"):
        worded_folders.write_nextqa(root, split)


def coco_captions(root):
    for split in ("train2017", "val2017"):
        worded_folders.write_coco_captions(root, split)


# source -> (its writer, the task, the split for validation, its figures, further settings)
SOURCES = {
    "nextqa": (nextqa, "vqa", "val", ("acc", "causal/acc", "vqa_queries"), VIDEO),
    "coco_captions": (coco_captions, "summary", "val2017", ("cider", "bleu4", "rouge_l"), {}),
    "msrvtt": (worded_folders.write_msrvtt, "summary", "validate", ("cider", "bleu1", "rouge_l"), VIDEO),
}


@pytest.mark.parametrize("name", SOURCES)
def test_check_then_a_step_and_figures(path, small, tmp_path, name):
    write, task, split, figures, more = SOURCES[name]
    write(tmp_path / "set")
    c = tiny.settings(
        path, data__source=name, data__root=str(tmp_path / "set"), data__task=task, data__eval_split=split,
        train__steps=1, train__eval_examples=1, train__gallery=0, **more,
    )  # fmt: skip
    text, usable = check.run(c, str(tmp_path / "checked"))
    assert usable, text
    found = json.loads((tmp_path / "checked" / "check.json").read_text())
    key = f"{task} (video)" if "data__frames" in more else task
    assert found["heldout"]["tasks"][key] and found["train"]["usable"], found["train"]
    train.run(c, tmp_path / "run")
    rows = run_log.read_run_log(tmp_path / "run")
    (step,) = [row for row in rows if "train/loss" in row]
    assert np.isfinite(step["train/loss"]) and step["train/examples_skipped"] == 0
    scored = [row for row in rows if f"eval/{name}/{figures[0]}" in row]
    assert scored and all(0 <= scored[-1][f"eval/{name}/{figure}"] <= 10 for figure in figures)
