"""Shapes, dtypes and checksums of the arrays of a state: a checkpoint holds them beside the arrays it describes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

_MAX_LINES = 10  # differences that a message lists


def summarize_arrays(state: Any) -> dict[str, dict[str, Any]]:
    """Name of each array of a pytree -> {"shape": [...], "dtype": str, "sum": its checksum as an int}."""
    arrays = jax.block_until_ready(_arrays_by_name(state))
    # One after the other: on CPU devices, programs with collectives that run at the same time can block one another.
    sums = {name: int(checksum(x)) for name, x in arrays.items()}
    return {n: {"shape": list(x.shape), "dtype": str(x.dtype), "sum": sums[n]} for n, x in arrays.items()}


def array_differences(summary: dict[str, dict[str, Any]], template: Any) -> list[str]:
    """Compares a saved summary with a pytree of arrays; returns one line for each difference, or an empty list.

    An array differs if it is missing on one side, or has another dtype or shape. After ten lines a last one counts the
    others.
    """
    saved = {name: f"{x['dtype']}{x['shape']}" for name, x in summary.items()}
    expected = {name: f"{x.dtype}{list(x.shape)}" for name, x in _arrays_by_name(template).items()}
    lines = [
        f"{name}: expected {expected.get(name, 'nothing')}, the checkpoint has {saved.get(name, 'nothing')}"
        for name in sorted({*saved, *expected})
        if saved.get(name) != expected.get(name)
    ]
    return lines[:_MAX_LINES] + ([f"and {len(lines) - _MAX_LINES} more"] if len(lines) > _MAX_LINES else [])


@jax.jit
def checksum(x: jax.Array) -> jax.Array:
    """uint32[], the sum over elements i of bits(x_i) * (2 i + 1), modulo 2^32, of an array of any type and sharding.

    Every factor is odd, so a change of any one element changes the sum. The sum does not depend on the sharding, and is
    computed on the devices where the shards lie; a CRC would need the whole array on one host.
    """
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32))
    index, stride = jnp.zeros(bits.shape, jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):
        index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits.astype(jnp.uint32) * (2 * index + 1), dtype=jnp.uint32)


def _arrays_by_name(tree: Any) -> dict[str, Any]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
