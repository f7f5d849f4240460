"""Annotations that are alike, read all at once, are what parsing each of them gives; the others do not fit."""

import json

import numpy as np
import pytest

from dtr1_jax.data.readers import coco_columns, coco_scan

USUAL = ("segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id")


def record(rng, order=USUAL, separators=(",", ": "), **changes):
    """The text of an annotation."""
    n = int(rng.integers(3, 9))
    value = {
        "segmentation": [rng.uniform(-1, 99, 2 * n).round(2).tolist() for _ in range(rng.integers(1, 3))],
        "area": 12.5, "iscrowd": int(rng.integers(2)), "image_id": int(rng.integers(10 ** rng.integers(1, 13))),
        "bbox": [0.0, 1.5, 3, 4], "category_id": int(rng.integers(91)), "id": int(rng.integers(10**12)),
    } | changes  # fmt: skip
    return json.dumps({key: value[key] for key in order if key in value}, separators=separators).encode()


def odd(rng):
    """Texts of records that must not fit, or fit and mean the same."""
    usual = record(rng)
    return [
        record(rng, segmentation={"counts": [3, 4], "size": [1, 7]}), record(rng, segmentation=[]),
        record(rng, (*USUAL, "note"), note="a \" \\ { \" id"), record(rng, (*USUAL, "note"), note=5),
        record(rng, USUAL[::-1]), record(rng, separators=(", ", ":")), record(rng, USUAL[:2] + USUAL[3:]),
        record(rng, id=-5), record(rng, id=10**17), record(rng, segmentation=[[[1, 2], [3, 4], [5, 6]]]),
        usual.replace(b'"id"', b'"\\u0069d"'), usual.replace(b'"area"', b'"aria"'),
        usual.replace(b'"iscrowd": 0', b'"iscrowd": 1 ').replace(b'"area"', b' "area"'),
        usual.replace(b"[[", b"[ [ ", 1), usual.replace(b"]]", b"] ]", 1), b"{" + usual[1:].lstrip(),
        b"{ " + usual[1:], usual[:-1] + b" }",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("between", [b",", b", ", b",\n  "])
def test_the_same_as_parsing_each(seed, between):
    rng = np.random.default_rng(seed)
    texts = [record(rng) for _ in range(100)]
    strange = odd(rng)
    for place, text in zip(rng.integers(len(texts), size=len(strange)).tolist(), strange):
        texts.insert(place, text)
    buffer, starts, at = between, [], len(between)
    for text in texts:
        starts.append(at)
        buffer += text + between
        at = len(buffer)
    starts, lengths = np.array(starts), np.array([len(text) for text in texts])
    notes = coco_scan._notes(buffer, 1000, starts, starts + lengths)
    values = [json.loads(text) for text in texts]
    for name, key in (("id", "id"), ("picture", "image_id"), ("category", "category_id")):
        assert notes[name].tolist() == [value[key] for value in values]
    assert notes["crowd"].tolist() == [bool(value.get("iscrowd", 0)) for value in values]
    assert notes["start"].tolist() == (1000 + starts).tolist() and notes["length"].tolist() == lengths.tolist()
    assert np.array_equal(notes[["hash", "kind"]], coco_scan._parsed(texts)[["hash", "kind"]])
    alike = coco_columns.pattern(texts)
    found = coco_columns.columns(buffer, starts, starts + lengths, alike)
    assert len(found.rows) >= 100, "the records that are alike are read at once"


@pytest.mark.parametrize(
    "broken", [b'"id": 007}', b'"id": 1.0}', b'"id": 1e3}', b'"id": true}', b'"id": "12"}', b'"id": 4 4}', b'"id": }']
)
def test_numbers_that_are_none_do_not_fit(broken):
    rng = np.random.default_rng(0)
    texts = [record(rng, id=77), record(rng, id=77).replace(b'"id": 77}', broken)]
    buffer = b"".join(texts)
    starts, ends = np.array([0, len(texts[0])]), np.array([len(texts[0]), len(buffer)])
    assert coco_columns.columns(buffer, starts, ends, coco_columns.pattern(texts)).rows.tolist() == [0]


@pytest.mark.parametrize(("key", "value"), [("id", 10**30), ("iscrowd", []), ("iscrowd", 2), ("image_id", None)])
def test_values_that_only_a_whole_reading_understands(key, value):
    rng = np.random.default_rng(0)
    texts = [record(rng), record(rng, **{key: value})]
    buffer = b"".join(texts)
    starts, ends = np.array([0, len(texts[0])]), np.array([len(texts[0]), len(buffer)])
    with pytest.raises(coco_scan.Unusual, match=key):
        coco_scan._notes(buffer, 0, starts, ends)


def test_no_pattern_without_an_outline():
    rng = np.random.default_rng(0)
    assert coco_columns.pattern([record(rng, segmentation=[]), b'{"id": 1}', b"{", b'{"\\u0069d": 2}']) is None
