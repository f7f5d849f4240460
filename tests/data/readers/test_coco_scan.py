"""Records of a file in COCO's format are found in blocks of any size."""

import json

import pytest

from dtr1_jax.data.readers import coco_scan

VALUE = {
    "info": {"year": 2017, "by": {"name": "a"}}, "licenses": [{"id": 1}],
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 4, "height": 4, "extra": {"a": [1]}} for i in range(5)],
    "annotations": [{"id": 10 + i, "image_id": i % 5, "category_id": 1, "segmentation": [[i, 1, 2, 3.5, 4, 5]],
                     "bbox": [0, 0, 1, 1]} for i in range(9)],
    "categories": [{"id": 1, "name": "dog"}],
}  # fmt: skip


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
def test_records_by_hand(tmp_path, monkeypatch, block):
    monkeypatch.setattr(coco_scan, "_BLOCK", block)
    file = tmp_path / "a.json"
    file.write_text(json.dumps(VALUE))
    found = coco_scan.scan(file)
    assert [image["id"] for image in found.images] == list(range(5)) and "extra" not in found.images[0]
    assert found.notes["id"].tolist() == list(range(10, 19)) and set(found.notes["kind"]) == {coco_scan.POLYGONS}
    raw = file.read_bytes()
    for start, length, expected in zip(found.notes["start"], found.notes["length"], VALUE["annotations"]):
        assert json.loads(raw[start : start + length]) == expected
    assert len(set(found.notes["hash"].tolist())) == 9


@pytest.mark.parametrize("indent", [None, 1])
def test_one_record_of_each_kind(tmp_path, indent):
    """All gaps lie between two lists, so that none is the usual one."""
    file = tmp_path / "a.json"
    small = {name: VALUE[name][:1] for name in ("images", "annotations", "categories")}
    file.write_text(json.dumps(small, indent=indent))
    found = coco_scan.scan(file)
    assert found.notes["id"].tolist() == [10] and [image["id"] for image in found.images] == [0]
    assert [category["name"] for category in found.categories] == ["dog"]


@pytest.mark.parametrize("cut", [40, 300, 700, -1])
def test_a_file_that_breaks_off(tmp_path, cut):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(VALUE)[:cut])
    with pytest.raises(coco_scan.Unusual):
        coco_scan.scan(file)
