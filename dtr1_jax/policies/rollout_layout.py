"""The weights of a rollout: whole on each batch shard, because all of them are read for each token.

In the update, `mesh.fsdp` cuts the weights over devices, which gather them layer by layer. Decoding would have to
gather all layers for each token. So a rollout has its own copy of the weights in the compute dtype. It is made once for
each rollout, by one jitted function, and is dropped at the rollout's end. `mesh.rollout` devices hold the copy
together, cut as by `mesh.tensor`: those of one process, or of several chips of a TPU slice where no process has room.

A device reads its part of the weights for each token, so more devices that hold a copy together decode faster, until
the messages of the layers take longer than that saves. On chips whose peaks are known, their number is chosen by that.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from dtr1_jax import device_order
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.config import ConfigError
from dtr1_jax.models.spec import Spec
from dtr1_jax.policies import chips

AS_UPDATE = -1  # the setting mesh.rollout: the rollout takes the arrays of the update
# Of a device's memory that the copy may take, and that it may take on the most devices that can hold one rather than
# not at all; the update's weights and the caches need the rest.
SHARE, MOST = 0.4, 0.5
LATENCY = 15e-6  # assumed seconds of a small message between the devices that hold a copy; we had no TPU to measure

log = logging.getLogger(__name__)


def choose(
    setting: int, device_mesh: Mesh | AbstractMesh, spec: Spec, copy_bytes: int, memory: int | None
) -> tuple[int, str]:
    """(devices that hold a copy of the weights together, the reason); AS_UPDATE = the arrays of the update.

    Args:
      setting: config.mesh.rollout; 0 = automatic.
      device_mesh: the mesh of the update. An abstract mesh counts as one process.
      spec: sizes of the policy.
      copy_bytes: bytes of a copy of all weights in the compute dtype.
      memory: bytes of memory of a device, or None if it is not known.

    Raises ConfigError if the mesh has no such groups of devices.
    """
    tensor = device_mesh.shape["tensor"]
    if setting == AS_UPDATE:
        return AS_UPDATE, "config.mesh.rollout = -1"
    sizes = [n for n in range(tensor, device_mesh.size + 1) if _fits(device_mesh, spec, n)]
    if setting:
        if setting not in sizes:
            raise ConfigError(
                f"config.mesh.rollout = {setting}: expected one of {', '.join(map(str, sizes))}, a multiple of"
                f" mesh.tensor = {tensor} that divides the {spec.heads} heads, divides mesh.fsdp x mesh.tensor or is a"
                " multiple of it, and divides the devices of a process or is a multiple of them; or 0 = automatic,"
                " -1 = as in the update"
            )
        return setting, f"config.mesh.rollout = {setting}"
    whole = device_mesh.shape["fsdp"] == 1  # each batch shard has whole weights, and needs no copy
    if memory is None:
        why = "the memory of a device is not known"
        return (AS_UPDATE, f"mesh.fsdp = 1, and {why}") if whole else (sizes[0], why)
    near = [n for n in sizes if n == tensor or _within_processes(device_mesh, n)]
    wider = [n for n in sizes if n > near[-1] and _within_slices(device_mesh, n)]
    fitting = (
        [n for n in near if copy_bytes / n <= SHARE * memory or (whole and n == tensor)]
        or [n for n in near[-1:] if copy_bytes / n <= MOST * memory]
        or [n for n in wider if copy_bytes / n <= SHARE * memory][:1]
        or [n for n in wider[-1:] if copy_bytes / n <= MOST * memory]
    )
    if fitting:
        size = _fastest(fitting, device_mesh, spec, copy_bytes)
        if whole and size == tensor:
            return AS_UPDATE, "mesh.fsdp = 1, so each batch shard holds whole weights anyway"
        why = f"{copy_bytes / size / 2**30:.1f} of {memory / 2**30:.1f} GiB on each device"
        return size, why if size == fitting[0] else f"{why}; fewer devices would read more for each token"
    return AS_UPDATE, (
        f"no copy fits: {copy_bytes / 2**30:.1f} GiB over {[*near, *wider][-1]} devices are more than {MOST:.0%} of"
        f" {memory / 2**30:.1f} GiB each. All weights are gathered for each token, which is slow: use bfloat16 or int8"
        " (config.policy.dtype, weights_dtype), a larger config.mesh.tensor, or devices with more memory"
    )


def _fastest(sizes, device_mesh, spec, copy_bytes):
    """The one of `sizes` with which a token takes least: its weights are read, and layers send two messages each.

    The first where the chip is not known. Sizes for which kv heads would be repeated count only if it is the first.
    """
    chip = None if isinstance(device_mesh, AbstractMesh) else chips.of_device(device_mesh.devices.flat[0])
    if chip is None:
        return sizes[0]

    def seconds(size):
        return copy_bytes / size / chip.hbm_bytes_s + (2 * spec.layers * LATENCY if size > 1 else 0)

    return min([sizes[0], *(n for n in sizes[1:] if spec.kv_heads % n == 0)], key=seconds)


def _fits(device_mesh, spec, size):
    """Whether `size` devices can hold a copy: they are neighbours on the mesh, and cut the heads.

    Where they are devices of several processes, the mesh has to be one that `mesh.make` would allow.
    """
    if size == device_mesh.shape["tensor"]:
        return True
    if not mesh_lib.forms_groups(device_mesh, size) or spec.heads % size:
        return False
    return isinstance(device_mesh, AbstractMesh) or device_order.shares_whole(device_mesh.devices.reshape(-1, size))


def _within_processes(device_mesh, size):
    """Whether each `size` neighbours are devices of one process."""
    return isinstance(device_mesh, AbstractMesh) or device_order.are_alike(
        device_mesh.devices.reshape(-1, size), lambda device: device.process_index
    )


def _within_slices(device_mesh, size):
    """Whether each `size` neighbours are chips of one TPU slice, whose network does not depend on processes."""
    return not isinstance(device_mesh, AbstractMesh) and device_order.are_alike(
        device_mesh.devices.reshape(-1, size),
        lambda device: device_order.slice_of(device) if device.platform == "tpu" else device.process_index,
    )


def mesh_of_copy(
    setting: int, device_mesh: Mesh | AbstractMesh, spec: Spec, params: dict, dtype: Any, memory: int | None
) -> tuple[Mesh | AbstractMesh, bool, str]:
    """(mesh of a rollout, whether it has a copy of the weights, the reason): what `copy` decides, from shapes.

    Args:
      setting, device_mesh, spec, dtype: as in `copy`.
      params: weights, or their shapes.
      memory: bytes of memory of a device, or None if it is not known.

    Raises ConfigError as `choose` does.
    """
    if device_mesh.size == 1:
        return device_mesh, False, "there is one device"
    size, why = choose(setting, device_mesh, spec, _copy_bytes(params, dtype), memory)
    return (device_mesh, False, why) if size == AS_UPDATE else (mesh_lib.for_rollout(device_mesh, size), True, why)


def _copy_bytes(params, dtype):
    """Bytes of a copy of all weights."""
    sizes = jax.eval_shape(functools.partial(as_computed, dtype=dtype), params)
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(sizes))


def copy(
    setting: int, device_mesh: Mesh, spec: Spec, params: dict, lora: dict | None, dtype: Any
) -> tuple[Mesh, dict, dict | None]:
    """(mesh of the rollout, weights, adapters): what a rollout works with. All processes must call it.

    Args:
      setting: config.mesh.rollout.
      device_mesh: the mesh of the update, on which the weights are.
      spec: sizes of the policy.
      params: weights.
      lora: adapters, or None.
      dtype: compute dtype.

    Raises ConfigError as `choose` does.
    """
    if device_mesh.size == 1:
        return device_mesh, params, lora
    size = _logged_choice(setting, device_mesh, spec, _copy_bytes(params, dtype))
    if size == AS_UPDATE:
        return device_mesh, params, lora
    rollout_mesh = mesh_lib.for_rollout(device_mesh, size)
    tree = {"base": params, "lora": lora or {}}
    places = mesh_lib.shardings(rollout_mesh, tree, spec.head_counts, resident=True)
    leaves, structure = jax.tree.flatten(places)
    copied = _reshard(tuple(leaves), structure, dtype)(tree)
    return rollout_mesh, copied["base"], copied["lora"] if lora else None


def device_memory() -> int | None:
    """Bytes of memory of a device of this process; None where it does not say it, as CPUs."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or None


@functools.cache  # a run logs its choice once
def _logged_choice(setting, device_mesh, spec, copy_bytes):
    memory = int(mesh_lib.least((device_memory() or 0) >> 20)) << 20 or None  # the same choice on all processes
    size, why = choose(setting, device_mesh, spec, copy_bytes, memory)
    level = logging.WARNING if size == AS_UPDATE and device_mesh.shape["fsdp"] > 1 and setting == 0 else logging.INFO
    held = "as in the update" if size == AS_UPDATE else f"a copy on every {size} device(s)"
    log.log(level, "weights of rollouts: %s (%s)", held, why)
    return size


@functools.cache  # jax.jit compiles once for each function
def _reshard(places, structure, dtype):
    return jax.jit(functools.partial(as_computed, dtype=dtype), out_shardings=jax.tree.unflatten(structure, places))


def as_computed(tree: Any, dtype: Any) -> Any:
    """Weights or adapters, where the arrays that layers convert to the compute dtype before use have that dtype.

    Arrays of a smaller dtype, such as int8, stay as they are.
    """

    def convert(path, x):
        converts = path[-1].key in ("kernel", "a", "b") or (len(path) > 1 and path[-2].key == "embed")
        smaller = jnp.issubdtype(x.dtype, jnp.floating) and jnp.dtype(dtype).itemsize < x.dtype.itemsize
        return x.astype(dtype) if converts and smaller else x

    return jax.tree_util.tree_map_with_path(convert, tree)
