"""A trace of some training steps for TensorBoard's profiler, and the seconds of each phase of a step.

The trace shows what the host and each device do, with the phases data, rollout, score, update and checkpoint by name.
Inside jitted functions it has the names of jax.named_scope, such as prefill and decode.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from dtr1_jax import places

log = logging.getLogger(__name__)


@contextlib.contextmanager
def phase(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Names the work in the block in a trace, and adds its duration in seconds to `seconds[name]`."""
    start = time.monotonic()
    try:
        with jax.profiler.TraceAnnotation(name):
            yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - start


class StepTrace:
    """Traces `steps` steps of this process into `folder`: the second one, and those that follow.

    The first step is left out, because it compiles. What the profiler cannot do ends the trace with a warning, and not
    the run.
    """

    def __init__(self, folder: Path, steps: int):
        self._folder, self._left, self._is_first, self._is_on = folder, steps, True, False
        self._scratch: tempfile.TemporaryDirectory | None = None  # for the files, until they go into a bucket

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """The block is step `number`. An exception in the block ends the trace."""
        if self._left and not self._is_first and not self._is_on:
            self._start()
        self._is_first = False
        try:
            with jax.profiler.StepTraceAnnotation("step", step_num=number):
                yield
        except BaseException:
            self.close()
            raise
        if self._is_on:
            self._left -= 1
            if not self._left:
                self.close()

    def close(self) -> None:
        """Writes what was traced so far."""
        if not self._is_on:
            return
        self._is_on, self._left = False, 0
        try:
            jax.profiler.stop_trace()
            if self._scratch is not None:
                places.upload_folder(Path(self._scratch.name), self._folder)
            log.info("a trace of the steps is in %s; tensorboard --logdir shows it with xprof installed", self._folder)
        except (RuntimeError, OSError) as error:
            log.warning("the trace of the steps was not written to %s: %s", self._folder, error)
        if self._scratch is not None:
            self._scratch.cleanup()

    def _start(self) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # calls of Python functions would fill the trace
        try:
            if places.is_bucket(self._folder):
                self._scratch = tempfile.TemporaryDirectory(prefix="dtr1_jax-", ignore_cleanup_errors=True)
            jax.profiler.start_trace(self._scratch.name if self._scratch else self._folder, profiler_options=options)
            self._is_on = True
        except (RuntimeError, OSError) as error:  # such as another trace of this process
            self._left = 0
            log.warning("the steps are not traced: %s", error)
