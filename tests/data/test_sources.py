"""Every source is a sequence of examples, and settings that it cannot serve are refused with the reason."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from configs import default
from dtr1_jax import config
from dtr1_jax.data import sources
from dtr1_jax.types import Example

DATA = config.from_configdict(default.get_config()).data


def folders(root):
    """A COCO folder with two splits, and a JSON lines file, both of the same picture."""
    (root / "annotations").mkdir()
    box = [[1, 1, 20, 1, 20, 20, 1, 20]]
    for name in ("train", "val"):
        (root / name).mkdir()
        Image.new("RGB", (32, 24)).save(root / name / "1.png")
        value = {
            "images": [{"id": 1, "file_name": "1.png", "width": 32, "height": 24}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": box}],
            "categories": [{"id": 1, "name": "dog"}],
        }
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(value))
    for t, folder in itertools.product("01", ("JPEGImages", "Annotations")):
        (root / "davis" / folder / "dog").mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 24), 1).save(root / "davis" / folder / "dog" / f"{t}.png")
    rows = [json.dumps({"image": f"{name}/1.png", "query": "it", "polygons": box}) for name in ("train", "val")]
    (root / "data.jsonl").write_text("\n".join(rows))
    return {"coco": str(root), "jsonl": str(root / "data.jsonl"), "twinworld": "", "davis": str(root / "davis")}


@pytest.mark.parametrize("name", ["twinworld", "coco", "davis", "jsonl"])
@pytest.mark.parametrize("task", ["segmentation", "grounding"])
def test_every_source_is_a_sequence_of_examples(tmp_path, name, task):
    data = dataclasses.replace(DATA, source=name, root=folders(tmp_path)[name], task=task)
    reprs = set()
    for split in (data.train_split, data.eval_split):
        source = sources.open_source(data, split)
        for index in {0, len(source) - 1}:
            example = source[index]
            assert isinstance(example, Example) and example.task == task
            assert example.image.dtype == np.uint8 and example.target.mask.shape == example.image.shape[:2]
            assert example.target.boxes.shape[1:] == (4,) and example.target.boxes.dtype == np.float32
            assert example.uid == source[index].uid and example.query == source[index].query
        with pytest.raises(IndexError):
            source[len(source)]
        assert repr(source) == repr(sources.open_source(data, split)) and len(repr(source)) < 500
        reprs.add(repr(source))
    assert len(reprs) == 2


def test_twinworld_is_practically_endless_and_its_held_out_part_is_not():
    assert len(sources.open_source(DATA, "train")) == 2**31 - 1
    assert len(sources.open_source(DATA, "heldout")) == 4096
    larger = sources.open_source(dataclasses.replace(DATA, image_size=128, min_objects=3, max_objects=3), "train")[7]
    assert larger.image.shape == (128, 128, 3) and len(larger.scene) == 3


@pytest.mark.parametrize(
    "settings, split, message",
    [
        ({"task": "vqa", "source": "coco"}, "train", "data.task: expected one of segmentation, grounding"),
        ({"task": "summary", "source": "easy_vqa"}, "train", "expected one of vqa, for which source 'easy_vqa' has"),
        ({"task": "vqa", "source": "easy_vqa", "root": "/nowhere"}, "train", "/nowhere"),
        ({}, "test", "split"),
        ({"image_size": 4}, "train", "96"),
        ({"max_objects": 99}, "train", "max_objects"),
        ({"source": "coco", "root": "/nowhere"}, "train", "/nowhere"),
        ({"source": "davis", "root": "/nowhere"}, "train", "/nowhere"),
        ({"source": "jsonl", "root": "/nowhere"}, "train", "/nowhere"),
    ],
)
def test_settings_without_a_source_are_refused_at_once(settings, split, message):
    with pytest.raises(sources.DataError, match=message):
        sources.open_source(dataclasses.replace(DATA, **settings), split)
