"""One writer for each folder: a run locks its workdir, so that a second run does not write into it at the same time.

The lock is the file `run.lock` with host, process, time and mode as JSON. Its holder has it locked with flock, which
the system takes back when the process ends in any way, and touches it every few seconds. So the file that a killed run
leaves behind is taken over: at once on the same host, after _STALE seconds from another one.

Some file systems have no flock, and on some it does not reach other hosts. There the file itself decides: whether the
process still exists on this host, and how long ago the holder last touched the file. For a bucket see bucket_lock.py.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator

NAME = "run.lock"
_BEAT = 10.0  # seconds between two touches of the file
_STALE = 120.0  # seconds without a touch after which a run on another host counts as ended
_SETTLE = 0.2  # seconds in which a process without flock can see that another one took the file at the same time
_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_files: set[int] = set()  # descriptors of the locks that this process holds

_log = logging.getLogger(__name__)


def _close_in_child() -> None:
    """A forked process would otherwise keep the lock after the run was killed."""
    for file in _files:
        with contextlib.suppress(OSError):
            os.close(file)
    _files.clear()


os.register_at_fork(after_in_child=_close_in_child)


class LockError(RuntimeError):
    """A folder that another run writes, or that cannot be written; the message says what to do."""


@contextlib.contextmanager
def hold(folder: str | pathlib.Path, mode: str) -> Iterator[None]:
    """Context manager that holds the lock of `folder`, which is made if it is missing. One process of a run holds it.

    Args:
      folder: the workdir, or another folder with one writer.
      mode: of the run, for messages.

    Raises LockError if another run holds the lock, or if the folder cannot be written.
    """
    folder = pathlib.Path(folder).absolute()
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _take(folder / NAME, mode)
        _files.add(file)
    except OSError as error:
        raise LockError(
            f"cannot write to workdir {folder}: {error.strerror or error}; expected a folder that this user may create"
            " and write; choose another --workdir"
        ) from error
    stop = threading.Event()
    beat = threading.Thread(target=_touch, args=(file, stop), name="workdir lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with contextlib.suppress(OSError):
            if _is_file(file, folder / NAME) and _is_own(_read(file)):
                os.unlink(folder / NAME)  # before the file is unlocked, so that nobody else has it by now
            if made:
                folder.rmdir()  # if nothing was written
        _files.discard(file)
        os.close(file)


def _take(path: pathlib.Path, mode: str) -> int:
    """The descriptor of the lock file, locked and with the name of this process. Raises LockError, OSError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            exclusive = _flock(file, path)
            if not _is_file(file, path):  # its holder removed it after this process opened it
                os.close(file)
                continue
            _check_holder(file, path, exclusive)
            token = secrets.token_hex(8)
            _write(file, mode, token)
            if exclusive is None:
                time.sleep(_SETTLE)
                if _read(file).get("token") != token:
                    raise LockError(_held(path, _read(file)))
            return file
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(file)
            raise


def _flock(file: int, path: pathlib.Path) -> bool | None:
    """Locks the file: True, or None if the file system has no flock. Raises LockError if another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        raise LockError(_held(path, _read(file))) from None
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None


def _check_holder(file: int, path: pathlib.Path, exclusive: bool | None) -> None:
    """Raises LockError if the run that the file names may still be running; else says that its lock is taken over."""
    holder = _read(file)
    if not holder:
        return
    age, host, pid = _age(file, path.parent), holder.get("host"), holder.get("pid")
    if host == socket.gethostname():
        running = exclusive is None and age < _STALE and pid != os.getpid() and exists(pid)
    else:
        running = age < _STALE
    if running:
        raise LockError(_held(path, holder))
    _log.warning("taking over %s: %s has ended without removing it", path, describe(holder))


def _held(path: pathlib.Path, holder: dict) -> str:
    """The message about a folder that another run holds."""
    text = f"another run writes to {path.parent}: {describe(holder)}; wait until it ends, or choose another --workdir."
    if holder.get("host") != socket.gethostname():
        text += (
            f" If that run has ended, wait {_STALE:.0f} seconds after its end and start again, or remove {path} by hand"
        )
    return text


def describe(holder: dict) -> str:
    """The run that a lock file names, as ASCII for a message: mode, process, host and start."""
    mode, pid, host, start = (str(holder.get(key, "?"))[:100] for key in ("mode", "pid", "host", "time"))
    return ascii(f"--mode={mode}, process {pid} on {host} since {start}")[1:-1]


def _write(file: int, mode: str, token: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "time": now, "mode": mode, "token": token})
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode() + b"\n", 0)
    os.fsync(file)


def _read(file: int) -> dict:
    """The holder that the file names; {} if it is empty or broken."""
    try:
        value = json.loads(os.pread(file, 4096, 0))
    except (ValueError, RecursionError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def _age(file: int, folder: pathlib.Path) -> float:
    """Seconds since the file was last touched, by the clock of the file system, which all hosts share."""
    with tempfile.TemporaryFile(dir=folder) as new:
        return os.fstat(new.fileno()).st_mtime - os.fstat(file).st_mtime


def _is_own(holder: dict) -> bool:
    return (holder.get("host"), holder.get("pid")) == (socket.gethostname(), os.getpid())


def exists(pid: object) -> bool:
    """Whether a process with this number is on this host."""
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        pass
    return True


def _is_file(file: int, path: pathlib.Path) -> bool:
    """Whether `path` is still the open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


def _touch(file: int, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        with contextlib.suppress(OSError):
            os.utime(file)
