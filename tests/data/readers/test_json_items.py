"""Items of large JSON files equal those of Python's parser, and broken files are named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import json_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda x: (
        st.lists(x, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), x, max_size=4)
    ),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "a.json"


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(VALUES, max_size=5), other=VALUES, indent=st.sampled_from([None, 1]))
def test_items(file, rows, other, indent):
    value = {"info": other, "rows": rows, "more": other}
    file.write_text(json.dumps(value, indent=indent, ensure_ascii=False), "utf-8")
    assert list(json_items.list_items(file, "rows")) == rows
    assert list(json_items.object_items(file)) == list(value.items())


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"rows"', '{"rows": [1', '{"rows": [1,]}', '{"rows": [NaN]}', '{"rows": [1 2]}',
             '{"a": tru}', '{3: 4}', '{"rows": ' + "[" * 100_000, '{"rows": 3}', "{}", '{"a": 1,}'],
)  # fmt: skip
def test_broken_files(file, text):
    file.write_text(text)
    with pytest.raises(DataError, match=r"a\.json: expected"):
        list(json_items.list_items(file, "rows"))


def test_files_that_cannot_be_read(file):
    file.write_bytes(b'{"rows": ["\xe9"]}')
    with pytest.raises(DataError, match="byte 11 is not UTF-8"):
        list(json_items.list_items(file, "rows"))
    for text in ("[1]", '{"a": 1', '{"a" 1}'):
        file.write_text(text)
        with pytest.raises(DataError, match="breaks off or is malformed"):
            list(json_items.object_items(file))
    with pytest.raises(DataError, match="cannot be read"):
        list(json_items.object_items(file.with_name("none")))
