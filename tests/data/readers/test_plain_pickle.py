"""Pickles of plain values equal Python's own reading; everything else is refused without being executed."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import plain_pickle

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.booleans() | st.none()
# Surrogates alone are no UTF-8.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner) | st.lists(inner, max_size=5).map(tuple),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "refs(unc).p"


@settings(max_examples=60, deadline=None)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values_are_those_of_pythons_reader(file, value, protocol):
    file.write_bytes(pickle.dumps([value, value, [{"a": value}] * 3], protocol))
    assert plain_pickle.read_pickle(file) == pickle.loads(file.read_bytes())


def test_texts_of_python_2(file):
    # As Python 2.7 writes [{'raw': 'caf\xc3\xa9 \'s', 'sent': u'caf\xe9', 'ann_id': 3L}, 'caf\xe9'] by protocol 0.
    file.write_bytes(
        b"(lp0\n(dp1\nS'raw'\np2\nS\"caf\\xc3\\xa9 's\"\np3\nsS'sent'\nVcaf\xe9\np4\nsS'ann_id'\nL3L\nsaS'caf\\xe9'\na."
    )
    expected = [{"raw": "café 's", "sent": "café", "ann_id": 3}, "café"]
    assert plain_pickle.read_pickle(file) == expected
    file.write_bytes(b"\x80\x02]q\x00(U\x05caf\xc3\xa9q\x01U\x04caf\xe9X\x05\x00\x00\x00caf\xc3\xa9e.")
    assert plain_pickle.read_pickle(file) == ["café"] * 3


class Trap:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_named_and_not_executed(file, protocol, capsys):
    file.write_bytes(pickle.dumps([1, Trap()], protocol))
    with pytest.raises(
        DataError, match=r"refused: the pickle asks for (__builtin__|builtins)\.print, and a pickle can"
    ):
        plain_pickle.read_pickle(file)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [{1, 2}, {(1, 2): 3}, bytearray(9), 1j])
def test_other_values_are_refused(file, value):
    file.write_bytes(pickle.dumps(value, 5))
    with pytest.raises(DataError, match=r"refused|a key is a tuple"):
        plain_pickle.read_pickle(file)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b".", b"(", b"a.", b"]a.", b"(1", b"]](a.", b"g5\n.", b"I1", b"I" + b"9" * 9999 + b"\n.", b"Sx\n.",
        b"X\xff\xff\xff\xff.", b"\x8d" + b"\xff" * 8 + b".", b"T\xff\xff\xff\xff.", b"}(I1\nu.", b"\x85.", b"((\x85.",
        b"K\x01K\x02.", b"\x8b\xff\xff\xff\x7f.", b"Rx.", b"\x00", b"S'\\x'\n.",
    ],
)  # fmt: skip
def test_damaged_files_are_named(file, raw):
    file.write_bytes(raw)
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: (expected a pickle|refused)"):
        plain_pickle.read_pickle(file)


def test_a_few_bytes_cannot_ask_for_much(file):
    """A huge number of a memo, for which Python's reader allocates memory; deep nesting; a value that has itself."""
    file.write_bytes(b"]r\xff\xff\xff\x7fj\xff\xff\xff\x7fa.")
    value = plain_pickle.read_pickle(file)
    assert value[0] is value
    file.write_bytes(b"]" * 200_000 + b"a" * 199_999 + b".")
    assert len(plain_pickle.read_pickle(file)) == 1
    file.write_bytes(b")" + b"\x85" * 200_000 + b"}\x86.")
    assert len(plain_pickle.read_pickle(file)) == 2


def test_time_and_size_are_bounded(file, monkeypatch):
    file.write_bytes(b"N0" * 200_000 + b"N.")
    with pytest.raises(DataError, match="takes more than 0 s"):
        plain_pickle.read_pickle(file, seconds=0)
    assert plain_pickle.read_pickle(file) is None
    monkeypatch.setattr(plain_pickle, "MOST_BYTES", 9)
    with pytest.raises(DataError, match="at most 9 bytes, got 400,002"):
        plain_pickle.read_pickle(file)
    with pytest.raises(DataError, match="cannot be read"):
        plain_pickle.read_pickle(file.with_name("none"))
