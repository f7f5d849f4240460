"""RefCOCO's release and the JSON form: sentences, boxes, masks and scenes by hand; quirks are read or refused."""

import json

import numpy as np
import pytest
from PIL import Image
from refcoco_folders import NOTES, REFS, boxed, photo_name, ref, sentence, write_photos, write_release

from dtr1_jax.data import image_files, sources
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import refcoco


def open_source(root, split="val", task="segmentation", name="refcoco"):
    return refcoco.open_refcoco_source(name, str(root), split, task, max_objects=7)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_by_hand(tmp_path, protocol, caplog):
    source = open_source(write_release(tmp_path, protocol=protocol))
    assert [q.text for q in source.queries] == ["man on left", "the man", "dog"], "one query for each sentence"
    example = source[2]
    assert (example.uid, example.query, example.task) == ("refcoco/unc/val/8/3", "dog", "segmentation")
    assert (example.benchmark, example.image.shape) == ("refcoco", (30, 40, 3))
    np.testing.assert_array_equal(example.target.boxes, np.array([[20 / 40, 5 / 30, 35 / 40, 25 / 30]], np.float32))
    expected = np.zeros((30, 40), bool)
    expected[5:25, 20:35] = True
    np.testing.assert_array_equal(example.target.mask, expected)
    assert [(o.id, o.label, o.outlined) for o in example.scene] == [(1, "person", True), (2, "dog", True)]
    assert example.answer_ids == (2,) and source[0].answer_ids == (1,)
    assert "2 refs, but the published split has 3811 (a part" in caplog.text
    assert repr(source) == repr(open_source(tmp_path, "unc/val")) and len(open_source(tmp_path, "heldout")) == 3
    assert len(open_source(tmp_path / "refcoco")) == 3, "root may be the folder of the benchmark itself"


def test_the_truth_does_not_choose_the_objects_of_a_given_twin(tmp_path):
    """Of a person and a dog one object stays: the one that is asked for, or without the truth always the larger."""
    source = refcoco.open_refcoco_source("refcoco", str(write_release(tmp_path)), "val", "segmentation", max_objects=1)
    of_person, of_dog = source[0], source[2]
    assert [[o.label for o in one.scene] for one in (of_person, of_dog)] == [["person"], ["dog"]]
    free = [sources.truth_free(source)[i] for i in (0, 2)]
    (kept,) = {one.scene[0].label for one in free}
    assert [one.answer_ids for one in free] == [(1,) if kept == name else None for name in ("person", "dog")]
    assert [one.hidden_objects for one in (of_person, of_dog, *free)] == [1] * 4
    for one, other in zip(free, (of_person, of_dog)):
        np.testing.assert_array_equal(one.target.mask, other.target.mask)
        np.testing.assert_array_equal(one.target.boxes, other.target.boxes)


def test_a_crowd_is_no_hidden_object(tmp_path):
    """A target that is a crowd stands in the scene, and the other objects do too."""
    notes = [note | {"iscrowd": int(note["id"] == REFS[0]["ann_id"])} for note in NOTES]
    example = open_source(write_release(tmp_path, **with_refs({}, notes=notes)))[0]
    assert len(example.scene) == 2 and example.answer_ids == (1,) and example.hidden_objects == 0


def test_splits(tmp_path):
    root = write_release(tmp_path)
    assert [len(open_source(root, split)) for split in ("train", "testA")] == [1, 1]
    with pytest.raises(
        DataError, match=r"one of unc/train, unc/val, .*google/test \(or heldout, which is unc/val\), got"
    ):
        open_source(root, "validation")
    with pytest.raises(DataError, match=r"expected refs\(google\)\.p, got refs\(unc\)\.p"):
        open_source(root, "google/val")
    with pytest.raises(DataError, match="expected refs of split 'testB', got testA, train, val"):
        open_source(root, "testB")
    assert refcoco.divide(root, "refcocog", "heldout") == ("umd", "val")
    assert refcoco.divide(root, "refcoco", "test") == ("google", "test")


def test_counts_of_the_whole_set_are_known_without_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(refcoco.COUNTS["refcoco"]["unc"], "val", (2, 1))
    monkeypatch.setitem(refcoco.SENTENCES, ("refcoco", "unc", "val"), 3)
    open_source(write_release(tmp_path))
    assert not caplog.text


@pytest.mark.parametrize(("split", "sentences"), [("train", 120624), ("val", 10834), ("testA", 5657), ("testB", 5095)])
def test_published_numbers(split, sentences):
    """Three sentences for each ref, nearly: a slip in the table would show."""
    assert 2.5 < sentences / refcoco.COUNTS["refcoco"]["unc"][split][0] < 3
    assert refcoco.SENTENCES["refcoco", "unc", split] == sentences


def with_refs(*changes, notes=NOTES):
    return {"refs": [REFS[0] | change for change in changes], "notes": notes}


QUIRKS = {  # what tools write -> (the fixture, texts of the queries, words of the warning)
    "ids as text": (with_refs({"image_id": "9", "ann_id": "100", "ref_id": "7"}), ["man on left", "the man"], ""),
    "ids as floats": (with_refs({"image_id": 9.0, "ann_id": 100.0}), ["man on left", "the man"], ""),
    "blank sentence": (
        with_refs({"sentences": [sentence(1, " ", " Tall  Man. "), sentence(2, "", " ")]}), ["Tall Man."], "",
    ),
    "plain sentences": (with_refs({"sentences": ["a man"]}), ["a man"], ""),
    "no sentences": (with_refs({}, {"sentences": None}), ["man on left", "the man"], "1 refs without a sentence"),
    "duplicated sentences": (with_refs({"sentences": [sentence(1, "man")] * 2}), ["man", "man"], ""),
    "missing annotation": (with_refs({}, {"ann_id": 5}), ["man on left", "the man"], "annotation that is missing"),
    "missing photo": (with_refs({}, {"image_id": 5}), ["man on left", "the man"], "not in the annotations (such as 5)"),
    "no ref_id": (
        {"refs": [{k: v for k, v in REFS[0].items() if k != "ref_id"}]}, ["man on left", "the man"], "",
    ),
    "empty polygons": (
        with_refs({}, {"ann_id": 101}, notes=[NOTES[0], NOTES[1] | {"segmentation": []}]),
        ["man on left", "the man"], "1 refs to an object that has a box and no outline (such as 101)",
    ),
    "polygon of two points": (
        with_refs({}, {"ann_id": 101}, notes=[NOTES[0], NOTES[1] | {"segmentation": [[1, 2, 3, 4]]}]),
        ["man on left", "the man"], "annotation that is missing or has no shape (such as 101)",
    ),
    "unknown category": (with_refs({}, notes=[NOTES[0] | {"category_id": 77}]), ["man on left", "the man"], ""),
    "non-UTF-8": (with_refs({"sentences": [sentence(1, "café")]}), ["café"], ""),
}  # fmt: skip


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks(tmp_path, caplog, quirk):
    fixture, texts, warning = QUIRKS[quirk]
    source = open_source(write_release(tmp_path, **fixture))
    assert [query.text for query in source.queries] == texts and warning in caplog.text
    assert source[0].target.mask.sum() == 200 and ("left out" in caplog.text) == bool(warning)


def test_parts_crowds_and_exact_boxes(tmp_path):
    """An object of two polygons, a crowd as the target, and a box with hundredths of a pixel."""
    parts = boxed((2, 3, 12, 23), 100, 9, segmentation=[[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14, 10, 14, 14, 10, 14]])
    crowd = boxed((0, 0, 20, 30), 101, 9, iscrowd=1, segmentation={"size": [30, 40], "counts": [0, 600, 600]})
    other = boxed((1, 1, 9, 9), 102, 9, iscrowd=1)
    source = open_source(write_release(tmp_path, notes=[parts | {"bbox": [0.25, 0.5, 13.5, 13.25]}, crowd, other]))
    assert source[0].target.mask.sum() == 32
    np.testing.assert_allclose(source[0].target.boxes[0] * [40, 30, 40, 30], [0.25, 0.5, 13.75, 13.75], atol=1e-5)
    assert source[2].target.mask.sum() == 600 and source[2].target.mask[:, :20].all()
    assert len(source[0].scene) == 1 and len(source[2].scene) == 2, "crowds are no objects, except as the target"


def test_thin_and_wrong_shapes_cost_their_query(tmp_path):
    thin = boxed((2, 3, 12, 23), 100, 9, segmentation=[[2, 3.1, 30, 3.1, 30, 3.2]])
    wrong = boxed((2, 3, 12, 23), 101, 9, segmentation={"size": [30, 40], "counts": [5]})
    source = open_source(write_release(tmp_path, notes=[thin, wrong]))
    with pytest.raises(image_files.ImageError, match="refcoco/unc/val/7/1: the shape is thinner than a pixel"):
        source[0]
    with pytest.raises(image_files.ImageError, match="refcoco/unc/val/8/3: RLE counts: expected a sum of 30 x 40"):
        source[2]


def test_boxes_alone_serve_grounding(tmp_path):
    notes = [note | {"segmentation": []} for note in NOTES]
    source = open_source(write_release(tmp_path, notes=notes), task="grounding")
    example = source[0]
    assert len(source) == 3 and not example.scene[0].outlined and example.task == "grounding"
    with pytest.raises(DataError, match="expected queries, got none to use"):
        open_source(tmp_path)


@pytest.mark.parametrize("layout", ["train2014", "train2017", "images", "coco/train2014", "../train2014"])
def test_photos_beside_the_refs(tmp_path, layout):
    root = write_release(tmp_path / "data")
    (root / "images").rename(tmp_path / "old")
    write_photos(root / layout)
    if layout == "train2017":
        for file in (root / layout).iterdir():
            file.rename(file.with_name(file.name.removeprefix("COCO_train2014_")))
    assert open_source(root)[0].image.shape == (30, 40, 3)


@pytest.mark.parametrize("name", ["C:\\data\\" + photo_name(9), "/data/" + photo_name(9), "../x/../.."])
def test_names_of_photos_that_lead_elsewhere(tmp_path, name):
    root = write_release(tmp_path)
    value = json.loads((root / "refcoco" / "instances.json").read_text())
    value["images"][0]["file_name"] = name
    (root / "refcoco" / "instances.json").write_text(json.dumps(value))
    assert open_source(root)[0].image.shape == (30, 40, 3)


def test_missing_files_say_the_layout(tmp_path, caplog):
    with pytest.raises(
        DataError, match=r"expected refs\(unc\)\.p and instances\.json in .*got no such folder; see docs"
    ):
        open_source(tmp_path / "none")
    (tmp_path / "else.txt").write_text("")
    with pytest.raises(DataError, match=r"got else\.txt"):
        open_source(tmp_path)
    root = write_release(tmp_path / "data")
    folder = root / "images" / "mscoco" / "images" / "train2014"
    (folder / photo_name(9)).unlink()
    with pytest.raises(DataError, match=rf"expected the picture .*{photo_name(9)}, got no such file; expected is refs"):
        open_source(root)
    both = [REFS[0], ref(8, 102, 25, "val", sentence(3, "x"))]
    assert len(open_source(write_release(root, refs=both))) == 3
    (folder / photo_name(9)).unlink()
    source = open_source(root)
    assert f"2 of 3 pictures are missing, such as {folder / photo_name(9)}" in caplog.text
    with pytest.raises(image_files.ImageError, match="no such file"):
        source[0]


def test_a_photo_of_another_size_is_refused(tmp_path):
    root = write_release(tmp_path)
    Image.new("RGB", (41, 30)).save(root / "images" / "mscoco" / "images" / "train2014" / photo_name(9))
    with pytest.raises(image_files.ImageError, match="expected 40 x 30 pixels, the size in refcoco, got 41 x 30"):
        open_source(root)[0]


def test_a_pickle_of_code_is_refused(tmp_path):
    root = write_release(tmp_path)
    (root / "refcoco" / "refs(unc).p").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: refused: the pickle asks for os\.system"):
        open_source(root)
    (root / "refcoco" / "refs(unc).p").write_bytes(b"}.")
    with pytest.raises(DataError, match="expected a list of refs, got an object"):
        open_source(root)


def test_ids_of_coco():
    """As in instances_train2014.json: the first, some after the gaps, and the last."""
    known = {1: "person", 11: "fire hydrant", 13: "stop sign", 27: "backpack", 44: "bottle", 51: "bowl",
             67: "dining table", 70: "toilet", 84: "book", 86: "vase", 90: "toothbrush"}  # fmt: skip
    assert {number: refcoco.COCO_CATEGORIES[number]["name"] for number in known} == known
    assert len(refcoco.COCO_CATEGORIES) == 80


def test_json_form_of_tensorflow_datasets(tmp_path):
    by = {"dataset": "refcoco", "dataset_partition": "unc"}
    rows = [r | by | {"ann": NOTES[0]} for r in REFS] + [REFS[0] | by | {"dataset_partition": "google"}]
    info = {n: {"id": n, "file_name": photo_name(n), "width": 40, "height": 30} for n in (9, 25)}
    anns = {str(n): {"info": info[n], "anns": [a for a in NOTES if a["image_id"] == n]} for n in (9, 25)}
    (tmp_path / "refcoco.json").write_text(json.dumps({"ref": rows, "coco_anns": anns}))
    write_photos(tmp_path / "train2014")
    release = open_source(write_release(tmp_path / "release"))
    for root in (tmp_path, tmp_path / "refcoco.json"):
        source = open_source(root)
        assert [q.uid for q in source.queries] == [q.uid for q in release.queries]
        for a, b in zip(source, release):
            np.testing.assert_array_equal(a.target.mask, b.target.mask)
            np.testing.assert_array_equal(a.target.boxes, b.target.boxes)
            assert [o.label for o in a.scene] == ["person", "bicycle"], "COCO's ids 1 and 2"
    assert [len(open_source(tmp_path, s)) for s in ("google/val", "testA")] == [2, 1]
    with pytest.raises(DataError, match=r"refs of refcoco\+ unc/val, got refcoco google/val, refcoco unc/testA"):
        open_source(tmp_path, name="refcoco+")
    (tmp_path / "refcoco.json").write_text("[]")
    with pytest.raises(DataError, match=r'expected \{"ref"'):
        open_source(tmp_path)
