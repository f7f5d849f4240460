"""Reading model.json and its shards: values, quantised weights, and files that are wrong."""

import json

import numpy as np
import pytest
import ssd_weights

from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.ssd import tfjs_graph

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([7, -1], np.int32),
           "s": np.array(2.5, np.float32)}  # fmt: skip


def values(path):
    checkpoint, constants = tfjs_graph.open_graph(path)
    with checkpoint.reading(checkpoint.where) as read:
        return {name: read(name, slice(None), slice(None)) for name in checkpoint.tensors}, constants


@pytest.mark.parametrize("part", ["", "model.json"])
def test_weights_and_constants(tmp_path, part):
    floats, constants = values(ssd_weights.write(tmp_path, [], WEIGHTS) / part)
    assert set(floats) == {"a", "s"} and floats["s"].shape == ()
    np.testing.assert_array_equal(floats["a"], WEIGHTS["a"])
    np.testing.assert_array_equal(constants["n"], [7, -1])


@pytest.mark.parametrize(
    ("stored", "quantisation", "expected"),
    [
        (np.array([0, 1, 255], np.uint8), {"dtype": "uint8", "scale": 0.5, "min": -1.0}, [-1, -0.5, 126.5]),
        (np.array([0, 65535], np.uint16), {"dtype": "uint16", "scale": 2.0, "min": 3.0}, [3, 131073]),
        (np.array([0.1, -2], np.float16), {"dtype": "float16"}, [np.float16(0.1), -2]),
    ],
)
def test_quantised(tmp_path, stored, quantisation, expected):
    changes = {"q": {"dtype": "float32", "quantization": quantisation}}
    floats, _ = values(ssd_weights.write(tmp_path, [], {"q": stored} | WEIGHTS, changes))
    np.testing.assert_allclose(floats["q"], expected, rtol=1e-6)
    np.testing.assert_array_equal(floats["a"], WEIGHTS["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, -3]}, "not the shape"),
        ({"shape": [10**9, 10**9]}, "at most"),
        ({"dtype": "string"}, "dtypes float32"),
        ({"quantization": {"dtype": "uint8", "scale": float("inf"), "min": 0}}, "finite scale"),
        ({"quantization": {"dtype": "uint8"}}, "scale"),
        ({"shape": [2, 4]}, "expected 44 bytes.*got 36"),
        ({"name": "n"}, "n twice"),
        ({"name": 3}, "dtypes"),
    ],
)
def test_wrong_manifests_are_refused(tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        tfjs_graph.open_graph(ssd_weights.write(tmp_path, [], WEIGHTS, {"a": change}))


def edit(folder, function):
    file = folder / "model.json"
    value = json.loads(file.read_text())
    function(value)
    file.write_text(json.dumps(value))
    return folder


def test_wrong_files_are_refused(tmp_path):
    folder = ssd_weights.write(tmp_path / "a", [], WEIGHTS)
    (folder / "group1-shard2of2").unlink()
    with pytest.raises(WeightsError, match="group1-shard2of2: no such file"):
        tfjs_graph.open_graph(folder)
    folder = ssd_weights.write(tmp_path / "b", [], WEIGHTS)
    (tmp_path / "secret").write_bytes(b"x" * 36)
    with pytest.raises(WeightsError, match=r"in this folder, got '\.\./secret'"):
        tfjs_graph.open_graph(edit(folder, lambda v: v["weightsManifest"][0].update(paths=["../secret"])))
    with pytest.raises(WeightsError, match="not in the format"):
        tfjs_graph.open_graph(edit(folder, lambda v: v.update(weightsManifest=[3])))
    with pytest.raises(WeightsError, match="expected a graph model"):
        tfjs_graph.open_graph(edit(folder, lambda v: v.pop("modelTopology")))
    (folder / "model.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        tfjs_graph.open_graph(folder)
    with pytest.raises(WeightsError, match="no such file"):
        tfjs_graph.open_graph(tmp_path / "c" / "model.json")
