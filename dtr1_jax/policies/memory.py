"""The memory of one device for a policy, a batch and lengths, counted before anything is loaded.

The *resident* memory (weights, adapters, optimizer, frozen copies) is held for the whole run. It is counted here, array
by array from shapes and the sharding table, and is exact. The *temporary* memory of an update, a rollout or an
evaluation is allocated on top of it and freed again; phase_memory.py counts it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from dtr1_jax import config, mesh
from dtr1_jax.models import decoder, int8, policy
from dtr1_jax.models.spec import Spec
from dtr1_jax.models.weights import native
from dtr1_jax.policies import rollout_layout, state
from dtr1_jax.rl import optim

Mesh: TypeAlias = jax.sharding.Mesh | AbstractMesh


def resident(c: config.Config, spec: Spec, device_mesh: Mesh) -> tuple[dict[str, int], dict[str, int]]:
    """(bytes on a device that stay for the whole run, by kind; numbers of parameters, all and trained). Both are exact.

    Args:
      device_mesh: may be abstract, for devices that this machine does not have.
    """
    base = base_shapes(c, spec)
    lora = adapter_shapes(c, base)
    trainable = {"lora": lora} if c.lora.rank else {"base": base}
    opt = jax.eval_shape(optim.optimizer(c.optim, c.train.steps).init, trainable)
    copy = {"reference": base} if c.grpo.beta and not c.lora.rank else {}
    copy |= {"behind": trainable} if c.rollout.ahead else {}
    bytes_by_kind = {
        "weights": bytes_on_device(device_mesh, {"base": base}, spec),
        "adapters": bytes_on_device(device_mesh, {"lora": lora}, spec) if c.lora.rank else 0,
        "optimizer": bytes_on_device(device_mesh, {"opt": opt}, spec),
        "frozen_copies": bytes_on_device(device_mesh, copy, spec),
    }
    return bytes_by_kind, {"parameters": _count(_weights(spec)), "trainable": _count(trainable)}


def bytes_on_device(device_mesh: Mesh, tree: Any, spec: Spec, resident: bool = False) -> int:
    """Bytes that each device holds of a tree of shapes, cut as the sharding table says (`mesh.shardings`)."""
    shardings = mesh.shardings(device_mesh, tree, spec.head_counts, resident)
    sizes = jax.tree.map(lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, tree, shardings)
    return sum(jax.tree.leaves(sizes))


def used_bytes(c: config.Config, spec: Spec, device_mesh: Mesh) -> int:
    """Bytes on a device of the trained weights as the parts of an update use them: each batch shard has whole adapters
    (rl/update.py), and its share of weights that are trained themselves.
    """
    base = base_shapes(c, spec)
    tree = {"lora": adapter_shapes(c, base)} if c.lora.rank else {"base": base}
    return bytes_on_device(device_mesh, tree, spec, resident=bool(c.lora.rank))


def mlp_adapters(c: config.Config, spec: Spec) -> int:
    """How many of the two projections to an MLP's hidden units have an adapter."""
    return sum(f"decoder/{name}/a" in adapter_paths(c, spec) for name in ("gate", "up"))


def copy_bytes(c: config.Config, spec: Spec, sampling_mesh: Mesh) -> int:
    """Bytes on a device of the copy of weights and adapters that a rollout works with (rollout_layout.copy)."""
    base = base_shapes(c, spec)
    tree = {"base": base, "lora": adapter_shapes(c, base)}
    tree = jax.eval_shape(functools.partial(rollout_layout.as_computed, dtype=jnp.dtype(c.policy.dtype)), tree)
    return bytes_on_device(sampling_mesh, tree, spec, resident=True)


def layer_bytes(c: config.Config, spec: Spec, device_mesh: Mesh, copied: bool = False, platform: str = "cpu") -> int:
    """Bytes on a device of the copy by layer of weights and adapters, in the compute dtype or int8, that a decode loop
    reads. Where the weights are cut over fsdp, XLA gathers all layers before the loop, and holds them besides.

    Args:
      device_mesh: that of the rollout.
      copied: whether the rollout works with a copy of the weights, in the compute dtype (rollout_layout.copy).
      platform: of the devices. On TPUs most weights are read in the stack of all layers (decoder.read_in_stack).
    """
    base, dtype = base_shapes(c, spec), jnp.dtype(c.policy.dtype)

    def by_layer(path, x):
        held = dtype if copied and x.dtype.itemsize > dtype.itemsize else x.dtype
        used = x.dtype if c.policy.weights_dtype == "int8" else dtype
        return None if decoder.read_in_stack(path, held, dtype, platform) else jax.ShapeDtypeStruct(x.shape, used)

    weights = jax.tree_util.tree_map_with_path(by_layer, base["decoder"])
    lora = _as(adapter_shapes(c, base).get("decoder", {}), dtype)
    tree = {"base": {"decoder": weights}, "lora": {"decoder": lora}}
    size = bytes_on_device(device_mesh, tree, spec, copied)
    if not copied and device_mesh.shape["fsdp"] > 1:
        size += bytes_on_device(device_mesh, tree, spec, resident=True)
    return size


def base_shapes(c: config.Config, spec: Spec) -> dict:
    """Shapes of the policy's weights, with their dtype in memory: int8 or config.policy.weights_dtype."""
    if c.policy.weights_dtype == "int8":
        return int8.template(_weights(spec), jnp.dtype(c.policy.dtype))
    return _as(_weights(spec), c.policy.weights_dtype)


def _as(tree, dtype):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype)), tree)


@functools.cache  # Tracing a large policy takes seconds.
def _weights(spec):
    """Shapes of the policy's weights in float32."""
    return jax.eval_shape(lambda: policy.init(jax.random.key(0), spec))


def adapter_shapes(c: config.Config, base: dict) -> dict:
    """Shapes of the adapters of the weights `base`; empty without adapters."""
    if not c.lora.rank:
        return {}
    return jax.eval_shape(lambda weights: state.initial_adapters(c, weights), base)


def adapter_paths(c: config.Config, spec: Spec) -> set[str]:
    """The paths of the adapters' arrays, such as "decoder/q/a"; empty without adapters."""
    return set(native.flatten(adapter_shapes(c, base_shapes(c, spec))))


def _count(tree):
    return int(sum(math.prod(x.shape) for x in jax.tree.leaves(tree)))
