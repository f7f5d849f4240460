"""A large JSON lines file gives the lines of the same file read as a whole; faults are still found."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import outlines
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl, jsonl_large


@pytest.fixture(autouse=True)
def fresh():
    jsonl_large._survey.cache_clear()


def rows(count=40):
    return [{"image": f"p{i % 13}.png", "query": f"thing {i}", "boxes": [[1, 2, 30, 20 + i % 5]]} for i in range(count)]


def write(folder, lines, ending="\n"):
    for i in range(13):
        Image.fromarray(np.full((30, 40, 3), i, np.uint8)).save(folder / f"p{i}.png")
    (folder / "a.jsonl").write_bytes(ending.join(x if isinstance(x, str) else json.dumps(x) for x in lines).encode())
    return folder / "a.jsonl"


def both(file, split, monkeypatch, **sizes):
    whole = jsonl.open_jsonl_source(str(file), split, "segmentation", max_objects=7)
    with monkeypatch.context() as patch:
        for name, value in ({"LARGE": 1} | sizes).items():
            patch.setattr(jsonl_large, name, value)
        large = jsonl.open_jsonl_source(str(file), split, "segmentation", max_objects=7)
    assert isinstance(large.lines, jsonl_large.Lines) and not isinstance(whole.lines, jsonl_large.Lines)
    return whole, large


@pytest.mark.parametrize(
    "quirk", ["plain", "windows", "byte order mark", "blank lines", "splits", "ids", "tasks", "escapes"]
)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_same_lines(tmp_path, monkeypatch, quirk, split):
    lines: list = rows()
    for i, row in enumerate(lines):
        if quirk == "splits":
            row["split"] = ("train", "val")[i % 2]
        if quirk == "ids":
            row["id"] = f"id {i}"
        if quirk == "tasks" and i % 3 == 0:
            row.pop("boxes")
            row |= {"task": "vqa", "answers": ["red"]}
        if quirk == "escapes":
            row["image"] = f".\\p{i % 13}.PNG" if i % 2 else row["image"]
    lines = ["", *lines[:5], "  ", *lines[5:], ""] if quirk == "blank lines" else lines
    file = write(tmp_path, lines, "\r\n" if quirk == "windows" else "\n")
    if quirk == "byte order mark":
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    whole, large = both(file, split, monkeypatch, _BLOCK=301)
    assert list(large.lines) == list(whole.lines) and len(whole) > 0
    assert outlines.task_counts(large) == outlines.task_counts(whole)
    assert set(outlines.picture_files(large)) == set(outlines.picture_files(whole))
    assert np.array_equal(large[0].target.mask, whole[0].target.mask)


def refusal(tmp_path, monkeypatch, lines):
    monkeypatch.setattr(jsonl_large, "LARGE", 1)
    with pytest.raises(DataError) as error:
        jsonl.open_jsonl_source(str(write(tmp_path, lines)), "train", "segmentation", max_objects=7)
    return str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"image": "p1.png", ', "a.jsonl:39: expected JSON, got a malformed line"),
        ({"image": "p1.png", "query": "x"}, "a.jsonl:39: target: expected exactly one of"),
        ({"image": "p1.png", "boxes": []}, "a.jsonl:39: query: expected a string"),
        ({"query": "x", "boxes": []}, "a.jsonl:39: image: expected a path"),
        ("[1]", "a.jsonl:39: expected a JSON object"),
        (
            {"image": "p1.png", "query": "x", "boxes": [], "split": "train"},
            "split: expected it in every line or in none",
        ),
    ],
)
def test_faults_of_shape_are_found_at_once(tmp_path, monkeypatch, bad, message):
    monkeypatch.setattr(jsonl_large, "CHECKED", 1)
    assert message in refusal(tmp_path, monkeypatch, [*rows(38), bad, *rows(3)])


def test_ids_that_stand_twice_and_other_formats(tmp_path, monkeypatch):
    text = refusal(tmp_path, monkeypatch, [row | {"id": str(i % 39)} for i, row in enumerate(rows())])
    assert "a.jsonl:40: id: expected a name that no other line has" in text
    text = refusal(tmp_path, monkeypatch, [{"image": "p1.png", "problem": "x", "solution": [1, 2, 3, 4]}] * 9)
    assert "VLM-R1" in text


def test_another_fault_is_found_when_its_line_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl_large, "CHECKED", 1)
    monkeypatch.setattr(jsonl_large, "LARGE", 1)
    bad = {"image": "p1.png", "query": "x", "boxes": [[0.1, 0.1, 0.5, 0.5]], "split": "train"}
    lines = [row | {"split": "train"} for row in rows(5)]
    file = write(tmp_path, [*lines, bad])
    source = jsonl.open_jsonl_source(str(file), "train", "segmentation", max_objects=7)
    assert len(source) == 6 and source[4].query == "thing 4"
    with pytest.raises(ImageError, match=r"a\.jsonl:6: boxes: expected coordinates in pixels"):
        source[5]


def test_few_pictures_and_several_pictures(tmp_path, monkeypatch, caplog):
    file = write(tmp_path, [{"image": f"p{i % 2}.png", "query": "x", "boxes": []} for i in range(20)])
    for split in ("train", "heldout"):
        whole, large = both(file, split, monkeypatch)
        assert list(large.lines) == list(whole.lines) and len(whole) == 10
    file = write(tmp_path, [*rows(), {"image": ["p1.png", "p2.png"], "query": "x", "boxes": []}])
    monkeypatch.setattr(jsonl_large, "LARGE", 1)
    source = jsonl.open_jsonl_source(str(file), "train", "segmentation", max_objects=7)
    assert isinstance(source.lines, tuple) and "it is read as a whole" in caplog.text


def test_worker_processes_get_places_and_not_lines(tmp_path, monkeypatch):
    _, large = both(write(tmp_path, rows()), "train", monkeypatch)
    data = pickle.dumps(large)
    assert pickle.loads(data)[0].query == large[0].query and b"thing" not in data
