"""Annotation files: sound ones are read, others refused with their path; and the fifth that is held out."""

import numpy as np
import pytest

from dtr1_jax.data.json_files import DataError, held_out, held_out_keys, is_name, is_number, parse_json, read_json


def test_a_file_is_read_or_refused_with_its_path(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(DataError, match=r"a\.json: cannot be read .*; check the path"):
        read_json(file)
    file.write_text('{"a": [1')
    with pytest.raises(DataError, match=r"a\.json: expected JSON, got a file that breaks off"):
        read_json(file)
    file.write_text('{"a": [1]}')
    assert read_json(file) == {"a": [1]}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "{", ""])
def test_text_that_is_not_json(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_numbers_and_names():
    assert is_number(-1.5) and is_number(1e6)
    assert not any(map(is_number, (True, "1", None, 2e6, float("nan"))))
    assert is_name("red mug") and is_name("x" * 64)
    assert not any(map(is_name, ("", " ", "x" * 65, "a<b", "a\nb", 7)))


def test_the_held_out_fifth():
    share = np.mean([held_out(i) for i in range(5000)])
    assert 0.18 < share < 0.22
    assert [i for i in range(20) if held_out(i)] == [i for i in range(20) if held_out(str(i))]


@pytest.mark.parametrize("count", range(2, 30))
def test_both_parts_of_a_small_data_set_have_an_item(count):
    for first in range(0, 300, 17):
        keys = range(first, first + count)
        held = held_out_keys(keys)
        assert 0 < len(held) < count and held == held_out_keys(reversed(keys))
        by_hash = {key for key in keys if held_out(key)}
        assert held == by_hash or (len(held) in (1, count - 1) and len(by_hash) in (0, count))


def test_a_single_item_is_not_held_out():
    assert held_out_keys(["a"]) == held_out_keys([]) == frozenset()
