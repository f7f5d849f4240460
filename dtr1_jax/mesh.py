"""The device mesh and the one sharding table. Nothing else in the project names a partition.

Axes: `data` replicates the weights and cuts the queries; `fsdp` cuts queries and weights; `tensor` cuts heads and
hidden units. Weights are stacked on a layer axis, which is never cut. An axis that does not divide a dimension leaves
it whole.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dtr1_jax import config

AXES = ("data", "fsdp", "tensor")
QUERIES = ("data", "fsdp")  # what cuts the batch axis

# path of a leaf (searched) -> how its last dimensions are cut; leading dimensions, such as the layer axis, are whole
RULES = (
    (r"lora/.*/a$", P("fsdp", None)),
    (r"lora/.*/b$", P(None, "tensor")),
    (r"embed/table$", P("tensor", "fsdp")),
    (r"position/table$", P(None, "fsdp")),
    (r"(^|/)(o|out|down|fc2)/kernel$", P("tensor", "fsdp")),
    (r"(^|/)(o|out|down|fc2)/bias$", P(None)),
    (r"(^|/)(q|k|v|qkv|gate|up|fc1|patch|head)/kernel$", P("fsdp", "tensor")),
    (r"(^|/)(q|k|v|qkv|gate|up|fc1|patch|head)/bias$", P("tensor")),
    # of an int8 kernel, cut as its outputs are: who rounds a part of the outputs needs their scales alone
    (r"(^|/)(o|out|down|fc2)/kernel_scale$", P("fsdp")),
    (r"(^|/)(q|k|v|qkv|gate|up|fc1|head)/kernel_scale$", P("tensor")),
    (r"norm\w*/(scale|bias)$", P(None)),
    (r"(^|/)opt/.*/ns_coeffs$", P(None)),  # constants of Muon
    (r"(^|/)ema/\w+_k$", P(None)),  # of the rewards of each task
)


def axis_sizes(sizes: config.Mesh, device_count: int) -> tuple[int, int, int]:
    """Sizes of the axes (data, fsdp, tensor), where -1 becomes the number of devices that the other axes leave.

    The product may differ from `device_count` where the settings do not fit it; `make` then raises.
    """
    shape = [sizes.data, sizes.fsdp, sizes.tensor]
    if -1 in shape:
        rest = math.prod(s for s in shape if s != -1)
        shape[shape.index(-1)] = max(1, device_count // rest)
    return tuple(shape)


def make(sizes: config.Mesh, devices: list | None = None) -> Mesh:
    """The mesh over `devices` (default: all), with axes as `axis_sizes` gives them.

    Raises ConfigError where the product of the sizes is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = axis_sizes(sizes, len(devices))
    if math.prod(shape) != len(devices):
        raise config.ConfigError(
            f"config.mesh: data x fsdp x tensor = {' x '.join(map(str, shape))} = {math.prod(shape)} devices, but "
            f"there are {len(devices)} ({devices[0].platform}); set one of them to -1 to take what is left"
        )
    return jax.make_mesh(shape, AXES, devices=devices, axis_types=(AxisType.Auto,) * 3)


def shares(mesh: Mesh) -> int:
    """Into how many parts the batch axis is cut."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(mesh: Mesh, name: str, size: int) -> None:
    """Raises ConfigError where a batch of `size` can not be cut over the mesh; `name` is its setting."""
    if size % shares(mesh):
        raise config.ConfigError(
            f"config.{name} = {size} is not a multiple of mesh data x fsdp = {shares(mesh)}, so it can not be cut "
            "evenly; change either of them"
        )


def batch(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays that lead with the batch axis."""
    return NamedSharding(mesh, P(QUERIES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def shardings(mesh: Mesh, tree: Any) -> Any:
    """Shardings of weights, adapters or optimizer state by the path of each leaf. Raises KeyError if no rule fits."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: NamedSharding(mesh, _spec(mesh, path, leaf)), tree)


def put(tree: Any, sharding: Any) -> Any:
    """Arrays on the mesh; `sharding` is one for all leaves or a tree of them. Each host holds the whole arrays.

    Never shares memory with `tree`, so that what is put here may be donated.
    """
    if isinstance(sharding, NamedSharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(_put, tree, sharding)


def put_batch(mesh: Mesh, tree: Any) -> Any:
    """Batch arrays on the mesh, from the part that this process prepared."""
    place = batch(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, np.asarray(x)), tree)


def local(tree: Any) -> Any:
    """numpy arrays with the rows that this process put in by `put_batch`; whole arrays where there is one process."""
    return jax.tree.map(_local, tree)


def whole(mesh: Mesh, tree: Any) -> Any:
    """numpy arrays of what is cut over the mesh, whole on every process; all processes must call it."""
    gathered = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), gathered)


def mean(values: dict[str, float]) -> dict[str, float]:
    """The mean over processes of numbers that each of them computed on its own rows.

    A process may lack a number, since it had no such rows; the mean is then over those that have it.
    """
    if jax.process_count() == 1:
        return values
    names = _union(values)
    mine = np.array([values.get(name, 0.0) for name in names], np.float32)
    every = _gather(np.stack([mine, [name in values for name in names]]))
    summed, count = every.sum(0)
    return dict(zip(names, (summed / count).tolist()))


def total(values: dict[str, float]) -> dict[str, float]:
    """The sum over processes of numbers, whose names and their order are the same in each of them."""
    if jax.process_count() == 1:
        return values
    return dict(zip(values, _gather(np.array(list(values.values()), np.float32)).sum(0).tolist()))


def _union(names) -> list[str]:
    """The names that any process has, in the same order on all; first those of the first process."""
    text = np.frombuffer("\n".join(names).encode(), np.uint8)
    every = _gather(np.pad(text, (0, most(len(text)) - len(text))))
    return list(
        dict.fromkeys(name for row in every for name in row.tobytes().rstrip(b"\0").decode().split("\n") if name)
    )


def _gather(x: np.ndarray) -> np.ndarray:
    """The array of each process, in one with a new first axis."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x)


def least(value: int) -> int:
    """The smallest of a number over all processes."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.int32(value)).min())


def most(value: int) -> int:
    """The largest of a number over all processes."""
    return -least(-value)


def constrain(tree: Any, mesh: Mesh | None, axis: int = 0) -> Any:
    """Inside jit: cuts `axis` of every leaf as the batch; the identity without a mesh."""
    if mesh is None:
        return tree
    place = NamedSharding(mesh, P(*(None,) * axis, QUERIES))
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, place), tree)


def _local(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return np.asarray(x)
    x = jax.device_put(x, batch(x.sharding.mesh))  # what a jitted function returns may be cut in another way
    shards = {s.index[0].start or 0: s.data for s in x.addressable_shards}  # one of each replica
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def _put(x, sharding):
    if sharding.is_fully_addressable:
        x = x.copy() if isinstance(x, jax.Array) else x  # device_put shares it, even with may_alias=False
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _spec(mesh, path, leaf):
    if not leaf.ndim:
        return P()
    name = "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", "")))) for p in path)
    spec = next((spec for pattern, spec in RULES if re.search(pattern, name)), None)
    if spec is None:
        raise KeyError(f"no sharding rule for {name} {leaf.shape}; add one to RULES in {__name__}")
    axes = (None,) * (leaf.ndim - len(spec)) + tuple(spec)
    return P(*(a if a is not None and n % mesh.shape[a] == 0 else None for a, n in zip(axes, leaf.shape)))
