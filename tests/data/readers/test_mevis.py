"""MeViS: targets are unions of annotations; splits without public masks are refused; frames are read when needed."""

import dataclasses
import json
import logging
import pickle

import numpy as np
import pytest
from referred_folders import ONE, TWO, H, T, W, square, write_mevis

from dtr1_jax.data import image_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import mevis
from dtr1_jax.data.readers.benchmark import Benchmark


def opened(root, split="valid_u", frames=3) -> Benchmark:
    return dataclasses.replace(mevis.open_mevis_source(str(root), split, "segmentation"), frames=frames)


def test_targets_are_unions_in_the_frames_that_are_shown(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        source = opened(write_mevis(tmp_path))
    assert "1 videos, but the published split has 50" in caplog.text
    assert "3 queries, but the published split has 793" in caplog.text
    one, both, none = (source[i] for i in range(3))
    assert (one.uid, one.query, one.benchmark) == ("mevis/valid_u/a/0", "the square that moves fast", "mevis")
    assert one.video.index.tolist() == [0, 2, 5] and one.video.total == T
    assert [int(frame.mean().round()) for frame in one.video.frames] == [0, 2, 5]
    np.testing.assert_array_equal(one.target.masks, [square(t) for t in (0, 2, 5)])
    np.testing.assert_array_equal(one.target.mask, square(0))
    second = [np.zeros((H, W), bool), square(2, y0=18, step=1), square(5, y0=18, step=1)]
    np.testing.assert_array_equal(both.target.masks, one.target.masks | second)
    np.testing.assert_allclose(one.target.tracks[0, 1], [8 / W, 5 / H, 16 / W, 13 / H], rtol=1e-6)
    assert both.target.tracks.shape == (2, 3, 4) and not both.target.tracks[1, 0].any() and len(both.target.boxes) == 1
    assert not none.target.masks.any() and none.target.tracks.shape == (0, 3, 4)


def test_all_frames_are_there_for_the_figures(tmp_path):
    source = opened(write_mevis(tmp_path))
    whole = pickle.loads(pickle.dumps(source))[1].whole
    assert whole.numbers == tuple(range(T))
    for t in range(T):
        expected = square(t) | (square(t, y0=18, step=1) & (t >= 2))
        truth = whole.truth(t)
        np.testing.assert_array_equal(truth.target, expected)
        assert truth.ignore is None and truth.foreground is None and int(whole.frame(t).mean().round()) == t
    assert source[2].whole.truth(4).target.shape == (H, W) and not source[2].whole.truth(4).target.any()


def test_frames_are_decoded_when_they_are_asked_for(tmp_path, monkeypatch):
    source, read = opened(write_mevis(tmp_path)), []
    load = image_files.load_image
    monkeypatch.setattr(image_files, "load_image", lambda path, **more: read.append(path.stem) or load(path, **more))
    example = source[0]
    assert read == ["00000", "00002", "00005"]
    example.whole.truth(3)
    assert len(read) == 3


def test_splits_without_masks_and_folders_without_files(tmp_path):
    root = write_mevis(tmp_path)
    write_mevis(tmp_path, "valid")
    (tmp_path / "valid" / "mask_dict.json").unlink()
    with pytest.raises(
        DataError, match=r"expected the masks of mevis valid.*server alone; set data.\*_split to valid_u"
    ):
        opened(root, "valid")
    with pytest.raises(DataError, match=r"got no train/meta_expressions.json"):
        opened(root, "train")
    with pytest.raises(DataError, match=r"one of train, valid_u, valid, test"):
        opened(root, "val")
    assert len(opened(root, "heldout")) == 3
    inside = tmp_path / "up"
    write_mevis(inside / "MeViS")
    assert len(opened(inside)) == 3


@pytest.mark.parametrize(
    ("expressions", "fault"),
    [
        (
            {"0": {"exp": "a", "anno_id": [7]}, "1": {"exp": "a", "anno_id": [8]}},
            "sentences whose anno_id has no masks",
        ),
        ({"0": {"exp": "a", "anno_id": [7]}, "1": {"exp": "", "anno_id": [7]}}, "1 sentences without text"),
        ({"0": {"exp": "a", "anno_id": "7"}, "1": {"exp": "a"}}, "1 sentences whose anno_id has no masks"),
        ({"0": {"exp": "a", "anno_id": [7.0]}, "1": 3}, "1 sentences that are no objects"),
    ],
)
def test_faulty_sentences_are_counted(tmp_path, caplog, expressions, fault):
    with caplog.at_level(logging.WARNING):
        source = opened(write_mevis(tmp_path, expressions=expressions))
    assert len(source) == 1 and fault in caplog.text
    np.testing.assert_array_equal(source[0].target.mask, square(0))


@pytest.mark.parametrize("name", ["../a", "/etc", "a\\b", "", ".", "a%2e"])
def test_hostile_names(tmp_path, caplog, name):
    root = write_mevis(tmp_path)
    file = root / "valid_u" / "meta_expressions.json"
    value = json.loads(file.read_text())
    value["videos"][name] = value["videos"]["a"]
    value["videos"]["b"] = value["videos"]["a"] | {"frames": ["00000", f"../{name}"]}
    file.write_text(json.dumps(value))
    with caplog.at_level(logging.WARNING):
        assert len(opened(root)) == 3
    assert "2 videos without a usable name and frames" in caplog.text


def test_masks_that_do_not_fit_cost_their_example(tmp_path):
    small = {"size": [3, 2], "counts": [2, 4]}
    with pytest.raises(ImageError, match=r"expected a mask of the frame's size, 40 x 30 pixels, got 2 x 3"):
        opened(write_mevis(tmp_path / "1", mask_dict={"7": [small] * T, "12": TWO}))[0]
    with pytest.raises(ImageError, match=r"expected one for each of the 6 frames, got 2"):
        opened(write_mevis(tmp_path / "2", mask_dict={"7": ONE[:2], "12": TWO}))[0]
    root = write_mevis(tmp_path / "3")
    (root / "valid_u" / "JPEGImages" / "a" / "00002.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"00002.jpg"):
        opened(root)[0]
