"""gRefCOCO: several targets, none, and files of two releases."""

import json
import pickle

import numpy as np
import pytest
from refcoco_folders import NOTES, instances, ref, sentence, write_photos

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import grefcoco

REFS = [
    ref(1, [100, 101], 9, "val", sentence(1, "man and dog"), sentence(2, "both")),
    ref(2, [-1], 9, "val", sentence(3, "a horse")) | {"category_id": [-1]},
    ref(3, [102], 25, "train", sentence(4, "small person")),
]


def write(root, refs=REFS, suffix=".json"):
    folder = root / "grefcoco"
    folder.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(refs).encode() if suffix == ".json" else pickle.dumps(refs, 2)
    (folder / f"grefs(unc){suffix}").write_bytes(raw)
    (folder / "instances.json").write_text(json.dumps(instances(NOTES)))
    write_photos(root / "images" / "train2014")
    return root


def open_source(root, split="val", task="segmentation", most=7):
    return grefcoco.open_grefcoco_source(str(root), split, task, max_objects=most)


@pytest.mark.parametrize("suffix", [".json", ".p"])
@pytest.mark.parametrize("inside", ["", "grefcoco"])
def test_by_hand(tmp_path, suffix, inside):
    source = open_source(write(tmp_path, suffix=suffix) / inside, most=1)
    assert [(q.uid, q.text) for q in source.queries] == [
        ("grefcoco/val/1/1", "man and dog"), ("grefcoco/val/1/2", "both"), ("grefcoco/val/2/3", "a horse"),
    ]  # fmt: skip
    both, none = source[0], source[2]
    assert both.target.mask.sum() == 10 * 20 + 15 * 20 and both.answer_ids == (1, 2) and len(both.target.boxes) == 2
    assert not none.target.mask.any() and none.target.boxes.shape == (0, 4) and none.answer_ids == ()
    assert len(none.scene) == 1, "max_objects bounds the scene, but not the target"
    np.testing.assert_allclose(both.target.boxes[0], [2 / 40, 3 / 30, 12 / 40, 23 / 30], rtol=1e-6)
    assert len(open_source(tmp_path, "train", "grounding")) == 1


QUIRKS = [  # changes of the second ref -> (number of its sentences, words of the warning)
    ({"ann_id": -1}, 1, ""), ({"ann_id": ["-1"]}, 1, ""), ({"ann_id": [-1.0]}, 1, ""),
    ({"ann_id": [], "no_target": True}, 1, ""), ({"ann_id": 100}, 1, ""), ({"ann_id": ["100", 101.0]}, 1, ""),
    ({"ann_id": [100, 100]}, 1, ""), ({"image_id": "9"}, 1, ""),
    ({"ann_id": []}, 0, "1 refs without ann_id"), ({"ann_id": None}, 0, "1 refs without ann_id"),
    ({"ann_id": [-1, 100]}, 0, "1 refs without ann_id, or with -1 beside others (such as 2)"),
    ({"ann_id": [[1]]}, 0, "1 refs without ann_id"), ({"ann_id": [100, 5]}, 0, "missing or has no shape (such as 5)"),
    ({"image_id": 3}, 0, "not in the annotations (such as 3)"), ({"sentences": []}, 0, "1 refs without a sentence"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, monkeypatch, caplog, number):
    change, count, warning = QUIRKS[number]
    monkeypatch.setattr(grefcoco, "_MISFIT", 0.5)
    source = open_source(write(tmp_path, [REFS[0], REFS[1] | change]))
    assert len(source) == 2 + count and warning in caplog.text and ("left out" in caplog.text) == bool(warning)
    assert all(example.image.shape == (30, 40, 3) for example in source)


def test_two_releases_do_not_fit(tmp_path):
    refs = [REFS[0] | {"ann_id": [7]}, REFS[1]]
    with pytest.raises(DataError, match=r"but 1 of 2 have none .*different releases \(ids changed on 2023-08-29\)"):
        open_source(write(tmp_path, refs))


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"expected grefs\(unc\)\.json and instances\.json in .*got no such folder"):
        open_source(tmp_path / "none")
    (write(tmp_path) / "grefcoco" / "instances.json").unlink()
    with pytest.raises(DataError, match=r"got grefs\(unc\)\.json"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="one of train, val, testA, testB"):
        open_source(tmp_path, "test")
    with pytest.raises(DataError, match="expected a list of refs, got an object"):
        open_source(write(tmp_path, {}))
