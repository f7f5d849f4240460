"""easy-VQA: questions of both splits in a shuffled order; broken files are named."""

import json
import zipfile

import assets
import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import easy_vqa

ROWS = [["what is the blue shape?", "rectangle", 0], ["is there a circle?", "no", 0], ["what color?", "red", 1]]


@pytest.fixture
def root(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "questions.json").write_text(json.dumps(ROWS))
        Image.new("RGB", (64, 64), "blue").save(tmp_path / name / "images" / "0.png")
    return tmp_path


def test_by_hand(root):
    source = easy_vqa.open_easy_vqa_source(str(root), "heldout")
    assert len(source) == 3 and repr(source) == repr(easy_vqa.open_easy_vqa_source(str(root), "heldout"))
    places = {source.items[i][3]: i for i in range(3)}
    example = source[places[1]]
    assert (example.uid, example.query, example.task) == ("easy_vqa/heldout/0/1", "is there a circle?", "vqa")
    assert example.target.references == ("no",) and not example.target.mask.any() and not len(example.target.boxes)
    assert example.image.shape == (64, 64, 3) and (example.image[0, 0] == (0, 0, 255)).all() and not example.scene
    with pytest.raises(image_files.ImageError, match=r"1\.png: no such file"):
        source[places[2]]
    with pytest.raises(IndexError):
        source[3]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '[["a", "b"]]', '[["a", "b", -1]]', '[["a", "b", true]]', '[["", "b", 1]]', "[" * 9999]
)
def test_bad_questions(root, content):
    (root / "train" / "questions.json").write_text(content)
    with pytest.raises(DataError, match=r"questions\.json: expected"):
        easy_vqa.open_easy_vqa_source(str(root), "train")


def test_a_bad_question_is_shown_with_its_place(root):
    (root / "train" / "questions.json").write_text('[["a", "b", 1], ["a", 3]]')
    with pytest.raises(DataError, match=r"as item 2, got a list of 2; unpack the wheel again"):
        easy_vqa.open_easy_vqa_source(str(root), "train")


def test_no_folder_and_no_such_split(root):
    with pytest.raises(DataError, match="no such file; unpack the wheel, python -m zipfile -e WHEEL DIR"):
        easy_vqa.open_easy_vqa_source(str(root / "nowhere"), "train")
    (root / "nowhere").mkdir()
    (root / "nowhere" / "easy_vqa-1.0-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(DataError, match=r"/nowhere/easy_vqa-1\.0-py3-none-any\.whl DIR, and set data\.root to DIR"):
        easy_vqa.open_easy_vqa_source(str(root / "nowhere"), "train")
    with pytest.raises(DataError, match="train or heldout, got 'val'"):
        easy_vqa.open_easy_vqa_source(str(root), "val")


def test_the_real_files(tmp_path):
    (wheel,) = assets.path("easy_vqa").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract("easy_vqa/data/test/questions.json", tmp_path)
    source = easy_vqa.open_easy_vqa_source(str(tmp_path / "easy_vqa" / "data"), "heldout")
    assert len(source) == 9673
    answers = {item[1] for item in source.items}
    assert len(answers) == 13 and {"yes", "no", "teal"} <= answers
    first = source.items[:128]
    assert len({item[2] for item in first}) > 110
    assert 0.6 < np.mean([item[1] in ("yes", "no") for item in first]) < 0.85
