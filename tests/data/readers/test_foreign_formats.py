"""Files of other trainers and tools are refused in one line that names their format and the fields of a JSON line."""

import gzip
import json

import pytest

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl

CHAT = [{"role": "user", "content": "<image>where is the mug"}, {"role": "assistant", "content": "[1, 2, 3, 4]"}]
ROWS = {
    "LLaVA": {"id": "0", "image": "0.jpg", "conversations": [{"from": "human", "value": "<image>\nWhere?"}]},
    "ms-swift": {"messages": CHAT, "images": ["0.jpg"], "objects": {"ref": ["mug"], "bbox": [[1, 2, 3, 4]]}},
    "VLM-R1": {"image": "0.jpg", "problem": "the mug", "solution": [1, 2, 3, 4]},
    "EasyR1": {"images": ["0.jpg"], "problem": "<image>how many", "answer": "2"},
    "TRL": {"prompt": CHAT, "completion": "x", "images": ["0.jpg"]},
    "ms-swift's old": {"query": "<image>where", "response": "there", "images": ["0.jpg"]},
    "RefCOCO": {"ann_id": 3, "sentences": [{"raw": "mug"}], "file_name": "0.jpg"},
    "LabelMe": {"shapes": [], "imagePath": "0.jpg", "version": "5"},
    "COCO": {"images": [], "annotations": [], "categories": []},
    "results in COCO's": {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
}


def refusal(tmp_path, raw):
    file = tmp_path / "data.json"
    file.write_bytes(raw)
    with pytest.raises(DataError) as error:
        jsonl.open_jsonl_source(str(file), "train", "segmentation", max_objects=7)
    text = str(error.value)
    assert "\n" not in text and "data.json: " in text and len(text) < 500, text
    return text


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["lines", "list", "indented list", "windows"])
def test_rows_of_other_formats(tmp_path, name, form):
    rows = [ROWS[name]] * 3
    raw = {
        "lines": "\n".join(map(json.dumps, rows)), "list": json.dumps(rows),
        "indented list": json.dumps(rows, indent=2),
        "windows": "\ufeff" + "\r\n".join(map(json.dumps, rows)),
    }[form]  # fmt: skip
    text = refusal(tmp_path, raw.encode())
    assert name in text and '"query": text' in text and "boxes" in text
    assert ("3 lines in" in text) == (form in ("lines", "windows")) and ("list of 3" in text) == ("list" in form)


def test_one_object_over_several_lines(tmp_path):
    assert "COCO's format; set data.source=coco" in refusal(tmp_path, json.dumps(ROWS["COCO"], indent=1).encode())
    line = json.dumps({"image": "0.jpg", "query": "x", "boxes": []}, indent=1).encode()
    assert "one JSON object over several lines" in refusal(tmp_path, line)


def test_a_list_of_lines(tmp_path):
    text = refusal(tmp_path, json.dumps([{"image": "0.jpg", "query": "x", "boxes": []}] * 8).encode())
    assert "one JSON list of 8; write each of its objects on a line of its own" in text


@pytest.mark.parametrize(
    "raw, name",
    [
        (b"PAR1\x15\x04\xba\x00", "a Parquet file"),
        (b"ARROW1\0\0", "an Arrow file"),
        (gzip.compress(b"{}\n", mtime=0), "a gzip archive"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (b"<?xml version='1.0'?><annotations/>", "XML"),
        (b"\x89PNG\r\n", "a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        (b"image,query,x1,y1,x2,y2\n0.jpg,mug,1,2,3,4\n", "CSV"),
        (b"image\tquery\n0.jpg\tmug\n", "CSV"),
    ],
)
def test_files_that_are_no_json(tmp_path, raw, name):
    assert name in refusal(tmp_path, raw)
