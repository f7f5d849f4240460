"""The JSON reader for hostile text: values that JSON does not allow, deep nesting, and no error but ValueError."""

import pytest

from dtr1_jax.twin import strict_json


def test_json_reader_refuses_in_place():
    value = strict_json.loads('{"a": [NaN, -Infinity, 1e999, %s], "b": 1, "b": 1, "c": -12}' % ("9" * 5000))
    assert [item.reason for item in value["a"]] == [
        "NaN", "-Infinity", "a number beyond the range of a float", "a number of 5000 digits"
    ]  # fmt: skip
    assert value["b"] == strict_json.Refused("a key that occurs 2 times") and value["c"] == -12


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at character 0"),
        ("\ufeff{}", "at character 0|BOM"),
        ("{} {}", "at character 3"),
        ("{'a': 1}", "at character 1"),
        ("[1,]", "at character"),
        ('"a\nb"', "at character"),
        ("[" * 17 + "]" * 17, "nested at most 16 deep, got more at character 16"),
        ("[" * 60_000, "nested"),
        ('{"a":' * 10_000, "nested"),
        ("[" * 1_000_000, "at most 65536 characters"),
        ('\\"' * 30_000, "at character 0"),  # a naive scan for strings takes quadratic time here
        ('["' + "\\" * 60_001, "at character"),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_json_reader_raises_only_value_error(text, problem):
    with pytest.raises(ValueError, match=problem):
        strict_json.loads(text)


def test_brackets_in_strings_are_no_nesting():
    assert strict_json.loads('["' + "[{" * 50 + '\\"[[[["]') == ["[{" * 50 + '"[[[[']
    assert strict_json.loads("[" * 16 + "]" * 16)
