"""Examples of COCO folders: objects, answers, crowds, and photos that cannot be read."""

import json

import assets
import numpy as np
import pytest
from coco_folders import CATEGORIES, note, open_source, rectangle, write_coco_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco, coco_pixels
from dtr1_jax.twin import masks, programs, things


def test_objects_of_a_picture_by_hand(tmp_path):
    notes = [note(rectangle(20, 10, 30, 20), 3), note(rectangle(0, 0, 10, 15)), note(rectangle(35, 25, 37, 27), 4)]
    example = open_source(write_coco_folder(tmp_path, notes))[0]
    assert [(o.id, o.label, o.box, o.attributes) for o in example.scene] == [
        (1, "dog", (0, 0, 0.25, 0.5), ("large",)),
        (2, "cat", (0.5, 1 / 3, 0.75, 2 / 3), ()),
        (3, "car", (35 / 40, 25 / 30, 37 / 40, 27 / 30), ("small",)),
    ]
    assert example.scene[0].mask.sum() == 150 and example.scene[0].mask[:15, :10].all()
    assert example.image.shape == (30, 40, 3) and example.uid == "coco/1/0" and example.scene[0].depth == 0


def test_only_the_largest_objects_make_the_scene(tmp_path):
    notes = [note(rectangle(i * 4, 0, i * 4 + 2, 2 + i), 1 + i % 5) for i in range(9)]
    scene = open_source(write_coco_folder(tmp_path, notes), max_objects=3)[0].scene
    assert [round(o.box[0] * 40) for o in scene] == [24, 28, 32] and [o.id for o in scene] == [1, 2, 3]


def test_a_crowd_is_ignored_in_queries_about_its_label_and_is_no_object(tmp_path):
    crowd = np.zeros((30, 40), bool)
    crowd[:, 20:] = True
    rle = masks.encode(crowd)
    rle = {"size": rle["size"], "counts": rle["counts"].decode()}
    notes = [note(rectangle(0, 0, 10, 10)), note(rle, crowd=1)]
    for example in open_source(write_coco_folder(tmp_path, notes, categories=[{"id": 2, "name": "dog"}])):
        assert [o.label for o in example.scene] == ["dog"] and example.answer_ids == (1,)
        assert "largest" in example.query or "most" in example.query, "not every dog of a crowd is known"
        np.testing.assert_array_equal(example.target.ignore, crowd)


def test_the_answer_is_the_union_of_its_objects(tmp_path):
    notes = [note(rectangle(5 * i, 5, 5 * i + 3, 10 + 2 * i), 1 + i % 3) for i in range(7)]
    for example in open_source(write_coco_folder(tmp_path, notes)):
        answer = [o for o in example.scene if o.id in example.answer_ids]
        np.testing.assert_array_equal(example.target.mask, masks.union([o.mask for o in answer], 30, 40))
        np.testing.assert_array_equal(example.target.boxes, np.float32([o.box for o in answer]).reshape(-1, 4))
        assert example.target.boxes.dtype == np.float32


def test_programs_give_the_answers(tmp_path):
    capitals = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(("Person", "Dog", "CAT"), 1)]
    notes = [note(rectangle(5 * i, 5 + i, 5 * i + 3, 10 + 2 * i), 1 + i % 3, 1 + i // 4) for i in range(8)]
    for example in open_source(write_coco_folder(tmp_path, notes, pictures=2, categories=capitals)):
        result = programs.execute(example.program, things.things_of_scene(example.scene))
        assert set(result.ids) == set(example.answer_ids) and result.executable, example.query


@pytest.mark.parametrize("task", ["segmentation", "grounding"])
def test_programs_give_the_answers_where_boxes_crowds_and_faults_are_mixed(tmp_path, task):
    rng, notes = np.random.default_rng(0), []
    for image in range(1, 31):
        for _ in range(6):
            x, y, w, h = rng.integers([0, 0, 2, 2], [25, 20, 15, 10])
            item = note(rectangle(*map(float, (x, y, x + w, y + h))), int(rng.integers(1, 6)), image, number=len(notes))
            kind = rng.random()
            if kind < 0.2:
                item |= {"segmentation": [], "bbox": [float(x), float(y), float(w), float(h)]}
            elif kind < 0.25:
                item |= {"segmentation": [[1, 2]]}
            notes.append(item)
        if image % 5 == 0:
            rle = masks.encode(np.eye(30, 40, dtype=bool))
            notes.append(note(rle | {"counts": rle["counts"].decode()}, 1 + image % 4, image, 1, len(notes)))
    root, checked = write_coco_folder(tmp_path, notes, pictures=30), set()
    for example in coco.open_coco_source(str(root), "train", task, seed=0, max_objects=4):
        result = programs.execute(example.program, things.things_of_scene(example.scene))
        assert set(result.ids) == set(example.answer_ids) and result.executable, example.query
        checked.add(example.program[0])
    assert len(checked) > 8


def test_labels_that_are_one_to_a_program_have_no_program(tmp_path):
    names = [{"id": i, "name": name} for i, name in enumerate(("Wall", "wall-other-merged", "lamp"), 1)]
    notes = [note(rectangle(9 * i, 5, 9 * i + 6, 12 + 3 * i), 1 + i % 3, 1, number=i) for i in range(4)]
    examples = list(open_source(write_coco_folder(tmp_path, notes, categories=names)))
    assert examples and all(example.program == () for example in examples)


def test_polygons_are_cut_at_the_border(tmp_path):
    example = open_source(write_coco_folder(tmp_path, [note(rectangle(30, -10, 99, 10))]))[0]
    assert example.scene[0].box == (0.75, 0, 1, 1 / 3)


def test_broken_pictures_fail_when_indexed(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), image=i) for i in (1, 2, 3, 4)], pictures=4)
    photos = root / "train2017"
    (photos / "2.png").unlink()
    (photos / "3.png").write_bytes(b"no picture")
    Image.new("RGB", (41, 30)).save(photos / "4.png")
    source = open_source(root)
    assert source[0].scene
    for index, words in ((4, "2.png"), (8, "3.png"), (12, "expected 40 x 30 .*got 41 x 30")):
        with pytest.raises(image_files.ImageError, match=words):
            source[index]
    with pytest.raises(IndexError):
        source[16]


def test_a_broken_rle_fails_when_asked_for(tmp_path):
    source = open_source(write_coco_folder(tmp_path, [note({"size": [30, 40], "counts": [5, 5]}, number=31)]))
    with pytest.raises(image_files.ImageError, match=r"annotation 31 .*1200"):
        source[0]


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
    source = open_source(tmp_path, "val")
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
    root = write_coco_folder(tmp_path_factory.getbasetemp(), [])
    value = {kind: [SOUND[kind], SOUND[kind] | {k: v for (c, k), v in changes.items() if c == kind}] for kind in SOUND}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(value))
    try:
        example = open_source(root)[0]
    except (DataError, image_files.ImageError):
        return
    assert example.query and example.target.mask.shape == (30, 40)


@pytest.mark.parametrize("split, pictures", [("train", 80), ("heldout", 79)])
def test_coco_mini(split, pictures):
    source = open_source(assets.path("coco_mini"), split)
    assert len(source) == 4 * pictures and f"pictures={pictures}" in repr(source)
    assert repr(source) == repr(open_source(assets.path("coco_mini"), split))
    for index in range(0, len(source), 13):
        example = source[index]
        assert example.scene and all(o.mask.shape == example.image.shape[:2] for o in example.scene)
        assert set(example.answer_ids) <= {o.id for o in example.scene}


def test_coco_panoptic():
    source = open_source(assets.path("coco_panoptic_val100"), "val")
    assert len(source) == 400
    value = json.loads(source.annotations.path.read_text())
    areas = {(n["image_id"], s["id"]): s["area"] for n in value["annotations"] for s in n["segments_info"]}
    for picture in source.annotations.pictures[:10]:
        pixels = coco_pixels.load_pixels(source.annotations.path, picture)
        objects = iter(pixels.objects)
        for annotation in picture.annotations:
            if not annotation.crowd:
                assert masks.area(next(objects)[1]) == areas[picture.id, annotation.id]
