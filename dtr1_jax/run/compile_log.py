"""A line in the log for each large program that JAX compiles, and its memory goes back to the system.

The compiler takes hundreds of megabytes of host memory. It frees them, but the C library keeps what was freed for later
allocations, and the arrays of a step are too large to be placed there.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from typing import Any

import jax

LEAST_S = 5.0  # seconds; programs that take less, such as those of single operations, are not in the log
RELEASE_S = 0.5  # seconds of compilation, of one or of many programs, after which freed memory goes back to the system

_EVENT = "/jax/core/compile/backend_compile_duration"

_log = logging.getLogger(__name__)


class CompileLog:
    """A listener to JAX's events that counts the programs of LEAST_S seconds and more, and logs each.

    After RELEASE_S seconds of compilation it calls `release_freed_memory`.
    """

    def __init__(self) -> None:
        self.programs, self.seconds, self._unreleased_s = 0, 0.0, 0.0

    def __call__(self, event: str, duration: float, **details: Any) -> None:
        """Takes an event of jax.monitoring; the time to read a program from the cache on disk counts as well."""
        if event != _EVENT:
            return
        self._unreleased_s += duration
        if self._unreleased_s >= RELEASE_S:
            self._unreleased_s = 0.0
            release_freed_memory()
        if duration < LEAST_S:
            return
        self.programs, self.seconds = self.programs + 1, self.seconds + duration
        name = str(details.get("fun_name", "a program")).removeprefix("jit_").removeprefix("jit(").removesuffix(")")
        _log.info(
            "compiled %s in %.0f s; so far %d large program%s in %.0f s", name, duration, self.programs,
            "s" * (self.programs != 1), self.seconds,
        )  # fmt: skip


def release_freed_memory() -> None:
    """Gives memory that was freed back to the system, where the C library can do it (glibc); elsewhere does nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))


@functools.cache  # JAX would call a listener that is registered twice twice.
def set_up() -> None:
    """Begins to log compilations in this process."""
    jax.monitoring.register_event_duration_secs_listener(CompileLog())
