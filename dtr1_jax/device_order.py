"""The places of devices in a mesh: neighbours in the network, and each process by itself."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.experimental import mesh_utils

from dtr1_jax import config


def order(shape: tuple[int, int, int], devices: list) -> np.ndarray:
    """object[data, fsdp, tensor]: the devices as JAX finds best for their network, or process by process.

    The order of the network is taken only if it keeps the devices of each process together. Otherwise a tensor group,
    or the devices that hold one copy of the weights in a rollout, would be spread over processes without need.
    """
    placed = _network_order(shape, devices)
    if placed is None or not _is_process_by_process(placed):
        placed = np.empty(shape, object)
        placed.flat = sorted(devices, key=lambda device: (slice_of(device), device.process_index))
    return placed


def _network_order(shape, devices):
    """object[data, fsdp, tensor]: the devices as JAX places them; None where it knows no placement for the sizes.

    On a TPU slice, JAX gives each mesh axis whole axes of the network, such as 8 x 8 chips. It refuses other sizes,
    such as 16 x 4, unless it may split an axis of the network. Several slices have no common network.
    """
    if len(set(map(slice_of, devices))) > 1:
        return None
    for may_split in (False, True):
        try:
            return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=may_split)
        except (NotImplementedError, ValueError):  # ValueError: only some devices of a slice
            continue
    return None


def slice_of(device: Any) -> int:
    """Number of the TPU slice that a device belongs to; 0 for other devices."""
    return getattr(device, "slice_index", None) or 0


def _is_process_by_process(devices):
    """Whether the devices of each process stand together in the flat order of the mesh."""
    processes = [device.process_index for device in devices.flat]
    return len(list(itertools.groupby(processes))) == len(set(processes))


def check_processes(devices: np.ndarray) -> None:
    """Raises ConfigError if the batch shards of two processes overlap in part, or their numbers differ.

    The devices of a *tensor group* compute the same queries together. All processes that hold a part of a group prepare
    the same queries. So two processes must hold parts of the same groups or of different ones. And all processes
    prepare the same number of queries, so they need the same number of groups.

    Args:
      devices: object[data, fsdp, tensor], devices with a `process_index`; a tensor group is devices[d, f].
    """
    counts = collections.Counter(device.process_index for device in devices.flat)
    if len(set(counts.values())) > 1:
        described = ", ".join(f"process {process} has {count}" for process, count in sorted(counts.items()))
        raise config.ConfigError(
            "config.mesh: start every process with the same number of devices, because each prepares the same number of"
            f" queries; now {described}"
        )
    if not shares_whole(devices):
        groups, each = groups_of_processes(devices), next(iter(counts.values()))
        described = ", ".join(f"process {process} in {sorted(held)}" for process, held in sorted(groups.items())[:4])
        raise config.ConfigError(
            f"config.mesh.tensor = {devices.shape[2]}: set it to a divisor or a multiple of the {each} devices of a"
            " process. Processes that share a group of tensor devices prepare the same queries, so they must share all"
            f" their groups; now there are parts of the groups of {described}"
        )


def shares_whole(devices: np.ndarray) -> bool:
    """Whether any two processes hold parts of the same tensor groups or of different ones, and as many of them.

    Args:
      devices: object[..., tensor].
    """
    sets = set(map(frozenset, groups_of_processes(devices).values()))
    return sum(map(len, sets)) == len(set().union(*sets)) and len(set(map(len, sets))) == 1


def are_alike(groups: np.ndarray, place: Callable[[Any], int]) -> bool:
    """Whether `place` is the same number for all devices of each group of object[groups, devices]."""
    return all(len(set(map(place, group))) == 1 for group in groups)


def groups_of_processes(devices: np.ndarray) -> dict[int, set[int]]:
    """{process: the numbers of the batch shards whose tensor groups it holds a part of}."""
    groups: dict[int, set[int]] = {}
    for number, group in enumerate(devices.reshape(-1, devices.shape[-1])):
        for device in group:
            groups.setdefault(device.process_index, set()).add(number)
    return groups
