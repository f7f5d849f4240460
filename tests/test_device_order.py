"""The order of devices in a mesh, on stand-ins for TPU slices, and which processes prepare which rows."""

import types

import numpy as np
import pytest

from dtr1_jax import config, device_order


def chips(kind, *sides, host=(2, 2), slices=1):
    """Stand-ins for the chips of TPU slices, numbered as JAX does: x first; a host has host[0] x host[1] x 1 chips."""
    devices, hosts = [], {}
    x, y, z = (*sides, 1)[:3]
    for number in range(slices):
        for c, b, a in np.ndindex(z, y, x):
            process = hosts.setdefault((number, a // host[0], b // host[1], c), len(hosts))
            devices.append(types.SimpleNamespace(
                id=len(devices), platform="tpu", device_kind=kind, coords=(a, b, c), core_on_chip=0,
                process_index=process, slice_index=number,
            ))  # fmt: skip
    return devices


def processes_in_groups(placed, size):
    return {len({d.process_index for d in group}) for group in placed.reshape(-1, size)}


@pytest.mark.parametrize("kind, sides, shape", [
    ("TPU v6 lite", (8, 8), (16, 4, 1)), ("TPU v6 lite", (8, 8), (1, 64, 1)), ("TPU v6 lite", (8, 8), (1, 16, 4)),
    ("TPU v5", (4, 4, 4), (1, 32, 2)), ("TPU v5", (4, 4, 4), (2, 8, 4)), ("TPU v5 lite", (4, 4), (1, 16, 1)),
    ("TPU v5 lite", (4, 4), (1, 4, 4)), ("TPU v5 lite", (16, 16), (4, 64, 1)), ("TPU v4", (2, 2, 4), (1, 8, 2)),
])  # fmt: skip
def test_every_shape_of_a_slice_has_an_order(kind, sides, shape):
    """JAX alone raises NotImplementedError for (16, 4, 1) on 8 x 8 chips and for (1, 32, 2) on 4 x 4 x 4."""
    devices = chips(kind, *sides)
    placed = device_order.order(shape, devices)
    assert placed.shape == shape and {d.id for d in placed.flat} == set(range(len(devices)))
    assert processes_in_groups(placed, 4) == {1}  # a host has 4 chips, so groups of up to 4 are inside
    device_order.check_processes(placed)


def test_slices_stay_together():
    placed = device_order.order((2, 16, 1), chips("TPU v5 lite", 4, 4, slices=2)[::-1])
    assert [{d.slice_index for d in part.flat} for part in placed] == [{0}, {1}]


def placed(sizes, owners):
    """Stand-ins for devices on a mesh of `sizes`; `owners` are their processes, in order."""
    return np.array([types.SimpleNamespace(id=i, process_index=p) for i, p in enumerate(owners)]).reshape(sizes)


@pytest.mark.parametrize("sizes, owners", [
    ((8, 1, 1), [0] * 4 + [1] * 4), ((1, 2, 4), [0] * 4 + [1] * 4), ((2, 2, 2), [0, 0, 1, 1] * 2), ((1, 1, 8), [0] * 8),
    ((1, 4, 2), [0, 0, 1, 1, 2, 2, 3, 3]),
    ((1, 1, 8), [0] * 4 + [1] * 4), ((1, 2, 4), [0, 0, 1, 1, 2, 2, 3, 3]), ((4, 1, 2), [0, 1] * 4),
])  # fmt: skip
def test_whole_groups_and_groups_that_processes_share_are_fine(sizes, owners):
    device_order.check_processes(placed(sizes, owners))


@pytest.mark.parametrize("sizes, owners, named", [
    ((2, 1, 3), [0, 0, 0, 0, 1, 1], "process 0 has 4, process 1 has 2"),
    ((3, 1, 2), [0, 0, 0, 1, 1, 1], r"tensor = 2: set it to a divisor or a multiple of the 3 .*process 0 in \[0, 1\]"),
])  # fmt: skip
def test_groups_that_overlap_in_part_are_refused(sizes, owners, named):
    with pytest.raises(config.ConfigError, match=named):
        device_order.check_processes(placed(sizes, owners))


def test_processes_that_hold_parts_of_the_same_groups():
    assert device_order.groups_of_processes(placed((1, 2, 4), [0, 0, 0, 1, 1, 1, 1, 0])) == {0: {0, 1}, 1: {0, 1}}
