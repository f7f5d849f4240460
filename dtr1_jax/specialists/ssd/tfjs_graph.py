"""Opens a graph model of TensorFlow.js: model.json with the nodes of the graph, and shards with the values of weights.

A shard is raw little-endian bytes; the shards of a group follow one another, and the group's weights lie in them in the
order of the manifest. A quantised weight is value * scale + min (uint8, uint16), or a float16. Source: the format's
description in tfjs-core, `io/types.ts` and `io/io_utils.ts`. Nothing of the graph is executed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, Tensor
from dtr1_jax.models.weights.native import WeightsError

MODEL = "model.json"
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|b1"}
_QUANTISED = {"uint8": "|u1", "uint16": "<u2", "float16": "<f2"}
_MOST_BYTES = 4 << 30  # of the weights of a model


def open_graph(path: Path) -> tuple[HfCheckpoint, dict[str, np.ndarray]]:
    """Opens a graph model.

    Args:
      path: model.json or its folder.

    Returns the checkpoint, whose `config` is the JSON object of the graph and whose tensors are the float weights, and
    {name: array} of the integer constants. Raises WeightsError: a file is missing, cut off or too long, or the
    manifest is not in the format.
    """
    path = path / MODEL if path.is_dir() else path
    model = hf_checkpoint.read_json(path, "a graph model of TensorFlow.js")
    topology, manifest = model.get("modelTopology"), model.get("weightsManifest")
    nodes = topology.get("node") if isinstance(topology, dict) else None
    if not isinstance(nodes, list) or not isinstance(manifest, list) or not all(isinstance(n, dict) for n in nodes):
        raise WeightsError(
            f'{path}: expected a graph model of TensorFlow.js, with "modelTopology" that has a list "node", and with '
            '"weightsManifest"'
        )
    values: dict[str, np.ndarray] = {}
    for group in manifest:
        for name, value in _group(path, group):
            if name in values:
                raise WeightsError(f"{path}: the manifest has {name} twice")
            values[name] = value
    tensors = {n: Tensor(path, v.shape, "F32", n) for n, v in values.items() if v.dtype == np.float32}

    @contextlib.contextmanager
    def reading(_: Path) -> Iterator[Any]:
        yield lambda name, rows, columns: values[name]

    constants = {n: v for n, v in values.items() if n not in tensors}
    return HfCheckpoint(path, {"node": nodes}, tensors, reading), constants


def _group(path: Path, group: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The (name, values) of one group of the manifest."""
    try:
        names, weights = [str(p) for p in group["paths"]], list(group["weights"])
        sizes = [_size(weight) for weight in weights]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the weights manifest is not in the format: {error!r}") from None
    expected = sum(count * np.dtype(stored).itemsize for count, stored in sizes)
    if expected > _MOST_BYTES:
        raise WeightsError(f"{path}: expected weights of at most {_MOST_BYTES} bytes, the manifest has {expected}")
    raw = b"".join(_shards(path, names, expected))
    if len(raw) != expected:
        raise WeightsError(
            f"{path}: expected {expected} bytes in {', '.join(names)}, got {len(raw)}; fetch the shards again"
        )
    position = 0
    for weight, (count, stored) in zip(weights, sizes):
        value = np.frombuffer(raw, stored, count, position).reshape(weight["shape"])
        position += value.nbytes
        yield weight["name"], _dequantised(value, weight)


def _size(weight: dict) -> tuple[int, str]:
    """How many numbers a weight has, and their dtype in the shards. Raises ValueError or KeyError."""
    quantised = weight.get("quantization")
    name, shape = quantised["dtype"] if quantised else weight["dtype"], weight["shape"]
    known = _QUANTISED if quantised else _DTYPES
    if name not in known or not isinstance(weight["name"], str):
        raise ValueError(f"{weight['name']}: expected one of the dtypes {', '.join(known)}, got {name!r}")
    if quantised and weight["dtype"] not in ("float32", "int32"):
        raise ValueError(f"{weight['name']}: expected quantised float32 or int32, got {weight['dtype']!r}")
    if any(type(side) is not int or side < 0 for side in shape) or len(shape) > 8:
        raise ValueError(f"{weight['name']}: {shape!r} is not the shape of a weight")
    if quantised and name != "float16":
        for field in ("scale", "min"):
            if not math.isfinite(float(quantised[field])):
                raise ValueError(f"{weight['name']}: expected a finite {field}, got {quantised[field]!r}")
    return math.prod(shape), known[name]


def _shards(path: Path, names: list[str], most: int) -> Iterator[bytes]:
    for name in names:  # a manifest is foreign data: it must not name a file outside its folder
        file = path.parent / name
        if Path(name).name != name:
            raise WeightsError(f"{path}: expected names of shards in this folder, got {name!r}")
        if not file.is_file():
            raise WeightsError(f"{file}: no such file; {path.name} names it as a shard, fetch it too")
        with file.open("rb") as stream:
            yield stream.read(most + 1)


def _dequantised(value: np.ndarray, weight: dict) -> np.ndarray:
    quantised = weight.get("quantization")
    if not quantised or quantised["dtype"] == "float16":
        return value.astype(np.dtype(_DTYPES[weight["dtype"]]).newbyteorder("="))
    real = value.astype(np.float32) * np.float32(quantised["scale"]) + np.float32(quantised["min"])
    return real if weight["dtype"] == "float32" else np.rint(real).astype(np.int32)
