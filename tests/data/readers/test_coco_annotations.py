"""Annotation files: faults are counted or named, splits have their file, masks equal those of COCO's own code."""

import json
import logging

import assets
import numpy as np
import pytest
from coco_folders import note, open_source, rectangle, write_coco_folder

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_annotations, coco_pixels


def test_faults_are_left_out_and_counted_in_one_warning(tmp_path, caplog):
    notes = [
        note(rectangle(0, 0, 10, 10)),
        note(rectangle(0, 0, 10, 10), image=77),
        note(rectangle(0, 0, 10, 10), image=78),
        note(rectangle(0, 0, 10, 10), category=99),
        note([[0, 0, 5, 5]]),
        note([[3, 3, 9, 3, 5, 3]]),
        note(rectangle(100, 100, 120, 120)),
        note({"size": [5, 5], "counts": [25]}),
        note([["a", 1, 2, 3, 4, 5]]),
        note([[1, 2, 3, 4, 1e300, 6]]),
        note(None),
        "no annotation at all",
    ]
    for number, record in enumerate(notes[:-1]):
        record["id"] = number
    with caplog.at_level(logging.WARNING):
        source = open_source(write_coco_folder(tmp_path, notes))
    assert len(source[0].scene) == 1
    assert len(caplog.records) == 1
    text = caplog.text
    for fault in (
        "instances_train2017.json", "3 annotations that refer to no image", "1 annotations of no known category",
        "1 polygons of fewer than 3 points", "2 polygons without area", "1 RLEs of another size",
        "3 annotations without polygons, RLE or box",
    ):  # fmt: skip
        assert fault in text, fault


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 3}', "[" * 100_000, '{"images": [NaN]}', "\xff"])
def test_malformed_files_are_refused_by_name(tmp_path, text):
    root = write_coco_folder(tmp_path, [])
    (root / "annotations" / "instances_train2017.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"instances_train2017\.json"):
        open_source(root)


def test_empty_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected annotations/instances"):
        open_source(tmp_path)
    root = write_coco_folder(tmp_path, [])
    with pytest.raises(DataError, match="1 pictures and 0 annotations"):
        open_source(root)
    with pytest.raises(DataError, match=r"split 'test', got instances_other\.json, instances_train2017"):
        open_source(root, "test")
    write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9))])
    (root / "train2017" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        open_source(root)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a\0b.png", "", 3])
def test_pictures_outside_the_folder_are_not_read(tmp_path, name):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9))])
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    value["images"][0]["file_name"] = name
    file.write_text(json.dumps(value))
    with pytest.raises(DataError):
        open_source(root)


def test_one_file_is_divided_without_overlap(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in range(1, 61)], pictures=60)
    (root / "annotations" / "instances_other.json").unlink()
    ids = {
        s: {p.id for p in open_source(root, s).annotations.pictures} for s in ("train", "heldout", "train2017", "mine")
    }
    assert ids["train"] | ids["heldout"] == ids["train2017"] == set(range(1, 61))
    assert not ids["train"] & ids["heldout"] and 5 <= len(ids["heldout"]) <= 20
    assert ids["mine"] == ids["heldout"]


def test_masks_are_those_of_pycocotools():
    api = pytest.importorskip("pycocotools.coco", reason="pycocotools, the reference, is in the test extra")
    file = assets.path("coco_mini") / "annotations" / "instances_train2017.json"
    reference = api.COCO(str(file))
    checked = 0
    for picture in coco_annotations.read_annotations(file).pictures[:12]:
        pixels = coco_pixels.load_pixels(file, picture)
        for crowd, labelled in ((0, pixels.objects), (1, pixels.crowds)):
            notes = reference.loadAnns(reference.getAnnIds(imgIds=picture.id, iscrowd=crowd))
            expected = [m for m in (reference.annToMask(n).astype(bool) for n in notes) if m.any()]
            assert len(labelled) == len(expected)
            for (_, mask), reference_mask in zip(labelled, expected):
                np.testing.assert_array_equal(mask, reference_mask)
                checked += 1
    assert checked > 50


def test_missing_photos_are_counted_at_the_start(tmp_path, caplog):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in range(1, 31)], pictures=30)
    for i in range(1, 28):
        (root / "train2017" / f"{i}.png").unlink()
    assert len(open_source(root)) == 120
    assert "27 of 30 photos are missing, such as 1.png; queries about them are skipped" in caplog.text


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_both_parts_of_a_small_folder_have_a_picture(tmp_path, count):
    root = write_coco_folder(
        tmp_path, [note(rectangle(1, 1, 9, 9), image=i) for i in range(1, count + 1)], pictures=count
    )
    (root / "annotations" / "instances_other.json").unlink()
    ids = {split: {p.id for p in open_source(root, split).annotations.pictures} for split in ("train", "heldout")}
    assert ids["train"] and ids["heldout"] and not ids["train"] & ids["heldout"]
    assert ids["train"] | ids["heldout"] == set(range(1, count + 1))


def test_a_single_picture_cannot_be_divided(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(1, 1, 9, 9))])
    (root / "annotations" / "instances_other.json").unlink()
    assert len(open_source(root).annotations.pictures) == 1
    with pytest.raises(DataError, match="expected at least 2 usable pictures to hold one out"):
        open_source(root, "heldout")


def test_records_of_one_photo_are_in_the_same_part(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(1, 1, 9, 9), image=i) for i in range(1, 41)], pictures=40)
    (root / "annotations" / "instances_other.json").unlink()
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    for record in value["images"]:
        record["file_name"] = f"{(record['id'] + 1) // 2}.png"  # records 1 and 2 are of 1.png, ...
    file.write_text(json.dumps(value))
    files = {split: {p.file for p in open_source(root, split).annotations.pictures} for split in ("train", "heldout")}
    assert files["train"] and files["heldout"] and not files["train"] & files["heldout"]


@pytest.mark.parametrize(
    "name",
    [
        "../1.png", "..\\..\\upload\\3\\1.png", "/label-studio/data/media/upload/3/1.png", "C:\\data\\1.png",
        "..%2Fupload%2F1.png", "images\\..\\..\\1.png", "\\\\server\\share\\1.png",
    ],
)  # fmt: skip
def test_paths_of_label_studio_that_lead_elsewhere(tmp_path, caplog, name):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9)), note(rectangle(0, 0, 9, 9), image=2)], pictures=2)
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    value["images"][0]["file_name"] = name
    file.write_text(json.dumps(value))
    with caplog.at_level(logging.WARNING):
        source = open_source(root)
    assert [picture.file for picture in source.annotations.pictures] == ["1.png", "2.png"]
    assert "kept 1 pictures whose path leads out of the folder, by the last part of the path" in caplog.text
    assert source[0].image.shape == (30, 40, 3)


def test_paths_with_one_last_part_are_left_out(tmp_path, caplog):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in (1, 2, 3)], pictures=3)
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    for record, name in zip(value["images"], ("../a/1.png", "../b/1.png", "3.png")):
        record["file_name"] = name
    file.write_text(json.dumps(value))
    with caplog.at_level(logging.WARNING):
        source = open_source(root)
    assert [picture.file for picture in source.annotations.pictures] == ["3.png"]
    assert "2 pictures whose file name leaves the folder of the data" in caplog.text
