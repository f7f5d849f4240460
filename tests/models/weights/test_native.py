"""Our own weights files: saved weights come back, and tensors that do not fit are refused by name."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dtr1_jax.models.weights import native

PARAMS = {
    "embed": {"table": np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)},
    "decoder": {"q": {"kernel": np.pi * np.ones((2, 3, 5), np.float32)}, "norm": {"scale": np.ones(3, np.float32)}},
}
NAMES = ["decoder/norm/scale", "decoder/q/kernel", "embed/table"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.safetensors"


def write(path, **changes):
    """The file of PARAMS with some tensors changed; None leaves one out."""
    flat = native.flatten(PARAMS) | {name.replace("__", "/"): x for name, x in changes.items()}
    save_file({name: x for name, x in flat.items() if x is not None}, path)


def test_round_trip_in_float32_is_exact(path):
    native.save_native(path, PARAMS, jnp.float32)
    back = native.load_native(path, PARAMS)
    assert jax.tree.structure(back) == jax.tree.structure(PARAMS)
    for got, wanted in zip(jax.tree.leaves(back), jax.tree.leaves(PARAMS)):
        assert isinstance(got, np.ndarray) and got.dtype == np.float32
        np.testing.assert_array_equal(got, wanted)


def test_round_trip_in_bfloat16_rounds_once(path):
    native.save_native(path, jax.tree.map(jnp.asarray, PARAMS))
    back = native.load_native(path, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS)))
    for got, wanted in zip(jax.tree.leaves(back), jax.tree.leaves(PARAMS)):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, np.asarray(jnp.asarray(wanted, jnp.bfloat16), np.float32))
    native.save_native(path, back)
    again = native.load_native(path, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, again, back)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_read_as_float32(path, dtype):
    write(path, embed__table=PARAMS["embed"]["table"].astype(dtype))
    got = native.load_native(path, PARAMS)["embed"]["table"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, PARAMS["embed"]["table"].astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"embed__table": None}, r"missing embed/table \(4, 3\)"),
        ({"vision__patch": np.ones(2, np.float32)}, "left over vision/patch"),
        ({"embed__table": np.ones((3, 4), np.float32)}, r"embed/table: expected shape \(4, 3\), got \(3, 4\)"),
        ({"embed__table": np.ones((4, 3, 1), np.float32)}, r"expected shape \(4, 3\), got \(4, 3, 1\)"),
        ({"embed__table": np.ones((4, 3), np.int32)}, "embed/table: expected floats, got I32"),
        ({"decoder__norm__scale": np.ones(3, bool)}, "decoder/norm/scale: expected floats, got BOOL"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(path, changes, fault):
    write(path, **changes)
    with pytest.raises(native.WeightsError, match=fault) as error:
        native.load_native(path, PARAMS)
    assert str(path) in str(error.value)


def test_all_faults_are_in_one_message_but_not_thousands(path):
    write(path, embed__table=None, decoder__norm__scale=np.ones(4, np.float32))
    with pytest.raises(native.WeightsError, match=r"(?s)missing embed/table.*decoder/norm/scale: expected shape"):
        native.load_native(path, PARAMS)
    write(path, **{f"extra{i}": np.ones(1, np.float32) for i in range(50)})
    with pytest.raises(native.WeightsError, match="and 40 more") as error:
        native.load_native(path, PARAMS)
    assert len(str(error.value).splitlines()) == 12


def test_missing_file_and_folder(path, tmp_path):
    with pytest.raises(native.WeightsError, match=r"policy\.safetensors: no such file"):
        native.load_native(path, PARAMS)
    with pytest.raises(native.WeightsError, match=r"a folder; expected a \.safetensors file with 3 tensors"):
        native.load_native(tmp_path, PARAMS)
    with pytest.raises(native.WeightsError, match="xxx"):
        native.load_native(tmp_path / ("x" * 1000), PARAMS)  # longer than any file system's names


def test_truncated_file_is_refused_wherever_it_is_cut(path):
    native.save_native(path, PARAMS)
    whole = path.read_bytes()
    for length in (0, 4, 8, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(native.WeightsError, match=r"policy\.safetensors: cannot be read as safetensors"):
            native.load_native(path, PARAMS)


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[" * 10_000,
        json.dumps({"embed/table": entry([4, 3], 0, 2**62)}).encode(),
        json.dumps({"embed/table": entry([2**40, 2**40], 0, 8)}).encode(),
        json.dumps({"embed/table": entry([4, 3], 48, 0)}).encode(),
        json.dumps({"embed/table": entry([4, 3], 0, 48, "PICKLE")}).encode(),
    ],
)
def test_hostile_headers_are_refused(path, header):
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(48))
    with pytest.raises(native.WeightsError, match=r"policy\.safetensors"):
        native.load_native(path, PARAMS)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=64))
def test_any_other_file_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    with pytest.raises(native.WeightsError):
        native.load_native(path, PARAMS)


def test_interrupted_save_leaves_the_old_file(path, monkeypatch):
    native.save_native(path, PARAMS)
    old = path.read_bytes()

    def interrupted(tensors, filename):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(native, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        native.save_native(path, jax.tree.map(np.zeros_like, PARAMS))
    assert path.read_bytes() == old
    monkeypatch.undo()
    native.save_native(path, jax.tree.map(np.zeros_like, PARAMS))  # leftovers of the interrupted call are no obstacle
    assert not native.load_native(path, PARAMS)["embed"]["table"].any()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_save_makes_the_folders(tmp_path):
    path = tmp_path / "a" / "b" / "policy.safetensors"
    native.save_native(str(path), PARAMS)
    assert path.is_file()


def test_flatten_names_are_sorted_paths():
    assert list(native.flatten(PARAMS)) == NAMES


KEYS = st.text("abcdefgh_0123456789", min_size=1, max_size=6)
TREES = st.dictionaries(KEYS, st.recursive(st.integers(), lambda t: st.dictionaries(KEYS, t, min_size=1), max_leaves=9))


@settings(max_examples=100, deadline=None)
@given(tree=TREES)
def test_unflatten_is_the_inverse_of_flatten(tree):
    flat = native.flatten(tree)
    assert native.unflatten(flat) == tree
    assert list(flat) == sorted(flat)
    assert native.flatten(native.unflatten(flat)) == flat
