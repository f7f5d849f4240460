"""GQA: balanced and all questions, shards, tags; quirks are read or refused by name."""

import json

import pytest
from PIL import Image

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import gqa

ROW = {
    "question": "What colour is the mug?", "answer": "red", "fullAnswer": "The mug is red.", "imageId": "n161313",
    "isBalanced": True, "types": {"structural": "query", "semantic": "attr", "detailed": "directWhich"},
}  # fmt: skip


def write(root, rows, name="testdev_balanced_questions.json", image="n161313"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(rows))
    (root / "images").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / "images" / f"{image}.jpg")
    return root


def open_source(root, split="testdev"):
    return gqa.open_gqa_source(str(root), split, "vqa")


def test_by_hand(tmp_path, caplog):
    source = open_source(write(tmp_path, {"201307251": ROW}))
    example = source[0]
    assert (example.uid, example.query) == ("gqa/testdev_balanced/201307251", "What colour is the mug?")
    assert example.target.references == ("red",) and example.tags == ("query", "attr") and example.benchmark == "gqa"
    assert "1 questions, but the published split has 12578" in caplog.text
    assert repr(source) == repr(open_source(tmp_path, "heldout")) == repr(open_source(tmp_path, "testdev_balanced"))


def test_shards(tmp_path):
    for k in range(2):
        write(tmp_path, {str(k): ROW}, f"questions/train_all_questions/train_all_questions_{k}.json")
    assert [q.uid for q in open_source(tmp_path, "train_all").queries] == ["gqa/train_all/0", "gqa/train_all/1"]


QUIRKS = [  # (changes of a question, number of queries, words of the warning)
    ({"imageId": 161313}, 2, ""), ({"imageId": 161313.0}, 2, ""), ({"types": None}, 2, ""), ({"types": []}, 2, ""),
    ({"types": {"structural": 3}}, 2, ""), ({"types": {"semantic": "x" * 99}}, 2, ""), ({"answer": " red "}, 2, ""),
    ({"answer": None}, 1, "1 questions without question, answer or imageId (such as b)"), ({"question": ""}, 1, "1 q"),
    ({"imageId": "../secret"}, 1, "1 questions whose imageId leaves the folder"),
    ({"imageId": "/etc/x"}, 1, "1 questions whose imageId leaves"), ({"imageId": "C:\\x"}, 1, "1 questions whose"),
    ({"imageId": None}, 1, "1 questions without"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, caplog, number):
    change, count, warning = QUIRKS[number]
    write(tmp_path, {}, image="161313")
    source = open_source(write(tmp_path, {"a": ROW, "b": ROW | change}))
    assert len(source) == count and warning in caplog.text and ("left out" in caplog.text) == bool(warning)
    assert all(example.target.references == ("red",) and example.image.shape == (30, 40, 3) for example in source)


def test_refusals(tmp_path):
    with pytest.raises(DataError, match="gqa test_balanced has no answers"):
        open_source(tmp_path, "test_balanced")
    with pytest.raises(DataError, match=r"got no val_balanced_questions\.json; unpack"):
        open_source(tmp_path, "val")
    with pytest.raises(DataError, match=r"\(or heldout, which is testdev_balanced\), got 'dev'"):
        open_source(tmp_path, "dev")
    with pytest.raises(DataError, match="expected queries, got none to use"):
        open_source(write(tmp_path, {"a": 3}))
    (tmp_path / "testdev_balanced_questions.json").write_text("[]")
    with pytest.raises(DataError, match="breaks off or is malformed"):
        open_source(tmp_path)
