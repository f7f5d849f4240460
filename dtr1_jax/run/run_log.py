"""Numbers of a run as they come: JSON lines and TensorBoard on disk, one progress line on the terminal."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import resource
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import tensorboardX

from dtr1_jax.run import atomic


class Writer:
    """Appends the numbers of a run to `workdir/metrics.jsonl` and to TensorBoard events in `workdir/tb`.

    One JSON object a line: `{"step": 3, "train/reward": 0.5}`. Only the first process of a run should have one.
    """

    def __init__(self, workdir, *, tensorboard: bool = True):
        self.workdir = pathlib.Path(workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        self._path = self.workdir / "metrics.jsonl"
        self._file = _open(self._path)
        self._board = tensorboardX.SummaryWriter(str(self.workdir / "tb")) if tensorboard else None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line. NaN and infinity become null, as JSON has no word for them.

        Raises ValueError if a value is named "step".
        """
        if "step" in values:
            raise ValueError("metrics: 'step' is the key of the step itself; give the value another name")
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        line = {"step": int(step), **{name: finite.get(name) for name in numbers}}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        if self._board:
            for name, value in finite.items():
                self._board.add_scalar(name, value, step)

    def text(self, step: int, name: str, markdown: str) -> None:
        """Keeps a text, such as a table of samples, in `workdir/<name>/step_000020.md` and in TensorBoard."""
        folder = self.workdir / name
        folder.mkdir(parents=True, exist_ok=True)
        # Completions may hold lone surrogates, which UTF-8 has no bytes for.
        clean = markdown.encode("utf-8", "replace").decode()
        (folder / f"step_{step:06d}.md").write_text(clean, "utf-8")
        if self._board:
            self._board.add_text(name, clean, step)

    def truncate(self, step: int) -> None:
        """Drops what was written after `step`, so that a resumed run does not double its curve. -1 drops all.

        The file is replaced in one move: a kill leaves the old one or the new one.
        """
        self._file.close()
        with atomic.replacing(self._path) as partial, open(partial, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(row) + "\n" for row in read(self.workdir) if row["step"] <= step)
        self._file = _open(self._path)
        if self._board:
            self._board.close()
            self._board = tensorboardX.SummaryWriter(str(self.workdir / "tb"), purge_step=step + 1)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        if self._board:
            self._board.close()


class Silent(contextlib.nullcontext):
    """A Writer that writes nothing, for the processes of a run that are not the first."""

    def __enter__(self) -> Silent:
        return self

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def text(self, step: int, name: str, markdown: str) -> None:
        """Does nothing."""

    def truncate(self, step: int) -> None:
        """Does nothing."""


def writer(workdir, *, active: bool) -> Writer | Silent:
    """The Writer of the first process of a run; silent in the others."""
    return Writer(workdir) if active else Silent()


def read(workdir) -> list[dict]:
    """The lines of `workdir/metrics.jsonl` in order; [] where there is none. Lines that are no metrics are left out."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8", "replace").split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the last line of a killed run
        if isinstance(row, dict) and type(row.get("step")) is int and abs(row["step"]) < 2**63:
            rows.append(row)
    return rows


class Progress:
    """A line for the terminal: `step 12/60  reward 0.512  0.31 steps/s  2:35 left`.

    Args:
      total: the last step.
      start: the step the run begins or goes on from.
      stream: where to print; a terminal is overwritten in place, a file gets one line a call.
      clock: seconds, monotonic.
    """

    def __init__(self, total: int, start: int = 0, *, stream: TextIO | None = None, clock=time.monotonic):
        self._total, self._step = total, start
        self._stream, self._clock = stream or sys.stdout, clock
        self._time, self._seconds = clock(), None  # seconds of a step, smoothed

    def line(self, step: int, values: Mapping[str, float]) -> str:
        """Prints and returns the line after `step`. The rate forgets slowly: each call weighs 0.1 against the past."""
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
            # \x1b[K clears what a longer line before left behind.
            self._stream.write(f"\r{text}\x1b[K" + ("\n" if step >= self._total else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
        return text


def memory(device: Mapping[str, int] | None = None) -> dict[str, float]:
    """Peak memory in MB (10^6 bytes) of this process and, from `jax.Device.memory_stats()`, of one device.

    Backends without such statistics (CPU) give None, and no device entry comes back.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    out = {"memory/host_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    if device and "peak_bytes_in_use" in device:
        out["memory/device_peak_mb"] = device["peak_bytes_in_use"] / 1e6
    return out


def _open(path: pathlib.Path) -> TextIO:
    """`path` for appending; a broken last line is ended, so that the next one does not join it."""
    broken = path.exists() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    f = open(path, "a", encoding="utf-8")
    if broken:
        f.write("\n")
    return f


def _clock_time(seconds: float) -> str:
    """m:ss, or h:mm:ss from one hour on."""
    minutes, s = divmod(round(max(seconds, 0)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
