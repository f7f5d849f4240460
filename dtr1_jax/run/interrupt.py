"""Ctrl-C or SIGTERM asks a run to save and stop; a second one stops it at once. A notice of maintenance only saves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from dtr1_jax.run import cloud_notices

STATUS = 130  # exit status of a run that a signal or a notice stopped
NOTHING, SAVE, STOP = 0, 1, 2  # what a run is asked for; the processes of a run follow the largest number of any


class Interrupted(Exception):
    """The run was asked to stop, and stopped after it saved `step`."""

    is_orderly = True  # all processes of a run stop at the same step

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class Flag:
    """Context manager that turns the first SIGINT or SIGTERM into `is_set`; the second has its usual effect.

    On a machine of Google Cloud, the notice that it is taken back sets `is_set` too, and the notice of a maintenance
    that stops it sets `is_save_asked` (cloud_notices.py).

    Outside of the main thread, where Python cannot catch signals, it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.is_set = False
        self.is_save_asked = False
        self._before: dict = {}
        self._stack = contextlib.ExitStack()

    @property
    def asked(self) -> int:
        """NOTHING, SAVE or STOP."""
        return STOP if self.is_set else SAVE if self.is_save_asked else NOTHING

    def __enter__(self) -> Flag:
        global _current
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._on_signal) for s in self.SIGNALS}
            self._stack.enter_context(cloud_notices.watched(self._on_save_notice, self._on_stop_notice))
            _current = self
        return self

    def __exit__(self, *exception) -> None:
        global _current
        _current = None
        self._stack.close()
        self._restore()

    def set_by_another(self) -> None:
        """Sets `is_set`, because another process of the run is asked to stop. A later signal counts as the first."""
        self.is_set = True
        os.write(2, b"\nstopping, as another process of this run: this step is saved first\n")

    def _on_signal(self, number, frame) -> None:
        self.is_set = True
        self._restore()
        # not by logging or print: a signal can come while one of them holds its lock, and then this would wait for ever
        os.write(2, b"\nstopping: this step is saved first; a second signal stops the run at once\n")

    def _on_save_notice(self, text: str) -> None:
        self.is_save_asked = True
        os.write(2, f"\n{text}: this step is saved, and the run goes on\n".encode())

    def _on_stop_notice(self, text: str) -> None:
        self.is_set = True
        os.write(2, f"\nstopping, because {text}: this step is saved first\n".encode())

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None means that the handler was not set by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}


_current: Flag | None = None


def current() -> Flag | None:
    """The flag of the work that is under way; None where a signal has its usual effect."""
    return _current
