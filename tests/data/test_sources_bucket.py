"""A data set in a bucket is the data set of a folder: the same examples, under a name that no machine changes."""

import dataclasses
import json
import pathlib

import buckets
import numpy as np
import pytest
from coco_folders import note, rectangle, write_coco_folder
from PIL import Image
from refcoco_folders import write_release

from configs import default
from dtr1_jax import config, places
from dtr1_jax.data import sources
from dtr1_jax.data.readers import coco_index, jsonl_large
from dtr1_jax.run import local_copy

DATA = config.from_configdict(default.get_config()).data


@pytest.fixture(autouse=True)
def bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "copies"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    local_copy._copied.cache_clear()
    with buckets.installed():
        yield
        assert not list((tmp_path / "here").iterdir()), "no folder named gs:"
    local_copy._copied.cache_clear()


def write_coco(root: pathlib.Path) -> str:
    notes = [note(rectangle(2, 2, 9 + i, 25), image=i, number=i) for i in (1, 2, 3)]
    write_coco_folder(root, notes, pictures=3, name="instances_val2017.json")
    return ""


def write_coco_file(root: pathlib.Path) -> str:
    write_coco(root)
    return "/annotations/instances_val2017.json"


def write_jsonl(root: pathlib.Path) -> str:
    write_coco(root)
    rows = [
        json.dumps({"image": f"val2017/{i}.png", "query": "it", "polygons": rectangle(1, 1, 20, 9)}) for i in (1, 2)
    ]
    (root / "mine.ndjson").write_text("\n".join(rows))  # no suffix by which a file could be told from a folder
    return "/mine.ndjson"


def write_refcoco(root: pathlib.Path) -> str:
    write_release(root)
    return ""


def write_reasonseg(root: pathlib.Path) -> str:
    (root / "val").mkdir(parents=True)
    Image.new("RGB", (32, 24), "grey").save(root / "val" / "a.jpg")
    shapes = [{"label": "target", "points": [[1, 1], [20, 1], [20, 20]]}]
    (root / "val" / "a.json").write_text(json.dumps({"text": ["it"], "is_sentence": False, "shapes": shapes}))
    return ""


@pytest.mark.parametrize(
    ("source", "write", "large"),
    [
        ("coco", write_coco, False), ("coco", write_coco_file, True), ("jsonl", write_jsonl, False),
        ("jsonl", write_jsonl, True), ("refcoco", write_refcoco, False), ("reasonseg", write_reasonseg, False),
    ],
)  # fmt: skip
def test_the_same_examples(tmp_path, monkeypatch, caplog, source, write, large):
    root = tmp_path / "data"
    root.mkdir()
    name = write(root)
    buckets.put_folder(root, "bucket/sets/mine")
    if large:  # files that are read through an index
        monkeypatch.setattr(coco_index, "LARGE", 1)
        monkeypatch.setattr(jsonl_large, "LARGE", 1)
    data = dataclasses.replace(DATA, source=source, task="segmentation")
    here = sources.open_source(dataclasses.replace(data, root=f"{root}{name}"), "heldout")
    data = dataclasses.replace(data, root=f"gs://bucket/sets/mine{name}")
    there = sources.open_source(data, "heldout")
    assert len(here) == len(there) > 0 and "as a whole" not in caplog.text
    for one, two in ((here[i], there[i]) for i in (0, len(here) - 1)):
        assert (one.uid, one.query) == (two.uid, two.query)
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.target.mask, two.target.mask)
    # grain compares this text when a run is resumed, which another machine may do
    name = repr(there)
    local_copy._copied.cache_clear()
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "of another machine"))
    assert repr(sources.open_source(data, "heldout")) == name and str(tmp_path) not in name


def test_phrases_in_a_bucket(tmp_path):
    write_coco(tmp_path / "data")
    buckets.put("bucket/words/phrases.json", json.dumps({"dog": ["the one that barks"]}).encode())
    data = dataclasses.replace(DATA, source="coco", task="segmentation", root=str(tmp_path / "data"))
    data = dataclasses.replace(data, phrases="gs://bucket/words/phrases.json")
    assert sources.open_source(data, "heldout").phrases == {"dog": ("the one that barks",)}
    with pytest.raises(places.PlaceError, match=r"config.data.phrases=gs://bucket/none.json: cannot be copied"):
        sources.open_source(dataclasses.replace(data, phrases="gs://bucket/none.json"), "heldout")


def test_the_whole_bucket_is_never_copied():
    buckets.put("bucket/mine.jsonl", b"")
    with pytest.raises(places.PlaceError, match="got a file at the bucket's top"):
        sources.open_source(dataclasses.replace(DATA, source="jsonl", root="gs://bucket/mine.jsonl"), "train")
