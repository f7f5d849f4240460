"""Lists of masks in a large file are found without parsing it, and read one at a time."""

import json

import numpy as np
import pytest
from referred_folders import ONE, TWO, square

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import mask_lists

# All characters that the packed counts of an RLE may have, among them brackets and the backslash, escaped by JSON.
ODD = {"size": [30, 40], "counts": '[]\\{}",:01' + "".join(map(chr, range(48, 112)))}
LISTS = {"7": ONE, "12": TWO, "100": [None, ODD], "5": [], "6": [{"size": [3, 2], "counts": [2, 4]}]}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_lists_are_those_of_the_whole_file(tmp_path, indent, separators):
    file = tmp_path / "mask_dict.json"
    file.write_text(json.dumps(LISTS, indent=indent, separators=separators))
    places = mask_lists.find_lists(file)
    assert list(places) == list(LISTS)
    assert {key: mask_lists.read_list(file, place) for key, place in places.items()} == LISTS


def test_lists_in_objects(tmp_path):
    file = tmp_path / "f.json"
    file.write_text(json.dumps({"a/b": {"masks_rle": ONE}, "c d": {"masks_rle": [ODD, None]}}))
    places = mask_lists.find_lists(file, "masks_rle")
    assert list(places) == ["a/b", "c d"] and mask_lists.read_list(file, places["c d"]) == [ODD, None]
    assert mask_lists.read_list(file, places["a/b"]) == ONE


def test_masks(tmp_path):
    np.testing.assert_array_equal(mask_lists.mask_of(ONE[2], "x"), square(2))
    np.testing.assert_array_equal(mask_lists.mask_of([ONE[0], ONE[3]], "x"), square(0) | square(3))
    assert mask_lists.mask_of(None, "x") is None
    for value in (
        3,
        "text",
        {"size": [1]},
        {"size": [2, 2], "counts": "~~"},
        [ONE[0], {"size": [1, 1], "counts": [1]}],
    ):
        with pytest.raises(ImageError, match=r"^here: "):
            mask_lists.mask_of(value, "here")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file is empty"), ("{}", "expected"), ("[1]", "expected"), ('{"1": "[{}]"}', "expected"),
        ('{"1": [null], "1": [null]}', "the key '1' stands twice"), ('{"a": {"b": 3}}', "expected"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, fault):
    file = tmp_path / "mask_dict.json"
    file.write_text(text)
    with pytest.raises(DataError, match=f"mask_dict.json: .*{fault}"):
        mask_lists.find_lists(file)
    with pytest.raises(DataError, match=r"cannot be read"):
        mask_lists.find_lists(tmp_path / "none.json")


def test_a_file_that_breaks_off_or_changes(tmp_path):
    file = tmp_path / "mask_dict.json"
    file.write_text(json.dumps(LISTS)[:300])
    places = mask_lists.find_lists(file)
    with pytest.raises(ImageError, match=r"cannot be read"):
        mask_lists.read_list(file, places["7"])
    with pytest.raises(ImageError, match=r"cannot be read|expected a list"):
        mask_lists.read_list(file, (0, 5))
