"""Faults of JSON lines say what was found: units, other forms of boxes, misspelt fields, paths that lead elsewhere."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl, jsonl_fields

W, H = 40, 30
OBJECT = {"label": "cup", "box": [0, 0, 5, 5]}


@pytest.fixture
def data(tmp_path):
    """Writes lines beside a picture of 40 x 30 pixels, and opens them as a source."""
    Image.new("RGB", (W, H), "white").save(tmp_path / "a.png")

    def write(*rows, raw=None):
        file = tmp_path / "data.jsonl"
        file.write_bytes(raw or "\n".join(json.dumps(line(**row)) for row in rows).encode())
        return jsonl.open_jsonl_source(str(file), "train", "segmentation", max_objects=7)

    write.folder = tmp_path
    return write


def line(**fields):
    row = {"image": "a.png", "query": "what is red"} | fields
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize(
    "row, words",
    [
        ({"boxes": [[0.1, 0.2, 0.5, 0.6]]}, "smaller than a pixel, [0.1, 0.2, 0.5, 0.6], which looks normalised"),
        ({"boxes": [[0, 0, 1, 1]]}, "which looks normalised"),
        ({"boxes": [[5, 5, 9, 9], [0.0, 0.5, 0.25, 1.0]]}, "which looks normalised"),
        ({"boxes": [[7.1, 7.1, 7.6, 7.6]]}, "covers nothing"),
        ({"polygons": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}, "got a polygon smaller than a pixel"),
        (
            {"boxes": [], "objects": [OBJECT | {"box": [0.1, 0.1, 0.9, 0.9]}]},
            "objects[0]: expected coordinates in pixels",
        ),
        ({"boxes": [[20, 10, 8, 9]]}, "got [20, 10, 8, 9], which looks like [x, y, width, height]"),
        (
            {"boxes": [{"x1": 1, "y1": 2, "x2": 3, "y2": 4}]},
            "an object with x1, y1, x2, y2 in place of [x1, y1, x2, y2]",
        ),
        ({"boxes": [[1, 2, 9, 9], {"x": 1}]}, "an object with x in place of [x1, y1, x2, y2] as item 1"),
        ({"boxes": [1, 2, 3, 4]}, "one list of 4 numbers; put it into a list of its own, [[...]]"),
        ({"boxes": [["1", 2, 3, 4]]}, "got [the string '1', 2, 3, 4] as item 0"),
        ({"boxes": [[1, 2, 3]]}, "got [1, 2, 3] as item 0"),
        (
            {"boxes": [], "objects": [{"label": "cup", "box": [9, 9, 3, 3]}]},
            "box: [9, 9, 3, 3], which looks like [x, y, w",
        ),
        ({"bbox": [1, 2, 3, 4]}, "'bbox': expected known fields, got this one; write \"boxes\""),
        (
            {"query": None, "question": "x", "boxes": []},
            "'question': expected known fields, got this one; write \"query\"",
        ),
        ({"image": None, "images": ["a.png"], "boxes": []}, 'write "image"'),
        ({"boxes": [], "Split": "train"}, 'write "split"'),
        ({"boxes": [], "object": [OBJECT]}, 'write "objects"'),
        ({"boxes": [], "objects": [{"label": "cup", "bbox": [1, 2, 3, 4]}]}, "objects[0].bbox: expected known fields"),
        ({"boxes": [], "objects": [OBJECT | {"attribute": ["red"]}]}, 'write "attributes"'),
        ({"boxes": [], "objects": [OBJECT | {"dept": 3}]}, "objects[0].dept: expected known fields, got this one; wri"),
        ({"image": "https://example.com/0.jpg", "boxes": []}, "image: expected a path on this machine, got the string"),
        ({"image": ["a.png", "s3://bucket/0.jpg"], "boxes": []}, "image: expected a path on this machine"),
        ({"image": "C:\\photos\\0.jpg", "boxes": []}, "image: expected a path on this machine"),
        ({"mask": "http://x/m.png"}, "mask: expected a path on this machine"),
        (
            {"image": None, "video": "https://x/v.mp4", "answers": ["2"], "task": "vqa"},
            "video: expected a path on this",
        ),
        (
            {"image": None, "video": "v", "tracks": [{"0": [0.1, 0.1, 0.5, 0.5]}]},
            "tracks: expected coordinates in pixels",
        ),
    ],
)
def test_faults_say_what_was_found(data, row, words):
    with pytest.raises(DataError) as refusal:
        data(row, row, row)
    text = str(refusal.value)
    assert words in text and text.endswith("(and 2 more of this kind)") and "\n" not in text, text


def test_unknown_fields_are_counted_and_taken_names_are_no_faults(data, caplog):
    rows = [{"boxes": [], "source": "kitchen", "question": "x", "bbox": [1, 2, 3, 4], "answer": "x"}] * 2
    assert len(data(*rows)) == 2
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "4 unknown fields are not used" in record.getMessage() and "'source' (2 lines)" in record.getMessage()


def test_unknown_fields_of_objects_are_counted_by_line(data, caplog):
    objects = [OBJECT | {"depth": 2, "dept": 3, "score": 0.5}, OBJECT | {"score": 0.4}]
    assert len(data({"boxes": [], "objects": objects}, {"boxes": [], "objects": objects[1:]})) == 2
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "'objects[].score' (2 lines), 'objects[].dept' (1 lines)" in record.getMessage()


def test_a_key_that_stands_twice_and_a_comma_too_many(data):
    for raw, words in (
        (b'{"image": "a.png", "query": "x", "boxes": [], "boxes": [[1, 2, 3, 4]]}', "the key 'boxes' stands twice"),
        (b'{"image": "a.png", "query": "x", "boxes": [[1, 2, 3, 4],]}', "remove it"),
        (b'{"image": "a.png", "query": "caf\xe9", "boxes": []}', "byte 32 is not UTF-8"),
    ):
        with pytest.raises(DataError) as refusal:
            data(raw=raw)
        assert words in str(refusal.value) or "trailing comma" in str(refusal.value)


def test_files_of_windows_are_read(data):
    (data.folder / "my photos").mkdir()
    Image.new("RGB", (W, H), "red").save(data.folder / "my photos" / "b.JPG")
    text = "\r\n".join(
        json.dumps(line(image=name, boxes=[], split="train"))
        for name in ("my photos\\b.jpg", "my%20photos/b.JPG", ".\\a.png")
    )
    for encoding in ("utf-8-sig", "utf-16"):
        source = data(raw=text.encode(encoding))
        assert [source[i].image[0, 0, 1] for i in range(3)] == [0, 0, 255]


def test_whole_floats_in_an_rle(data):
    rle = {"size": ["30", 40.0], "counts": [0.0, 300, 900.0]}
    assert data({"rle": rle})[0].target.mask[:, :10].all()


def test_masks_may_have_the_frame_of_the_stored_picture(data):
    """A camera's photo of 40 x 30 pixels that is turned on the screen, with a mask of each frame."""
    pixels = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(data.folder / "turned.png", exif=exif)
    Image.fromarray(np.eye(H, W, dtype=np.uint8) * 255).save(data.folder / "stored.png")
    Image.fromarray(np.eye(W, H, dtype=np.uint8) * 255).save(data.folder / "upright.png")
    rows = [
        {"image": "turned.png", "mask": "stored.png"}, {"image": "turned.png", "mask": "upright.png"},
        {"image": "turned.png", "rle": {"size": [H, W], "counts": [H * W]}}, {"image": "turned.png", "boxes": []},
    ]  # fmt: skip
    source = data(*rows)
    stored = [True, False, True, False]
    for i, frame in enumerate(stored):
        np.testing.assert_array_equal(source[i].image, pixels if frame else np.rot90(pixels, -1))
        assert source[i].target.mask.shape == source[i].image.shape[:2]


def test_a_jpeg_mask_is_warned_about_at_the_start(data, caplog):
    mask = np.zeros((H, W), np.uint8)
    mask[5:25, 10:30] = 255
    Image.fromarray(mask).save(data.folder / "m.jpg", quality=75)
    source = data({"mask": "m.jpg"}, {"mask": "m.jpg"})
    assert "2 masks are JPEG, such as m.jpg" in caplog.text
    assert abs(source[0].target.mask.sum() - 400) <= 8


def test_paths_that_the_system_cannot_open_cost_their_example(data):
    names = ["a.png", "x" * 300 + ".png", "a.png/b.png", "."]
    source = data(*({"image": name, "boxes": [], "split": "train"} for name in names))
    assert source[0].image.shape == (H, W, 3)
    for i in (1, 2, 3):
        with pytest.raises(ImageError):
            source[i]


def test_boxes_far_outside_their_picture_are_warned_about_once(data, caplog):
    """Boxes in thousandths, as Qwen3-VL writes them; the first is inside by chance."""
    jsonl_fields._WARNED.clear()
    source = data({"boxes": [[3, 4, 20, 30]]}, {"boxes": [[20, 3, 600, 29]]}, {"boxes": [[0, 0, 30, 500]]})
    assert source[0].target.mask.any() and not caplog.records
    assert source[1].target.mask.any() and source[2].target.mask.any()
    (record,) = caplog.records
    assert "data.jsonl:2: box [20, 3, 600, 29] reaches far beyond its picture of 40 x 30 pixels" in record.getMessage()
