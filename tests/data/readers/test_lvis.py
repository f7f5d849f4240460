"""LVIS: nobody is asked about a label that nobody looked for; pictures are found by coco_url; names are readable."""

import json
import logging
import pickle

import numpy as np
import pytest
from coco_folders import open_source, rectangle
from PIL import Image

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_annotations, coco_index, lvis
from dtr1_jax.data.readers.coco_records import Faults

MUG, BOW, RIBBON, DOG, SOFA, LAMP = range(11, 17)
NAMES = {
    MUG: ("mug", ["mug"]), BOW: ("bow_(weapon)", ["bow_(weapon)"]),
    RIBBON: ("bow_(decorative_ribbons)", ["bow_(decorative_ribbons)", "ribbon_bow"]),
    DOG: ("dog", ["dog", "domestic_dog"]), SOFA: ("sofa", ["sofa", "couch", "settee"]),
    LAMP: ("lamp", ["lamp", "settee"]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    coco_index._open.cache_clear()


def category(number):
    name, synonyms = NAMES[number]
    return {
        "id": number, "name": name, "synonyms": synonyms, "synset": f"{name}.n.01", "def": "a thing", "frequency": "f",
        "image_count": 9, "instance_count": 9,
    }  # fmt: skip


def photo(number, absent=(), incomplete=()):
    return {
        "id": number, "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg", "width": 60,
        "height": 40, "flickr_url": "http://farm.example/x.jpg", "neg_category_ids": list(absent),
        "not_exhaustive_category_ids": list(incomplete), "license": 1, "date_captured": "",
    }  # fmt: skip


def note(number, picture, label, x):
    """An annotation of LVIS, which has no iscrowd: a rectangle of 12 x 20 pixels that begins at x."""
    return {"id": number, "image_id": picture, "category_id": label, "area": 240, "bbox": [x, 10, 12, 20],
            "segmentation": rectangle(x, 10, x + 12, 30)}  # fmt: skip


def write(root, photos, notes, name="lvis_v1_train.json", categories=None, photo_folder="train2017"):
    """Writes a folder of LVIS with grey photos, and a second file so that the first is not divided."""
    folder = root / photo_folder
    folder.mkdir(parents=True, exist_ok=True)
    for record in photos:
        Image.new("RGB", (60, 40), "grey").save(folder / f"{record['id']:012d}.jpg")
    value = {"info": {}, "images": photos, "annotations": notes, "licenses": [],
             "categories": categories or [category(number) for number in NAMES]}  # fmt: skip
    (root / name).write_text(json.dumps(value))
    (root / "lvis_v1_val.json").write_text("{}")
    return root


def usual(root):
    """Picture 1 has two mugs, a dog that may not be the only one, no sofa and no lamp; picture 2 has a bow."""
    photos = [photo(1, absent=(SOFA, LAMP), incomplete=(DOG,)), photo(2, absent=(MUG,))]
    notes = [note(1, 1, MUG, 2), note(2, 1, MUG, 20), note(3, 1, DOG, 40), note(4, 2, BOW, 5)]
    return write(root, photos, notes)


def queries(source):
    return {example.uid: example for example in (source[i] for i in range(len(source)))}


def test_a_picture_is_asked_about_what_was_looked_for(tmp_path):
    asked = {1: set(), 2: set()}
    empty = {1: set(), 2: set()}
    for seed in range(12):
        for uid, example in queries(open_source(usual(tmp_path), seed=seed)).items():
            number = int(uid.split("/")[1])
            labels = {label for word in json.loads(json.dumps(example.program)) for label in words_of(word)}
            asked[number] |= labels
            if not example.answer_ids:
                empty[number] |= labels
    assert asked[1] >= {"mug", "sofa", "lamp"} and "dog" not in asked[1]
    assert not asked[1] & {"bow (weapon)", "bow (decorative ribbons)"}  # nobody looked for them in picture 1
    assert empty[1] == {"sofa", "lamp"}
    assert asked[2] == {"bow (weapon)", "mug"} and empty[2] == {"mug"}


def words_of(value):
    """The labels in a program."""
    if isinstance(value, str):
        known = {"mug", "dog", "sofa", "lamp", "bow (weapon)", "bow (decorative ribbons)"}
        return {value} & known
    return {label for part in value for label in words_of(part)}


def test_the_target_has_all_objects_of_a_label(tmp_path):
    found = [e for e in queries(open_source(usual(tmp_path))).values() if e.program == ("label", "mug")]
    for example in found:
        assert len(example.target.boxes) == len(example.answer_ids) in (0, 2)
    assert any(e.answer_ids for e in found)
    scene = open_source(usual(tmp_path))[0].scene
    assert [(item.label, np.round(item.box, 3).tolist()) for item in scene] == [
        ("mug", [0.033, 0.25, 0.233, 0.75]), ("mug", [0.333, 0.25, 0.533, 0.75]), ("dog", [0.667, 0.25, 0.867, 0.75]),
    ]  # fmt: skip


def test_names_for_labels():
    records = dict(enumerate(lvis.as_coco([], [category(number) for number in NAMES], Faults())[1]))
    assert lvis.phrases(records) == {
        "mug": ("mug",), "bow (weapon)": ("bow (weapon)",), "bow (decorative ribbons)": ("ribbon bow",),
        "dog": ("dog", "domestic dog"), "sofa": ("sofa", "couch"), "lamp": ("lamp",),
    }  # fmt: skip  # "settee" means two labels, and is used for neither
    odd = {1: {"id": 1, "name": "a", "synonyms": ["b<c", 3, "x" * 99, None, "d\0"]}, 2: {"id": 2, "name": "e"}}
    assert lvis.phrases(odd) == {"a": ("a",), "e": ("e",)}


def test_queries_use_these_names(tmp_path):
    texts = " ".join(
        example.query for seed in range(12) for uid, example in queries(open_source(usual(tmp_path), seed=seed)).items()
    )
    assert "couch" in texts and "settee" not in texts and "bow (weapon)" in texts
    assert "piece of furniture" not in texts  # COCO's phrases are true of COCO's labels


def test_a_label_that_is_annotated_and_called_absent_is_not_asked_for(tmp_path):
    root = write(tmp_path, [photo(1, absent=(MUG, SOFA))], [note(1, 1, MUG, 2), note(2, 1, DOG, 30)])
    asked = set()
    for seed in range(12):
        for example in queries(open_source(root, seed=seed)).values():
            asked |= words_of(example.program)
    assert asked == {"sofa", "dog"}


def test_pictures_that_settle_nothing_and_those_without_lists(tmp_path, caplog):
    lists = photo(3)
    del lists["not_exhaustive_category_ids"]
    photos = [photo(1, incomplete=(MUG,)), photo(2), lists, photo(4) | {"neg_category_ids": None}]
    notes = [note(i, i, MUG, 2) for i in range(1, 5)]
    with caplog.at_level(logging.WARNING):
        source = open_source(write(tmp_path, photos, notes))
    assert "2 pictures of LVIS without neg_category_ids or not_exhaustive_category_ids (such as 3, 4)" in caplog.text
    assert len(source) == 8
    with pytest.raises(ImageError, match="picture 1: LVIS has no label of which all objects are annotated here"):
        source[0]
    assert source[4].uid == "coco/2/0"


def test_copies_without_the_lists_are_refused(tmp_path):
    photos = [{k: v for k, v in photo(1).items() if k not in lvis.KEYS}]
    root = write(tmp_path, photos, [note(1, 1, MUG, 2)])
    with pytest.raises(DataError, match=r"lvis_v1_train.json: its categories are those of LVIS .* take the published"):
        open_source(root)
    coco_index.LARGE, large = 1, coco_index.LARGE
    try:
        with pytest.raises(DataError, match=r"lvis_v1_train.json: its categories are those of LVIS"):
            open_source(root)
    finally:
        coco_index.LARGE = large


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://images.cocodataset.org/../../secret.jpg", "pictures without id, file_name"),
        ("file:///etc/passwd", "pictures without id, file_name"), (None, "pictures without id, file_name"),
        (7, "pictures without id, file_name"), ("http://x/.hidden/..", "pictures without id, file_name"),
    ],
)  # fmt: skip
def test_hostile_addresses(tmp_path, caplog, url, fault):
    photos = [photo(1) | {"coco_url": url}, photo(2)]
    with caplog.at_level(logging.WARNING):
        source = open_source(write(tmp_path, photos, [note(1, 1, MUG, 2), note(2, 2, MUG, 2)]))
    assert len(source) == 4 and fault in caplog.text


def test_files_with_a_name_and_folders_beside(tmp_path):
    """v0.5 and some copies have file_name too; the photos may lie in COCO's folder beside that of LVIS."""
    record = photo(1) | {"file_name": "COCO_train2014_000000000001.jpg"}
    root = tmp_path / "lvis"
    root.mkdir()
    write(tmp_path / "coco", [record], [note(1, 1, MUG, 2)])
    (tmp_path / "coco" / "lvis_v1_train.json").rename(root / "lvis_v1_train.json")
    (root / "lvis_v1_val.json").write_text("{}")
    assert open_source(root)[0].image.shape == (40, 60, 3)
    assert open_source(root / "lvis_v1_train.json")[0].image.shape == (40, 60, 3)


def test_a_large_file_by_its_index_gives_the_same(tmp_path, monkeypatch):
    root = usual(tmp_path)
    whole = open_source(root)
    monkeypatch.setattr(coco_index, "LARGE", 1)
    for _ in range(2):  # made now, and from the cache
        indexed = open_source(root)
        assert isinstance(indexed.annotations.pictures, coco_index.Pictures)
        assert indexed.annotations.labels == whole.annotations.labels
        assert indexed.annotations.names == whole.annotations.names and not indexed.annotations.of_coco
        for one, other in zip(whole.annotations.pictures, indexed.annotations.pictures):
            assert (one.searched, one.partial, one.file) == (other.searched, other.partial, other.file)
        for i in range(len(whole)):
            assert (whole[i].query, whole[i].answer_ids) == (indexed[i].query, indexed[i].answer_ids)
        coco_index._open.cache_clear()
    again = pickle.loads(pickle.dumps(indexed))
    assert again[0].query == whole[0].query


def test_a_file_of_coco_is_none_of_lvis():
    assert not lvis.is_lvis([{"id": 1, "file_name": "a.jpg"}, None], [{"id": 1, "name": "a", "frequency": "f"}])
    assert not lvis.is_lvis([], [])
    with pytest.raises(DataError, match="no picture has neg_category_ids"):
        lvis.is_lvis([{"id": 1}], [category(MUG)])


def test_unknown_ids_in_the_lists(tmp_path):
    photos = [photo(1, absent=(999, "15", 16.0, None, [1]), incomplete=("x", 14))]
    file = write(tmp_path, photos, [note(1, 1, MUG, 2), note(2, 1, DOG, 30)]) / "lvis_v1_train.json"
    (picture,) = coco_annotations.read_annotations(file).pictures
    assert picture.searched == {"mug", "dog", "sofa", "lamp"} and picture.partial == {"dog"}
