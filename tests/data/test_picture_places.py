"""Where the pictures of examples lie, by the kind of source."""

import json

import numpy as np
import pytest
from coco_folders import note, open_source, rectangle, write_coco_folder
from PIL import Image

from dtr1_jax.data import picture_places
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import jsonl
from dtr1_jax.data.sources import TwinWorld


def test_photos_of_coco(tmp_path):
    notes = [note(rectangle(2, 2, 20, 20), image=i, number=i) for i in (1, 2)]
    source = open_source(write_coco_folder(tmp_path, notes, pictures=2))
    for index in range(len(source)):
        found = picture_places.place(source, index, source[index])
        assert found == {"image": [tmp_path / "train2017" / f"{1 + index // 4}.png"]}


def test_lines_and_mixtures(tmp_path):
    rows = [{"image": ["a.png", "b.png"], "query": "q", "boxes": [[1, 1, 5, 5]], "split": "train"} for _ in range(2)]
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = jsonl.open_jsonl_source(str(tmp_path / "x.jsonl"), "train", "segmentation", max_objects=3)
    expected = {"image": [tmp_path / "a.png", tmp_path / "b.png"]}
    assert picture_places.place(source, 0, source[0]) == expected
    drawn = TwinWorld("train", "segmentation", 0, 96, 2, 3)
    both = Mixture((drawn, source), (1.0, 1.0))
    found = [picture_places.place(both, index, both[index]) for index in range(4)]
    assert found.count(None) == 2 and found.count(expected) == 2


@pytest.mark.parametrize(("orientation", "found"), [(1, True), (3, True), (6, False)])
def test_turned_photos_are_copied(tmp_path, orientation, found):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "x.jsonl").write_text(json.dumps({"image": "a.jpg", "query": "q", "boxes": [], "split": "train"}))
    source = jsonl.open_jsonl_source(str(tmp_path / "x.jsonl"), "train", "segmentation", max_objects=3)
    assert (picture_places.place(source, 0, source[0]) is not None) == found
