"""One writer for each folder of a bucket: the object `run.lock` names the run that writes there.

The object is created on the condition that there is none, so of two runs that start at once the bucket refuses one. But
a bucket has no lock that ends with its process. So this one is weaker than that of a local folder (workdir_lock.py):

- Its holder writes the object anew every few seconds, with a number that grows. A second run that finds the object
  watches it. If the number grows, the first run is alive, and the second is refused. If it stands still for _STALE
  seconds, the first run has ended without removing it, and its lock is taken over. No clocks are compared.
- Of two runs that take over the lock of the same dead run in the same seconds, the one that wrote the object last goes
  on, and the other one is refused. If the network holds up one of them for longer than _SETTLE seconds just then, both
  go on; each warns as soon as it finds the other one's name in the object.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dtr1_jax import places
from dtr1_jax.run import workdir_lock
from dtr1_jax.run.workdir_lock import LockError

_BEAT = 15.0  # seconds between two writings of the object
_STALE = 90.0  # seconds without a new number after which a run counts as ended
_LOOK = 3.0  # seconds between two looks at the object of another run
_SETTLE = 3.0  # seconds in which a run can see that another one took the folder at the same time

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: str | os.PathLike, mode: str) -> Iterator[None]:
    """Context manager that holds the lock of a folder in a bucket. One process of a run holds it.

    Args:
      folder: the workdir, or another folder with one writer.
      mode: of the run, for messages.

    Raises LockError if another run writes there, or if the bucket cannot be written.
    """
    path = places.path(folder) / workdir_lock.NAME
    owner = {
        "host": socket.gethostname(), "pid": os.getpid(), "time": time.strftime("%Y-%m-%d %H:%M:%S %z"), "mode": mode,
        "token": secrets.token_hex(8), "beat": 0, "machine": _machine(),
    }  # fmt: skip
    try:
        dead = _wait_for_end(path)
        if dead is not None and _read(path) == dead:
            places.remove(path)
        with contextlib.suppress(FileExistsError):  # of another run, or our own where the network sent it twice
            places.create(path, _text(owner))
        if dead is not None:
            time.sleep(_SETTLE)
        holder = _read(path)
    except OSError as error:
        raise LockError(
            f"cannot write to {path.parent}: {error}; expected a bucket that exists, and that the user of this machine"
            " may read and write; choose another --workdir"
        ) from error
    if holder is None or holder.get("token") != owner["token"]:
        raise LockError(_held(path, holder or {}))
    stop = threading.Event()
    beat = threading.Thread(target=_keep, args=(path, owner, stop), name="workdir lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with contextlib.suppress(OSError):
            holder = _read(path)
            if holder and holder.get("token") == owner["token"]:
                places.remove(path)


def _wait_for_end(path: Path) -> dict | None:
    """Returns when no run holds the lock: what the object of a dead run says, or None if there is no object.

    Raises LockError if a run holds it; OSError if the bucket cannot be read.
    """
    first = _read(path)
    if first is None:
        return None
    if first.get("machine") == _machine() and not workdir_lock.exists(first.get("pid")):
        _log.warning("taking over %s: %s has ended without removing it", path, workdir_lock.describe(first))
        return first
    _log.warning(
        "%s names another run, %s: watching for up to %.0f seconds whether it is alive",
        path, workdir_lock.describe(first), _STALE,
    )  # fmt: skip
    end = time.monotonic() + _STALE
    while time.monotonic() < end:
        time.sleep(_LOOK)
        now = _read(path)
        if now is None:
            return None
        if now != first:
            raise LockError(_held(path, now))
    _log.warning("taking over %s: %s has ended without removing it", path, workdir_lock.describe(first))
    return first


def _machine() -> str:
    """Names the machine since its last start, and the container, in which a process number means one process."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return secrets.token_hex(8)  # not known, so equal to no other


def _held(path: Path, holder: dict) -> str:
    return (
        f"another run writes to {path.parent}: {workdir_lock.describe(holder)}; wait until it ends, or choose another"
        " --workdir"
    )


def _text(owner: dict) -> str:
    return json.dumps(owner) + "\n"


def _read(path: Path) -> dict | None:
    """The holder that the object names; {} if it is broken, None if there is none. Raises OSError."""
    try:
        value = json.loads(places.read_text(path, "replace"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _keep(path: Path, owner: dict, stop: threading.Event) -> None:
    """Writes the object anew every _BEAT seconds, until `stop` or until it names another run, which is an error."""
    while not stop.wait(_BEAT):
        try:
            holder = _read(path) or {}
            if holder.get("token", owner["token"]) != owner["token"]:
                _log.error(
                    "%s now names another run, %s: both write into %s; stop one of them, and begin a new --workdir if "
                    "its figures make no sense", path, workdir_lock.describe(holder), path.parent,
                )  # fmt: skip
                return
            owner["beat"] += 1
            places.write_text(path, _text(owner))
        except OSError as error:
            _log.warning("%s could not be written, and is tried again: %s", path, error)
