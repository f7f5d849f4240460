"""Rows of VLM-R1, EasyR1, verl, TRL, Seg-Zero and Hugging Face: each quirk is read right or left out by name."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data.json_files import DataError

BOX = [66.0, 130.0, 422.0, 362.0]


def png(size=(640, 480), value=90):
    file = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


URL = "data:image/png;base64," + base64.b64encode(png()).decode()
ASKED = {"image": "0.png", "problem": "the mug"}
BOXES = {  # name -> row; all of them want BOX
    "VLM-R1": ASKED | {"solution": BOX, "normalized_solution": [0.1, 0.2, 0.3, 0.4], "dataset": "refcoco"},
    "solution as text": ASKED | {"solution": "[66, 130, 422, 362]"},
    "solution in answer tags": ASKED | {"solution": "<answer>[66, 130, 422, 362]</answer>"},
    "list of one box": ASKED | {"solution": [BOX]},
    "solution as JSON in a fence": ASKED | {"solution": '```json\n[{"bbox_2d": [66, 130, 422, 362], "label": "x"}]\n```'},  # noqa: E501
    "whole numbers as floats": ASKED | {"solution": [66.0, 130.0, 422.0, 362.0], "id": 7},
    "EasyR1 with a box": {"images": ["0.png"], "problem": "<image>the mug", "answer": "[66, 130, 422, 362]"},
    "VisionReasoner": ASKED | {"answer": '[{"bbox_2d": [66, 130, 422, 362], "point_2d": [200, 200]}]'},
    "Seg-Zero": ASKED | {"solution": "<box>(66,130),(422,362)</box><points>(100,200),(200,300)</points>",
        "img_height": 480, "img_width": 640},
    "data url": ASKED | {"image": URL, "solution": BOX},
    "raw base64": ASKED | {"image": URL.partition(",")[2], "solution": BOX},
    "file url": ASKED | {"image": "file://0.png", "solution": BOX},
    "windows drive": ASKED | {"image": "C:\\data\\coco\\0.png", "solution": BOX},
    "verl": {"data_source": "rec", "prompt": [{"role": "system", "content": "You are."}, {"role": "user",
        "content": "<image>the mug"}], "images": ["0.png"],
        "reward_model": {"style": "rule", "ground_truth": "[66, 130, 422, 362]"}, "extra_info": {"index": 0}},
    "TRL": {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the mug"}]}],
        "completion": [{"role": "assistant", "content": "[66, 130, 422, 362]"}], "images": ["0.png"]},
    "bbox and question": {"image": "0.png", "question": "the mug", "bbox": BOX},
    "split of the row": ASKED | {"solution": BOX, "split": "train"},
}  # fmt: skip


@pytest.mark.parametrize("name", BOXES)
def test_boxes(case, name):
    result = case.rows([BOXES[name]], frame="pixel", order="xyxy")
    (line,) = result.lines
    assert line["boxes"] == [BOX] and line["query"] == "the mug", result.text
    assert "task" not in line and "split" not in line  # a single split would leave nothing to hold out


ANSWERS = {
    "a text": ("2", ["2"]), "a number": (2, ["2"]), "a float": (2.5, ["2.5"]), "a truth value": (True, ["yes"]),
    "boxed": ("\\boxed{B}", ["B"]), "several": (["2", "two"], ["2", "two"]), "a formula": ("$2$", ["2"]),
    "a list as text": ('["2", "two", "2"]', ["2", "two"]), "tags": ("<answer>2</answer>", ["2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(case, name):
    value, expected = ANSWERS[name]
    (line,) = case.rows([{"images": ["0.png"], "problem": "<image>How many?", "answer": value}]).lines
    assert line["answers"] == expected and line["task"] == "vqa" and line["query"] == "How many?"


LEFT_OUT = {
    "rows without a picture": {"problem": "2 + 2?", "answer": "4"},
    "rows without an answer": ASKED | {"answer": None, "solution": None},
    "neither words nor boxes": ASKED | {"answer": {"a": 1}},
    "beyond its picture": ASKED | {"solution": [600.0, 400.0, 900.0, 470.0]},
    "in base64 that cannot be decoded": ASKED | {"image": "data:image/png;base64,@@@@", "answer": "2"},
    "inside the file that cannot be decoded": ASKED | {"image": "data:image/png;base64,AAAA", "answer": "2"},
    "without bytes and path": ASKED | {"image": {"bytes": None, "path": None}, "answer": "2"},
    "prompts of several turns": {"image": "0.png", "prompt": [{"role": "user", "content": "a"}] * 2, "completion": "2"},
    "more than 2000 characters": ASKED | {"problem": "mug " * 600, "answer": "2"},
    "with more than 16 pictures": ASKED | {"image": ["0.png"] * 17, "answer": "2"},
    "masks that are no rows of pixels": ASKED | {"mask": [["a"]]},
    "masks of another size": ASKED | {"mask": [[True, False], [False, False]]},
    "boxes in a video": {"video": "a.mp4", "problem": "the mug", "solution": BOX},
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_left_out_by_name(case, reason):
    # A single stray box among many does not put the frame in doubt.
    rows = [ASKED | {"solution": [66.0 + i, 130.0, 422.0, 362.0]} for i in range(150)]
    result = case.rows([*rows, LEFT_OUT[reason]])
    assert len(result.lines) == 150 and "left out: 1 " in result.text and reason in result.text, result.text


def test_a_malformed_line_is_left_out(case):
    file = case.write([ASKED | {"answer": "2"}])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b'\r\n{"image": "0.png", \r\n\r\n[1]\n')
    result = case.convert(file)
    assert len(result.lines) == 1 and "left out: 2 rows that are no JSON objects" in result.text


def test_a_mask_of_rows_and_an_rle(case):
    pixels = np.zeros((480, 640), bool)
    pixels[10:20, 30:50] = True
    rle = {"size": [480, 640], "counts": [0, 5, 480 * 640 - 5]}
    lines = case.rows([ASKED | {"mask": pixels.tolist()}, ASKED | {"mask": rle}]).lines
    assert lines[0]["rle"]["size"] == [480, 640] and lines[1]["rle"] == rle


def parquet(case, rows, name="train-00000-of-00001.parquet", metadata=None):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    table = arrow.Table.from_pylist(rows)
    writer.write_table(table.replace_schema_metadata(metadata), case.root / name, row_group_size=2)
    return case.root / name


def test_parquet_with_pictures_inside(case):
    rows = [{"images": [{"bytes": png(value=i % 2), "path": None}], "problem": "<image>How many?", "answer": "2"}
            for i in range(5)]  # fmt: skip
    result = case.convert(parquet(case, rows))
    assert len(result.lines) == 5 and "pictures: 2 written to mine_pictures" in result.text
    assert {line["image"].partition("/")[0] for line in result.lines} == {"mine_pictures"}
    assert all(
        (case.root / "out" / line["image"]).read_bytes() in (png(value=0), png(value=1)) for line in result.lines
    )


def test_shards_name_their_splits(case):
    rows = [{"image": {"bytes": png(value=1), "path": "1.png"}, "question": "How many?", "answer": "2"}]
    parquet(case, rows), parquet(case, rows, "test-00000-of-00001.parquet")
    lines = case.convert().lines
    assert [line["split"] for line in lines] == ["test", "train"]


def test_object_detection_of_hugging_face(case):
    objects = {"bbox": [[66.5, 130, 356, 232], [10, 20, 30, 40]], "category": [1, 0], "id": [1, 2], "area": [1, 2]}
    rows = [
        {"image_id": 1, "image": {"bytes": png(), "path": "a.png"}, "width": 640, "height": 480, "objects": objects}
    ]
    names = {"info": {"features": {"objects": {"category": {"names": ["spoons", "Mug"], "_type": "ClassLabel"}}}}}
    result = case.convert(parquet(case, rows, metadata={"huggingface": json.dumps(names)}))
    assert [line["query"] for line in result.lines] == ["Find every mug.", "Find every spoon."]
    assert result.lines[0]["boxes"] == [[66.5, 130, 422.5, 362]] and "x y width height" in result.text
    assert [item["label"] for item in result.lines[0]["objects"]] == ["Mug", "spoons"]
    with pytest.raises(DataError, match="labels that are numbers without a name"):
        case.convert(parquet(case, rows))


def test_a_damaged_parquet_file(case):
    file = parquet(case, [{"image": "0.png", "problem": "a", "answer": "2"}])
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="the Parquet file breaks off or is damaged"):
        case.convert(file)


def test_too_few_boxes_name_the_setting(case):
    file = case.write([{"image": "0.png", "problem": "the mug", "answer": "[66, 130, 422, 362]"}])
    with pytest.raises(DataError, match=r"set --frame=pixel|norm1000"):
        case.convert(file)
    assert not (case.root / "out" / "mine.jsonl").exists()
    assert case.convert(file, frame="norm1000").boxes == [[[42.24, 62.4, 270.08, 173.76]]]
