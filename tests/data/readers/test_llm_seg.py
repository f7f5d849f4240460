"""LLM-Seg40K: masks from RLE, photos of two data sets; quirks are read or refused by name."""

import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import llm_seg
from dtr1_jax.twin import masks

MASK = np.zeros((30, 40), bool)
MASK[3:23, 2:12] = True
RLE = masks.encode(MASK)
RLE = {"size": RLE["size"], "counts": RLE["counts"].decode()}
PAIR = {"question": "What keeps tea hot?", "answer": "The thermos.", "rle_seg": RLE, "segmentation_path": "x.png"}


def entry(*pairs, kind="coco"):
    return {"from_dataset": kind, "qa_pairs": list(pairs) or [PAIR]}


def write(root, value, name="annotations/llmseg_train.json"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(value))
    for file in ("train2017/000000000009.jpg", "EgoObjects/images/a.jpg"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(root / file)
    return root


def open_source(root, split="train", task="segmentation"):
    return llm_seg.open_llm_seg_source(str(root), split, task)


def test_by_hand(tmp_path):
    source = open_source(write(tmp_path, {"000000000009.jpg": entry(PAIR, PAIR), "a.jpg": entry(kind="ego_objects")}))
    assert [q.uid for q in source.queries] == [
        f"llm_seg/train/{x}" for x in ("000000000009/0", "000000000009/1", "a/0")
    ]
    example = source[2]
    np.testing.assert_array_equal(example.target.mask, MASK)
    np.testing.assert_allclose(example.target.boxes, [[2 / 40, 3 / 30, 12 / 40, 23 / 30]], rtol=1e-6)
    assert example.query == "What keeps tea hot?" and example.tags == ("ego_objects",) and not example.scene
    assert len(open_source(tmp_path / "annotations" / "llmseg_train.json", "any")) == 3
    assert open_source(tmp_path, task="grounding")[0].task == "grounding"


QUIRKS = [  # (name of the picture, its entry, number of queries, words of the warning)
    ("train2017/000000000009.jpg", entry(), 2, ""), ("/data/coco/000000000009.jpg", entry(), 2, ""),
    ("D:\\coco\\000000000009.jpg", entry(), 2, ""), ("train2017\\000000000009.jpg", entry(), 2, ""),
    ("000000000009.jpg", entry(PAIR | {"rle_seg": RLE | {"size": [30.0, 40.0]}}), 2, ""),
    ("000000000009.jpg", entry(PAIR | {"rle_seg": {"size": [30, 40], "counts": [63, 20, 1117]}}), 2, ""),
    ("000000000009.jpg", entry(PAIR, PAIR | {"rle_seg": None}), 2, "1 questions without rle_seg (such as 0000"),
    ("000000000009.jpg", entry(PAIR, PAIR | {"question": " "}), 2, "1 questions without text"),
    ("000000000009.jpg", entry(PAIR, PAIR | {"rle_seg": {"size": ["a"], "counts": ""}}), 2, "1 questions without rle"),
    ("x.jpg", entry(kind="lvis"), 1, "1 pictures without qa_pairs, or of no known from_dataset (such as x.jpg)"),
    ("x.jpg", [], 1, "1 pictures without qa_pairs"), ("../..", entry(), 1, "1 pictures without qa_pairs"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, caplog, number):
    name, value, count, warning = QUIRKS[number]
    source = open_source(write(tmp_path, {"a.jpg": entry(kind="ego_objects"), name: value}))
    assert len(source) == count and warning in caplog.text and ("left out" in caplog.text) == bool(warning)
    assert all(example.target.mask.any() for example in source)


def test_refusals(tmp_path):
    with pytest.raises(DataError, match=r"expected a JSON file for each split, .*got no folder for split 'train'"):
        open_source(tmp_path / "none")
    write(tmp_path, {"000000000009.jpg": []})
    with pytest.raises(DataError, match=r"got llmseg_train\.json for split 'test'"):
        open_source(tmp_path, "test")
    with pytest.raises(DataError, match="expected queries, got none to use"):
        open_source(tmp_path)
