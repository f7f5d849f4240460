import json
import logging

import assets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco, coco_annotations
from dtr1_jax.twin import masks

NAMES = ("person", "dog", "cat", "car", "boat")
CATEGORIES = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(NAMES, 1)]


def rectangle(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def note(shape, category=2, image=1, crowd=0, number=1):
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "segmentation": shape}


def folder(root, notes, *, pictures=1, size=(40, 30), categories=CATEGORIES, name="instances_train2017.json"):
    """A COCO folder with grey photos 1.png, 2.png, ...; and a second split, so that the first is not divided."""
    photos = root / name.removesuffix(".json").partition("_")[2]
    (root / "annotations").mkdir(exist_ok=True)
    photos.mkdir(exist_ok=True)
    records = [{"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]} for i in range(1, pictures + 1)]
    for record in records:
        Image.new("RGB", size, "grey").save(photos / record["file_name"])
    value = {"images": records, "annotations": notes, "categories": categories}
    (root / "annotations" / name).write_text(json.dumps(value))
    (root / "annotations" / "instances_other.json").write_text("{}")
    return root


def read(root, split="train", **settings):
    return coco.open_folder(str(root), split, "segmentation", **({"seed": 0, "max_objects": 7} | settings))


def test_objects_of_a_picture_by_hand(tmp_path):
    notes = [note(rectangle(20, 10, 30, 20), 3), note(rectangle(0, 0, 10, 15)), note(rectangle(35, 25, 37, 27), 4)]
    example = read(folder(tmp_path, notes))[0]
    assert [(o.id, o.label, o.box, o.attributes) for o in example.scene] == [
        (1, "dog", (0, 0, 0.25, 0.5), ("large",)),
        (2, "cat", (0.5, 1 / 3, 0.75, 2 / 3), ()),
        (3, "car", (35 / 40, 25 / 30, 37 / 40, 27 / 30), ("small",)),
    ]
    assert example.scene[0].mask.sum() == 150 and example.scene[0].mask[:15, :10].all()
    assert example.image.shape == (30, 40, 3) and example.uid == "coco/1/0" and example.scene[0].depth == 0


def test_only_the_largest_objects_make_the_scene(tmp_path):
    notes = [note(rectangle(i * 4, 0, i * 4 + 2, 2 + i), 1 + i % 5) for i in range(9)]
    scene = read(folder(tmp_path, notes), max_objects=3)[0].scene
    assert [round(o.box[0] * 40) for o in scene] == [24, 28, 32] and [o.id for o in scene] == [1, 2, 3]


def test_a_crowd_is_ignored_where_it_is_asked_about_and_is_no_object(tmp_path):
    crowd = np.zeros((30, 40), bool)
    crowd[:, 20:] = True
    rle = masks.encode(crowd)
    rle = {"size": rle["size"], "counts": rle["counts"].decode()}
    only_dogs = [{"id": 2, "name": "dog"}, {"id": 9, "name": "screwdriver"}]
    notes = [note(rectangle(0, 0, 10, 10)), note(rle, crowd=1), note(rectangle(10, 10, 30, 20), category=9)]
    source = read(folder(tmp_path, notes, categories=only_dogs))
    seen = set()
    for example in source:
        assert [o.label for o in example.scene] == ["dog", "screwdriver"]
        asked = "dog" if example.answer_ids == (1,) else "screwdriver"
        seen.add(asked)
        if asked == "dog":
            np.testing.assert_array_equal(example.target.ignore, crowd)
        else:
            assert "screwdriver" in example.query and example.target.ignore is None
    assert seen == {"dog", "screwdriver"}


def test_the_answer_is_the_union_of_the_wanted_objects(tmp_path):
    notes = [note(rectangle(5 * i, 5, 5 * i + 3, 10 + 2 * i), 1 + i % 3) for i in range(7)]
    for example in read(folder(tmp_path, notes)):
        wanted = [o for o in example.scene if o.id in example.answer_ids]
        np.testing.assert_array_equal(example.target.mask, masks.union([o.mask for o in wanted], 30, 40))
        np.testing.assert_array_equal(example.target.boxes, np.float32([o.box for o in wanted]).reshape(-1, 4))
        assert example.target.boxes.dtype == np.float32


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
    with caplog.at_level(logging.WARNING):
        source = read(folder(tmp_path, notes))
    assert len(source[0].scene) == 1
    assert len(caplog.records) == 1
    text = caplog.text
    for fault in (
        "instances_train2017.json", "3 annotations that refer to no image", "1 annotations of no known category",
        "1 polygons of fewer than 3 points", "2 polygons without area", "1 RLEs of another size",
        "3 annotations without polygons or RLE",
    ):  # fmt: skip
        assert fault in text, fault


def test_polygons_are_cut_at_the_border(tmp_path):
    example = read(folder(tmp_path, [note(rectangle(30, -10, 99, 10))]))[0]
    assert example.scene[0].box == (0.75, 0, 1, 1 / 3)


def test_broken_pictures_fail_when_asked_for(tmp_path):
    root = folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in (1, 2, 3, 4)], pictures=4)
    photos = root / "train2017"
    (photos / "2.png").unlink()
    (photos / "3.png").write_bytes(b"no picture")
    Image.new("RGB", (41, 30)).save(photos / "4.png")
    source = read(root)
    assert source[0].scene
    for index, words in ((4, "2.png"), (8, "3.png"), (12, "expected 40 x 30 .*got 41 x 30")):
        with pytest.raises(image_files.ImageError, match=words):
            source[index]
    with pytest.raises(IndexError):
        source[16]


def test_a_broken_rle_fails_when_asked_for(tmp_path):
    source = read(folder(tmp_path, [note({"size": [30, 40], "counts": [5, 5]}, number=31)]))
    with pytest.raises(image_files.ImageError, match=r"annotation 31 .*1200"):
        source[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 3}', "[" * 100_000, '{"images": [NaN]}', "\xff"])
def test_malformed_files_are_refused_by_name(tmp_path, text):
    root = folder(tmp_path, [])
    (root / "annotations" / "instances_train2017.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"instances_train2017\.json"):
        read(root)


def test_empty_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected annotations/instances"):
        read(tmp_path)
    root = folder(tmp_path, [])
    with pytest.raises(DataError, match="1 pictures and 0 annotations"):
        read(root)
    with pytest.raises(DataError, match=r"split 'test', got instances_other\.json, instances_train2017"):
        read(root, "test")
    folder(tmp_path, [note(rectangle(0, 0, 9, 9))])
    (root / "train2017" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        read(root)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a\0b.png", "", 3])
def test_pictures_outside_the_folder_are_not_read(tmp_path, name):
    root = folder(tmp_path, [note(rectangle(0, 0, 9, 9))])
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    value["images"][0]["file_name"] = name
    file.write_text(json.dumps(value))
    with pytest.raises(DataError):
        read(root)


def test_one_file_is_divided_without_overlap(tmp_path):
    root = folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in range(1, 61)], pictures=60)
    (root / "annotations" / "instances_other.json").unlink()
    ids = {s: {p.id for p in read(root, s).annotations.pictures} for s in ("train", "heldout", "train2017", "mine")}
    assert ids["train"] | ids["heldout"] == ids["train2017"] == set(range(1, 61))
    assert not ids["train"] & ids["heldout"] and 5 <= len(ids["heldout"]) <= 20
    assert ids["mine"] == ids["heldout"]


def test_heldout_is_val_where_there_is_one(tmp_path):
    (tmp_path / "annotations").mkdir()
    for name in ("instances_train2017.json", "instances_val2017.json", "panoptic_val2017.json"):
        (tmp_path / "annotations" / name).touch()
    assert coco_annotations.locate(tmp_path, "heldout")[0].name == "instances_val2017.json"
    assert coco_annotations.locate(tmp_path, "train") == (tmp_path / "annotations" / "instances_train2017.json", None)


def test_panoptic_ids_are_read_from_the_three_channels(tmp_path):
    ids = np.zeros((30, 40), np.uint32)
    ids[:10], ids[10:20, :20], ids[10:20, 20:] = 1, 256 * 3 + 7, 65536 * 200
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    for name in ("panoptic", "images"):
        (tmp_path / name).mkdir()
        Image.fromarray(rgb).save(tmp_path / name / "5.png")
    segments = [(1, 187), (256 * 3 + 7, 1), (65536 * 200, 2)]
    value = {
        "images": [{"id": 5, "file_name": "5.png", "width": 40, "height": 30}],
        "annotations": [
            {
                "image_id": 5, "file_name": "5.png",
                "segments_info": [{"id": i, "category_id": c, "iscrowd": 0} for i, c in segments],
            }
        ],
        "categories": [*CATEGORIES, {"id": 187, "name": "sky-other-merged", "isthing": 0}],
    }  # fmt: skip
    (tmp_path / "panoptic_val2017.json").write_text(json.dumps(value))
    source = read(tmp_path, "val")
    example = source[0]
    assert [(o.label, o.mask.sum()) for o in example.scene] == [("person", 200), ("sky", 400), ("dog", 200)]
    np.testing.assert_array_equal(example.target.ignore, ids == 0)
    assert source.annotations.stuff == {"sky"}


SOUND = {
    "images": {"id": 1, "file_name": "1.png", "width": 40, "height": 30},
    "annotations": {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "segmentation": rectangle(0, 0, 9, 9)},
    "categories": {"id": 2, "name": "dog", "isthing": 1},
}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 2, "<x>"])
ANY = st.recursive(LEAVES, lambda x: st.lists(x, max_size=8) | st.dictionaries(st.sampled_from(["size", "counts"]), x))
CHANGES = st.sampled_from([(kind, key) for kind in SOUND for key in (*SOUND[kind], "segments_info")])


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(CHANGES, ANY, max_size=3))
def test_any_annotations_are_read_or_refused(tmp_path_factory, changes):
    root = folder(tmp_path_factory.getbasetemp(), [])
    value = {kind: [SOUND[kind], SOUND[kind] | {k: v for (c, k), v in changes.items() if c == kind}] for kind in SOUND}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(value))
    try:
        example = read(root)[0]
    except (DataError, image_files.ImageError):
        return
    assert example.query and example.target.mask.shape == (30, 40)


# Real photos


@pytest.mark.parametrize("split, pictures", [("train", 80), ("heldout", 79)])
def test_coco_mini(split, pictures):
    source = read(assets.path("coco_mini"), split)
    assert len(source) == 4 * pictures and f"pictures={pictures}" in repr(source)
    assert repr(source) == repr(read(assets.path("coco_mini"), split))
    for index in range(0, len(source), 13):
        example = source[index]
        assert example.scene and all(o.mask.shape == example.image.shape[:2] for o in example.scene)
        assert set(example.answer_ids) <= {o.id for o in example.scene}


def test_masks_are_those_of_pycocotools():
    api = pytest.importorskip("pycocotools.coco", reason="pycocotools, the reference, is in the test extra")
    file = assets.path("coco_mini") / "annotations" / "instances_train2017.json"
    reference = api.COCO(str(file))
    checked = 0
    for picture in coco_annotations.read(file).pictures[:12]:
        pixels = coco_annotations.load_pixels(file, picture)
        for crowd, found in ((0, pixels.objects), (1, pixels.crowds)):
            notes = reference.loadAnns(reference.getAnnIds(imgIds=picture.id, iscrowd=crowd))
            expected = [m for m in (reference.annToMask(n).astype(bool) for n in notes) if m.any()]
            assert len(found) == len(expected)
            for (_, mask), want in zip(found, expected):
                np.testing.assert_array_equal(mask, want)
                checked += 1
    assert checked > 50


def test_coco_panoptic():
    source = read(assets.path("coco_panoptic_val100"), "val")
    assert len(source) == 400
    value = json.loads(source.annotations.path.read_text())
    areas = {(n["image_id"], s["id"]): s["area"] for n in value["annotations"] for s in n["segments_info"]}
    for picture in source.annotations.pictures[:10]:
        pixels = coco_annotations.load_pixels(source.annotations.path, picture)
        found = iter(pixels.objects)
        for mark in picture.marks:
            if not mark.crowd:
                assert masks.area(next(found)[1]) == areas[picture.id, mark.id]
