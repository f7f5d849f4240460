"""Executes a graph of TensorFlow.js node by node in torch: the reference for a network that is written by hand."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

LOOP_INPUT = "Preprocessor/map/while/TensorArrayReadV3"  # the loop over pictures is executed for its body alone
LOOP_BODY = "Preprocessor/map/while/ResizeImage/Squeeze"
LOOP = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"


def read(folder: Path) -> tuple[dict, dict]:
    """({name: node}, {name: array}) of the graph in a folder, without quantised weights."""
    value = json.loads((folder / "model.json").read_text())
    weights = {}
    for group in value["weightsManifest"]:
        raw = b"".join((folder / path).read_bytes() for path in group["paths"])
        for entry in group["weights"]:
            dtype = {"float32": np.float32, "int32": np.int32}[entry["dtype"]]
            count = int(np.prod(entry["shape"], dtype=np.int64))
            weights[entry["name"]] = np.frombuffer(raw, dtype, count).reshape(entry["shape"])
            raw = raw[4 * count :]
    return {node["name"]: node for node in value["modelTopology"]["node"]}, weights


def run(nodes: dict, weights: dict, images: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
    """The values of the nodes `outputs` for pictures [B, h, w, 3] of one size."""
    with torch.no_grad():
        values = {"image_tensor": torch.from_numpy(images)}
        return [np.asarray(_value(name, nodes, weights, values)) for name in outputs]


def _value(name, nodes, weights, values):
    name, _, index = name.partition(":")
    if name not in values:
        if name == LOOP:
            rows = _value("ToFloat", nodes, weights, values)
            values[name] = torch.stack([
                _value(LOOP_BODY, nodes, weights, {LOOP_INPUT: row}) for row in rows
            ])  # fmt: skip
        elif name in weights:
            values[name] = torch.from_numpy(np.array(weights[name]))
        else:
            inputs = [_value(i, nodes, weights, values) for i in nodes[name]["input"]]
            values[name] = _call(nodes[name], inputs)
    value = values[name]
    return value[int(index or 0)] if isinstance(value, list) else value


def _call(node, x):
    attr = node["attr"]
    match node["op"]:
        case "Cast":
            return x[0].to(torch.float32)
        case "Conv2D" | "DepthwiseConv2dNative":
            return _convolution(node["op"], attr, *x)
        case "Add" | "BiasAdd":
            return x[0] + x[1]
        case "AddN":
            return sum(x[1:], x[0])
        case "Sub":
            return x[0] - x[1]
        case "Mul":
            return x[0] * x[1]
        case "Exp":
            return torch.exp(x[0])
        case "Sigmoid":
            return torch.sigmoid(x[0])
        case "Relu6":
            return torch.clamp(x[0], 0, 6)
        case "FusedBatchNorm":
            return _nhwc(F.batch_norm(_nchw(x[0]), x[3], x[4], x[1], x[2], eps=attr["epsilon"]["f"]))
        case "Shape":
            return torch.tensor(x[0].shape)
        case "StridedSlice":
            assert attr["shrink_axis_mask"]["i"] == "1"
            return x[0][int(x[1][0])]
        case "Pack":
            return torch.stack(x, int(attr["axis"]["i"]))
        case "Unpack":
            return list(torch.unbind(x[0], int(attr["axis"]["i"])))
        case "Reshape":
            return x[0].reshape([int(n) for n in x[1]])
        case "ConcatV2":
            return torch.cat(x[:-1], int(x[-1]))
        case "Squeeze":
            return x[0].squeeze(int(attr["squeeze_dims"]["list"]["i"][0]))
        case "ExpandDims":
            return x[0].unsqueeze(int(x[1]))
        case "Transpose":
            return x[0].permute([int(n) for n in x[1]])
        case "Tile":
            return x[0].repeat([int(n) for n in x[1]])
        case "Slice":
            return x[0][tuple(slice(int(b), None if s < 0 else int(b + s)) for b, s in zip(x[1], x[2]))]
        case "ResizeBilinear":
            assert not attr["align_corners"]["b"]
            return _resized(x[0], *(int(n) for n in x[1]))
    raise NotImplementedError(node["op"])


def _nchw(x):
    return x.permute(0, 3, 1, 2)


def _nhwc(x):
    return x.permute(0, 2, 3, 1)


def _convolution(kind, attr, x, kernel):
    assert bytes(attr["padding"]["s"]) == b"SAME"
    stride = [int(n) for n in attr["strides"]["list"]["i"][1:3]]
    pads = []
    for size, side, step in ((x.shape[2], kernel.shape[1], stride[1]), (x.shape[1], kernel.shape[0], stride[0])):
        total = max((-(-size // step) - 1) * step + side - size, 0)
        pads += [total // 2, total - total // 2]
    x = F.pad(_nchw(x), pads)
    if kind == "Conv2D":
        return _nhwc(F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=stride))
    assert kernel.shape[3] == 1
    return _nhwc(F.conv2d(x, kernel.permute(2, 3, 0, 1), stride=stride, groups=x.shape[1]))


def _resized(x, height, width):
    rows, columns = _matrix(x.shape[1], height), _matrix(x.shape[2], width)
    return torch.einsum("ab,nbcd,ec->naed", rows, x.double(), columns).float()


def _matrix(old, new):
    """float64[new, old] that resizes an axis: row i takes its value at i * old / new."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        at = i * old / new
        low = min(int(at), old - 1)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, old - 1)] += at - low
    return matrix
