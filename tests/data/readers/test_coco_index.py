"""A large file by its index gives what the file gives when it is read as a whole; the cache is shared and checked."""

import dataclasses
import json
import logging
import pickle

import numpy as np
import pytest
from coco_folders import CATEGORIES, note, open_source, rectangle, write_coco_folder

from dtr1_jax.data import outlines
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_index


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    coco_index._open.cache_clear()
    return tmp_path / "cache" / "dtr1_jax" / "coco-index"


def both(monkeypatch, root, split="train"):
    """The source of a folder read as a whole and by its index."""
    whole = open_source(root, split)
    monkeypatch.setattr(coco_index, "LARGE", 1)
    indexed = open_source(root, split)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    assert isinstance(indexed.annotations.pictures, coco_index.Pictures)
    assert not isinstance(whole.annotations.pictures, coco_index.Pictures)
    return whole, indexed


def notes():
    """Annotations of all kinds, not in the order of their pictures."""
    rle = {"size": [30, 40], "counts": [100, 50, 1050]}
    found = [
        note(rectangle(2, 2, 30, 25), image=3, number=1), note(rle, category=5, image=1, crowd=1, number=2),
        note(rectangle(5, 5, 20, 20) + rectangle(22, 5, 30, 9), category=1, image=1, number=3),
        note(rectangle(1, 1, 9, 9), category=4, image=2, number=4) | {"caption": "a {brace}"},
        note(rectangle(1, 1, 9, 9), category=4, image=2, number=5),  # the same shape again
        note([], category=3, image=2, number=6) | {"bbox": [3, 4, 10, 11]},
        note([[2, 2, 8, 2, 8, 8]], category=77, image=2, number=7), note(rectangle(1, 1, 5, 5), image=99, number=8),
        note([[[2, 2], [8, 2], [8, 8]]], category=2, image=2, number=9), note(rle, category=1, image=4, number=10),
    ]  # fmt: skip
    return found + [note(rectangle(i, 1, 9 + i, 9), image=5 + i % 3, number=20 + i) for i in range(20)]


def test_the_same_pictures_and_examples(tmp_path, monkeypatch, caplog):
    root = write_coco_folder(tmp_path, notes(), pictures=8)
    with caplog.at_level(logging.WARNING):
        whole, indexed = both(monkeypatch, root)
    assert (
        [p.id for p in indexed.annotations.pictures]
        == [p.id for p in whole.annotations.pictures]
        == [3, 1, 2, 4, 5, 6, 7]
    )
    assert (whole.annotations.labels, whole.annotations.stuff) == (
        indexed.annotations.labels,
        indexed.annotations.stuff,
    )
    assert len(whole) == len(indexed)
    for i in range(len(whole)):
        one, other = whole[i], indexed[i]
        assert (one.uid, one.query, one.answer_ids, one.program) == (
            other.uid,
            other.query,
            other.answer_ids,
            other.program,
        )
        assert np.array_equal(one.target.mask, other.target.mask) and np.array_equal(one.image, other.image)
    assert outlines.label_counts(whole) == outlines.label_counts(indexed)
    assert outlines.picture_files(whole) == outlines.picture_files(indexed)
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    for text in (
        "1 annotations that refer to no image",
        "1 annotations of no known category",
        "1 annotations that stand twice",
    ):
        assert all(text in line for line in lines) and len(lines) == 2


def test_the_same_halves_where_one_file_is_divided(tmp_path, monkeypatch):
    root = write_coco_folder(tmp_path, notes(), pictures=8)
    (root / "annotations" / "instances_other.json").unlink()
    for split in ("train", "heldout"):
        whole, indexed = both(monkeypatch, root, split)
        assert [p.id for p in whole.annotations.pictures] == [p.id for p in indexed.annotations.pictures] != []


@pytest.mark.parametrize("layout", ["indented", "tight", "annotations first", "byte order mark", "small blocks"])
def test_layouts_of_files(tmp_path, monkeypatch, layout):
    root = write_coco_folder(tmp_path, notes(), pictures=8)
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    if layout == "annotations first":
        value = {"annotations": value["annotations"], "info": {"a": {}}, "licenses": []} | value
    text = json.dumps(
        value, indent=2 if layout == "indented" else None, separators=(",", ":") if layout == "tight" else None
    )
    file.write_bytes(b"\xef\xbb\xbf" * (layout == "byte order mark") + text.encode())
    if layout == "small blocks":
        monkeypatch.setattr("dtr1_jax.data.readers.coco_scan._BLOCK", 97)
    monkeypatch.setattr(coco_index, "LARGE", 1)
    pictures = open_source(root).annotations.pictures
    assert isinstance(pictures, coco_index.Pictures) and [p.id for p in pictures] == [3, 1, 2, 4, 5, 6, 7]
    assert [len(p.annotations) for p in pictures] == [1, 2, 3, 1, 7, 7, 6]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v["images"][0].update(id="1"), "are text"),
        (lambda v: v["annotations"][0].update(id=None), "its id are not all whole numbers"),
        (lambda v: v["annotations"][0].update(image_id="3"), "its image_id are not all whole numbers"),
        (lambda v: v["annotations"][0].update(iscrowd=2), "its iscrowd are not all 0 or 1"),
        (lambda v: v["annotations"][0].update(caption="a { brace"), "brace"),
    ],
)
def test_unusual_files_are_read_as_a_whole(tmp_path, monkeypatch, caplog, change, reason):
    root = write_coco_folder(tmp_path, notes(), pictures=8)
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
    monkeypatch.setattr(coco_index, "LARGE", 1)
    assert not isinstance(open_source(root).annotations.pictures, coco_index.Pictures)
    assert "it is read as a whole" in caplog.text and reason in caplog.text


def test_a_faulty_shape_is_found_when_its_picture_is_read(tmp_path, monkeypatch, caplog):
    bad = [note([[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], category=1, image=i, number=60 + i) for i in (5, 8)]
    root = write_coco_folder(tmp_path, notes() + bad, pictures=8)
    monkeypatch.setattr(coco_index, "LARGE", 1)
    monkeypatch.setattr(coco_index, "CHECKED", 1)
    pictures = open_source(root).annotations.pictures
    assert "smaller than a pixel" not in caplog.text
    by_id = {p.id: i for i, p in enumerate(pictures[:-1])}
    assert "person" in pictures[by_id[5]].partial and "was left out when its picture was read" in caplog.text
    with pytest.raises(ImageError, match="picture 8: no annotation of it can be used: 1 shapes smaller than a pixel"):
        pictures[len(pictures) - 1]


def test_a_file_of_faulty_shapes_is_refused(tmp_path, monkeypatch):
    bad = [note([[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], image=i, number=i) for i in (1, 2)]
    root = write_coco_folder(tmp_path, bad, pictures=2)
    monkeypatch.setattr(coco_index, "LARGE", 1)
    with pytest.raises(DataError, match="none of a sample to use; left out were 2 shapes smaller than a pixel"):
        open_source(root)


def test_the_cache_and_other_processes(tmp_path, monkeypatch, cache):
    root = write_coco_folder(tmp_path, notes(), pictures=8)
    monkeypatch.setattr(coco_index, "LARGE", 1)
    source = open_source(root)
    (folder,) = cache.iterdir()
    data = pickle.dumps(source)
    assert len(data) < 4000 and [p.id for p in pickle.loads(data).annotations.pictures] == [3, 1, 2, 4, 5, 6, 7]
    coco_index._open.cache_clear()
    monkeypatch.setattr("dtr1_jax.data.readers.coco_scan.scan", lambda path: 1 / 0)  # the cache is used
    assert np.array_equal(open_source(root)[0].target.mask, source[0].target.mask)
    (folder / "notes.npy").write_bytes(b"x")  # a damaged one is made again
    coco_index._open.cache_clear()
    with pytest.raises(ZeroDivisionError):
        open_source(root)


def test_boxes_alone(tmp_path, monkeypatch, caplog):
    boxed = [note([], image=i, number=i) | {"bbox": [3, 4, 10, 11]} for i in (1, 2)]
    root = write_coco_folder(tmp_path, [*boxed, note(rectangle(2, 2, 30, 25), image=3, number=9)], pictures=3)
    whole, indexed = both(monkeypatch, root)
    assert len(whole) == len(indexed) == 4 and "2 annotations have a box and no outline" in caplog.text
    assert dataclasses.replace(indexed, task="grounding")[0].query
    assert len(CATEGORIES) == 5
