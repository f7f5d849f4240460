"""Rewards are computed on the CPU of the host, also where the policy runs on an accelerator.

Their arrays are small and come from the host. On the accelerator they would wait until the sampling or the update that
it is busy with has ended, and host and device could not work at the same time (rollout.parts, rollout.ahead).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax


def host_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator like jax.jit, for functions of numpy arrays; the results are numpy arrays too.

    Where JAX has no CPU of this host, as with JAX_PLATFORMS=tpu, they are computed on JAX's default device.
    """
    compiled = jax.jit(function)

    @functools.wraps(compiled)  # so `__wrapped__` is the jitted function
    def run(*args: Any) -> Any:
        with jax.default_device(_cpu()):
            return jax.device_get(compiled(*args))

    return run


@functools.cache
def _cpu() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # no such backend
        return None
