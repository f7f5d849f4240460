"""Runs a jitted function over any number of rows in a few fixed batch sizes, cut over the devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from dtr1_jax import mesh as meshes


def padded_count(rows: int, multiple: int = 1) -> int:
    """The smallest power of two times `multiple` that is at least `rows` (and at least `multiple`).

    Programs are compiled for such counts only, so that few shapes are compiled.
    """
    return multiple * 2 ** max(0, math.ceil(math.log2(max(rows, 1) / multiple)))


def single_device_mesh() -> jax.sharding.Mesh:
    """A mesh over the first device of this process, for a specialist that is loaded without a mesh."""
    from dtr1_jax import config

    return meshes.make(config.Mesh(data=1, fsdp=1, tensor=1), jax.local_devices()[:1])


def run(function: Callable[..., Any], rows: tuple[np.ndarray, ...], device_mesh: jax.sharding.Mesh, most: int) -> Any:
    """function(*rows) over batches of at most `most` rows, as numpy arrays.

    Rows are cut over the mesh's batch axes. The last batch is filled up by copies of its first row, whose results are
    dropped.

    Args:
      function: a jitted function of arrays whose first axis is the row; so is that of every array it returns.
      rows: arrays with one first axis.
      device_mesh: the devices.
      most: rows in a batch, as memory allows; rounded up to a multiple of the mesh's batch shards.

    Returns a tree of numpy arrays; None for no rows.
    """
    parts = list(pieces(function, rows, device_mesh, most))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts) if parts else None


def pieces(
    function: Callable[..., Any], rows: tuple[np.ndarray, ...], device_mesh: jax.sharding.Mesh, most: int
) -> Iterator[Any]:
    """The results of `run` batch by batch."""
    shards = meshes.batch_shards(device_mesh)
    size, count = padded_count(most, shards), len(rows[0])
    for start in range(0, count, size):
        parts = [array[start : start + size] for array in rows]
        real = len(parts[0])
        fill = padded_count(real, shards) - real
        filled = [np.concatenate([part, np.repeat(part[:1], fill, axis=0)]) for part in parts]
        result = function(*meshes.put_batch(device_mesh, tuple(filled)))
        yield jax.tree.map(lambda x, n=real: np.asarray(x)[:n], result)
