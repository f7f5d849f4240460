"""VRT-Eval: records, objects with captions, answers; quirks are read or refused by name."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from tfrecords import example, frame

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import vrt
from dtr1_jax.twin import masks


def rle(x1, y1, x2, y2):
    mask = np.zeros((30, 40), bool)
    mask[y1:y2, x1:x2] = True
    found = masks.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


OBJECTS = {
    "1": {"mask": rle(2, 3, 12, 23), "original_id": 7, "caption": "a red thermos"},
    "2": {"mask": rle(20, 5, 35, 25), "original_id": 8, "caption": "a spoon"},
}


def jpeg(size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "JPEG")
    return buffer.getvalue()


def record(objects=OBJECTS, **more):
    text = objects if isinstance(objects, bytes) else json.dumps(objects).encode()
    features = {
        "key": [b"sa_1"], "image": [jpeg()], "question": [b"What keeps tea hot?"], "objects_info_json": [text],
        "human_labeled_a_objs": [1], "human_labeled_r_objs": [2], "human_confidence": [5],
        "class_ids": [b"#loc", b"#func"],
    }  # fmt: skip
    return frame(example({k: v for k, v in (features | more).items() if v is not None}))


def open_source(root, split="eval", task="segmentation", most=7):
    return vrt.open_vrt_source(str(root), split, task, max_objects=most)


def write(root, *records):
    (root / vrt.FILE).write_bytes(b"".join(records))
    return root


def test_by_hand(tmp_path, caplog):
    source = open_source(write(tmp_path, record(), record(key=[b"sa_2"], human_labeled_a_objs=[2, 1])))
    first, second = source
    assert (first.uid, first.query, first.tags) == ("vrt/sa_1", "What keeps tea hot?", ("loc", "func"))
    assert [(o.id, o.label, o.outlined) for o in first.scene] == [(1, "a red thermos", True), (2, "a spoon", True)]
    assert first.answer_ids == (1,) and first.target.mask.sum() == 200 and second.answer_ids == (1, 2)
    np.testing.assert_allclose(first.target.boxes, [[2 / 40, 3 / 30, 12 / 40, 23 / 30]], rtol=1e-6)
    assert len(open_source(tmp_path / vrt.FILE, "heldout", most=1)[0].scene) == 1
    assert "2 questions, but the published split has 304" in caplog.text


@pytest.mark.parametrize(
    ("caption", "label"),
    [("a mug", "a mug"), ("a\nmug ", "a mug"), ("<twin>", "twin>"), ("", "object"), (None, "object"), (3, "object"),
     ("word " * 20, " ".join(["word"] * 13)), ("x" * 99, "x" * 64), ("tab\ttab", "tab tab"), ("\x07", "object")],
)  # fmt: skip
def test_labels(caption, label):
    assert vrt.label_of(caption) == label


QUIRKS = [  # (the second record, number of queries, words of the warning)
    (record(key=None), 2, ""), (record(class_ids=None), 2, ""), (record(class_ids=[b"\xff"]), 2, ""),
    (record(human_labeled_a_objs=[1, 1]), 2, ""), (record({**OBJECTS, "3": {"mask": None}}), 2, ""),
    (record({**OBJECTS, "3": 4}), 2, ""), (record(question=[b"caf\xe9?"]), 2, ""),
    (record(human_confidence=None), 2, ""), (record(question=[b" "]), 1, "1 records without a question"),
    (record(question=None), 1, "1 records without question (such as sa_1)"), (record(image=None), 1, "without image"),
    (record(human_labeled_a_objs=None), 1, "1 records without human_labeled_a_objs"),
    (record(objects_info_json=None), 1, "1 records without objects_info_json"), (frame(b"\xff"), 1, "1 records: no tf"),
    (record(human_labeled_a_objs=[b"1"]), 1, "1 records without a question"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, caplog, number):
    second, count, warning = QUIRKS[number]
    source = open_source(write(tmp_path, record(), second))
    assert len(source) == count and warning in caplog.text and ("left out" in caplog.text) == bool(warning)
    assert all(e.target.mask.sum() == 200 for e in source)


@pytest.mark.parametrize(
    ("broken", "message"),
    [(record(human_labeled_a_objs=[9]), "object 9 of the answer is missing or has no mask"), (record(b"{"), "damaged"),
     (record(b"[]"), "object 1 of the answer is missing"), (record(image=[b"no"]), "not a picture"),
     (record({"1": {"mask": rle(0, 0, 1, 1) | {"size": [3, 4]}}}), "object 1 of the answer"),
     (record(image=[jpeg((20, 20))]), "object 1 of the answer"), (record({"1": {"mask": {}}}), "object 1"),
     (record()[:-1] + b"\x00", "checksum")],
)  # fmt: skip
def test_broken_records_cost_their_query(tmp_path, broken, message):
    source = open_source(write(tmp_path, broken))
    with pytest.raises(image_files.ImageError, match=message):
        source[0]


def test_refusals(tmp_path):
    with pytest.raises(DataError, match=r"expected vrt_eval\.tfrecord, got no folder"):
        open_source(tmp_path / "none")
    with pytest.raises(DataError, match=r"expected vrt_eval\.tfrecord, got no file"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="expected questions, got none to use"):
        open_source(write(tmp_path))
    with pytest.raises(DataError, match=r"one of eval \(or heldout"):
        open_source(tmp_path, "train")
