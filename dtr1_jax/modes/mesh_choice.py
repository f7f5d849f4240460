"""The mesh of a run: what the settings leave open is chosen by the memory that a step would need on each device.

Copies of the weights send least, so they are cut over as few devices as their memory allows, and over `tensor` only
where the queries cannot be cut over all devices, or where cutting the weights over all of them is not enough. The
memory is counted by policies/memory.py and policies/phase_memory.py.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from dtr1_jax import config, mesh
from dtr1_jax.models.spec import Spec
from dtr1_jax.modes import plan
from dtr1_jax.policies import rollout_layout

AUTO = 0  # the setting of an axis whose size is chosen
SHARE = 0.85  # of a device's memory that a step may need as planned, because plans are up to 15 % too low

log = logging.getLogger(__name__)


def make(c: config.Config, sizes: Spec) -> Mesh:
    """The mesh of a run over all devices. All processes must call it.

    Args:
      c: the settings.
      sizes: of the policy.

    Raises ConfigError as `mesh.make` does.
    """
    chosen, why = _of_this_machine(c, sizes)
    made = mesh.make(chosen)
    if chosen != c.mesh:
        log.info("mesh: %s (%s)", ", ".join(f"{axis} {size}" for axis, size in made.shape.items()), why)
    return made


def settled(c: config.Config) -> config.Config:
    """The settings with the mesh that a run on this machine would have. Raises as `plan.policy_spec` does."""
    return dataclasses.replace(c, mesh=_of_this_machine(c, plan.policy_spec(c))[0])


def _of_this_machine(c, sizes):
    memory = mesh.least((rollout_layout.device_memory() or 0) >> 20) << 20  # the same choice on all processes
    return choose(c, sizes, jax.devices(), memory or None)


def choose(c: config.Config, sizes: Spec, devices: list[Any], memory: int | None) -> tuple[config.Mesh, str]:
    """(the mesh with the size of each axis, or the settings as they are where they leave nothing open; the reason).

    Args:
      c: the settings.
      sizes: of the policy.
      devices: all devices of the run; this machine need not have them.
      memory: bytes of memory of a device, or None if it is not known.
    """
    if not is_open(c.mesh):
        return c.mesh, "config.mesh"
    if len(devices) == 1 or memory is None:
        return c.mesh, "there is one device" if len(devices) == 1 else "the memory of a device is not known"
    needs, refused = {}, ""
    for candidate in _candidates(c.mesh, devices):
        try:
            need = plan.plan(c, sizes, mesh.make(candidate, devices), memory)["peak"]
        except config.ConfigError as error:  # such as queries that cannot be cut over so many devices
            refused = refused or str(error)
            continue
        if need <= SHARE * memory:
            return candidate, f"{need / plan.GIB:.1f} of {memory / plan.GIB:.1f} GiB planned on each device"
        needs[candidate] = need
    if not needs:  # What is wrong may not concern this mode; where it does, the mode says it.
        return c.mesh, f"none could be planned: {refused}"
    least = min(needs, key=lambda candidate: needs[candidate])
    log.warning(
        "mesh: no sizes of data, fsdp and tensor are planned to fit with %.0f %% of the memory to spare; with the best,"
        " a step needs %.1f of %.1f GiB on each device. --mode=plan says what takes them",
        100 - 100 * SHARE, needs[least] / plan.GIB, memory / plan.GIB,
    )  # fmt: skip
    return least, f"the smallest, with {needs[least] / plan.GIB:.1f} GiB planned on each device"


def is_open(sizes: config.Mesh) -> bool:
    """Whether the settings leave it to the memory over how many devices weights are cut."""
    return sizes.fsdp == AUTO and sizes.data == -1


def _candidates(sizes: config.Mesh, devices: list[Any]) -> Iterator[config.Mesh]:
    """Meshes in the order in which they are preferred. A tensor group stays within a process."""
    count, of_process = len(devices), collections.Counter(device.process_index for device in devices)
    for tensor in _divisors(min(of_process.values())) if sizes.tensor == AUTO else [sizes.tensor]:
        if count % tensor == 0:
            for fsdp in _divisors(count // tensor):
                yield dataclasses.replace(sizes, data=count // tensor // fsdp, fsdp=fsdp, tensor=tensor)


def _divisors(number):
    return [n for n in range(1, number + 1) if number % n == 0]
