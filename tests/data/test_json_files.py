"""Annotation files: sound ones are read, others refused with their path; and the fifth that is held out."""

import numpy as np
import pytest

from dtr1_jax.data.json_files import DataError, held_out, is_name, is_number, parse_json, read_json


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
