"""Shapes of COCO's annotations, and what becomes of objects whose outline is missing."""

import json

import numpy as np
import pytest
from coco_folders import note, open_source, rectangle, write_coco_folder
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_shapes, sized_photos

SIZE = (40, 30)
OWN = [{"id": i, "name": name} for i, name in enumerate(("mug", "lamp", "pan"), 1)]


def boxed(box, category=1, image=1, number=1):
    return note([], category, image, number=number) | {"bbox": box}


@pytest.mark.parametrize(
    "shape",
    [
        [[10, 5, 20, 5, 20, 15, 10, 15]],
        [10, 5, 20, 5, 20, 15, 10, 15],
        [[10, 5], [20, 5], [20, 15], [10, 15]],
        [[[10, 5], [20, 5], [20, 15], [10, 15]]],
        {"size": [30, 40], "counts": [305] + [10, 20] * 9 + [10, 615]},
        {"size": [30.0, "40"], "counts": [305.0] + [10, 20.0] * 9 + [10, 615]},
    ],
)
def test_spellings_of_the_same_shape(shape):
    expected = np.zeros((30, 40), bool)
    expected[5:15, 10:20] = True
    parsed, fault = coco_shapes.parse_shape({"segmentation": shape}, SIZE)
    assert fault == ""
    np.testing.assert_array_equal(coco_shapes.draw(parsed, None, SIZE), expected)


def test_a_box_stands_in_for_a_missing_outline():
    for empty in (None, [], [[]]):
        shape, _ = coco_shapes.parse_shape({"segmentation": empty, "bbox": [10, 5, 10.5, 10]}, SIZE)
        np.testing.assert_array_equal(shape, [10, 5, 20.5, 15])
        assert coco_shapes.draw(shape, None, SIZE).sum() == 110
        assert coco_shapes.unit_box_of(shape, SIZE) == (10 / 40, 5 / 30, 20.5 / 40, 15 / 30)


@pytest.mark.parametrize(
    "note, fault",
    [
        ({}, "annotations without polygons, RLE or box"),
        ({"bbox": [1, 2, "wide", 4]}, "annotations without polygons, RLE or box"),
        ({"bbox": {"x": 1}}, "annotations without polygons, RLE or box"),
        ({"segmentation": "mask.png"}, "annotations without polygons, RLE or box"),
        ({"bbox": [1, 2, 0, 4]}, "boxes without area in the picture"),
        ({"bbox": [41, 2, 5, 4]}, "boxes without area in the picture"),
        ({"bbox": [0.1, 0.2, 0.5, 0.5]}, coco_shapes.NORMALISED),
        ({"segmentation": [[0.1, 0.1, 0.9, 0.1, 0.9, 1.0]]}, coco_shapes.NORMALISED),
        ({"bbox": [20, 10, 30, 20]}, coco_shapes.OUTSIDE),
        ({"segmentation": {"size": [40, 30], "counts": [1200]}}, "RLEs of another size than their picture"),
    ],
)
def test_faults(note, fault):
    assert coco_shapes.parse_shape(note, SIZE) == (None, fault)


def test_boxes_alone_serve_grounding_and_are_refused_for_segmentation(tmp_path, caplog):
    notes = [boxed([4 * i, 3, 3, 5 + i], 1 + i % 2, number=i) for i in range(4)]
    root = write_coco_folder(tmp_path, notes, categories=OWN[:2])
    with pytest.raises(DataError, match=r"expected polygons or RLE .* 4 annotations with a box only; set .*grounding"):
        open_source(root)
    source = coco_open(root, "grounding")
    assert "4 of 4 annotations have no outline: their boxes are used" in caplog.text
    example = source[0]
    assert [o.box for o in example.scene] == [(4 * i / 40, 0.1, (4 * i + 3) / 40, (8 + i) / 30) for i in range(4)]
    expected = np.float32([o.box for o in example.scene if o.id in example.answer_ids])
    np.testing.assert_array_equal(example.target.boxes, expected)
    assert not any("largest" in source[i].thought for i in range(4))  # the sizes of the objects are not known


def coco_open(root, task):
    from dtr1_jax.data.readers import coco

    return coco.open_coco_source(str(root), "train", task, seed=0, max_objects=7)


def test_segmentation_does_not_ask_for_labels_that_a_picture_has_as_boxes(tmp_path, caplog):
    """Mugs have outlines, lamps boxes; picture 3 has no lamp, picture 4 boxes alone."""
    notes = [note(rectangle(0, 0, 9, 9), 1, i, number=i) for i in (1, 2, 3)]
    notes += [boxed([20, 10, 8, 8], 2, i, number=10 + i) for i in (1, 2, 4)]
    root = write_coco_folder(tmp_path, notes, pictures=4, categories=OWN[:2])
    source = open_source(root)
    assert [p.id for p in source.annotations.pictures] == [1, 2, 3]
    assert "3 annotations have a box" in caplog.text and "1 pictures with boxes alone are left out" in caplog.text
    for i in range(8):
        assert "lamp" not in source[i].query and [o.label for o in source[i].scene] == ["mug", "lamp"]
    assert {bool(source[i].target.mask.any()) for i in range(8, 12) if "lamp" in source[i].query} <= {False}
    grounding = coco_open(root, "grounding")
    assert len(grounding) == 16 and any("lamp" in grounding[i].query for i in range(4))


@pytest.mark.parametrize(
    "left_out",
    [[[1, 1, 2, 2]], [[3, 3, 9, 3, 5, 3]], {"size": [5, 5], "counts": [25]}, [[3, 3.1, 30, 3.2, 30, 3.3, 3, 3.2]]],
)
def test_a_label_with_an_object_that_is_left_out_is_not_asked_about(tmp_path, left_out):
    """The last shape is sound, and thinner than a pixel."""
    notes = [
        note(rectangle(0, 0, 9, 9), 1, 1),
        note(left_out, 2, 1, number=2),
        note(rectangle(0, 0, 9, 9), 2, 2, number=3),
    ]
    source = open_source(write_coco_folder(tmp_path, notes, pictures=2, categories=OWN[:2]))
    assert source.annotations.labels == {"mug", "lamp"}
    assert not any("lamp" in source[i].query for i in range(4))


def write_rotated(root, stored, orientation, size=None):
    """A folder with one photo of `stored` pixels and an EXIF rotation, annotated with `size` (w, h)."""
    write_coco_folder(root, [note(rectangle(0, 0, 9, 9))])
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(root / "train2017" / "1.png", exif=exif)
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    value["images"][0] |= dict(zip(("width", "height"), size or stored.shape[1::-1]))
    file.write_text(json.dumps(value))
    return open_source(root)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_rotated_photo_is_used_in_the_frame_of_its_annotation(tmp_path, orientation):
    stored = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    as_stored = write_rotated(tmp_path / "a", stored, orientation)[0].image
    np.testing.assert_array_equal(as_stored, stored)
    upright = write_rotated(tmp_path / "b", stored, orientation, (30, 40))[0].image
    assert upright.shape == (40, 30, 3)
    if orientation == 6:
        np.testing.assert_array_equal(upright, np.rot90(stored, -1))
    with pytest.raises(image_files.ImageError, match=rf"got 30 x 40 \(its EXIF rotation {orientation} is applied\)"):
        write_rotated(tmp_path / "c", stored, orientation, (20, 40))[0]


def test_a_rotation_that_the_size_does_not_show_is_warned_about_once(tmp_path, caplog):
    sized_photos._warn_of_rotation.cache_clear()
    stored = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    source = write_rotated(tmp_path, stored, 3)
    for _ in range(3):
        np.testing.assert_array_equal(source[0].image, stored[::-1, ::-1])
    assert caplog.text.count("EXIF rotation that their size does not show") == 1
