"""ReasonSeg: the raster against a drawing by hand, ignored pixels, texts, tags, quirks and the mirror."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import reasonseg


def square(x1, y1, x2, y2, label="target"):
    return {"label": label, "points": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]}


def write(root, name, value, split="val", suffix=".jpg", encoding="utf-8"):
    (root / split).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), "grey").save(root / split / (name + suffix))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    (root / split / f"{name}.json").write_bytes(text.encode(encoding))
    return root


def entry(*shapes, text=("what keeps tea hot",), is_sentence=True, **more):
    return {"text": list(text), "is_sentence": is_sentence, "shapes": list(shapes) or [square(2, 3, 11, 22)]} | more


def open_source(root, split="val"):
    return reasonseg.open_reasonseg_source(str(root), split, "segmentation")


def test_by_hand(tmp_path, caplog):
    """A target of rows 3 to 22 and columns 2 to 11; a smaller ignored square inside it is drawn later, so it wins."""
    write(tmp_path, "b_1", entry(square(4, 5, 6, 8, "ignore"), square(2, 3, 11, 22), text=("one", "two")))
    write(tmp_path, "a_2", entry(is_sentence=False, text=("mug",)))
    source = open_source(tmp_path)
    assert [(q.uid, q.text, q.tags) for q in source.queries] == [
        ("reasonseg/val/a_2", "mug", ("short",)), ("reasonseg/val/b_1", "one", ("long",)),
    ]  # fmt: skip
    example = source[1]
    expected = np.zeros((30, 40), np.uint8)
    expected[3:23, 2:12] = 1
    expected[5:9, 4:7] = 255
    np.testing.assert_array_equal(example.target.mask, expected == 1)
    np.testing.assert_array_equal(example.target.ignore, expected == 255)
    np.testing.assert_allclose(example.target.boxes, [[2 / 40, 3 / 30, 12 / 40, 23 / 30]], rtol=1e-6)
    assert (example.benchmark, example.tags, example.task) == ("reasonseg", ("long",), "segmentation")
    assert source[0].target.ignore is None and "2 pictures, but the published split has 200" in caplog.text
    assert repr(source) == repr(open_source(tmp_path, "heldout"))


def reference(shapes, h, w):
    """LISA's rule written down again: areas of the drawn polygons, then the largest first."""
    drawn = []
    for shape in shapes:
        if shape["label"].lower() == "flag":
            continue
        points = np.array([shape["points"]], dtype=np.int32)
        one = np.zeros((h, w), np.uint8)
        cv2.polylines(one, points, True, 1, 1)
        cv2.fillPoly(one, points, 1)
        drawn.append((int(one.sum()), len(drawn), 255 if "ignore" in shape["label"].lower() else 1, points))
    mask = np.zeros((h, w), np.uint8)
    for _, _, value, points in sorted(drawn, key=lambda row: row[:2])[::-1]:
        cv2.polylines(mask, points, True, value, 1)
        cv2.fillPoly(mask, points, value)
    return mask


@pytest.mark.parametrize("seed", range(8))
def test_random_polygons_are_drawn_by_the_rule(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shapes = []
    for label in rng.choice(["target", "ignore", "Flag", "Ignore "], 6):
        points = (rng.random((int(rng.integers(1, 7)), 2)) * [60, 50] - 10).round(3).tolist()
        shapes.append({"label": str(label), "points": points})
    source = open_source(write(tmp_path, "a", entry(*shapes)))
    expected = reference(shapes, 30, 40)
    target = source[0].target
    np.testing.assert_array_equal(target.mask, expected == 1)
    np.testing.assert_array_equal(
        np.zeros_like(target.mask) if target.ignore is None else target.ignore, expected == 255
    )


def test_in_training_each_text_is_a_query(tmp_path):
    source = open_source(write(tmp_path, "a", entry(text=("one", "two", "one")), split="train"), "train")
    assert [(q.uid, q.text) for q in source.queries] == [(f"reasonseg/train/a/{k}", t) for k, t in enumerate(
        ("one", "two", "one"))]  # fmt: skip
    assert source.queries[0].tags == ()


def test_counts_of_a_whole_set(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(reasonseg.COUNTS, "train", 1)
    open_source(write(tmp_path, "a", entry(text=("one", "two")), split="train"), "train")
    assert not caplog.text


GOOD = "x"
QUIRKS = {  # value of one file beside a good one -> (number of queries, words of the warning)
    "cp1252": ({"value": entry(text=("café",)), "encoding": "cp1252"}, 2, ""),
    "one text that is no list": ({"value": entry() | {"text": "tea"}}, 2, ""),
    "no is_sentence": ({"value": {"text": ["tea"], "shapes": [square(1, 1, 9, 9)]}}, 2, ""),
    "capital suffix": ({"value": entry(), "suffix": ".JPG"}, 2, ""),
    "png": ({"value": entry(), "suffix": ".png"}, 2, ""),
    "byte order mark": ({"value": entry(), "encoding": "utf-8-sig"}, 2, ""),
    "fields of labelme": ({"value": entry(imagePath="C:\\a\\b.jpg", imageData=None)}, 2, ""),
    "points outside": ({"value": entry(square(-5, -5, 90, 90))}, 2, ""),
    "another label": ({"value": entry(square(1, 1, 9, 9, "cup"))}, 2, "took for targets 1 shapes with another label"),
    "no points": ({"value": entry({"label": "target", "points": []}, square(1, 1, 9, 9))}, 2, "1 shapes without"),
    "points as text": ({"value": entry({"label": "target", "points": [["1", "2"]]})}, 1, "1 shapes without a label"),
    "infinite": ({"value": '{"text": ["a"], "shapes": [{"label": "target", "points": [[1e999, 1]]}]}'}, 1,
        "1 annotations that lose all of their target"),
    "no shapes": ({"value": {"text": ["tea"]}}, 1, "1 annotations without text or shapes (such as a.json)"),
    "blank text": ({"value": entry(text=(" ",))}, 1, "1 annotations without text or shapes"),
    "a list": ({"value": "[]"}, 1, "1 annotations without text or shapes"),
    "broken": ({"value": "{"}, 1, "1 annotations that are no JSON (such as a.json)"),
}  # fmt: skip


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks(tmp_path, caplog, quirk):
    fixture, count, warning = QUIRKS[quirk]
    source = open_source(write(write(tmp_path, GOOD, entry()), "a", **fixture))
    assert (
        len(source) == count
        and warning in caplog.text
        and ("left out" in caplog.text) == (bool(warning) and "took" not in warning)
    )
    for i in range(count):
        assert source[i].image.shape == (30, 40, 3)


def test_missing_files(tmp_path, caplog):
    with pytest.raises(
        DataError, match=r"expected train/, val/ and test/ with NAME\.jpg and NAME\.json, got no folder val"
    ):
        open_source(tmp_path)
    with pytest.raises(DataError, match=r"one of train, val, test \(or heldout, which is val\), got 'dev'"):
        open_source(tmp_path, "dev")
    (write(write(tmp_path, "a", entry()), "b", entry()) / "val" / "a.jpg").unlink()
    assert len(open_source(tmp_path)) == 1 and "1 annotations without a picture (such as a.json)" in caplog.text
    (tmp_path / "val" / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(image_files.ImageError, match="not a picture"):
        open_source(tmp_path)[0]
    (tmp_path / "val" / "b.jpg").unlink()
    with pytest.raises(DataError, match="expected queries, got none to use"):
        open_source(tmp_path)


def test_large_pictures_are_shrunk_and_masks_are_not(tmp_path):
    from dtr1_jax.data import sources

    source = sources.shrunk(open_source(write(tmp_path, "a", entry())), 300)
    assert source[0].image.shape[0] < 30 and source[0].target.mask.shape == (30, 40)


def test_the_mirror(tmp_path, caplog):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    mask = np.zeros((30, 40), bool)
    mask[3:9, 2:12] = True
    row = {"image": {"bytes": buffer.getvalue(), "path": None}, "text": "tea", "mask": mask.tolist()}
    (tmp_path / "data").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "data" / "test-00000-of-00001.parquet")
    source = open_source(tmp_path)
    np.testing.assert_array_equal(source[0].target.mask, mask)
    assert "a mirror in which ignored pixels became targets" in caplog.text and "has 200 (a part" in caplog.text
