"""Rows whose keys the user names, on an invented file about videos and pictures; faults are refused or counted."""

import json

import numpy as np
import pytest

from dtr1_jax.config import ConfigError
from dtr1_jax.data.conversion import field_rows
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl
from dtr1_jax.twin import masks

SIZE = (64, 48)
FIELDS = "rows:samples,query:implicit_query,video:clip.path,masks:rle,task:kind_of_task,category:kind,level:difficulty"
PICTURE = "query:q,image:photo,"


def rle(x):
    """A mask of 10 x 10 pixels from (x, 5) on."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[5:15, x : x + 10] = True
    found = masks.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


def videos(case, *names, frames=3):
    for name in names:
        case.photos(frames, SIZE, f"JPEGImages/{name}")


def sample(path="JPEGImages/bear", **changes):
    value = {"implicit_query": "what fears  the bees", "clip": {"path": path, "fps": 24}, "kind": "Spatial",
             "kind_of_task": "Segmentation", "difficulty": "L3", "rle": {"0": rle(5), "2": [rle(20), None, rle(40)]},
             "boxes": {"0": [5, 5, 15, 15], "2": [[20, 5, 30, 15], [40, 5, 50, 15]]}}  # fmt: skip
    return value | changes


def document(case, *samples, name="invented.json", **more):
    (case.root / name).write_text(json.dumps({"version": 1, "samples": list(samples)} | more))
    return case.root / name


def test_a_file_of_videos_becomes_lines_that_a_run_reads(case):
    videos(case, "bear", "bees", "home")
    answer = {"rle": None, "kind_of_task": "vqa", "answer": ["two", "2"], "options": ["one", "two", "2"]}
    found = case.convert(
        document(case, sample(), sample("JPEGImages/bees", kind="colour", difficulty=7), sample(**answer)),
        fields=f"{FIELDS},answers:answer,choices:options",
    )
    first, second, third = found.lines
    assert first["video"] == "../JPEGImages/bear" and first["query"] == "what fears the bees"
    assert first["task"] == "segmentation" and first["oracle"] == {"category": "spatial", "level": 3}
    assert first["rles"] == {"0": [rle(5)], "2": [rle(20), None, rle(40)]} and "oracle" not in second
    assert (third["task"], third["answers"], third["choices"]) == ("vqa", ["two", "2"], ["one", "two", "2"])
    for text in (
        "rows by --fields (rows from samples, query from implicit_query, video from clip.path, masks from rle",
        "3 lines (2 with rles, 1 with answers) of 3 queries", "fields of its first row: implicit_query, clip, kind",
        "1 rows whose category is none of semantic, spatial, count, temporal: used without it (such as colour)",
        "1 rows whose level is none of 1 to 4: used without it (such as 7)",
    ):  # fmt: skip
        assert text in found.text
    examples = [e for split in ("train", "heldout") for e in jsonl.open_jsonl_source(
        str(case.root / "out" / "mine.jsonl"), split, "vqa", max_objects=3)]  # fmt: skip
    (bear,) = [e for e in examples if e.category == "spatial" and e.task == "segmentation"]
    assert bear.level == 3 and bear.video.index.tolist() == [0, 2] and len(bear.target.tracks) == 2
    np.testing.assert_array_equal(bear.target.masks[1], masks.decode(rle(20)) | masks.decode(rle(40)))
    assert [e.target.references for e in examples if e.task == "vqa"] == [("two", "2")]


@pytest.mark.parametrize(("frame", "scale"), [("pixel", (1, 1)), ("unit", SIZE), ("norm1000", (0.064, 0.048))])
def test_boxes_of_a_video_in_the_frame_that_the_user_says(case, frame, scale):
    videos(case, "bear", "bees")

    def scaled(box):
        return [round(v / s, 4) for v, s in zip(box, scale * 2)]

    boxes = {"0": scaled([5, 6, 16, 15]), "1": [None, scaled([8, 9, 32, 24])], "2": [scaled([32, 6, 48, 15]), None]}
    mapping = "rows:samples,query:implicit_query,video:clip.path,boxes:boxes,task:kind_of_task"
    (row,) = case.convert(
        document(case, sample(boxes=boxes, kind_of_task="grounding")), fields=mapping, frame=frame, order="xyxy"
    ).lines
    first, second = row["tracks"]
    assert list(first) == ["0", "1", "2"] and first["1"] is None and list(second) == ["1"]
    assert first["0"] == pytest.approx([5, 6, 16, 15], abs=0.05)
    assert first["2"] == pytest.approx([32, 6, 48, 15], abs=0.05)
    assert second["1"] == pytest.approx([8, 9, 32, 24], abs=0.05) and row["task"] == "grounding"


def test_boxes_need_the_frame(case):
    videos(case, "bear")
    path = document(case, sample())
    with pytest.raises(ConfigError, match=r"--fields with boxes:boxes needs --frame"):
        case.convert(path, fields="rows:samples,query:implicit_query,video:clip.path,boxes:boxes")
    with pytest.raises(DataError, match="set --frame=pixel"):
        case.convert(path, fields="rows:samples,query:implicit_query,video:clip.path,boxes:boxes", frame="unit")


def test_masks_as_png_by_the_name_of_their_frame(case):
    videos(case, "bear")
    (case.root / "mask").mkdir()
    for name in ("0", "2"):
        (case.root / "mask" / f"{name}.png").write_bytes((case.root / "0.png").read_bytes())
    value = {"0.png": "mask/0.png", "2.png": "mask/2.png"}
    (row,) = case.convert(document(case, sample(rle=value)), fields=FIELDS).lines
    assert row["masks"] == {"0": "../mask/0.png", "2": "../mask/2.png"}


def test_a_list_of_frames_and_a_list_of_masks(case):
    videos(case, "bear", frames=4)
    frames = ["JPEGImages/bear/1.png", "JPEGImages/bear/3.png"]
    (row,) = case.convert(document(case, sample(frames, rle=[rle(5), None])), fields=FIELDS).lines
    assert row["rles"] == {"1": [rle(5)], "3": [None]}
    (row,) = case.convert(document(case, sample(rle=[rle(5)] * 4)), fields=FIELDS).lines
    assert list(row["rles"]) == ["0", "1", "2", "3"]


def test_pictures(case):
    rows = [{"q": f"q{k}", "photo": f"{k}.png"} for k in range(3)]
    said = {"frame": "pixel", "order": "xyxy"}
    boxes = case.rows([r | {"b": [10, 20, 30, 40]} for r in rows], fields=PICTURE + "boxes:b", **said)
    assert boxes.boxes == [[[10, 20, 30, 40]]] * 3 and "by --frame or --box" in boxes.text
    polygons = case.rows([r | {"m": [[10, 20, 30, 20, 30, 40]]} for r in rows], fields=PICTURE + "masks:m", **said)
    assert polygons.lines[0]["polygons"] == [[10, 20, 30, 20, 30, 40]]
    png = case.rows([r | {"m": r["photo"]} for r in rows], fields=PICTURE + "masks:m")
    assert png.lines[2]["mask"] == "../2.png"
    words = case.rows([r | {"a": 2} for r in rows], "data.json", fields=PICTURE + "answers:a")
    assert words.lines[0]["answers"] == ["2"] and words.lines[0]["task"] == "vqa"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rle": {"0": rle(5) | {"size": [48, 63]}}}, "1 masks of another size than their video (such as bear: [48"),
        ({"rle": {"7": rle(5)}}, "1 videos with frame numbers that they do not have (such as bear: 7)"),
        ({"rle": [rle(5)]}, "1 videos with another number of targets than of frames (such as bear: 1 and 3)"),
        ({"rle": {"0": "no.png"}}, "1 pictures that are not found"), ({"rle": {"0": 3}}, "1 masks of a video that are"),
        ({"rle": 3}, "1 targets of a video that are not by frame"), ({"rle": {}}, "1 targets of a video that are not"),
        ({"clip": {"path": "JPEGImages/empty"}}, "1 videos that cannot be read"),
    ],
)  # fmt: skip
def test_faulty_targets_of_videos_are_counted(case, change, reason):
    videos(case, "bear")
    (case.root / "JPEGImages" / "empty").mkdir()
    found = case.convert(document(case, sample(), sample(**change)), fields=FIELDS)
    assert f"left out: {reason}" in found.text and len(found.lines) == 1


def test_rows_that_are_the_values_of_an_object_and_a_mapping_in_a_file(case):
    (case.root / "all.json").write_text(json.dumps({"a": {"q": "x", "photo": "0.png", "a": "y"}, "b": 3}))
    (case.root / "fields.json").write_text(json.dumps({"rows": "*", "query": "q", "image": "photo", "answers": "a"}))
    found = case.convert(case.root / "all.json", fields=str(case.root / "fields.json"))
    assert len(found.lines) == 1 and "1 rows that are no JSON objects" in found.text


ROW = {"q": "x", "photo": "0.png", "a": "y"}
FAULTS = [  # (changes of a row about a picture, more fields, words of the report)
    ({"q": " "}, "", "1 rows without a query"), ({"photo": None}, "", "1 rows without a picture or video"),
    ({"photo": "none.png"}, "", "1 pictures that are not found"), ({"a": None}, "", "1 rows without a target"),
    ({"a": ""}, "", "1 answers that are neither a text nor a list"),
    ({"a": {"x": 1}}, "", "1 answers that are neither"),
    ({"a": [True]}, "", "1 answers that are neither"), ({"t": "captioning"}, ",task:t", "1 rows whose task is none of"),
    ({"t": "grounding"}, ",task:t", "1 rows of the task grounding without a target"),
    ({"m": "0.png"}, ",masks:m", "1 rows with answers beside masks or boxes"),
    ({"a": None, "m": [[1, 2]]}, ",masks:m", "1 masks that are neither RLEs, polygons"),
    ({"a": None, "m": [[1, 2, 3, 4, 5, 6]]}, ",masks:m", "1 polygons without --frame=pixel"),
    ({"a": None, "m": 7}, ",masks:m", "1 masks that are neither"), ({"c": ["x"]}, ",choices:c", "1 rows whose choices"),
    ({"c": ["x", "z"]}, ",choices:c", "1 rows whose choices"),
    ({"v": 3}, ",video:v", "1 videos that are neither a path"),
    ({"v": ["a/1.jpg", "b/1.jpg"]}, ",video:v", "1 videos whose frames are in several folders"),
    ({"v": "none"}, ",video:v", "1 videos that are not found"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_faulty_rows_are_counted(case, number):
    change, more, reason = FAULTS[number]
    good = ROW | {"t": "vqa", "m": None, "c": None, "v": None}
    rows = [good, good | change]
    if more.startswith((",masks", ",choices", ",video")):
        rows.append(good | change)
        reason = reason.replace("1 ", "2 ", 1)
    found = case.rows(rows, fields=PICTURE + "answers:a" + more)
    assert f"left out: {reason}" in found.text and len(found.lines) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query:q", "expected image or video and one of masks, boxes, answers"), ("", "expected query"),
        ("query:q,image:i,answer:a", "names of rows, query, .*got 'answer'"), ("query,image:i,masks:m", "got 'query'"),
        ("query:q,query:r,image:i,masks:m", "got 'a name twice'"), ("image:i,masks:m", "expected query among"),
    ],
)  # fmt: skip
def test_mappings_that_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        field_rows.parse_fields(text)


def test_keys_that_no_row_has(case):
    path = case.write([ROW])
    with pytest.raises(DataError, match=r"--fields=boxes:bb,query:Q: no row has .* the first row has q, photo, a"):
        case.convert(path, fields="boxes:bb,query:Q,image:photo", frame="pixel")
    with pytest.raises(ConfigError, match="--fields: expected NAME:KEY"):
        case.convert(path, fields="question:q")
    path = document(case, sample())
    with pytest.raises(DataError, match='expected an object with the list "rows"'):
        case.convert(path, fields="rows:rows,query:q,image:photo,answers:a")
    (case.root / "many.json").write_text("{\n}")
    with pytest.raises(DataError, match="name their list with rows:KEY"):
        case.convert(case.root / "many.json", fields="query:q,image:photo,answers:a")
    with pytest.raises(DataError, match="expected a file of rows for --fields"):
        case.convert(case.root, fields="query:q,image:photo,answers:a")
