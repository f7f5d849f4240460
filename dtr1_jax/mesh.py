"""The device mesh and the only sharding tables of the project: RULES for weights, ACTIVATIONS for what layers compute.

The mesh has three axes: `data` splits the queries and replicates the weights, `fsdp` splits queries and weights, and
`tensor` splits heads, hidden units and the vocabulary, and the tokens between the products of a layer. The layer axis
of stacked weights is never split. A dimension that the size of a mesh axis does not divide stays whole, and so do heads
that their number does not divide. layout.py applies the tables inside jitted functions.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dtr1_jax import config, device_order

AXES = ("data", "fsdp", "tensor")
QUERIES = ("data", "fsdp")  # the mesh axes that split the batch axis
_GATHERED = 1 << 26  # bytes of messages that each device holds at a time; longer ones are sent in pieces
_UNIT = 1 << 30  # lengths are sent as two numbers, because JAX has no 64-bit integers by default

# expression found in the path of a leaf -> split of its last dimensions; leading dimensions, such as layers, stay whole
RULES = (
    (r"lora/.*/a$", P("fsdp", None)),
    (r"lora/.*/b$", P(None, "tensor")),
    (r"embed/table$", P("tensor", "fsdp")),
    (r"position/table$", P(None, "fsdp")),
    (r"(^|/)(o|out|down|fc2)/kernel$", P("tensor", "fsdp")),
    (r"(^|/)(o|out|down|fc2)/bias$", P(None)),
    (r"(^|/)(q|k|v|qkv|gate|up|fc1|patch|head)/kernel$", P("fsdp", "tensor")),
    (r"(^|/)(q|k|v|qkv|gate|up|fc1|patch|head)/bias$", P("tensor")),
    # The scales of an int8 kernel are split like its outputs, so that each device holds the scales of its own outputs.
    (r"(^|/)(o|out|down|fc2)/kernel_scale$", P("fsdp")),
    (r"(^|/)(q|k|v|qkv|gate|up|fc1|head)/kernel_scale$", P("tensor")),
    (r"norm\w*/(scale|bias)$", P(None)),
    (r"(^|/)opt/.*/ns_coeffs$", P(None)),  # constants of the Muon optimizer
    (r"(^|/)ema/\w+_k$", P(None)),  # running averages of the rewards of each task
)
# While a layer is computed, its weights are whole over `fsdp`. Those of RULES that also differ in `tensor`:
RESIDENT_RULES = (
    (r"(^|/)(o|down|out|fc2)/a$", P("tensor", None)),  # its input is cut over tensor
    (r"(^|/)(o|down|out|fc2)/b$", P(None, None)),
    (r"(^|/)(qkv|patch)/a$", P(None, None)),
    (r"(^|/)(qkv|patch)/b$", P(None, None)),
    # The queries, keys and values of a tower are one kernel; a cut of its columns is none between heads.
    (r"(^|/)(qkv|patch)/kernel$", P(None, None)),
    (r"(^|/)(qkv|patch)/(bias|kernel_scale)$", P(None)),
    (r"(^|/)\w+/a$", P(None, None)),
    (r"(^|/)\w+/b$", P(None, "tensor")),
)
# name of an activation's axis -> the mesh axes that split it
ACTIVATIONS = {
    "batch": QUERIES,
    "rows": ("data", "fsdp", "tensor"),  # completions, where no other axis is split
    "data": "data",  # the batch where the width is split over fsdp
    "width": "fsdp",
    "heads": "tensor",
    "hidden": "tensor",
    "vocab": "tensor",
    "sequence": "tensor",  # tokens between the products of a layer, where neither heads nor hidden units are split
}


def axis_sizes(sizes: config.Mesh, device_count: int) -> tuple[int, int, int]:
    """Sizes of the axes (data, fsdp, tensor); an axis of -1 gets the devices that the other axes leave, at least 1.

    An axis of 0 is 1 here; modes/mesh_choice.py chooses it by the memory. If the settings do not fit `device_count`,
    the product of the sizes differs from it, and `make` raises.
    """
    shape = [sizes.data, sizes.fsdp or 1, sizes.tensor or 1]
    if -1 in shape:
        rest = math.prod(s for s in shape if s != -1)
        shape[shape.index(-1)] = max(1, device_count // rest)
    return tuple(shape)


def make(sizes: config.Mesh, devices: list | None = None) -> Mesh:
    """Builds the mesh over `devices` (default: all devices), with the sizes that `axis_sizes` returns.

    Raises ConfigError if the product of the sizes is not the number of devices, and as `device_order.check_processes`
    does.
    """
    devices = jax.devices() if devices is None else devices
    shape = axis_sizes(sizes, len(devices))
    if math.prod(shape) != len(devices):
        raise config.ConfigError(
            f"config.mesh: data x fsdp x tensor = {' x '.join(map(str, shape))} = {math.prod(shape)} devices, but "
            f"there are {len(devices)} ({devices[0].platform}); set one of them to -1 to use the remaining devices"
        )
    placed = device_order.order(shape, devices)
    device_order.check_processes(placed)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def share_of_rows(mesh: Mesh, process: int | None = None) -> tuple[int, int]:
    """(number of a share, how many shares there are): the share of the global batch that a process prepares.

    Rows belong to batch shards. Where tensor groups span processes, these processes have the same share, and each
    prepares its rows.

    Args:
      mesh: the devices.
      process: its number; None = this process.
    """
    groups = device_order.groups_of_processes(mesh.devices)
    shares = sorted({min(held) for held in groups.values()})
    return shares.index(min(groups[jax.process_index() if process is None else process])), len(shares)


def local_shards(mesh: Mesh) -> int:
    """Number of batch shards whose rows this process prepares."""
    return batch_shards(mesh) // share_of_rows(mesh)[1]


def replicas(mesh: Mesh) -> int:
    """How many processes prepare the same rows; 1 unless tensor groups span processes."""
    return len(device_order.groups_of_processes(mesh.devices)) // share_of_rows(mesh)[1]


def for_rollout(mesh: Mesh | AbstractMesh, tensor: int) -> Mesh | AbstractMesh:
    """The mesh of the same devices in the same order whose `tensor` axis is larger, at the cost of `fsdp`.

    Where `fsdp` is not enough, `data` becomes smaller too. The mesh is abstract if `mesh` is.

    Raises ValueError if `tensor` is no multiple of the mesh's own, or if neighbours on the mesh form no such groups.
    """
    data, fsdp, own = (mesh.shape[axis] for axis in AXES)
    if not forms_groups(mesh, tensor):
        raise ValueError(f"data, fsdp, tensor = {data}, {fsdp}, {own}: no tensor = {tensor} for a rollout")
    inner = max(fsdp * own // tensor, 1)
    sizes = (data * fsdp * own // (inner * tensor), inner, tensor)
    if isinstance(mesh, AbstractMesh):
        return AbstractMesh(sizes, AXES)
    return Mesh(mesh.devices.reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 3)


def forms_groups(mesh: Mesh | AbstractMesh, size: int) -> bool:
    """Whether `for_rollout` takes `size`.

    Each group of `size` neighbours must lie within one place on `data`, or be made of whole places.
    """
    data, fsdp, own = (mesh.shape[axis] for axis in AXES)
    within = (fsdp * own) % size == 0
    return size % own == 0 and (within or (size % (fsdp * own) == 0 and (data * fsdp * own) % size == 0))


def batch_shards(mesh: Mesh) -> int:
    """Number of parts into which the mesh splits the batch axis."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(mesh: Mesh, name: str, size: int) -> None:
    """Raises ConfigError if the mesh cannot split a batch of `size` evenly; `name` is the setting of the size."""
    if size % batch_shards(mesh):
        raise config.ConfigError(
            f"config.{name} = {size} is not a multiple of mesh data x fsdp = {batch_shards(mesh)}, so it cannot be"
            " split evenly; change either of them"
        )


def batch(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose first axis is the batch."""
    return NamedSharding(mesh, P(QUERIES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, P())


def shardings(mesh: Mesh, tree: Any, heads: dict[str, int] | None = None, resident: bool = False) -> Any:
    """Tree of shardings for weights, adapters or optimizer state, by the path of each leaf in RULES.

    Args:
      mesh: the devices.
      tree: arrays or shapes.
      heads: `Spec.head_counts`, the number of heads in the projections that have heads: these are cut between heads
        only. None = between any columns that the mesh divides.
      resident: as they are used, whole over fsdp, instead of as they are stored.

    Raises KeyError if no rule matches.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: sharding(mesh, path, leaf, heads, resident), tree)


def sharding(
    mesh: Mesh, path: tuple, leaf: Any, heads: dict[str, int] | None = None, resident: bool = False
) -> NamedSharding:
    """`shardings` of one leaf at a path of jax.tree_util."""
    return NamedSharding(mesh, P(*_axes(mesh, path, leaf, heads, resident)))


def spread_sharding(mesh: Mesh, path: tuple, leaf: Any, heads: dict[str, int] | None) -> NamedSharding:
    """The sharding of a matrix with a copy for each batch shard, [..., shards, i, o] (layout.spread)."""
    *stack, i, o = _axes(mesh, path, leaf, heads, resident=True)
    return NamedSharding(mesh, P(*stack[:-1], QUERIES, i, o))


def spread_shardings(mesh: Mesh, tree: Any, heads: dict[str, int] | None) -> Any:
    """`spread_sharding` of a tree of matrices."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: spread_sharding(mesh, path, leaf, heads), tree)


def of_activation(mesh: Mesh, shape: tuple[int, ...], names: tuple[str | tuple[str, int] | None, ...]) -> NamedSharding:
    """The sharding of an activation, by the names of its axes in ACTIVATIONS (layout.place)."""
    units = [(name if isinstance(name, tuple) else (name, size)) for name, size in zip(names, shape)]
    return NamedSharding(
        mesh, P(*(ACTIVATIONS[name] if name and parts(mesh, name, count) > 1 else None for name, count in units))
    )


def parts(mesh: Mesh, name: str, size: int) -> int:
    """The number of parts into which the mesh cuts an axis of an activation; 1 where it does not divide `size`."""
    axes = ACTIVATIONS[name]
    count = math.prod(mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))
    return count if size % count == 0 else 1


def put(tree: Any, sharding: Any) -> Any:
    """Copies arrays, which every process holds whole, onto the mesh.

    `sharding` is one sharding for all leaves or a tree of shardings. The result never shares memory with `tree`, so it
    may be donated.
    """
    if isinstance(sharding, NamedSharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(_put, tree, sharding)


def put_batch(mesh: Mesh, tree: Any) -> Any:
    """Copies batch arrays onto the mesh; each process passes the rows of its share (`share_of_rows`).

    Where several processes have one share, the rows of the process with the first tensor devices count. So the devices
    of a tensor group never compute with different rows, even if these processes prepared different ones.
    """
    place = batch(mesh)
    if replicas(mesh) == 1:
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, np.asarray(x)), tree)
    own = NamedSharding(mesh, P("tensor", QUERIES))
    columns = [
        t for t in range(mesh.shape["tensor"])
        if any(device.process_index == jax.process_index() for device in mesh.devices[..., t].flat)
    ]  # fmt: skip

    def of_all(x):
        x = np.asarray(x)
        return jax.make_array_from_process_local_data(own, np.broadcast_to(x, (len(columns), *x.shape)))

    return _first(jax.tree.map(of_all, tree), place)


@functools.partial(jax.jit, static_argnames="place")
def _first(tree, place):
    return jax.lax.with_sharding_constraint(jax.tree.map(lambda x: x[0], tree), place)


def move_batch(mesh: Mesh, tree: Any) -> Any:
    """Batch arrays cut over another mesh of the same devices in the same order. All processes must call it."""
    return jax.device_put(tree, batch(mesh))


def local(tree: Any, mesh: Mesh | None = None) -> Any:
    """Copies batch arrays back as numpy, with the rows that this process passed to `put_batch`.

    All processes must call it. `mesh` is that of `put_batch`; None = the mesh of the arrays.
    """
    return jax.tree.map(lambda x: _local(x, mesh), tree)


def whole(mesh: Mesh, tree: Any) -> Any:
    """Copies sharded arrays to every process as whole numpy arrays. All processes must call it."""
    gathered = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), gathered)


def of_shares(mesh: Mesh | None, message: bytes) -> list[bytes]:
    """The messages of all processes, one for each share of the rows (`share_of_rows`), in the order of the shares.

    Where several processes have one share, it is the message of the process whose rows count (`put_batch`). All
    processes must call it. `mesh` may be None in a run of one process.
    """
    if jax.process_count() == 1 or mesh is None:
        return [message]
    lengths = _gather(np.array(divmod(len(message), _UNIT), np.int32)).astype(np.int64) @ (_UNIT, 1)
    piece = 1 << (max(_GATHERED // jax.process_count(), 1 << 16).bit_length() - 1)
    size = min(piece, 1 << (int(lengths.max()) - 1).bit_length())  # few sizes, because each is compiled
    first_shards = sorted({min(shards) for shards in device_order.groups_of_processes(mesh.devices).values()})
    groups = mesh.devices.reshape(-1, mesh.shape["tensor"])
    owners = [groups[shard, 0].process_index for shard in first_shards]
    parts: list[list[bytes]] = [[] for _ in owners]
    for start in range(0, max(1, int(lengths.max())), size):
        gathered = _gather(np.frombuffer(message[start : start + size].ljust(size, b"\0"), np.uint8))
        for part, owner in zip(parts, owners):
            part.append(gathered[owner, : max(0, lengths[owner] - start)].tobytes())
    return [b"".join(part) for part in parts]


def total_of_shares(mesh: Mesh | None, value: int) -> int:
    """Sum of the numbers of the processes, one for each share of the rows (`of_shares`). All processes must call it."""
    return sum(int.from_bytes(part, "big") for part in of_shares(mesh, value.to_bytes(8, "big")))


def _gather(x: np.ndarray) -> np.ndarray:
    """Stacks the arrays of all processes on a new first axis."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x)


def least(value: int) -> int:
    """The smallest of the processes' numbers. All processes must call it."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.int32(value)).min())


def most(value: int) -> int:
    """The largest of the processes' numbers. All processes must call it."""
    return -least(-value)


def largest(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The largest of the processes' numbers, for each of several. All processes must call it."""
    if jax.process_count() == 1:
        return sizes
    return tuple(_gather(np.array(sizes, np.int32)).max(0).tolist())


def _local(x, mesh):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return np.asarray(x)
    x = move_batch(mesh or x.sharding.mesh, x)  # a jitted function may return another sharding
    shards = {s.index[0].start or 0: s.data for s in x.addressable_shards}  # first row -> one of its replicas
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def _put(x, sharding):
    if sharding.is_fully_addressable:
        x = x.copy() if isinstance(x, jax.Array) else x  # device_put shares memory, even with may_alias=False
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _axes(mesh, path, leaf, heads, resident):
    """The mesh axis, or None, of each dimension of a leaf."""
    if not leaf.ndim:
        return ()
    keys = [str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", "")))) for p in path]
    name = "/".join(keys)
    rules = RESIDENT_RULES + RULES if resident else RULES
    spec = next((spec for pattern, spec in rules if re.search(pattern, name)), None)
    if spec is None:
        raise KeyError(f"no sharding rule for {name} {leaf.shape}; add one to RULES in {__name__}")
    if resident:
        spec = tuple(None if axis == "fsdp" else axis for axis in spec)
    count = (heads or {}).get(keys[-2] if len(keys) > 1 else "", 0)  # 0 is a multiple of all sizes
    axes = (None,) * (leaf.ndim - len(spec)) + tuple(spec)
    return tuple(
        axis if axis and n % mesh.shape[axis] == 0 and (axis != "tensor" or count % mesh.shape[axis] == 0) else None
        for axis, n in zip(axes, leaf.shape)
    )
