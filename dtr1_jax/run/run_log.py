"""The run log: the numbers of a run as JSON lines and for TensorBoard, and a progress line on the terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import tensorboardX

from dtr1_jax import places, plain_text
from dtr1_jax.run import atomic

NAME = "metrics.jsonl"
PUBLISH = 30.0  # seconds; a bucket takes about one new version of an object a second, and all of it is sent each time

_log = logging.getLogger(__name__)


class RunLog:
    """Writes the numbers of a run to `workdir/metrics.jsonl` and to TensorBoard events in `workdir/tb`.

    A line of metrics.jsonl is one JSON object: `{"step": 3, "train/reward": 0.5}`. Only the first process of a run
    writes it; the others have a SilentRunLog.

    Nothing can be appended to the objects of a bucket. For a workdir there the files are written on this machine, and
    copied to the bucket by `flush`, `truncate` and `close`, and by a `write` that comes PUBLISH seconds later.
    """

    def __init__(self, workdir: str | os.PathLike, *, tensorboard: bool = True):
        """Opens the files for appending; makes the folder if it is missing."""
        self.workdir = places.path(workdir)
        places.make_folder(self.workdir)
        self._scratch = tempfile.TemporaryDirectory(prefix="dtr1_jax-") if places.is_bucket(self.workdir) else None
        self._folder = pathlib.Path(self._scratch.name) if self._scratch else self.workdir
        self._path, self._published = self._folder / NAME, time.monotonic()
        if self._scratch and places.exists(self.workdir / NAME):
            self._path.write_bytes(places.read_bytes(self.workdir / NAME))
        self._file = _open_for_append(self._path)
        self._board = tensorboardX.SummaryWriter(str(self._folder / "tb")) if tensorboard else None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the named numbers of a step. NaN and infinity become null, because JSON cannot hold them.

        Raises ValueError if a number is named "step".
        """
        if "step" in values:
            raise ValueError("run log: 'step' is the key of the step itself; give the number another name")
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        line = {"step": int(step), **{name: finite.get(name) for name in numbers}}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        if self._board:
            for name, value in finite.items():
                self._board.add_scalar(name, value, step)
        if time.monotonic() - self._published >= PUBLISH:
            try:
                self.flush()
            except OSError as error:  # of a bucket, for a while; before a checkpoint it is an error
                _log.warning("the log could not be copied, and is tried again in %.0f seconds: %s", PUBLISH, error)

    def write_text(self, step: int, name: str, markdown: str) -> None:
        """Writes a text, such as a table of samples, to `workdir/<name>/step_000020.md` and to TensorBoard.

        Invisible characters are escaped, so that the text can be written and does nothing to a terminal.
        """
        folder = self.workdir / name
        places.make_folder(folder)
        clean = plain_text.visible(markdown.encode("utf-8", "replace").decode())
        places.write_text(folder / f"step_{step:06d}.md", clean)
        if self._board:
            self._board.add_text(name, clean, step)

    def truncate(self, step: int) -> None:
        """Removes the lines after `step`, so that a resumed run does not write them twice; -1 removes all lines.

        The file is replaced in one move: a process killed meanwhile leaves the old file or the new one.
        """
        self._file.close()
        with atomic.replacing(self._path) as partial, open(partial, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in read_run_log(self._folder) if row["step"] <= step)
        self._file = _open_for_append(self._path)
        if self._board:
            self._board.close()
            self._board = tensorboardX.SummaryWriter(str(self._folder / "tb"), purge_step=step + 1)
        self.flush()

    def flush(self) -> None:
        """Brings all that was written to the workdir: call it before a checkpoint, which says that a step was made."""
        self._published = time.monotonic()
        if self._scratch:
            self._file.flush()
            if self._board:
                self._board.flush()
            self._upload()

    def _upload(self) -> None:
        places.upload_folder(self._folder, self.workdir)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        if self._board:
            self._board.close()
        if self._scratch:
            with self._scratch:  # removed afterwards
                self._upload()


class SilentRunLog(contextlib.nullcontext):
    """A run log that writes nothing, for all processes of a run but the first."""

    def __enter__(self) -> SilentRunLog:
        return self

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def write_text(self, step: int, name: str, markdown: str) -> None:
        """Does nothing."""

    def truncate(self, step: int) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""


def open_run_log(workdir: str | pathlib.Path, *, active: bool) -> RunLog | SilentRunLog:
    """The run log of a process: one that writes if `active` (the first process of a run), else a silent one."""
    return RunLog(workdir) if active else SilentRunLog()


def read_run_log(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The lines of `workdir/metrics.jsonl` in order, except those without an int "step"; [] if there is no file."""
    path = places.path(workdir) / NAME
    if not places.exists(path):
        return []
    rows = []
    for line in places.read_text(path, "replace").split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a killed run can leave a last line that is cut off
        if isinstance(row, dict) and type(row.get("step")) is int and abs(row["step"]) < 2**63:
            rows.append(row)
    return rows


class Progress:
    """A progress line: `step 12/60  reward 0.512  0.31 steps/s  2:35 left`."""

    def __init__(
        self, total: int, start: int = 0, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ):
        """Starts the clock.

        Args:
          total: number of the last step.
          start: number of the step from which the run starts or continues.
          stream: output, stdout by default. On a terminal each line replaces the one before; a file gets all lines.
          clock: time in seconds, monotonic.
        """
        self._total, self._step = total, start
        self._stream, self._clock = stream or sys.stdout, clock
        self._time, self._seconds = clock(), None  # smoothed seconds for one step

    def line(self, step: int, values: Mapping[str, float]) -> str:
        """Prints and returns the line after `step`. Its rate is a moving average in which each call weighs 0.1."""
        now = self._clock()
        if step > self._step:
            seconds = (now - self._time) / (step - self._step)
            self._seconds = seconds if self._seconds is None else 0.9 * self._seconds + 0.1 * seconds
            self._step, self._time = step, now
        parts = [f"step {step}/{self._total}", *(f"{name} {value:.4g}" for name, value in values.items())]
        if self._seconds:
            parts += [f"{1 / self._seconds:.3g} steps/s", f"{_clock_time((self._total - step) * self._seconds)} left"]
        text = "  ".join(parts)
        if self._stream.isatty():
            # \x1b[K clears the rest of a longer line before.
            self._stream.write(f"\r{text}\x1b[K" + ("\n" if step >= self._total else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
        return text


def peak_memory(device: Mapping[str, int] | None = None) -> dict[str, float]:
    """Peak memory in MB (10^6 bytes): `memory/host_peak_mb` of this process and `memory/device_peak_mb` of a device.

    `device` is from `jax.Device.memory_stats()`; on the CPU that is None, and the second number is left out.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    numbers = {"memory/host_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    if device and "peak_bytes_in_use" in device:
        numbers["memory/device_peak_mb"] = device["peak_bytes_in_use"] / 1e6
    return numbers


def _open_for_append(path: pathlib.Path) -> TextIO:
    """Opens `path` for appending; ends a last line that was cut off, so that the next line is not joined to it."""
    cut_off = path.exists() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    file = open(path, "a", encoding="utf-8")
    if cut_off:
        file.write("\n")
    return file


def _clock_time(seconds: float) -> str:
    """m:ss, or h:mm:ss from one hour on."""
    minutes, s = divmod(round(max(seconds, 0)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
