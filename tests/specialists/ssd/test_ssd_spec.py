"""The sizes are read from the graph, and a graph of another network is refused."""

import copy
import json

import numpy as np
import pytest
import ssd_weights

from dtr1_jax import specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.ssd import spec, weights
from dtr1_jax.specialists.ssd.spec import SsdSpec

SMALL = SsdSpec(
    side=48, classes=90, stem=4, blocks=((4, 4),) + ((8, 4), (8, 6)) * 8, last=10,
    extras=((4, 6), (5, 7), (4, 6), (3, 2)), boxes=(2, 3, 3, 3, 3, 3),
)  # fmt: skip
CONSTANTS = {"Preprocessor/map/while/ResizeImage/stack": np.array([48, 48], np.int32),
             "Postprocessor/Slice/begin": np.array([0, 0, 1], np.int32)}  # fmt: skip


def nodes():
    """The convolutions of a graph of SMALL, as TensorFlow.js writes them."""
    out = []
    for name, stride in spec.strides(SMALL).items():
        kind = "DepthwiseConv2dNative" if "depthwise" in name else "Conv2D"
        text = {key: {"s": list(value.encode())} for key, value in (("padding", "SAME"), ("data_format", "NHWC"))}
        steps = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
        attr = text | {"strides": steps, "dilations": {"list": {"i": ["1"] * 4}}}
        out.append({"name": f"node of {name}", "op": kind, "input": ["x", name], "attr": attr})
    return out


VALUES = ssd_weights.random_weights(weights.shapes(SMALL)) | CONSTANTS


def load(folder, values=None, graph=None):
    return specialists.load(ssd_weights.write(folder, graph or nodes(), values or VALUES))


def test_sizes_are_read(tmp_path):
    assert load(tmp_path).spec == SMALL


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FeatureExtractor/MobilenetV2/expanded_conv_7/project/Conv2D/merged_input", None, "no convolution"),
        ("FeatureExtractor/MobilenetV2/Conv_1/BatchNorm/batchnorm/sub", None, "missing .*Conv_1/BatchNorm"),
        ("left/over", np.zeros(3, np.float32), "left over left/over"),
        ("BoxPredictor_2/ClassPredictor/biases", np.zeros(3, np.float32), "biases: expected shape .*got .3."),
        ("Preprocessor/map/while/ResizeImage/stack", np.array([48, 50], np.int32), "expected a square"),
        ("Preprocessor/map/while/ResizeImage/stack", None, "expected the constant"),
        ("Postprocessor/Slice/begin", np.array([0, 0, 0], np.int32), "class 0 is the background"),
    ],
)
def test_files_of_another_model_are_refused(tmp_path, name, value, message):
    values = VALUES | {name: value} if value is not None else {n: v for n, v in VALUES.items() if n != name}
    with pytest.raises(WeightsError, match=message):
        load(tmp_path, values)


def test_other_classes_are_refused(tmp_path, monkeypatch):
    other = SsdSpec(**{f: getattr(SMALL, f) for f in SMALL.__dataclass_fields__} | {"classes": 20})
    values = ssd_weights.random_weights(weights.shapes(other)) | CONSTANTS
    with pytest.raises(WeightsError, match="expected 90 classes with COCO's ids, got 20"):
        load(tmp_path, values)


def test_nodes_that_differ_are_named():
    assert spec.node_faults(nodes(), SMALL) == []
    graph = copy.deepcopy(nodes())
    graph[0]["attr"]["strides"]["list"]["i"][1] = "1"
    graph[1]["attr"]["padding"]["s"] = list(b"VALID")
    graph[2]["attr"].pop("strides")
    graph[3]["input"][1] = "other"
    graph.append({"name": "r", "op": "ResizeBilinear", "input": [], "attr": {"align_corners": {"b": True}}})
    graph.append({"name": "b", "op": "FusedBatchNorm", "input": [], "attr": {"epsilon": {"f": 0.1}}})
    faults = spec.node_faults(graph, SMALL)
    for part in ("expected stride 2", "VALID", "cannot be read", "expected stride None", "align_corners", "0.001",
                 "no node convolves"):  # fmt: skip
        assert any(part in fault for fault in faults), (part, faults)


def test_text_in_base64_is_read():
    graph = json.loads(json.dumps(nodes()))
    for node in graph:
        node["attr"]["padding"]["s"] = "U0FNRQ=="
    assert spec.node_faults(graph, SMALL) == []
