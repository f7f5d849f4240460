"""A checkpoint in Hugging Face form, opened but not read: its config, which tensors it has, and how to read parts.

Only safetensors are read, whose files hold numbers and nothing else; pickled checkpoints are refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from dtr1_jax.models.weights.native import WeightsError, shortened

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """file: where it is; shape; dtype as the file calls it, "BF16" or "Q4_1"; label: its name in the file."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    label: str


@dataclasses.dataclass(frozen=True)
class HfCheckpoint:
    """An opened checkpoint.

    Attributes:
      where: folder or file, for messages.
      config: as in config.json.
      tensors: by their Hugging Face name.
      reading: context manager of a file; gives read(name, rows, columns) -> float array [rows, columns] (or [rows] of a
        vector) of a tensor seen as a matrix [first axis, all others].
    """

    where: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    reading: Callable[[Path], contextlib.AbstractContextManager[Callable]]


def open_folder(folder: str | Path) -> HfCheckpoint:
    """Opens config.json and model.safetensors, or the shards that model.safetensors.index.json lists.

    Raises WeightsError: a file missing, truncated or no safetensors; index and shards that disagree; pickles only.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json", "the sizes of the model")
    method = config.get("quantization_config")
    if method is not None:
        method = method.get("quant_method", "?") if isinstance(method, dict) else method
        raise WeightsError(
            f"{folder / 'config.json'}: the weights are quantised ({method}), which can not be trained here; take the "
            "checkpoint in 16 bits, or a .gguf file"
        )
    if (folder / INDEX).is_file():
        tensors = _indexed(folder)
    elif (folder / SINGLE).is_file():
        tensors = _header(folder / SINGLE)
    else:
        pickles = sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern))
        why = f"; {pickles[0]} is a pickle, which is never loaded: convert it to safetensors" if pickles else ""
        raise WeightsError(f"{folder}: expected {SINGLE} or {INDEX}, found neither{why}")
    return HfCheckpoint(folder, config, tensors, _reading)


def read_json(path: Path, what: str) -> dict:
    """An object of a JSON file. Raises WeightsError naming the file, and `what` it is needed for."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; it says {what}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: can not be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _indexed(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX
    listed = read_json(index, "which shard holds which tensor").get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
        raise WeightsError(f"{index}: expected weight_map with the name of a shard for each tensor")
    shards = sorted(set(listed.values()))
    for name in shards:  # an index is data of others: it may name nothing outside its folder
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index}: expected names of .safetensors files in this folder, got {name!r}")
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{folder}: {len(missing)} of {len(shards)} shards missing: {', '.join(missing[:5])}; fetch it again"
        )
    tensors: dict[str, Tensor] = {}
    faults = []
    for shard in shards:
        for name, tensor in _header(folder / shard).items():
            if listed.get(name) != shard:
                faults.append(f"{shard} has {name}, which {INDEX} puts in {listed.get(name, 'no shard')}")
            tensors.setdefault(name, tensor)
    faults += [f"{shard} lacks {name}" for name, shard in listed.items() if name not in tensors]
    if faults:
        raise WeightsError(f"{folder}: index and shards disagree:\n  " + shortened(faults))
    return tensors


@contextlib.contextmanager
def _opened(path: Path):
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: can not be read as safetensors: {error}; fetch it again") from error


def _header(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}
        return {n: Tensor(path, tuple(p.get_shape()), p.get_dtype(), n) for n, p in parts.items()}


@contextlib.contextmanager
def _reading(path: Path):
    with _opened(path) as file:

        def read(name: str, rows: slice, columns: slice) -> np.ndarray:
            part = file.get_slice(name)
            if len(part.get_shape()) == 2:
                return part[rows, columns]
            whole = part[rows]
            return whole if whole.ndim == 1 else whole.reshape(len(whole), -1)[:, columns]

        yield read
