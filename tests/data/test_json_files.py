"""Annotation files: sound ones are read, others refused with their path; and the fifth that is held out."""

import numpy as np
import pytest

from dtr1_jax.data.json_files import (
    DataError,
    held_out,
    held_out_part,
    is_name,
    is_number,
    parse_json,
    read_json,
    whole_number,
)


def test_a_file_is_read_or_refused_with_its_path(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(DataError, match=r"a\.json: cannot be read .*; check the path"):
        read_json(file)
    file.write_text('{"a": [1')
    with pytest.raises(DataError, match=r"a\.json: expected JSON, got a file that breaks off"):
        read_json(file)
    file.write_text('{"a": [1]}')
    assert read_json(file) == {"a": [1]}


def test_files_of_other_systems_are_read(tmp_path):
    file = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        file.write_bytes(("\ufeff" * (encoding == "utf-16-le") + '{"a":\r\n ["é"]}\r\n').encode(encoding))
        assert read_json(file) == {"a": ["é"]}
    file.write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.json: .* byte 7 is not UTF-8; save the file as UTF-8"):
        read_json(file)
    for path in (tmp_path / "a\0b", tmp_path / ("x" * 300), tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_json(path)


@pytest.mark.parametrize(
    "text, fault",
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
        ('[{"x": [{"boxes": [], "boxes": 1}]}]', "the key 'boxes' stands twice"),
        ('{"a": [1, 2,\n ]}', 'a comma stands before "]" in line 2; remove it'),
        ('{"a": 1,}', 'a comma stands before "}" in line 1; remove it'),
    ],
)
def test_faults_of_json_are_named(text, fault):
    with pytest.raises(ValueError) as refusal:
        parse_json(text)
    assert fault in str(refusal.value) or "trailing comma" in str(refusal.value)  # Python 3.13 says the latter


def test_whole_numbers():
    assert [whole_number(v) for v in (240, 240.0, "240", "-3", "007")] == [240, 240, 240, -3, 7]
    others = (240.5, "240.5", "", "x", None, True, [1], float("inf"), float("nan"), "٣", "1e3", "9" * 5000)
    assert [whole_number(v) for v in others] == [None] * len(others)


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


def test_a_small_data_set_has_a_held_out_part():
    for n in range(2, 60):
        for start in range(0, 4000, 100):
            keys = range(start, start + n)
            part = held_out_part(keys)
            assert max(1, n // 10) <= len(part) <= n // 2
            chosen = {key for key in keys if held_out(key)}
            assert part == chosen or not max(1, n // 10) <= len(chosen) <= n // 2
            assert part >= chosen or part <= chosen
            assert part == held_out_part(reversed(keys)) == held_out_part([*keys, *keys])
    assert held_out_part([5]) == held_out_part([5, 5]) == held_out_part([]) == set()
    assert held_out_part(range(3000)) == {i for i in range(3000) if held_out(i)}
