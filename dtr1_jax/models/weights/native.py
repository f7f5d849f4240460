"""Reads and writes our own weights files: safetensors whose tensors are named by our parameter paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file

from dtr1_jax import places
from dtr1_jax.run import atomic

FLOATS = ("F16", "BF16", "F32", "F64")


class WeightsError(ValueError):
    """A weights file is missing, damaged or does not fit the policy; the message names the file and the tensors."""


def shortened(faults: list[str]) -> str:
    """Joins the first ten faults, and the number of the others, into one text with a fault a line."""
    more = [f"and {len(faults) - 10} more"] if len(faults) > 10 else []
    return "\n  ".join(faults[:10] + more)


def flatten(params: dict) -> dict[str, jax.Array]:
    """Nested dict -> {"decoder/q/kernel": array, ...}, sorted by name."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return dict(sorted(("/".join(p.key for p in path), leaf) for path, leaf in leaves))


def unflatten(flat: dict) -> dict:
    """The inverse of `flatten`."""
    tree: dict = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def save_native(path: str | Path, params: dict, dtype: Any = jnp.bfloat16) -> None:
    """Writes all weights as `dtype`. An interrupted call leaves the old file, never half a file."""
    path = places.path(path)
    places.make_folder(path.parent)
    with atomic.replacing(path) as partial:
        save_file({name: jnp.asarray(np.asarray(x)).astype(dtype) for name, x in flatten(params).items()}, partial)


def load_native(path: str | Path, template: dict) -> dict:
    """Reads weights as float32 numpy arrays, with the tree and shapes of `template` (arrays or ShapeDtypeStructs).

    Raises WeightsError if the file is missing or not in the safetensors format, or if a tensor is missing, left
    over, of another shape or not a float.
    """
    path = Path(path)
    shapes = {name: leaf.shape for name, leaf in flatten(template).items()}
    try:
        if not path.is_file():
            fault = "a folder" if path.is_dir() else "no such file"
            raise WeightsError(f"{path}: {fault}; expected a .safetensors file with {len(shapes)} tensors")
        with safe_open(path, framework="flax") as file:
            names = set(file.keys())
            faults = [f"missing {n} {shapes[n]}" for n in sorted(shapes.keys() - names)]
            faults += [f"left over {n}" for n in sorted(names - shapes.keys())]
            for name in sorted(shapes.keys() & names):
                part = file.get_slice(name)
                if tuple(part.get_shape()) != tuple(shapes[name]):
                    faults.append(f"{name}: expected shape {tuple(shapes[name])}, got {tuple(part.get_shape())}")
                elif part.get_dtype() not in FLOATS:
                    faults.append(f"{name}: expected floats, got {part.get_dtype()}")
            if faults:
                raise WeightsError(f"{path} does not fit the policy:\n  " + shortened(faults))
            return unflatten({name: np.asarray(file.get_tensor(name).astype(jnp.float32)) for name in sorted(shapes)})
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: cannot be read as safetensors: {error}") from error
