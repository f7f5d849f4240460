"""SIGTERM and Ctrl-C in a run of several processes, also while this process waits for the others.

JAX's own handler takes SIGTERM as a notice that nobody reads here, so `eval` would go on as if nothing had happened.
dispatch.join_processes turns it off. With this module SIGTERM raises KeyboardInterrupt, as Ctrl-C does. Python raises
it in the main thread once that thread is back from compiled code; a thread of this module does not wait for that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from dtr1_jax.run import interrupt

SECONDS = 5.0  # that the main thread has to end the process in order

_child_hooks: list[None] = []  # one entry once children are looked after


@contextlib.contextmanager
def caught(end: Callable[[], None]) -> Iterator[None]:
    """Context manager in which SIGTERM and Ctrl-C end the process, the first one under interrupt.Flag excepted.

    Outside of the main thread it does nothing.

    Args:
      end: called by a thread where the process still works SECONDS after the signal; it does not return.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _child_hooks:
        os.register_at_fork(after_in_child=_leave_to_the_system)
        _child_hooks.append(None)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    over = threading.Event()
    thread = threading.Thread(target=_listen, args=(reader, over, end), daemon=True, name="stop signals")
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL if earlier is None else earlier)
        signal.set_wakeup_fd(earlier_fd)
        os.close(writer)
        thread.join()
        os.close(reader)


def _listen(reader: int, over: threading.Event, end: Callable[[], None]) -> None:
    """Calls `end` SECONDS after a signal that no Flag takes. Python writes each signal's number into the pipe."""
    taken = None  # the flag whose first signal came
    while number := os.read(reader, 1):
        if number[0] not in interrupt.Flag.SIGNALS:
            continue
        flag = interrupt.current()
        if flag is not None and flag is not taken:
            taken = flag
        elif not over.wait(SECONDS):
            end()


def _leave_to_the_system() -> None:
    """In a forked child: its signals are its own, and must not look like those of this process."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
