"""Hugging Face folders are opened; broken, incomplete and hostile ones are refused with the name of the file."""

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.native import WeightsError

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
MAP = {"a": ONE, "b": TWO, "c": TWO}


@pytest.fixture
def folder(tmp_path):
    """Two shards with their index."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / ONE)
    save_file({"b": np.ones(2, np.float16), "c": np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)}, tmp_path / TWO)
    index(tmp_path, MAP)
    return tmp_path


def index(path, mapping):
    (path / hf_checkpoint.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": mapping}))


def refused(path, fault):
    with pytest.raises(WeightsError, match=fault) as error:
        hf_checkpoint.open_folder(path)
    assert str(path) in str(error.value)


def test_shards_are_read_in_parts(folder):
    checkpoint = hf_checkpoint.open_folder(folder)
    assert checkpoint.config == {"model_type": "llama"}
    assert {name: (t.file.name, t.shape, t.dtype) for name, t in checkpoint.tensors.items()} == {
        "a": (ONE, (2, 3), "F32"),
        "b": (TWO, (2,), "F16"),
        "c": (TWO, (2, 2, 2, 2), "F32"),
    }
    with checkpoint.reading(folder / ONE) as read:
        np.testing.assert_array_equal(read("a", slice(1, 2), slice(0, 2)), [[3, 4]])
    with checkpoint.reading(folder / TWO) as read:
        np.testing.assert_array_equal(read("b", slice(0, 1), slice(0, 1)), [1])
        np.testing.assert_array_equal(read("c", slice(1, 2), slice(2, 5)), [[10, 11, 12]])  # seen as [2, 8]


def test_a_single_file(folder):
    (folder / hf_checkpoint.INDEX).unlink()
    refused(folder, r"expected model\.safetensors or model\.safetensors\.index\.json, found neither$")
    (folder / ONE).rename(folder / hf_checkpoint.SINGLE)
    assert list(hf_checkpoint.open_folder(folder).tensors) == ["a"]


def test_missing_and_broken_shards(folder):
    whole = (folder / TWO).read_bytes()
    (folder / TWO).unlink()
    refused(folder, rf"1 of 2 shards missing: {TWO}; fetch it again$")
    for length in (0, 5, 60, len(whole) - 1):
        (folder / TWO).write_bytes(whole[:length])
        refused(folder, rf"{TWO}: cannot be read as safetensors: .*; fetch it again$")


def test_index_and_shards_that_disagree(folder):
    index(folder, MAP | {"d": ONE})
    refused(folder, rf"index and shards disagree:\n  {ONE} lacks d")
    index(folder, {"a": ONE, "b": TWO})
    refused(folder, rf"{TWO} has c, which model\.safetensors\.index\.json puts in no shard")
    index(folder, MAP | {"c": ONE})
    refused(folder, rf"{TWO} has c, which .* puts in {ONE}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "expected a JSON object, got list"),
        ("{}", "expected weight_map with the name of a shard for each tensor"),
        ('{"weight_map": {"a": 1}}', "expected weight_map"),
        ('{"weight_map": {"a": "../x.safetensors"}}', r"names of \.safetensors files in this folder, got '\.\./x"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "files in this folder"),
        ('{"weight_map": {"a": "x.bin"}}', r"got 'x\.bin'"),
    ],
)
def test_bad_indexes(folder, text, fault):
    (folder / hf_checkpoint.INDEX).write_text(text)
    refused(folder, fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, r"config\.json: no such file; expected a JSON file with the sizes of the model"),
        ("no", r"config\.json: cannot be read as JSON"),
        ("3", r"config\.json: expected a JSON object, got int"),
        ('{"quantization_config": {"quant_method": "awq"}}', r"config\.json: the weights are quantised \(awq\)"),
    ],
)
def test_bad_configs(folder, text, fault):
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    refused(folder, fault)


def test_pickles_are_never_loaded(folder):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    for file in folder.glob("model*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Boom()))
    refused(folder, r"neither but pytorch_model\.bin: a pickle can run code, so it is never loaded; convert it")
