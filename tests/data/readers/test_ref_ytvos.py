"""Ref-YouTube-VOS: palette masks by object; splits without masks are refused."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from PIL import Image
from referred_folders import T, names, square, write_frames, write_palette

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import ref_ytvos

VALUES = np.array([np.where(square(t), 1, np.where(square(t, y0=18, step=1), 2, 0)) for t in range(T)])


def write(root, split="train", expressions=None, annotations=True):
    write_frames(root / split / "JPEGImages" / "a")
    if annotations:
        write_palette(root / split / "Annotations" / "a", VALUES)
    folder = root / "meta_expressions" / split
    folder.mkdir(parents=True)
    expressions = expressions or {"0": {"exp": "upper", "obj_id": "1"}, "1": {"exp": "lower", "obj_id": "2"}}
    meta = {"videos": {"a": {"frames": names(), "expressions": expressions}}}
    (folder / "meta_expressions.json").write_text(json.dumps(meta))
    return root


def opened(root, split="train"):
    return dataclasses.replace(ref_ytvos.open_ref_ytvos_source(str(root), split, "segmentation"), frames=2)


def test_objects_by_number(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        source = opened(write(tmp_path))
    assert "1 videos, but the published split has 3471" in caplog.text
    np.testing.assert_array_equal(source[0].target.masks, VALUES[[0, 5]] == 1)
    np.testing.assert_array_equal(source[1].target.masks, VALUES[[0, 5]] == 2)
    np.testing.assert_array_equal(source[1].whole.truth(3).target, VALUES[3] == 2)


def test_splits_without_masks(tmp_path):
    write(tmp_path, "valid", annotations=False)
    with pytest.raises(DataError, match=r"server alone; use train"):
        opened(tmp_path, "heldout")
    with pytest.raises(DataError, match=r"got no test/meta_expressions.json"):
        opened(tmp_path, "test")


def test_faults(tmp_path, caplog):
    odd = {"0": {"exp": "a", "obj_id": 1}, "1": {"exp": "a"}, "2": {"exp": "a", "obj_id": 255}, "3": {"obj_id": "1"}}
    with caplog.at_level(logging.WARNING):
        assert len(opened(write(tmp_path, expressions=odd))) == 1
    assert "3 expressions without text, obj_id or masks (such as a/1, a/2, a/3)" in caplog.text
    Image.new("RGB", (40, 30), (3, 4, 5)).save(tmp_path / "train/Annotations/a/00000.png")
    with pytest.raises(ImageError, match=r"expected a palette or grey PNG of object numbers, got colours"):
        opened(tmp_path)[0]
