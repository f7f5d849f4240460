"""The files that an ONNX file refers to are found wherever its tensors are; bytes that are no model are refused."""

import numpy as np
import onnx_files as files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtr1_jax.specialists.onnx.wire_format import external_locations
from tests import assets


def test_a_model_without_external_data():
    assert external_locations(files.mean_of_channels()) == set()
    assert external_locations(assets.path("weights/fastdepth/fastdepth_7.onnx").read_bytes()) == set()


def test_locations_are_found_in_graphs_within_graphs():
    secret = files.tensor("t", np.zeros(1), "../secret")
    inner = files.graph([files.node("Loop", ["a"], ["b"], body=files.graph([], [], [], [secret]))], [], [])
    assert external_locations(files.model(inner)) == {"../secret"}
    assert external_locations(files.mean_of_channels(external="weights.bin")) == {"weights.bin"}
    attribute = files.field(1, "value") + files.field(5, secret)
    node = files.field(4, "Constant") + files.field(5, attribute)
    function = files.field(25, files.field(7, node))
    assert external_locations(files.model(files.graph([], [], [])) + function) == {"../secret"}
    assert external_locations(files.model(files.graph([], [], []) + files.field(15, files.field(1, secret)))) == {
        "../secret"
    }


@pytest.mark.parametrize("data", [b"\xff" * 20, b"<html>", files.mean_of_channels()[:-5], b"\x3a\xff\xff\xff\xff\x0f"])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="no ONNX model"):
        external_locations(data)


@given(st.binary(max_size=200))
def test_any_bytes_end(data):
    try:
        assert isinstance(external_locations(data), set)
    except ValueError:
        pass


def test_deep_nesting_is_no_recursion():
    body = files.graph([], [], [], [files.tensor("t", np.zeros(1), "deep")])
    for _ in range(3000):
        body = files.graph([files.field(5, files.field(6, body))], [], [])
    assert external_locations(files.model(body)) == {"deep"}
