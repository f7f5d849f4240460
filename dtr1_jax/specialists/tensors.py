"""Reads the tensors of a specialist's checkpoint onto the devices, one at a time, strict both ways.

The parameters of a specialist are one flat dict with the checkpoint's own names and layouts: {"a.b.weight": array}.
Its model functions take this dict and a name, so a reader finds every weight of the file in the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, Tensor
from dtr1_jax.models.weights.native import FLOATS, WeightsError, shortened

Params = dict[str, jax.Array]  # name in the checkpoint -> array, in the layout of the checkpoint
Shapes = Mapping[str, tuple[int, ...]]


def load_params(
    checkpoint: HfCheckpoint,
    shapes: Shapes,
    place: jax.sharding.Sharding,
    dtype: Any = jnp.float32,
    *,
    rename: Callable[[str], str] = str,
    ignored: str | None = None,
    precise: str | None = None,
) -> Params:
    """Reads every tensor of `shapes` onto the devices.

    Args:
      checkpoint: the opened checkpoint; its tensors may have any float dtype.
      shapes: the shape of every weight that the model uses, by name.
      place: where the arrays go; `mesh.replicated(device_mesh)` for a model that every device holds whole.
      dtype: dtype of the returned arrays.
      rename: name in the file -> name in `shapes`, for checkpoints that have several spellings.
      ignored: expression that matches, after renaming, the whole names of tensors that no output depends on, such as
        stored positions and parts that only training uses.
      precise: expression that matches the whole names, in `shapes`, of weights that stay float32 whatever `dtype` says.

    Returns {name: array}. Raises WeightsError: a tensor is missing, left over, of another shape or not a float, or
    two tensors get one name.
    """
    named: dict[str, tuple[str, Tensor]] = {}
    faults = []
    for file_name, tensor in checkpoint.tensors.items():
        name = rename(file_name)
        if name in named:
            faults.append(f"both {named[name][0]} and {file_name} are {name}")
        named[name] = file_name, tensor
    for name, shape in shapes.items():
        if name not in named:
            faults.append(f"missing {name} {list(shape)}")
        elif named[name][1].shape != tuple(shape):
            faults.append(f"{name}: expected shape {list(shape)}, got {list(named[name][1].shape)}")
        elif named[name][1].dtype not in FLOATS:
            faults.append(f"{name}: expected floats ({', '.join(FLOATS)}), got {named[name][1].dtype}")
    left_over = sorted(set(named) - set(shapes))
    faults += [f"left over {name}" for name in left_over if ignored is None or not re.fullmatch(ignored, name)]
    if faults:
        raise WeightsError(
            f"{checkpoint.where} does not fit the model that its configuration describes:\n  " + shortened(faults)
        )
    by_file: dict[Path, list[str]] = {}
    for name in shapes:
        by_file.setdefault(named[name][1].file, []).append(name)
    params = {}
    for file, names in by_file.items():
        with checkpoint.reading(file) as read:
            for name in names:
                values = np.asarray(read(named[name][0], slice(None), slice(None))).reshape(shapes[name])
                kind = jnp.float32 if precise is not None and re.fullmatch(precise, name) else dtype
                params[name] = jax.device_put(values.astype(np.float32).astype(kind), place)
    return {name: params[name] for name in shapes}


def random_params(shapes: Shapes, key: jax.Array, scale: float = 0.02) -> Params:
    """float32 weights from a normal distribution with the deviation `scale`, for tests and for timing."""
    keys = jax.random.split(key, len(shapes))
    return {name: scale * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items())}
