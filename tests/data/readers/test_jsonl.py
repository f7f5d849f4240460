import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl
from dtr1_jax.twin import masks

W, H = 20, 10


@pytest.fixture
def data(tmp_path):
    """Writes lines beside a picture of 20 x 10 pixels, and opens them as a source."""
    Image.new("RGB", (W, H), "white").save(tmp_path / "a.png")

    def write(*rows, split="train", raw=None, **more):
        file = tmp_path / "data.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file.write_bytes(raw if raw is not None else "\n".join(lines).encode())
        return jsonl.open_jsonl_source(str(file), split, "segmentation", **({"max_objects": 7} | more))

    write.folder = tmp_path
    return write


def line(**fields):
    return {"image": "a.png", "query": "what is red"} | fields


LEFT = np.zeros((H, W), bool)
LEFT[:, :5] = True


@pytest.mark.parametrize(
    "target_field",
    [
        {"boxes": [[0, 0, 5, 10]]},
        {"boxes": [[-7, -7, 5, 99.5]]},
        {"polygons": [[0, 0, 5, 0, 5, 10, 0, 10]]},
        {"rle": {"size": [H, W], "counts": [0, 50, 150]}},
        {"rle": [{"size": [H, W], "counts": masks.encode(LEFT)["counts"].decode()}]},
        {"mask": "mask.png"},
    ],
)
def test_every_form_of_the_same_target(data, target_field):
    Image.fromarray(LEFT.astype(np.uint8) * 255).save(data.folder / "mask.png")
    example = data(line(**target_field))[0]
    np.testing.assert_array_equal(example.target.mask, LEFT)
    np.testing.assert_array_equal(example.target.boxes, [[0, 0, 0.25, 1]])
    assert example.target.boxes.dtype == np.float32 and example.image.shape == (H, W, 3)
    assert (example.uid, example.query, example.task) == ("data.jsonl:1", "what is red", "segmentation")
    assert example.scene == () and example.answer_ids is None and example.target.ignore is None


@pytest.mark.parametrize("empty", [{"boxes": []}, {"polygons": []}, {"rle": []}, {"mask": "empty.png"}])
def test_an_empty_target(data, empty):
    Image.new("L", (W, H)).save(data.folder / "empty.png")
    target = data(line(**empty))[0].target
    assert not target.mask.any() and target.mask.shape == (H, W) and target.boxes.shape == (0, 4)


def test_several_objects_have_a_box_each(data):
    target = data(line(polygons=[[0, 0, 5, 0, 5, 10, 0, 10], [10, 0, 20, 0, 20, 5, 10, 5]]))[0].target
    np.testing.assert_array_equal(target.boxes, [[0, 0, 0.25, 1], [0.5, 0, 1, 0.5]])
    assert target.mask.sum() == 50 + 50


def test_a_box_of_fractions_fills_the_pixels_it_touches(data):
    target = data(line(boxes=[[1.5, 2.5, 3.2, 4]]))[0].target
    assert np.argwhere(target.mask).tolist() == [[y, x] for y in (2, 3) for x in (1, 2, 3)]
    np.testing.assert_allclose(target.boxes, [[0.075, 0.25, 0.16, 0.4]], rtol=1e-6)


OBJECTS = [{"label": "cup", "box": [0, 0, 5, 5]}, {"label": "key", "box": [10, 0, 20, 10], "attributes": ["red"]}]


@pytest.mark.parametrize("task", ["vqa", "summary"])
def test_answers_in_words(data, task):
    example = data(line(objects=OBJECTS, answers=["2", "two"], task=task))[0]
    assert example.task == task and example.target.references == ("2", "two")
    assert not example.target.mask.any() and example.target.boxes.shape == (0, 4)
    assert len(example.scene) == 2 and example.answer_ids is None
    assert data(line(boxes=[]))[0].target.references == ()


def test_a_scene_and_its_answer(data):
    example = data(line(objects=OBJECTS, boxes=[[10, 0, 20, 10]]))[0]
    assert [(o.id, o.label, o.box, o.attributes) for o in example.scene] == [
        (1, "cup", (0, 0, 0.25, 0.5), ()), (2, "key", (0.5, 0, 1, 1), ("red",)),
    ]  # fmt: skip
    assert example.scene[1].mask.sum() == 100 and example.answer_ids == (2,)
    assert data(line(objects=OBJECTS, boxes=[]))[0].answer_ids == ()
    assert data(line(objects=OBJECTS, boxes=[[10, 0, 20, 9]]))[0].answer_ids is None
    largest = data(line(objects=OBJECTS, boxes=[]), max_objects=1)[0]
    assert [o.label for o in largest.scene] == ["key"]
    small = data(line(objects=OBJECTS, boxes=[[0, 0, 5, 5]]), max_objects=1)[0]
    assert [o.label for o in small.scene] == ["cup"] and small.answer_ids == (1,), "objects of the target are kept"


def test_several_pictures(data):
    """The target is in the first; the policy sees all."""
    Image.new("RGB", (5, 7), "red").save(data.folder / "b.png")
    example = data(line(image=["a.png", "b.png"], boxes=[[0, 0, 5, 10]]))[0]
    assert example.image.shape == (H, W, 3) and [m.shape for m in example.visuals] == [(H, W, 3), (7, 5, 3)]
    np.testing.assert_array_equal(example.target.mask, LEFT)
    assert data(line(image=["a.png"], boxes=[]))[0].visuals == ()
    with pytest.raises(image_files.ImageError, match=r"no\.png"):
        data(line(image=["a.png", "no.png"], boxes=[]))[0]


def test_choices_stand_behind_the_query(data):
    example = data(line(answers=["a dog"], choices=["a cat", "a dog"], task="vqa"))[0]
    assert example.query.endswith(" (A) a cat (B) a dog") and example.target.choices == ("a cat", "a dog")


def test_optional_fields(data):
    example = data(line(boxes=[], id="kitchen 4", task="grounding"))[0]
    assert (example.uid, example.task) == ("kitchen 4", "grounding")


def test_absolute_paths_blank_lines_and_a_byte_order_mark(data):
    row = json.dumps(line(boxes=[], image=str(data.folder / "a.png"))).encode()
    source = data(raw=b"\xef\xbb\xbf" + row + b"\r\n\r\n" + row + b"\n\n")
    assert [source[i].uid for i in range(2)] == ["data.jsonl:1", "data.jsonl:3"]


def test_splits_by_field(data):
    rows = [line(boxes=[], split=s, id=str(i)) for i, s in enumerate(("train", "val", "train", "test"))]
    uids = {split: [e.uid for e in data(*rows, split=split)] for split in ("train", "val", "heldout", "test")}
    assert uids == {"train": ["0", "2"], "val": ["1"], "heldout": ["1"], "test": ["3"]}
    with pytest.raises(DataError, match="split 'mine', got 4 lines of split test, train, val"):
        data(*rows, split="mine")
    with pytest.raises(
        DataError, match=r"data\.jsonl:5: split: expected it in every line or in none, got 1 lines without"
    ):
        data(*rows, line(boxes=[]))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "test"])
def test_names_of_the_held_out_split(data, name):
    rows = [line(boxes=[], split=s, id=str(i)) for i, s in enumerate(("train", name))]
    assert [e.uid for e in data(*rows, split="heldout")] == ["1"]


def files_of(source):
    return [str(item.image.name) for item in source.lines]


def parts(data, rows):
    return {split: files_of(data(*rows, split=split)) for split in ("train", "heldout")}


def test_a_fifth_of_the_pictures_is_held_out_whatever_their_order(data):
    names = [f"{k}.png" for k in range(200)]
    rows = [line(boxes=[], image=name) for name in names]
    found = parts(data, rows)
    assert set(found["heldout"]) == json_files.held_out_part(names) and 20 < len(found["heldout"]) < 60
    assert found["train"] == [name for name in names if name not in found["heldout"]]
    assert set(parts(data, rows[::-1])["heldout"]) == set(found["heldout"])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_of_a_few_pictures_one_is_held_out_and_half_are_not(data, count):
    names = [f"{k}.png" for k in range(count)]
    found = parts(data, [line(boxes=[], image=name) for name in names])
    assert 1 <= len(found["heldout"]) <= count // 2 and sorted(found["train"] + found["heldout"]) == names


def test_no_picture_is_in_both_parts(data):
    found = parts(data, [line(boxes=[], image=f"{k % 6}.png") for k in range(30)])
    assert not set(found["train"]) & set(found["heldout"]) and len(found["train"]) + len(found["heldout"]) == 30
    assert len(found["heldout"]) == 5 * len(set(found["heldout"]))
    rows = [line(boxes=[], image=name) for name in (["a.png", "b.png"], "c.png", ["c.png", "./b.png"], "d.png")]
    assert sorted(parts(data, rows).values()) == [["a.png", "c.png", "c.png"], ["d.png"]]


def test_one_picture_cannot_be_divided(data):
    rows = [line(boxes=[]) for _ in range(11)]
    assert len(data(*rows)) == 11
    with pytest.raises(DataError, match='11 lines without "split" about one picture'):
        data(*rows, split="heldout")


@pytest.mark.parametrize(
    "row, message",
    [
        ("{", "data.jsonl:1: expected JSON"),
        ("[" * 100_000, "data.jsonl:1: expected JSON"),
        ('{"image": NaN}', "data.jsonl:1: expected JSON"),
        ('{"boxes": [[0, 0, 1' + "0" * 5000 + ", 1]]}", "data.jsonl:1: "),
        ("[]", "data.jsonl:1: expected a JSON object, got []"),
        (line(), "target: expected exactly one of boxes, polygons, rle, mask, answers, got none of them"),
        (
            line(boxes=[], mask="a.png"),
            "target: expected exactly one of boxes, polygons, rle, mask, answers, got boxes and mask",
        ),
        (line(boxes=[], image=""), "image: expected a path or a list of 1 to 16 paths, got the string ''"),
        (line(boxes=[], image=[]), "image: expected a path or a list of 1 to 16 paths, got"),
        (line(boxes=[], image=["a.png", 3]), "image: expected a path or a list of 1 to 16 paths, got"),
        (line(boxes=[], image=["a.png"] * 17), "image: expected a path or a list of 1 to 16 paths, got"),
        (line(boxes=[], query=7), "query: expected a string that is not blank, got 7"),
        (line(boxes=[], query="\ud800"), "query: expected a string"),
        (line(boxes=[], task="caption"), "task: expected one of segmentation, grounding, vqa, summary, got the string"),
        (
            line(boxes=[], task="vqa"),
            "target: expected answers for vqa and summary, one of boxes, polygons, rle, mask for other tasks, got boxes"
            " for vqa",
        ),
        (
            line(answers=["2"]),
            "target: expected answers for vqa and summary, one of boxes, polygons, rle, mask for other tasks, got"
            " answers for seg",
        ),
        (line(answers=[], task="vqa"), "answers: expected a list of 1 to 64 strings that are not blank"),
        (line(answers=["2", " "], task="vqa"), "answers: expected a list of 1 to 64 strings that are not blank"),
        (line(answers=["2"], choices=["2"], task="vqa"), "choices: expected a list of 2 to 26 different strings"),
        (line(answers=["2"], choices=["1", "3"], task="vqa"), "choices: expected a list of 2 to 26 different strings"),
        (line(answers=["2"], choices=["2", "2"], task="vqa"), "choices: expected a list of 2 to 26 different strings"),
        (line(answers=["2"], choices=7, task="vqa"), "choices: expected a list of 2 to 26 different strings"),
        (line(answers=["2"], choices=["1", "2"], task="summary"), "choices: expected a list of 2 to 26 different str"),
        (line(boxes=[[5, 0, 5, 9]]), "boxes: expected a list of [x1, y1, x2, y2] in pixels with x1 < x2"),
        (line(boxes=[[True, 0, 5, 9]]), "boxes: expected"),
        (line(boxes=[["0", 0, 5, 9]]), "boxes: expected"),
        (line(boxes=[0, 0, 5, 9]), "boxes: expected"),
        (line(boxes=[[0, 0, 1e999, 9]]), "expected"),
        (line(polygons=[[0, 0, 5, 5]]), "polygons: expected a list of [x, y, x, y, ...] in pixels, each of at least 3"),
        (line(rle={"size": [1, 1]}), "rle: expected an object with size and counts"),
        (line(mask=3), "mask: expected a path, got 3"),
        (line(boxes=[], id=0.5), "id: expected a string that is not blank, got the number 0.5"),
        (line(boxes=[], objects={}), "objects: expected a list, got an object"),
        (line(boxes=[], objects=[OBJECTS[0], {"label": "x"}]), "objects[1]: expected a label, a box and"),
        (line(boxes=[], objects=[{"label": "</think>", "box": [0, 0, 1, 1]}]), "objects[0].label: expected 1 to 64"),
        (line(boxes=[], objects=[OBJECTS[0] | {"label": "x" * 100}]), "xxx'... of 100 characters"),
        (line(boxes=[], objects=[OBJECTS[0] | {"attributes": "red"}]), "objects[0].attributes: expected a list of at"),
        (line(boxes=[], objects=[OBJECTS[0] | {"attributes": ["red", "a<b"]}]), "got the string 'a<b' of 3 characters"),
    ],
)
def test_bad_lines_are_refused_by_place_field_and_value(data, row, message):
    with pytest.raises(DataError) as refusal:
        data(row)
    assert "data.jsonl:1: " in str(refusal.value) and message in str(refusal.value), str(refusal.value)[:500]


def test_faults_are_listed_by_kind_with_the_number_of_further_ones(data):
    with pytest.raises(DataError) as refusal:
        data(line(boxes=[]), *[line(boxes=3)] * 12)
    text = str(refusal.value)
    assert "data.jsonl: 12 faults; correct these lines" in text and "\n" not in text
    assert "data.jsonl:2: boxes" in text and text.endswith("(and 11 more of this kind)")
    with pytest.raises(DataError) as refusal:
        data(*[line(boxes=3)] * 3, *[line(boxes=[], id=0.5)] * 2)
    first, second, third = str(refusal.value).splitlines()
    assert "5 faults" in first and "data.jsonl:1: boxes" in second and "data.jsonl:4: id" in third


def test_an_id_is_used_once(data):
    with pytest.raises(DataError, match=r"data\.jsonl:2: id: .* the id of data\.jsonl:1"):
        data(line(boxes=[], id="x"), line(boxes=[], id="x"))


def test_no_lines_and_no_file(data, tmp_path):
    with pytest.raises(DataError, match="got 0 lines"):
        data("")
    with pytest.raises(DataError, match=r"nowhere\.jsonl: cannot be read"):
        jsonl.open_jsonl_source(str(tmp_path / "nowhere.jsonl"), "train", "segmentation", max_objects=7)
    with pytest.raises(DataError, match=r"got a folder with data\.jsonl; set data\.root to the file"):
        jsonl.open_jsonl_source(str(tmp_path), "train", "segmentation", max_objects=7)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"image": "no.png", "boxes": []}, r"no\.png"),
        ({"boxes": [[30, 0, 40, 10]]}, r"data\.jsonl:1: expected boxes in the picture of 20 x 10 pixels, got \[30"),
        ({"boxes": [], "objects": [{"label": "x", "box": [0, 20, 5, 30]}]}, r"data\.jsonl:1: expected boxes in"),
        ({"rle": {"size": [5, 5], "counts": [25]}}, r"data\.jsonl:1: rle: expected .* 20 x 10 pixels, got 5 x 5"),
        ({"rle": {"size": [H, W], "counts": [3]}}, r"data\.jsonl:1: .*200 pixels, got 3"),
        ({"mask": "small.png"}, r"data\.jsonl:1: mask: expected the size of the picture, 20 x 10 pixels, got 3 x 3"),
        ({"mask": "no.png"}, r"data\.jsonl:1: .*no\.png"),
    ],
)
def test_faults_that_need_the_picture_fail_when_indexed(data, fields, message):
    Image.new("L", (3, 3)).save(data.folder / "small.png")
    source = data(line(**fields))
    with pytest.raises(image_files.ImageError, match=message):
        source[0]


KEYS = st.sampled_from(["size", "counts", "label", "box"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)
FIELDS = st.sampled_from(["query", "task", "boxes", "polygons", "rle", "mask", "answers", "id", "split", "objects"])


@settings(max_examples=150, deadline=None)
@given(fields=st.dictionaries(FIELDS, VALUES, max_size=4))
def test_any_line_is_read_or_refused(tmp_path_factory, fields):
    folder = tmp_path_factory.getbasetemp()
    Image.new("RGB", (W, H)).save(folder / "a.png")
    file = folder / "any.jsonl"
    file.write_text(json.dumps(line(boxes=[]) | fields))
    try:
        example = jsonl.open_jsonl_source(str(file), "train", "segmentation", max_objects=7)[0]
    except (DataError, image_files.ImageError):
        return
    assert example.target.mask.shape == (H, W)
