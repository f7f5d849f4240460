"""Gradient accumulation: the sizes of the parts of a minibatch, and the loop that goes over the parts.

A minibatch is cut twice, so that its activations fit into memory. Along B it is cut into *micro-batches* of queries;
along G the completions of a micro-batch are cut into *micro-groups*, which share the pass over the prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from dtr1_jax import config
from dtr1_jax import mesh as mesh_lib


def micro_batch(rollout: config.Rollout, grpo: config.Grpo, mesh: Mesh | AbstractMesh) -> int:
    """Number of queries in a micro-batch, over all devices: grpo.micro_queries on each batch shard.

    It is 0, for the whole minibatch, if grpo.micro_queries is 0. Raises ConfigError if the minibatch does not divide
    evenly into the batch shards, or into micro-batches of this size.
    """
    minibatch = rollout.queries // grpo.minibatches
    mesh_lib.check_batch(mesh, "rollout.queries / grpo.minibatches", minibatch)
    size = min(minibatch, grpo.micro_queries * mesh_lib.batch_shards(mesh))
    if size and minibatch % size:
        raise config.ConfigError(
            f"config.grpo.micro_queries = {grpo.micro_queries}: on {mesh_lib.batch_shards(mesh)} shards this makes "
            f"micro-batches of {size} queries, which do not divide the {minibatch} queries of a minibatch; choose"
            " another number"
        )
    return size


def micro_group(group: int, limit: int) -> int:
    """Completions of each query in a micro-group: the largest divisor of `group` up to `limit`; 0 = no limit."""
    limit = limit or group
    return max(size for size in range(1, group + 1) if group % size == 0 and size <= limit)


def scan_parts(
    function: Callable[[Any, tuple[Any, jax.Array | None]], tuple[Any, Any]],
    carry: Any,
    tree: Any,
    count: int,
    *,
    axis: int,
    key: jax.Array | None,
) -> tuple[Any, Any]:
    """Calls `carry, out = function(carry, (part, part_key))` for `count` equal parts of `tree`, one after the other.

    Args:
      function: as for jax.lax.scan.
      carry: its first argument in the first call.
      tree: arrays whose `axis` has a size that `count` divides. Part i holds the rows i, i + count, i + 2 * count, ...,
        so that a device on a mesh computes its own rows in every part.
      count: number of parts.
      axis: the axis that is cut.
      key: split into one key for each part; None = every part has None.

    Returns:
      The last carry, and the outputs stacked on a new first axis. A single part is the whole `tree` with `key` itself,
      and its output is not stacked.
    """
    if count == 1:
        return function(carry, (tree, key))
    keys = None if key is None else jax.random.split(key, count)
    return jax.lax.scan(function, carry, (jax.tree.map(lambda x: _split(x, count, axis), tree), keys))


def join_parts(x: jax.Array, count: int, *, axis: int) -> jax.Array:
    """The rows of the `count` parts of `scan_parts` in the order of its `tree`.

    Args:
      x: the outputs of `scan_parts`: stacked on a new first axis, or those of a single part.
      count: number of parts.
      axis: the axis that was cut.
    """
    if count == 1:
        return x
    x = jnp.moveaxis(x, 0, axis + 1)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _split(x, count, axis):
    """[.., n, ..] -> [count, .., n / count, ..], with the rows of each part as `scan_parts` says."""
    return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, count, *x.shape[axis + 1 :]), axis + 1, 0)
