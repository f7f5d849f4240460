"""ReVOS: queries by type, the foreground for the robustness, and what is left out."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from referred_folders import H, T, W, square, write_revos

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import revos


def opened(root, split="valid"):
    return dataclasses.replace(revos.open_revos_source(str(root), split, "segmentation"), frames=2)


def test_queries_have_their_type_and_foreground(tmp_path):
    source = opened(write_revos(tmp_path))
    assert [source[i].tags for i in range(3)] == [("referring",), ("reasoning",), ("hallucination",)]
    np.testing.assert_array_equal(source[1].target.masks, [square(0), square(5)])
    truth = source[0].whole.truth(3)
    np.testing.assert_array_equal(truth.target, square(3))
    np.testing.assert_array_equal(truth.foreground, square(3) | square(3, y0=18, step=1))
    nothing = source[2].whole.truth(0)
    assert not nothing.target.any() and nothing.target.shape == (H, W) and nothing.foreground.any()


def test_without_the_foreground_there_is_a_warning(tmp_path, caplog):
    root = write_revos(tmp_path)
    (root / "mask_dict_foreground.json").unlink()
    with caplog.at_level(logging.WARNING):
        source = opened(root)
    assert "the robustness R is not computed" in caplog.text and source[0].whole.truth(0).foreground is None


def test_what_is_left_out_and_refused(tmp_path, caplog):
    root = write_revos(tmp_path, kinds=(0, 3, "1", None))
    with caplog.at_level(logging.WARNING):
        assert [query.tags for query in opened(root).queries] == [("referring",), ("reasoning",)]
    assert "2 queries without a type_id from 0 to 2 (such as a/1, a/3)" in caplog.text
    with pytest.raises(DataError, match=r"got no meta_expressions_train_.json"):
        opened(root, "train")
    with pytest.raises(DataError, match=r"one of valid, train, train_sub"):
        opened(root, "test")
    (root / "mask_dict_foreground.json").write_text(json.dumps({"b": {"masks_rle": [None] * T}}))
    with pytest.raises(DataError, match=r"expected queries, got none"):
        opened(root)
    assert W == 40
