"""ReasonVOS: a list of expressions, masks in folders named after source, video and object; some frames may lack one."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from PIL import Image
from referred_folders import H, T, W, names, square, write_frames

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import reasonvos


def write(root, missing=(), records=None, origin="mose"):
    write_frames(root / "JPEGImages" / "a")
    folder = root / "Annotations" / f"{origin}_a_3"
    folder.mkdir(parents=True)
    for t in set(range(T)) - set(missing):
        Image.fromarray(np.where(square(t), 255, 0).astype(np.uint8)).save(folder / f"{t:05d}.png")
    records = records or [
        {"obj_id": "3", "exp_id": 0, "exp_text": "what moves on its own", "is_sent": True},
        {"obj_id": 3, "exp_id": 1, "exp_text": "mover", "is_sent": False},
    ]
    meta = {"videos": {"a": {"source": origin, "frames": names(), "expressions": records}}}
    (root / "meta_expressions.json").write_text(json.dumps(meta))
    return root


def opened(root, frames=3):
    return dataclasses.replace(reasonvos.open_reasonvos_source(str(root), "heldout", "segmentation"), frames=frames)


def test_queries_and_masks(tmp_path):
    source = opened(write(tmp_path))
    assert [q.tags for q in source.queries] == [("mose", "sentence"), ("mose", "phrase")]
    assert [q.uid for q in source.queries] == ["reasonvos/test/a/3/0", "reasonvos/test/a/3/1"]
    np.testing.assert_array_equal(source[0].target.masks, [square(t) for t in (0, 2, 5)])
    assert source[1].query == "mover" and source[1].whole.truth(4).ignore is None
    np.testing.assert_array_equal(source[1].whole.truth(4).target, square(4))


def test_frames_without_a_mask_are_not_scored(tmp_path):
    source = opened(write(tmp_path, missing=(0, 3)))
    example = source[0]
    assert example.whole.numbers == (1, 2, 4, 5) and example.video.index.tolist() == [1, 4, 5]
    np.testing.assert_array_equal(example.target.masks[0], square(1))
    np.testing.assert_array_equal(example.whole.truth(2).target, square(4))
    assert int(example.whole.frame(2).mean().round()) == 4


def test_faults(tmp_path, caplog):
    good = {"obj_id": 3, "exp_id": 0, "exp_text": "x", "is_sent": 1}
    odd = [
        good,
        {**good, "obj_id": 4},
        {**good, "exp_text": " "},
        {**good, "obj_id": "../3"},
        7,
        {**good, "obj_id": True},
    ]
    with caplog.at_level(logging.WARNING):
        assert len(opened(write(tmp_path, records=odd))) == 1
    assert "4 queries without masks for their frames" in caplog.text and "1 queries without text" in caplog.text
    with pytest.raises(DataError, match=r"got no meta_expressions.json"):
        opened(tmp_path / "none")
    for file in (tmp_path / "Annotations" / "mose_a_3").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ImageError, match=r"the file is empty"):
        opened(tmp_path)[0]
    assert (H, W) == (30, 40)
