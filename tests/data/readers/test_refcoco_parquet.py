"""The four forms of RefCOCO on Hugging Face, written here in their columns."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from refcoco_folders import NOTES, REFS, photo_name, write_photos

from dtr1_jax.data import image_files, outlines, picture_places
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import parquet_rows, refcoco

pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
parquet = pytest.importorskip("pyarrow.parquet")


def png(size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, "grey").save(buffer, "PNG")
    return buffer.getvalue()


def write(root, split, rows, **options):
    root.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / f"{split}-00000-of-00001.parquet", **options)
    return root


def open_source(root, split="val", task="segmentation", name="refcoco"):
    return refcoco.open_refcoco_source(name, str(root), split, task, max_objects=7)


def lmms_rows(**more):
    row = {
        "question_id": "9", "image": {"bytes": png(), "path": None}, "question": "describe",
        "answer": ["man on left", "the man"], "segmentation": [2.0, 3.0, 12.0, 3.0, 12.0, 23.0, 2.0, 23.0],
        "bbox": [2.0, 3.0, 10.0, 20.0], "iscrowd": 0, "file_name": "x.jpg",
    }  # fmt: skip
    return [row, row | {"question_id": "10", "answer": [" ", "dog"]} | more]


def check_man(example):
    expected = np.zeros((30, 40), bool)
    expected[3:23, 2:12] = True
    np.testing.assert_array_equal(example.target.mask, expected)
    np.testing.assert_allclose(example.target.boxes[0] * [40, 30, 40, 30], [2, 3, 12, 23], atol=1e-5)
    assert example.image.shape == (30, 40, 3) and not example.scene, "the other objects of the photo are not known"


def test_lmms(tmp_path, caplog):
    source = open_source(write(tmp_path / "data", "val", lmms_rows(), row_group_size=1).parent)
    assert [q.text for q in source.queries] == ["man on left", "the man", "dog"]
    assert source[2].uid == "refcoco/unc/val/10/1"
    for i in range(3):
        check_man(source[i])
    assert "each mask is one polygon" in caplog.text and "2 refs, but the published split has 3811" in caplog.text
    assert outlines.picture_files(source) == [] and picture_places.place(source, 0, source[0]) is None


def test_the_val_of_lmms_is_two_splits(tmp_path, caplog, monkeypatch):
    from dtr1_jax.data.readers import refcoco_parquet

    monkeypatch.setitem(refcoco_parquet.LMMS, 2, refcoco_parquet.LMMS[8811])
    open_source(write(tmp_path, "val", lmms_rows()), task="grounding")
    assert "has 3811 (lmms val has 8,811 = unc + google)" in caplog.text and "one polygon" not in caplog.text


def jxu_rows(form):
    rows = []
    for ref in REFS[:2]:
        note = next(n for n in NOTES if n["id"] == ref["ann_id"])
        info = {"id": 9, "file_name": photo_name(9), "width": 40, "height": 30}
        if form == "jxu124":
            texts = {"raw_anns": json.dumps(note), "raw_image_info": json.dumps(info)}
            rows.append(ref | texts | {"image_path": "coco/train2014/" + photo_name(9), "bbox": [2.0, 3.0, 12.0, 23.0]})
        else:
            note = note | {"bbox": list(map(float, note["bbox"])), "segmentation": note["segmentation"]}
            rows.append({"ref_list": [{"ann_info": note, "ref_info": ref}], "image_info": info})
    return rows


@pytest.mark.parametrize(
    ("form", "split"), [("jxu124", "val"), ("jxu124", "validation"), ("benchmark", "refcoco_unc_val")]
)
def test_jxu124(tmp_path, form, split):
    write(tmp_path, split, jxu_rows(form))
    write(tmp_path, "refcoco_plus_unc_val", jxu_rows(form)[:1])
    with pytest.raises(DataError, match="expected is COCO's train2014 beside the parquet files"):
        open_source(tmp_path)
    write_photos(tmp_path / "coco" / "train2014")
    source = open_source(tmp_path)
    assert [q.uid for q in source.queries] == [f"refcoco/unc/val/{x}" for x in ("7/1", "7/2", "8/3")]
    check_man(source[0])
    assert len(open_source(tmp_path, name="refcoco+")) == 2, "the file of RefCOCO+ has its own name"
    assert picture_places.place(source, 0, source[0]) == {"image": [tmp_path / "coco/train2014" / photo_name(9)]}


@pytest.mark.parametrize("name", ["test-00000-of-00001", "testA"])
def test_ricky(tmp_path, name):
    mask = np.zeros((30, 40), bool)
    mask[3:23, 2:12] = True
    row = {"image": {"bytes": png(), "path": "x"}, "text": "man on left", "mask": mask.tolist(), "image_id": 9,
           "ann_id": 100, "img_height": 30, "img_width": 40, "bbox": [2, 3, 12, 23]}  # fmt: skip
    rows = [row, row | {"text": ""}, row | {"mask": [[True]]}]
    write(tmp_path, name.removesuffix("-00000-of-00001"), rows)
    source = open_source(tmp_path, "testA")
    assert len(source) == 2
    check_man(source[0])
    with pytest.raises(image_files.ImageError, match=r"expected a mask of 40 x 30 pixels, got shape \(1, 1\)"):
        source[1]


QUIRKS = [
    (lmms_rows(answer=None), 2, "1 rows without a sentence (such as 10)"),
    (lmms_rows(question_id=None), 3, ""),
    (lmms_rows(image={"bytes": b"", "path": None}), 3, ""),
    (lmms_rows(image={"bytes": b"no picture", "path": None}), 3, ""),
    (lmms_rows(bbox=None, segmentation=None), 3, ""),
    (jxu_rows("jxu124")[:1] + [jxu_rows("jxu124")[1] | {"raw_anns": "{"}], 2, "1 rows without a ref, an annotation"),
    (jxu_rows("jxu124")[:1] + [jxu_rows("jxu124")[1] | {"raw_image_info": '{"id": 9}'}], 2, "1 photos without id"),
    (jxu_rows("jxu124")[:1] + [jxu_rows("jxu124")[1] | {"raw_anns": "{}"}], 2, "1 annotations without polygons"),
    (jxu_rows("jxu124")[:1] + [jxu_rows("jxu124")[1] | {"sentences": None}], 2, "1 refs without a sentence"),
]


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, caplog, number):
    rows, count, warning = QUIRKS[number]
    write_photos(tmp_path / "train2014")
    source = open_source(write(tmp_path, "val", rows))
    assert len(source) == count and warning in caplog.text
    check_man(source[0])
    if count == 3 and number != 1:
        with pytest.raises(image_files.ImageError):
            source[2]


def test_other_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected the columns of one of lmms, jxu124, .*got a, b; take one of these"):
        open_source(write(tmp_path, "val", [{"a": 1, "b": 2}]))
    with pytest.raises(DataError, match=r"expected testB-\*\.parquet, got val-00000-of-00001\.parquet"):
        open_source(tmp_path, "testB")
    (tmp_path / "val-00000-of-00001.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match="expected a parquet file, got another or a damaged one"):
        open_source(tmp_path)


def test_cells(tmp_path):
    file = write(tmp_path, "x", [{"image": bytes([i]), "n": i} for i in range(7)], row_group_size=3)
    file = file / "x-00000-of-00001.parquet"
    assert [parquet_rows.read_cell(parquet_rows.Cell(str(file), i), "n") for i in range(7)] == list(range(7))
    assert parquet_rows.picture_bytes(parquet_rows.Cell(str(file), 5)) == b"\5"
    with pytest.raises(image_files.ImageError, match="row 7, column n: cannot be read"):
        parquet_rows.read_cell(parquet_rows.Cell(str(file), 7), "n")
    with pytest.raises(image_files.ImageError, match="row 0, column no: cannot be read"):
        parquet_rows.read_cell(parquet_rows.Cell(str(file), 0), "no")
    with pytest.raises(image_files.ImageError, match="expected the bytes of a picture"):
        parquet_rows.picture_bytes(parquet_rows.Cell(str(file), 0), "n")
