"""Records of COCO files: ids in several spellings, records that stand twice, crowds that are objects, labels to ask."""

import json
import logging

import pytest
from coco_folders import note, open_source, rectangle, write_coco_folder

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_records
from dtr1_jax.twin import masks

OWN = [{"id": i, "name": name, "supercategory": "kitchen"} for i, name in enumerate(("mug", "lamp", "pan"), 1)]


def change(root, edit):
    """Edits the annotation file of a folder in place."""
    file = root / "annotations" / "instances_train2017.json"
    value = json.loads(file.read_text())
    edit(value)
    file.write_text(json.dumps(value))
    return root


def labels(source):
    return [sorted(o.label for o in source[4 * i].scene) for i in range(len(source) // 4)]


def rle(x1, y1, x2, y2, packed=False):
    mask = masks.from_polygons(rectangle(x1, y1, x2, y2), 30, 40)
    value = masks.encode(mask)
    if packed:
        return {"size": value["size"], "counts": value["counts"].decode()}
    flat, counts, last = mask.T.ravel().tolist(), [0], False
    for pixel in flat:
        if pixel != last:
            counts.append(0)
            last = pixel
        counts[-1] += 1
    return {"size": value["size"], "counts": counts}


@pytest.mark.parametrize("packed", [False, True])
def test_brush_masks_of_a_tool_are_objects(tmp_path, caplog, packed):
    notes = [note(rle(4 * i, 0, 4 * i + 3, 9, packed), 1 + i % 2, i % 3 + 1, crowd=1, number=i) for i in range(9)]
    source = open_source(write_coco_folder(tmp_path, notes, pictures=3))
    assert [len(source[4 * i].scene) for i in range(3)] == [3, 3, 3]
    assert all(source[i].target.ignore is None for i in range(len(source)))
    (record,) = caplog.records
    assert "9 annotations with iscrowd 1 are read as single objects" in record.getMessage()


def rows(**counts):
    """(picture, label, crowd) rows with each region in a picture of its own: label=(singles, crowds)."""
    found = []
    for label, (singles, crowds) in counts.items():
        found += [(len(found) + i, label, i >= singles) for i in range(singles + crowds)]
    return found


def test_crowds_of_coco_stay_crowds_and_those_of_tools_are_objects():
    read = coco_records.crowds_are_objects
    assert read(rows(person=(117, 1), book=(43, 2), broccoli=(24, 1))) == set()
    assert read(rows(person=(60, 3), banana=(0, 1), boat=(1, 2))) == set()  # a small part of COCO
    assert read(rows(mug=(0, 1))) == {"mug"}
    assert read(rows(mug=(0, 12), lamp=(0, 7))) == {"mug", "lamp"}
    assert read(rows(mug=(3, 2), lamp=(4, 1))) == {"mug", "lamp"}  # 3 of 10
    assert read(rows(mug=(0, 4), lamp=(60, 0))) == {"mug"}
    assert read(rows(mug=(2, 2), lamp=(60, 1))) == set()
    twice = [(1, "mug", True), (1, "mug", True)]
    assert read([*rows(lamp=(60, 1)), *twice]) == {"mug", "lamp"}  # COCO has one region of a label in a picture
    assert read([]) == read(rows(mug=(5, 0))) == set()


def test_a_label_with_crowds_only_is_named_and_not_asked_about(tmp_path, caplog):
    notes = [note(rectangle(i, 0, i + 9, 9), 1, i, number=i) for i in range(1, 9)]
    notes.append(note(rle(20, 20, 30, 29), 2, 1, crowd=True, number=99))
    source = open_source(write_coco_folder(tmp_path, notes, pictures=8, categories=OWN[:2]))
    assert "crowd regions and no single object, such as lamp" in caplog.text
    assert not any("lamp" in source[i].query for i in range(4))
    assert any(source[i].target.ignore is None for i in range(len(source)))


def test_ids_and_sizes_are_whole_numbers_in_any_spelling(tmp_path, caplog):
    notes = [note(rectangle(0, 0, 9, 9), "1", "1"), note(rectangle(20, 0, 29, 9), 2.0, 1.0, crowd="0", number="2")]
    root = write_coco_folder(tmp_path, notes, categories=OWN)

    def edit(value):
        value["images"][0] |= {"width": 40.0, "height": "30"}
        value["categories"][0]["id"] = "1"

    assert labels(open_source(change(root, edit))) == [["lamp", "mug"]]
    (record,) = caplog.records
    assert record.getMessage().endswith("left out 1 labels without an annotation (not asked about) (such as pan)")


@pytest.mark.parametrize("value", [True, None, 1.5, [1], {}, "", "one", float("nan")])
def test_values_that_are_no_id(value):
    assert coco_records.find_id({1: "a", "1": "b", "x": "c"}, value) is None


def test_an_exact_id_comes_before_another_spelling():
    table = {1: "number", "1": "text", "02": "padded"}
    found = [coco_records.find_id(table, value) for value in (1, 1.0, "1", "02", 2)]
    assert found == [1, 1, "1", "02", None]


def test_an_id_of_two_pictures_is_left_out_with_its_annotations(tmp_path, caplog):
    notes = [note(rectangle(0, 0, 9, 9), 1 + i % 2, i, number=i) for i in (1, 2, 3)]
    root = write_coco_folder(tmp_path, notes, pictures=3, categories=OWN[:2])
    change(root, lambda value: value["images"].append(value["images"][2] | {"id": 1}))
    source = open_source(root)
    assert [picture.id for picture in source.annotations.pictures] == [2, 3]
    assert "1 picture ids that stand for two files, with their annotations (such as 1: 1.png and 3.png)" in caplog.text


def test_the_same_record_twice_changes_nothing_and_one_file_is_one_picture(tmp_path, caplog):
    notes = [note(rectangle(0, 0, 9, 9), 1, 1, number=1), note(rectangle(20, 0, 29, 9), 2, 7, number=1)]
    root = write_coco_folder(tmp_path, [*notes, notes[0]], categories=OWN[:2])

    def edit(value):
        value["images"] += [value["images"][0], value["images"][0] | {"id": 7}]
        value["categories"].append(value["categories"][0])

    assert labels(open_source(change(root, edit))) == [["lamp", "mug"]]
    text = caplog.text
    assert "left out 1 annotations that stand twice (such as 1)" in text
    assert "kept 1 pictures that stand under several ids, as one picture each (such as 1.png)" in text
    assert "1 annotations with the id of another one (such as 1)" in text


def test_an_id_of_two_categories_is_refused(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), 1)], categories=[*OWN, OWN[1] | {"id": 1}])
    with pytest.raises(DataError, match=r"train2017\.json: category ids that stand for two names: 1 \(mug and lamp\)"):
        open_source(root)


def test_annotations_without_a_picture_and_pictures_without_annotations(tmp_path, caplog):
    notes = [note(rectangle(0, 0, 9, 9), 1, i, number=i + 40) for i in (1, 77, 78)]
    open_source(write_coco_folder(tmp_path, notes, pictures=3))
    assert "2 annotations that refer to no image (such as 117, 118)" in caplog.text
    assert "2 pictures without a usable annotation" in caplog.text


@pytest.mark.parametrize("name", ["kitchen", "0", "12", "-", "background", "Unlabeled", "N/A", "plates"])
def test_labels_that_nobody_annotated_are_not_asked_about(tmp_path, name, caplog):
    """A root category, a name that names nothing, and a label of the user's own without an annotation."""
    notes = [
        note(rectangle(4 * k, 0, 4 * k + 3, 9), 1 + (i + k) % 2, i, number=4 * i + k)
        for i in range(1, 9)
        for k in (0, 1)
    ]
    root = write_coco_folder(tmp_path, notes, pictures=8, categories=[{"id": 0, "name": name}, *OWN[:2]])
    source = open_source(root)
    assert source.annotations.labels == {"mug", "lamp"} and f"such as {name}" in caplog.text
    assert not any(name in source[i].query for i in range(len(source)))


def test_a_label_above_others_is_not_asked_about_where_it_is_drawn(tmp_path):
    """Picture 1 has a region "kitchen", which may be a mug or a lamp; picture 2 has all its objects."""
    notes = [
        note(rectangle(0, 0, 9, 9), 9, 1),
        note(rectangle(0, 0, 9, 9), 1, 2, number=2),
        note(rectangle(20, 9, 30, 20), 4, 1, number=3),
    ]
    categories = [{"id": 9, "name": "kitchen"}, *OWN[:2], {"id": 4, "name": "cat"}]
    source = open_source(write_coco_folder(tmp_path, notes, pictures=2, categories=categories))
    first = [source[i] for i in range(4)]
    assert {example.scene[i - 1].label for example in first for i in example.answer_ids} <= {"cat"}
    assert [o.label for o in first[0].scene] == ["kitchen", "cat"]
    assert any("mug" in source[i].query for i in range(4, 8))


def test_labels_of_coco_without_annotations_are_absent_and_others_unknown(tmp_path):
    only = [note(rectangle(0, 0, 9, 9), 1)]
    assert "dog" in open_source(write_coco_folder(tmp_path, only)).annotations.labels


def test_names_without_meaning_alone_are_refused(tmp_path):
    root = write_coco_folder(tmp_path, [note(rectangle(0, 0, 9, 9), 1)], categories=[{"id": 1, "name": "0"}])
    with pytest.raises(DataError, match=r"1 labels that name nothing \(not asked about\) \(such as 0\)"):
        open_source(root)


@pytest.mark.parametrize(
    "name, fault",
    [
        ("https://example.com/1.png", "pictures with an address for a file name"),
        ("../\0/1.png", "pictures whose file name leaves the folder"),
        ("../2.png", "pictures whose file name leaves the folder"),  # another picture has this name
        ("..", "pictures whose file name leaves the folder"),
    ],
)
def test_names_of_photos_elsewhere_are_counted(tmp_path, caplog, name, fault):
    notes = [note(rectangle(0, 0, 9, 9), 1, i) for i in (1, 2)]
    root = write_coco_folder(tmp_path, notes, pictures=2)
    change(root, lambda value: value["images"][0].update(file_name=name))
    assert len(open_source(root)) == 4
    assert f"1 {fault}" in caplog.text and len([r for r in caplog.records if r.levelno == logging.WARNING]) <= 2


def table(*names, first=1):
    return {i: {"id": i, "name": name} for i, name in enumerate(names, first)}


def test_cocos_phrases_are_for_cocos_label_set_alone():
    assert coco_records.are_of_coco(table("person", "dog", "car"))
    assert not coco_records.are_of_coco(table("person", "dog", "forklift"))
    assert not coco_records.are_of_coco(table("mouse"))  # lab mice
    assert coco_records.are_of_coco(table("mouse", first=74)) and not coco_records.are_of_coco(table("lab mice"))
    names = ("mouse", "keyboard", "tv", "cup", "fork", "knife", "spoon", "bowl", "chair", "couch")
    assert coco_records.are_of_coco(table(*names)) and not coco_records.are_of_coco(table(*names[:9]))


def queries(root, name, **settings):
    categories = [{"id": 1, "name": name}, {"id": 2, "name": "cage"}]
    notes = [note(rectangle(2, 2, 12, 12), category=1), note(rectangle(20, 2, 39, 25), category=2, number=2)]
    source = open_source(write_coco_folder(root, notes, categories=categories), **settings)
    return " ".join(source[i].query for i in range(4))


def test_labels_of_other_sets_are_asked_for_by_their_names(tmp_path):
    text = queries(tmp_path, "mouse")
    assert "cursor" not in text and "pointer" not in text and ("mouse" in text or "cage" in text)
    assert "traffic light" in queries(tmp_path, "Traffic_Lights") + "traffic light"


def test_phrases_of_the_users_own(tmp_path):
    file = tmp_path / "phrases.json"
    file.write_text(json.dumps({"mouse": ["rodent"], "cage": "thing with bars", "x": ["y"]}))
    text = queries(tmp_path, "mouse", phrases=str(file))
    assert ("rodent" in text or "thing with bars" in text) and "mouse" not in text and "cage" not in text


@pytest.mark.parametrize(
    ("value", "message"),
    [([1], "expected a JSON object"), ({"mouse": []}, "expected phrases"), ({"mouse": ["<b>"]}, "expected phrases"),
     ({"mouse": [3]}, "expected phrases"), ({"rat": ["x"]}, "expected labels of the data set")],
)  # fmt: skip
def test_bad_files_of_phrases(tmp_path, value, message):
    (tmp_path / "phrases.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        coco_records.read_phrases(tmp_path / "phrases.json", {"mouse"})
