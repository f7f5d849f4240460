"""Video lists of YouTube-VIS: masks by frame, and each quirk read right or left out by name."""

import json

import numpy as np
import pytest

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl
from dtr1_jax.twin import masks

SIZE = (64, 48)


def rle(x):
    """A mask of 10 x 10 pixels from (x, 5) on."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[5:15, x : x + 10] = True
    found = masks.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


def value(**changes):
    """One video of three frames with a dog that moves to the right and is out of sight at last."""
    names = ["a/00000.png", "a/00005.png", "a/00010.png"]
    note = {"id": 1, "video_id": 1, "category_id": 3, "segmentations": [rle(5), rle(20), None], "iscrowd": 0}
    video = {"id": 1, "file_names": names, "width": SIZE[0], "height": SIZE[1], "length": 3}
    return {"videos": [video | changes.pop("video", {})], "categories": [{"id": 3, "name": "dogs"}],
            "annotations": [note | changes.pop("note", {})]} | changes  # fmt: skip


def folder(case, document, frames=("00000", "00005", "00010"), place="JPEGImages/a"):
    case.photos(1, SIZE, place)
    photo = case.root / place / "0.png"
    for name in frames:
        (case.root / place / f"{name}.png").write_bytes(photo.read_bytes())
    photo.unlink()
    (case.root / "instances.json").write_text(json.dumps(document))
    return case.root / "instances.json"


GOOD = {
    "plain": (value(), "JPEGImages/a"), "folder beside the file": (value(), "a"),
    "train/JPEGImages": (value(), "train/JPEGImages/a"),
    "uncompressed": (value(note={"segmentations": [{"size": [48, 64], "counts": [5 * 48 + 5, 10, 64 * 48 - 5 * 48 - 15]},  # noqa: E501
        rle(20), None]}), "JPEGImages/a"),
    "ids as text": (value(note={"video_id": "1", "category_id": "3"}), "JPEGImages/a"),
    "backslashes": (value(video={"file_names": ["a\\00000.png", "a\\00005.png", "a\\00010.png"]}), "JPEGImages/a"),
    "an empty list for no mask": (value(note={"segmentations": [rle(5), rle(20), []]}), "JPEGImages/a"),
    "polygons": (value(note={"segmentations": [[[5, 5, 15, 5, 15, 15, 5, 15]], rle(20), None]}), "JPEGImages/a"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_masks_by_frame(case, name):
    document, place = GOOD[name]
    result = case.convert(folder(case, document, place=place))
    (line,) = result.lines
    assert line["query"] == "Find every dog." and list(line["rles"]) == ["0", "1", "2"] and "YouTube-VIS" in result.text
    source = jsonl.open_jsonl_source(str(case.root / "out" / "mine.jsonl"), "train", "segmentation", max_objects=7)
    assert source[0].target.masks[1][5:15, 20:30].all() and source[0].target.masks[1].sum() == 100
    assert source[0].target.masks[0].any() and not source[0].target.masks[2].any()


BAD = {
    "videos that are not found": value(video={"file_names": ["b/00000.png"] * 3}),
    "videos with missing frames": value(video={"file_names": ["a/00000.png", "a/00005.png", "a/00011.png"]}),
    "frames are not in the order": value(video={"file_names": ["a/00005.png", "a/00000.png", "a/00010.png"]}),
    "several folders or outside": value(video={"file_names": ["../a/00000.png"] * 3}),
    "videos without file_names": value(video={"file_names": []}),
    "videos without an annotation": value(note={"video_id": 2}),
    "an annotation of an unknown category": value(note={"category_id": 9}),
    "objects without a mask for each frame": value(note={"segmentations": [None]}),
    "or crowds, with their label": value(note={"iscrowd": 1}),
    "neither RLE nor polygons": value(note={"segmentations": [{"a": 1}, None, None]}),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_left_out_by_name(case, reason):
    with pytest.raises(DataError, match=f"none that can be used: .*{reason}"):
        case.convert(folder(case, BAD[reason]))


def test_a_file_without_annotations(case):
    with pytest.raises(DataError, match="got no annotations"):
        case.convert(folder(case, {"videos": [], "categories": []}))


def test_videos_with_one_json_of_questions(case):
    place = case.root / "videos" / "v1"
    folder(case, {}, place="videos/v1")
    (case.root / "instances.json").unlink()
    rows = [{"id": "1", "video": "v1", "conversations": [{"from": "human", "value": "<video>\nWhat is it?"},
             {"from": "gpt", "value": "a dog"}]}, {"video": "v2", "question": "?", "answer": "a"}]  # fmt: skip
    case.write(rows, "qa.json")
    result = case.convert()
    (line,) = result.lines
    assert (
        line == {"video": "../videos/v1", "query": "What is it?", "task": "vqa", "answers": ["a dog"]}
        and place.is_dir()
    )
    assert "left out: 1 " in result.text
