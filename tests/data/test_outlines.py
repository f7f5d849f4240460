"""What sources know without decoding: their counts equal those of their examples, and their files exist."""

import collections
import dataclasses
import json

import pytest
from coco_folders import note, open_source, rectangle, write_coco_folder
from PIL import Image

from configs import default
from dtr1_jax import config
from dtr1_jax.data import outlines, sources
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import davis, jsonl
from dtr1_jax.data.sources import TwinWorld

DATA = config.from_configdict(default.get_config()).data


@pytest.mark.parametrize("lengths, weights", [((7, 5), (1.0, 1.0)), ((100, 30), (3.0, 1.0)), ((1, 1000), (1.0, 2.0))])
def test_tasks_of_a_mixture_are_those_of_its_places(lengths, weights):
    class Part:
        def __init__(self, task, length):
            self.task, self.length = task, length

        def __len__(self):
            return self.length

    source = Mixture(tuple(Part(t, n) for t, n in zip(("vqa", "summary"), lengths)), weights)
    expected = collections.Counter(("vqa", "summary")[source.places.at(place)[0]] for place in range(len(source)))
    assert collections.Counter(outlines.task_counts(source)) == expected


def test_generated_data_has_tasks_and_no_files():
    source = sources.open_source(dataclasses.replace(DATA, task="unified", video=0.5), "heldout")
    counts = outlines.task_counts(source)
    assert set(counts) == {f"{t}{v}" for t in ("segmentation", "grounding", "vqa", "summary") for v in ("", " (video)")}
    assert sum(counts.values()) == len(source)
    assert outlines.picture_files(source) == [] and outlines.label_counts(source) is None
    assert outlines.task_counts(TwinWorld("train", "vqa", 0, 96, 2, 7)) == {"vqa": sources.TRAIN}


def test_coco(tmp_path):
    notes = [note(rectangle(0, 0, 9, 9 + k), c, i) for k, (i, c) in enumerate(((1, 2), (1, 2), (2, 3)))]
    notes.append(note({"size": [30, 40], "counts": [0, 1200]}, crowd=1))
    source = open_source(write_coco_folder(tmp_path, notes, pictures=2))
    assert outlines.task_counts(source) == {"segmentation": 8}
    assert outlines.label_counts(source) == {"dog": 2, "cat": 1}
    assert outlines.picture_files(source) == [tmp_path / "train2017" / f"{i}.png" for i in (1, 2)]


def test_json_lines(tmp_path):
    for name in ("a.png", "b.png", "v/0.png", "v/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    mug = [{"label": "mug", "box": [0, 0, 5, 5]}]
    rows = [
        {"image": "a.png", "query": "x", "boxes": [], "objects": mug, "split": "train"},
        {"image": ["a.png", "b.png"], "query": "y", "task": "vqa", "answers": ["2"], "objects": mug, "split": "train"},
        {"video": "v", "query": "z", "tracks": [], "objects": mug, "split": "train"},
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = jsonl.open_jsonl_source(str(tmp_path / "d.jsonl"), "train", "segmentation", max_objects=7)
    assert outlines.task_counts(source) == {"segmentation": 1, "vqa": 1, "segmentation (video)": 1}
    assert outlines.label_counts(source) == {"mug": 2}, "two queries about one scene count it once"
    assert outlines.picture_files(source) == [tmp_path / n for n in ("a.png", "b.png", "v/0.png", "v/1.png")]


def test_davis(tmp_path):
    for name in ("a", "b"):
        for t, kind in ((t, kind) for t in range(3) for kind in ("JPEGImages", "Annotations")):
            (tmp_path / kind / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (20, 10), 1).save(tmp_path / kind / name / f"{t}.png")
    source = davis.open_davis_source(str(tmp_path), "train", "grounding", seed=0, max_objects=7)
    assert outlines.task_counts(source) == {"grounding (video)": davis.QUERIES}
    assert outlines.picture_files(source) == [tmp_path / "JPEGImages" / "a" / f"{t}.png" for t in range(3)]
