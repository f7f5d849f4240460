"""Ctrl-C or SIGTERM asks a run to save and stop; a second one stops it at once."""

from __future__ import annotations

import os
import signal
import threading


class Interrupted(Exception):
    """The run was asked to stop, and stopped after it saved `step`."""

    is_orderly = True  # all processes of a run stop at the same step

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class Flag:
    """Context manager that turns the first SIGINT or SIGTERM into `is_set`; the second has its usual effect.

    Outside of the main thread, where Python cannot catch signals, it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.is_set = False
        self._before: dict = {}

    def __enter__(self) -> Flag:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._on_signal) for s in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        self._restore()

    def _on_signal(self, number, frame) -> None:
        self.is_set = True
        self._restore()
        # not by logging or print: a signal can come while one of them holds its lock, and then this would wait for ever
        os.write(2, b"\nstopping: this step is saved first; a second signal stops the run at once\n")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None means that the handler was not set by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
