"""COCO captions: one query for each photo with all its captions as references, by split."""

import json
import logging

import assets
import pytest
from PIL import Image
from worded_folders import CAPTIONS, coco_file, write_coco_captions, write_karpathy

from dtr1_jax.data import outlines, picture_places
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_captions


def opened(root, split="heldout"):
    return coco_captions.open_coco_captions_source(str(root), split, "summary")


def test_by_hand(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        source = opened(write_coco_captions(tmp_path))
    assert "2 pictures, but the published split has 5000" in caplog.text
    assert "4 captions, but the published split has 25014" in caplog.text and "left out" not in caplog.text
    first, second = source
    assert (first.uid, first.query) == ("coco_captions/val2017/42", "describe the picture in one sentence.")
    assert first.target.references == tuple(CAPTIONS[42]) and second.target.references == tuple(CAPTIONS[7])
    assert (first.task, first.benchmark, first.tags) == ("summary", "coco_captions", ())
    assert first.image.shape == (48, 64, 3) and not first.target.mask.any()
    photo = tmp_path / "val2017" / "000000000042.jpg"
    assert picture_places.place(source, 0, first) == {"image": [photo]} and outlines.task_counts(source) == {
        "summary": 2
    }


@pytest.mark.parametrize(("split", "file"), [("val", "val2017"), ("train", "train2017"), ("val2014", "val2014")])
def test_names_of_splits(tmp_path, split, file):
    source = opened(write_coco_captions(tmp_path, file), split)
    assert source.split == file and source[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("val2014", "COCO_val2014_000000000042.jpg"), ("train2014", "COCO_train2014_000000000042.jpg"),
     ("images/train2017", "000000000042.jpg"), ("coco/val2017", "000000000042.jpg")],
)  # fmt: skip
def test_photos_of_another_release(tmp_path, folder, name):
    root = write_coco_captions(tmp_path)
    (root / "val2017" / "000000000042.jpg").unlink()
    (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(root / folder / name)
    assert opened(root)[0].image.shape == (10, 20, 3)


def test_karpathys_split(tmp_path, caplog):
    root = write_karpathy(tmp_path)
    with caplog.at_level(logging.WARNING):
        test, train = opened(root, "karpathy_test"), opened(root, "karpathy_train")
    assert [e.uid for e in train] == ["coco_captions/karpathy_train/101", "coco_captions/karpathy_train/102"]
    assert test[0].target.references == ("A dog number 0.",) * 2 and test[0].image.shape == (48, 64, 3)
    assert "1 pictures, but the published split has 5000" in caplog.text and "has 113287" in caplog.text
    assert len(opened(root, "karpathy_val")) == 1
    with pytest.raises(DataError, match=r"got no captions_val2017.json"):
        opened(root)


def test_real_captions():
    """coco_mini has 79 photos of val2017 with five captions each, as released."""
    source = opened(assets.path("coco_mini"))
    assert len(source) == 79 and {len(query.references) for query in source.queries} == {5}
    example = next(e for e in source if e.uid == "coco_captions/val2017/205401")
    assert example.target.references[0].startswith("A plane floating on top of a lake") and example.image.ndim == 3


def with_value(**changes):
    return coco_file() | changes


NOTES = coco_file()["annotations"]
FAULTS = [  # (the value of the file, number of queries, words of the warning)
    (with_value(annotations=[*NOTES, {"image_id": 9, "id": 9, "caption": "x"}]), 2,
     "1 captions of a picture that is not listed (such as 9)"),
    (with_value(annotations=[NOTES[0] | {"caption": 7}, *NOTES[1:]]), 2, "1 captions that are no text (such as id 1)"),
    (with_value(annotations=[NOTES[0] | {"caption": " "}, *NOTES[1:]]), 2, "1 captions that are no text"),
    (with_value(annotations=[NOTES[0] | {"caption": "x" * 2001}, *NOTES[1:]]), 2, "1 captions that are no text"),
    (with_value(annotations=[NOTES[0] | {"caption": "\ud800"}, *NOTES[1:]]), 2, "1 captions that are no text"),
    (with_value(annotations=[NOTES[0], *NOTES]), 2, "1 captions whose id stands twice (such as 1)"),
    (with_value(annotations=[*NOTES, 3, {"image_id": None}]), 2, "2 captions without image_id"),
    (with_value(annotations=NOTES[:2]), 1, "1 pictures without captions (such as 7)"),
    (with_value(images=[*coco_file()["images"], coco_file()["images"][0]]), 2, "1 pictures whose id stands twice"),
    (with_value(images=[*coco_file()["images"], {"id": 5}, {"file_name": "a.jpg"}, None]), 2,
     "3 pictures without an id"),
    (with_value(images=[*coco_file()["images"], {"id": 5, "file_name": "../5.jpg"}]), 2, "1 pictures without an id"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_faults_are_counted(tmp_path, caplog, number):
    value, count, warning = FAULTS[number]
    with caplog.at_level(logging.WARNING):
        source = opened(write_coco_captions(tmp_path, value=value))
    assert len(source) == count and warning in caplog.text


def test_ids_as_text_or_float(tmp_path, caplog):
    value = coco_file()
    for note in value["annotations"]:
        note["image_id"] = float(note["image_id"])
    for image in value["images"]:
        image["id"] = str(image["id"])
    assert [len(e.target.references) for e in opened(write_coco_captions(tmp_path, value=value))] == [2, 2]


def test_refusals(tmp_path):
    with pytest.raises(DataError, match=r"expected annotations/captions_SPLIT.json.* got no captions_val2017.json"):
        opened(tmp_path)
    with pytest.raises(DataError, match="test2017 has no public captions; set"):
        opened(tmp_path, "test2017")
    with pytest.raises(DataError, match="one of val2017, train2017"):
        opened(tmp_path, "dev")
    root = write_coco_captions(tmp_path)
    (root / "val2017" / "000000000007.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match="the file is empty"):
        opened(root)[1]
    for photo in (root / "val2017").iterdir():
        photo.unlink()
    with pytest.raises(DataError, match="expected the picture"):
        opened(root)
    (root / "annotations" / "captions_val2017.json").write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match='expected an object with the list "annotations"'):
        opened(root)
    (root / "annotations" / "captions_val2017.json").write_text('{"images": [{"id": 1')
    with pytest.raises(DataError, match="breaks off"):
        opened(root)
