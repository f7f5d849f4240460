"""Opens a Hugging Face folder: its config.json, the list of its tensors, and a function that reads parts of them.

Only safetensors files are read, because they hold nothing but numbers. Pickled checkpoints are refused.
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
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")  # suffixes
PICKLE_ADVICE = (
    "a pickle can run code, so it is never loaded; convert it where you trust it, by "
    "transformers.AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), which writes safetensors"
)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of an opened checkpoint; its values are not read yet.

    Attributes:
      file: the file that holds it.
      shape: its shape in the file.
      dtype: the file's name of the dtype, such as "BF16" or "Q4_1".
      label: its name in the file, for messages. A GGUF file's names differ from the Hugging Face names.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str
    label: str


@dataclasses.dataclass(frozen=True)
class HfCheckpoint:
    """An opened checkpoint, from a Hugging Face folder or a GGUF file. No weights are read yet.

    Attributes:
      where: the folder or file, for messages.
      config: the values of config.json.
      tensors: every tensor by its Hugging Face name.
      reading: reading(file) is a context manager that yields a function read(name, rows, columns). That function takes
        the tensor as a matrix [first axis, all other axes] and returns the part [rows, columns] as floats; of a vector
        it returns [rows], and of a single number the number.
    """

    where: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    reading: Callable[[Path], contextlib.AbstractContextManager[Callable]]


def open_folder(folder: str | Path) -> HfCheckpoint:
    """Opens a folder with config.json and model.safetensors, or with the shards that its index file lists.

    Raises WeightsError if a file is missing, truncated or not in the safetensors format, if index and shards
    disagree, if the weights are quantised, or if the folder has pickled weights only.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json", "the sizes of the model")
    quantisation = config.get("quantization_config")
    if quantisation is not None:
        method = quantisation.get("quant_method", "?") if isinstance(quantisation, dict) else quantisation
        raise WeightsError(
            f"{folder / 'config.json'}: the weights are quantised ({method}), and this format cannot be read; use the "
            "16-bit checkpoint or a .gguf file instead"
        )
    if (folder / INDEX).is_file():
        tensors = _indexed(folder)
    elif (folder / SINGLE).is_file():
        tensors = _header(folder / SINGLE)
    else:
        pickles = sorted(p.name for suffix in PICKLED for p in folder.glob(f"*{suffix}"))
        advice = f" but {pickles[0]}: {PICKLE_ADVICE}" if pickles else ""
        raise WeightsError(f"{folder}: expected {SINGLE} or {INDEX}, found neither{advice}")
    return HfCheckpoint(folder, config, tensors, _reading)


def open_file(file: str | Path, config: dict[str, Any]) -> HfCheckpoint:
    """Opens one safetensors file of a model whose `config` is known. Raises WeightsError if it cannot be read."""
    return HfCheckpoint(Path(file), config, _header(Path(file)), _reading)


def read_json(path: Path, content: str) -> dict:
    """Reads a JSON file that holds one object.

    `content` names the content for the message about a missing file: "the sizes of the model". Raises WeightsError.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; expected a JSON file with {content}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _indexed(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX
    shard_of = read_json(index, "the shard of each tensor").get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(v, str) for v in shard_of.values()):
        raise WeightsError(f"{index}: expected weight_map with the name of a shard for each tensor")
    shards = sorted(set(shard_of.values()))
    for name in shards:  # an index is foreign data: it must not name a file outside its folder
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
            if shard_of.get(name) != shard:
                faults.append(f"{shard} has {name}, which {INDEX} puts in {shard_of.get(name, 'no shard')}")
            tensors.setdefault(name, tensor)
    faults += [f"{shard} lacks {name}" for name, shard in shard_of.items() if name not in tensors]
    if faults:
        raise WeightsError(f"{folder}: index and shards disagree:\n  " + shortened(faults))
    return tensors


@contextlib.contextmanager
def _opened(path: Path):
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {error}; fetch it again") from error


def _header(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}
        return {n: Tensor(path, tuple(p.get_shape()), p.get_dtype(), n) for n, p in parts.items()}


@contextlib.contextmanager
def _reading(path: Path):
    with _opened(path) as file:

        def read(name: str, rows: slice, columns: slice) -> np.ndarray:
            part = file.get_slice(name)
            if not part.get_shape():  # one number, which has no slices
                return file.get_tensor(name)
            if len(part.get_shape()) == 2:
                return part[rows, columns]
            whole = part[rows]
            return whole if whole.ndim == 1 else whole.reshape(len(whole), -1)[:, columns]

        yield read
