"""Which annotation file belongs to a split, as COCO, Roboflow and others lay them out, and where its photos are."""

import json

import pytest
from coco_folders import note, open_source, rectangle, write_coco_folder
from PIL import Image

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_layout


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root, *splits):
    return [coco_layout.find_annotation_file(root, split)[0].relative_to(root).as_posix() for split in splits]


def test_heldout_is_val_where_there_is_one(tmp_path):
    touch(
        tmp_path, *(f"annotations/{n}.json" for n in ("instances_train2017", "instances_val2017", "panoptic_val2017"))
    )
    assert names(tmp_path, "heldout", "train", "val", "valid", "validation") == [
        "annotations/instances_val2017.json", "annotations/instances_train2017.json",
        *3 * ["annotations/instances_val2017.json"],
    ]  # fmt: skip
    assert coco_layout.find_annotation_file(tmp_path, "train")[1] is None


@pytest.mark.parametrize("validation", ["valid", "validation", "val", "dev", "test"])
def test_roboflow_and_the_names_of_the_held_out_split(tmp_path, validation):
    touch(tmp_path, "train/_annotations.coco.json", f"{validation}/_annotations.coco.json")
    assert names(tmp_path, "train", "heldout") == [
        "train/_annotations.coco.json", f"{validation}/_annotations.coco.json",
    ]  # fmt: skip
    touch(tmp_path, "test/_annotations.coco.json")
    assert names(tmp_path, "heldout", "test")[1] == "test/_annotations.coco.json"
    assert names(tmp_path, "heldout") == [f"{validation}/_annotations.coco.json"]


def test_a_roboflow_export_is_read_with_the_photos_beside_its_file(tmp_path):
    root = write_coco_folder(tmp_path / "x", [note(rectangle(0, 0, 9, 9))])
    text = (root / "annotations" / "instances_train2017.json").read_text()
    for split, colour in (("train", "red"), ("valid", "blue")):
        (tmp_path / "y" / split).mkdir(parents=True)
        (tmp_path / "y" / split / "_annotations.coco.json").write_text(text)
        Image.new("RGB", (40, 30), colour).save(tmp_path / "y" / split / "1.png")
    first = {split: open_source(tmp_path / "y", split)[0].image[0, 0].tolist() for split in ("train", "heldout")}
    assert first == {"train": [255, 0, 0], "heldout": [0, 0, 255]}


def test_the_root_may_be_the_file(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in (1, 2)], pictures=2)
    (root / "train2017").rename(root / "images")
    file = (root / "annotations" / "instances_train2017.json").rename(root / "annotations" / "export.json")
    assert len(open_source(file, "train")) == len(open_source(file, "heldout")) == 4


def test_one_picture_cannot_be_divided(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9))])
    with pytest.raises(DataError, match=r"expected at least 2 usable pictures to hold one out .* got 1"):
        open_source(root / "annotations" / "instances_train2017.json", "heldout")


@pytest.mark.parametrize(
    "files", [("annotations/instances_train2017.json", "annotations/panoptic_train2017.json"),
              ("train/_annotations.coco.json", "train_b/_annotations.coco.json")]
)  # fmt: skip
def test_a_folder_of_training_files_alone_is_divided(tmp_path, files):
    touch(tmp_path, *files)
    assert coco_layout.find_annotation_file(tmp_path, "train") == (tmp_path / files[0], False)
    assert coco_layout.find_annotation_file(tmp_path, "heldout") == (tmp_path / files[0], True)
    touch(tmp_path, files[0].replace("train", "test"))
    assert coco_layout.find_annotation_file(tmp_path, "train") == (tmp_path / files[0], None)
    assert coco_layout.find_annotation_file(tmp_path, "heldout")[1] is None


def test_a_refusal_names_the_files_that_are_there(tmp_path):
    touch(tmp_path, "annotations/export.json", "labels.json")
    with pytest.raises(DataError, match=r"got export\.json, labels\.json; rename a file .*export\.json itself"):
        coco_layout.find_annotation_file(tmp_path, "train")
    touch(tmp_path, *(f"annotations/instances_part{i}.json" for i in range(20)))
    with pytest.raises(DataError, match=r"split 'train', got instances_part0\.json, .* and 12 more"):
        coco_layout.find_annotation_file(tmp_path, "train")
    for path in (tmp_path / "nowhere", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(DataError):
            coco_layout.find_annotation_file(path, "train")


@pytest.mark.parametrize("name", ["img\\\\a b.png", "img/a%20b.PNG", "img%2Fa%20b.png"])
def test_photos_are_found_under_the_names_of_other_systems(tmp_path, name):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9))])
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    value["images"][0]["file_name"] = name
    file.write_text(json.dumps(value))
    (root / "train2017" / "img").mkdir()
    (root / "train2017" / "1.png").rename(root / "train2017" / "img" / "a b.png")
    assert open_source(root)[0].scene


def test_layouts_of_other_tools_are_named(tmp_path):
    touch(tmp_path, "yolo/data.yaml", "yolo/labels/0.txt", "voc/Annotations/0.xml")
    with pytest.raises(DataError, match=r"got the layout of YOLO .*; export the data set in COCO's format"):
        coco_layout.find_annotation_file(tmp_path / "yolo", "train")
    with pytest.raises(DataError, match=r"got the layout of Pascal VOC .*; export the data set in COCO's format"):
        coco_layout.find_annotation_file(tmp_path / "voc", "train")
