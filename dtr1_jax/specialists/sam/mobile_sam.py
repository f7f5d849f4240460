"""Opens MobileSAM: mobile_sam.pt, which is a pickle, or the safetensors file that was made of it.

    sam = specialists.load("mobile_sam.pt")
    mobile_sam.to_safetensors("mobile_sam.pt", "weights/mobile_sam.safetensors")   # once; load it like the pickle

The pickle is read by `restricted_pickle`, which executes nothing. The weights are licensed under Apache-2.0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from dtr1_jax import mesh as meshes
from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, Tensor
from dtr1_jax.run import atomic
from dtr1_jax.specialists.sam import weights
from dtr1_jax.specialists.sam.predictor import Sam
from dtr1_jax.specialists.sam.restricted_pickle import TorchFile
from dtr1_jax.specialists.sam.spec import MOBILE_SAM, SamSpec

NAME = "mobile_sam.safetensors"
_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}


def open_path(
    path: Path, device_mesh: jax.sharding.Mesh, dtype: Any, sizes: SamSpec = MOBILE_SAM, **options: Any
) -> Sam:
    """MobileSAM from mobile_sam.pt, from mobile_sam.safetensors, or from a folder with the latter.

    Args:
      path: the file or folder.
      device_mesh: the devices.
      dtype: in which the model computes.
      sizes: of the model in the file.
      **options: as `Sam` takes them.

    Raises WeightsError: the file is damaged, holds more than tensors, or the tensors are not MobileSAM's.
    """
    checkpoint = _opened(path / NAME if path.is_dir() else path)
    return Sam(
        sizes, weights.load(checkpoint, sizes, meshes.replicated(device_mesh), dtype), device_mesh, dtype, **options
    )


def to_safetensors(pickle: str | Path, target: str | Path) -> None:
    """Writes the tensors of a .pt file to a safetensors file, with their names; executes nothing of the pickle.

    Raises WeightsError if the file is damaged or holds more than tensors.
    """
    file = TorchFile(pickle)
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(target) as partial:
        save_file({name: file.read(name) for name in file.tensors}, partial)


def _opened(path: Path) -> HfCheckpoint:
    if path.suffix == ".safetensors":
        return hf_checkpoint.open_file(path, {})
    file = TorchFile(path)
    found = {
        name: Tensor(path, tensor.shape, _DTYPES.get(tensor.dtype.name, tensor.dtype.name), name)
        for name, tensor in file.tensors.items()
    }

    @contextlib.contextmanager
    def reading(_: Path) -> Iterator[Callable]:
        def read(name: str, rows: slice, columns: slice) -> np.ndarray:
            values = file.read(name)
            return values[rows] if values.ndim <= 1 else values.reshape(len(values), -1)[rows, columns]

        yield read

    return HfCheckpoint(path, {}, found, reading)
