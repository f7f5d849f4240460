"""Weights on disk: safetensors with our own paths as names, read strictly both ways."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file

from dtr1_jax.run import atomic

FLOATS = ("F16", "BF16", "F32", "F64")


class WeightsError(ValueError):
    """A file of weights that does not fit; the message names the file and the tensors."""


def shortened(faults: list[str]) -> str:
    """The first ten, and how many more there are."""
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


def save_native(path: str | Path, params: dict, dtype=jnp.bfloat16) -> None:
    """Writes all weights as `dtype`; the file is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as partial:
        save_file({name: jnp.asarray(np.asarray(x)).astype(dtype) for name, x in flatten(params).items()}, partial)


def load_native(path: str | Path, template: dict) -> dict:
    """Weights as float32, with the tree and shapes of `template` (arrays or ShapeDtypeStructs).

    Raises WeightsError: no such file, not safetensors, a tensor missing, left over, of another shape or not a float.
    """
    path = Path(path)
    wanted = {name: leaf.shape for name, leaf in flatten(template).items()}
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise WeightsError(f"{path}: {what}; expected a .safetensors file with {len(wanted)} tensors")
        with safe_open(path, framework="flax") as file:
            names = set(file.keys())
            faults = [f"missing {n} {wanted[n]}" for n in sorted(wanted.keys() - names)]
            faults += [f"left over {n}" for n in sorted(names - wanted.keys())]
            for name in sorted(wanted.keys() & names):
                part = file.get_slice(name)
                if tuple(part.get_shape()) != tuple(wanted[name]):
                    faults.append(f"{name}: expected shape {tuple(wanted[name])}, got {tuple(part.get_shape())}")
                elif part.get_dtype() not in FLOATS:
                    faults.append(f"{name}: expected floats, got {part.get_dtype()}")
            if faults:
                raise WeightsError(f"{path} does not fit the policy:\n  " + shortened(faults))
            return unflatten({name: np.asarray(file.get_tensor(name).astype(jnp.float32)) for name in sorted(wanted)})
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: can not be read as safetensors: {error}") from error
