"""A pool of worker processes that may hang or crash without harm to the run.

`Pool("module:function", workers, deadline).map(items)` calls `function(item)` in child processes. Each item has its own
deadline; a child that passes it is killed and replaced, and the item's result is a `Failure`. The children start from
a bare interpreter (never a fork), so that the threads of JAX in the parent are no danger and `main.py` is not imported.

Parent and child talk over a socket pair that is the child's stdin, in frames of 8 bytes of length and a body. A body is
JSON and the raw bytes of its arrays: nothing is ever unpickled, so that a child which hostile input has taken over can
not take over the parent. Items and results are made of None, bool, int, float, str, list, dict with str keys and
numeric numpy arrays. Tuples arrive as lists, numpy scalars as Python numbers.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent import futures
from typing import Any

import numpy as np

_LIMIT = 1 << 30  # bytes of one frame; more is taken for nonsense
_START = 60.0  # seconds that a child has for its imports
_STARTS = 3  # failed starts in a row after which the pool gives up
_COUNTERS = {"timeout": "timeouts", "crash": "crashes", "error": "errors"}


class WorkerError(RuntimeError):
    """Workers can not be started at all; the message says why."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """What stands in the place of the result of an item that fell.

    Attributes:
      kind: "timeout" (passed the deadline), "crash" (the process died) or "error" (the function raised).
      message: for people.
    """

    kind: str
    message: str


class Pool:
    """Worker processes that call one function; use as a context manager or `close()` it.

    Attributes:
      failures: {"timeouts": int, "crashes": int, "errors": int}, counted over the pool's life.
    """

    def __init__(self, function: str, workers: int = 2, deadline: float = 2.0, argument: str | None = None):
        """Starts `workers` processes, each of which imports `function`, given as "module:function".

        `deadline` is in seconds, for each item. With an `argument`, each process first calls function(argument), which
        may read a file and is not held to the deadline, and what that returns is called with the items. Raises
        WorkerError where a process does not come up.
        """
        if workers < 1 or not deadline > 0:
            raise ValueError(f"expected workers >= 1 and deadline > 0 seconds, got {workers} and {deadline}")
        self.failures = dict.fromkeys(_COUNTERS.values(), 0)
        self._function, self._deadline, self._argument = function, deadline, argument
        self._failed_starts = 0
        self._map_lock, self._count_lock = threading.Lock(), threading.Lock()
        self._threads = futures.ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._children: list[_Child | None] = [None] * workers
        # Runs once: by close(), when the pool is garbage, or at exit.
        self._finalizer = weakref.finalize(self, _shut, self._children, self._threads)
        try:
            for i in range(workers):
                self._children[i] = _Child(function, deadline, argument)
            for child in self._children:
                child.wait_ready()
        except BaseException:
            self.close()
            raise

    def map(self, items: list) -> list:
        """Results in the order of `items`; a `Failure` stands where the function hung, crashed or raised.

        Raises TypeError for an item that can not be sent, WorkerError where new processes fail to start several times
        in a row, ValueError where the pool is closed.
        """
        results: list[Any] = [None] * len(items)
        todo = collections.deque(enumerate(items))
        with self._map_lock:
            if not self._finalizer.alive:
                raise ValueError("this pool is closed; make a new one")
            count = min(len(items), len(self._children))
            jobs = [self._threads.submit(self._serve, i, todo, results) for i in range(count)]
            try:
                for job in jobs:
                    job.result()
            finally:
                todo.clear()  # after an error or Ctrl-C the threads end with the item in hand
                futures.wait(jobs)
        return results

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        self._finalizer()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _serve(self, i: int, todo: collections.deque, results: list) -> None:
        """Thread of child i: takes items until there are no more."""
        while True:
            try:
                place, item = todo.popleft()
            except IndexError:
                return
            results[place] = result = self._call(i, item)
            if isinstance(result, Failure):
                with self._count_lock:
                    self.failures[_COUNTERS[result.kind]] += 1

    def _call(self, i: int, item: Any) -> Any:
        """The result of one item on child i, which is replaced where it is gone."""
        if not self._finalizer.alive:
            return Failure("crash", "the pool was closed")
        body = encode(item)
        child = self._children[i]
        if child is None or not child.alive():
            try:
                child = self._restart(i)
            except WorkerError as error:
                self._failed_starts += 1
                if self._failed_starts >= _STARTS:
                    raise
                return Failure("crash", str(error))
            self._failed_starts = 0
        result, usable = child.call(body, self._deadline)
        if not usable:
            child.kill()
            self._children[i] = None
        return result

    def _restart(self, i: int) -> _Child:
        if self._children[i] is not None:
            self._children[i].kill()
        self._children[i] = None
        child = _Child(self._function, self._deadline, self._argument)
        self._children[i] = child
        child.wait_ready()
        return child


class _Child:
    """The parent's end of one worker process."""

    def __init__(self, function: str, deadline: float, argument: str | None):
        self.function = function
        self.socket, theirs = socket.socketpair()
        env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        env["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        command = [sys.executable, "-P", "-m", "dtr1_jax.run.workers", function, repr(deadline)]
        command += [] if argument is None else [argument]
        try:  # a session of its own: Ctrl-C in the terminal is for the parent alone
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=subprocess.DEVNULL, env=env, start_new_session=True
            )
        except OSError as error:
            self.socket.close()
            raise WorkerError(f'can not start a worker for "{function}": {error}') from error
        finally:
            theirs.close()

    def wait_ready(self) -> None:
        """Waits for the imports of the child. Raises WorkerError with what it says went wrong."""
        try:
            fault = decode(_receive(self.socket, time.monotonic() + _START))
        except TimeoutError:
            self.kill()
            fault = f"its imports took more than {_START:.0f} s"
        except (OSError, EOFError, ValueError):
            fault = self.epitaph()
        if fault is not None:
            self.kill()
            raise WorkerError(
                f'worker for "{self.function}" did not start: {fault}. Expected "module:function" with a module that'
                f" {sys.executable} can import and a function that takes one item"
            )

    def alive(self) -> bool:
        return self.process.poll() is None

    def call(self, body: bytes, deadline: float) -> tuple[Any, bool]:
        """Result or Failure, and whether the child can go on."""
        end = time.monotonic() + deadline
        try:
            _send(self.socket, body, end)
            sound, value = decode(_receive(self.socket, end))
            return (value if sound else Failure("error", str(value))), True
        except TimeoutError:
            return Failure("timeout", f"{self.function} took more than {deadline:g} s"), False
        except (OSError, EOFError):
            return Failure("crash", f"{self.function}: {self.epitaph()}"), False
        except Exception as error:  # the child sent something that is no answer of ours
            return Failure("crash", f"{self.function}: broken answer ({type(error).__name__}: {error})"), False

    def epitaph(self) -> str:
        """How the process ended, in words."""
        try:
            code = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "the worker closed its connection"
        if code >= 0:
            return f"the worker left with exit code {code}"
        return f"the worker was killed by signal {-code} ({signal.strsignal(-code)})"

    def kill(self) -> None:
        """Ends the process at once, whatever it does."""
        self.process.kill()
        self.socket.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:  # it hangs in the kernel; it is reaped when that lets go
            pass


def _shut(children: list, threads: futures.ThreadPoolExecutor) -> None:
    threads.shutdown(wait=False, cancel_futures=True)  # the last reference may be dropped by one of these threads
    for child in children:
        if child is not None:
            child.kill()


def encode(value: Any) -> bytes:
    """A tree of plain values and numeric arrays as bytes: 8 bytes of JSON length, JSON, arrays. Raises TypeError."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_pack(value, arrays)).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in arrays)])


def decode(body: bytes | bytearray) -> Any:
    """The tree that `encode` wrote. Raises ValueError where the bytes are not of that form; runs nothing in them."""
    start = 8 + int.from_bytes(body[:8], "little")
    if not 8 < start <= len(body):
        raise ValueError(f"expected JSON of {start - 8} bytes, got {len(body) - 8}")
    try:
        value, end = _unpack(json.loads(body[8:start]), memoryview(body), start)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a tree of values: {type(error).__name__}: {error}") from error
    if end != len(body):
        raise ValueError(f"expected arrays of {end - start} bytes, got {len(body) - start}")
    return value


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """JSON form of a value. Its objects are {"dict": {...}}, or {"array": [dtype, shape]} for the next of `arrays`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_pack(v, arrays) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: _pack(v, arrays) for k, v in value.items()}}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(value)
        return {"array": [value.dtype.str, list(value.shape)]}
    raise TypeError(
        "expected None, bool, int, float, str, list, dict with str keys or a numeric array, got "
        + (f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__)
    )


def _unpack(form: Any, body: memoryview, at: int) -> tuple[Any, int]:
    """The value of a JSON form whose arrays start at byte `at`, and where the next array starts."""
    if isinstance(form, list):
        values = []
        for part in form:
            value, at = _unpack(part, body, at)
            values.append(value)
        return values, at
    if not isinstance(form, dict):
        return form, at
    if "dict" in form:
        values = {}
        for name, part in form["dict"].items():
            values[name], at = _unpack(part, body, at)
        return values, at
    name, shape = form["array"]
    dtype = np.dtype(name)
    if dtype.kind not in "biuf" or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"not a numeric array: {name} {shape}")
    end = at + math.prod(shape) * dtype.itemsize
    if end > len(body):
        raise ValueError(f"array {name} {shape} is cut off")
    return np.frombuffer(body[at:end], dtype).reshape(shape), end


def _send(sock: socket.socket, body: bytes, end: float | None) -> None:
    """Writes one frame until `end` (monotonic seconds; None = for ever). Raises TimeoutError, OSError."""
    sock.settimeout(None if end is None else max(end - time.monotonic(), 1e-3))
    sock.sendall(len(body).to_bytes(8, "little") + body)


def _receive(sock: socket.socket, end: float | None) -> bytearray:
    """Reads one frame until `end`. Raises TimeoutError, EOFError where the other side is gone, ValueError."""
    size = int.from_bytes(_read(sock, 8, end), "little")
    if size > _LIMIT:
        raise ValueError(f"expected a frame of at most {_LIMIT} bytes, got {size}")
    return _read(sock, size, end)


def _read(sock: socket.socket, size: int, end: float | None) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        count = sock.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def main(function: str, deadline: float, *argument: str) -> None:
    """The child: imports the function, says so, then answers items until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sock = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the function can not read from the connection by accident
    try:
        module, _, name = function.partition(":")
        call = getattr(importlib.import_module(module), name)
        if not callable(call):
            raise TypeError(f"{call!r} is not callable")
        call = call(*argument) if argument else call
    except BaseException as error:
        _send(sock, encode(f"{type(error).__name__}: {error}"), None)
        return
    _send(sock, encode(None), None)
    while True:
        try:
            item = decode(_receive(sock, None))
        except (EOFError, OSError):
            return
        # Left at its default, this signal ends the process even inside C code: a hung child does not outlive a parent
        # that was killed and so can not kill it.
        signal.setitimer(signal.ITIMER_REAL, deadline + 1.0)
        try:
            body = encode([True, call(item)])
        except Exception as error:
            body = encode([False, f"{type(error).__name__}: {error}"[:500]])
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        try:
            _send(sock, body, None)
        except OSError:
            return


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:])
