"""A line in the log for each large program that JAX compiles: its seconds, and how many there are so far."""

from __future__ import annotations

import functools
import logging
from typing import Any

import jax

LEAST_S = 5.0  # seconds; programs that take less, such as those of single operations, are not in the log

_EVENT = "/jax/core/compile/backend_compile_duration"

_log = logging.getLogger(__name__)


class CompileLog:
    """A listener to JAX's events that counts the programs of LEAST_S seconds and more, and logs each."""

    def __init__(self) -> None:
        self.programs, self.seconds = 0, 0.0

    def __call__(self, event: str, duration: float, **details: Any) -> None:
        """Takes an event of jax.monitoring; the time to read a program from the cache on disk counts as well."""
        if event != _EVENT or duration < LEAST_S:
            return
        self.programs, self.seconds = self.programs + 1, self.seconds + duration
        name = str(details.get("fun_name", "a program")).removeprefix("jit_").removeprefix("jit(").removesuffix(")")
        _log.info(
            "compiled %s in %.0f s; so far %d large program%s in %.0f s", name, duration, self.programs,
            "s" * (self.programs != 1), self.seconds,
        )  # fmt: skip


@functools.cache  # JAX would call a listener that is registered twice twice.
def set_up() -> None:
    """Begins to log compilations in this process."""
    jax.monitoring.register_event_duration_secs_listener(CompileLog())
