"""A pool of worker processes that may hang or crash without harm to the run.

`Pool("module:function", workers, deadline).map(items)` calls `function(item)` in child processes. Each item has its own
deadline; a child that passes it is killed and replaced, and the item's result is a `Failure`. A child is a new Python
process (run/worker_process.py) and never a fork, because a fork would copy the locks that JAX's threads hold.

Items and results go over a socket pair as messages; run/worker_messages.py lists the types that a message can hold.
Each item has a random number that its answer must repeat, so that a function that answers twice, or writes to the
connection, cannot give its answer to another item: such a child is killed. The memory of a child is limited.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent import futures
from typing import Any

from dtr1_jax.run.worker_messages import (
    MAX_MEMORY,
    OUT_OF_MEMORY,
    MessageTooLongError,
    decode,
    encode,
    has_bytes,
    receive,
    send,
)

_START_SECONDS = 60.0  # time that a child has for its imports
_MAX_FAILED_STARTS = 3  # in a row, after which the pool gives up
_COUNTERS = {"timeout": "timeouts", "crash": "crashes", "error": "errors"}


class WorkerError(RuntimeError):
    """Worker processes cannot be started; the message says why."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Takes the place of an item's result when the call did not return one.

    Attributes:
      kind: "timeout" (passed the deadline), "crash" (the process died, or sent what is no answer) or "error" (the
        function raised, or the item or its result is too large for a message).
      message: the cause, in words.
    """

    kind: str
    message: str


class Pool:
    """Worker processes that call one function; use it as a context manager or `close()` it.

    Attributes:
      failures: {"timeouts": int, "crashes": int, "errors": int}, counted over the pool's life.
    """

    def __init__(self, function: str, workers: int = 2, deadline: float = 2.0, argument: str | None = None):
        """Starts the processes and waits until each of them has imported the function.

        Args:
          function: "module:function" of a function that takes one item.
          workers: number of processes.
          deadline: seconds for each item.
          argument: if given, each process first calls function(argument), without a deadline, for example to read a
            file; the items then go to the function that this call returns.

        Raises WorkerError if a process does not start, ValueError for bad `workers` or `deadline`.
        """
        if workers < 1 or not deadline > 0:
            raise ValueError(f"expected workers >= 1 and deadline > 0 seconds, got {workers} and {deadline}")
        self.failures = dict.fromkeys(_COUNTERS.values(), 0)
        self._function, self._deadline, self._argument = function, deadline, argument
        self._failed_starts = 0
        self._map_lock, self._count_lock = threading.Lock(), threading.Lock()
        self._threads = futures.ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._children: list[_Child | None] = [None] * workers
        # Runs once: in close(), when the pool is garbage collected, or when Python exits.
        self._finalizer = weakref.finalize(self, _end_all, self._children, self._threads)
        try:
            for i in range(workers):
                self._children[i] = _Child(function, deadline, argument)
            for child in self._children:
                child.wait_ready()
        except BaseException:
            self.close()
            raise

    def map(self, items: list) -> list:
        """Calls the function with each item; returns the results in the order of `items`.

        The result is a `Failure` for an item whose call hung, crashed or raised. Raises TypeError for an item that a
        message cannot hold, WorkerError if new processes fail to start several times in a row, ValueError if the pool
        is closed.
        """
        results: list[Any] = [None] * len(items)
        queue = collections.deque(enumerate(items))
        with self._map_lock:
            if not self._finalizer.alive:
                raise ValueError("this pool is closed; make a new one")
            count = min(len(items), len(self._children))
            jobs = [self._threads.submit(self._serve, i, queue, results) for i in range(count)]
            try:
                for job in jobs:
                    job.result()
            finally:
                queue.clear()  # after an error or Ctrl-C each thread ends with its current item
                futures.wait(jobs)
        return results

    def close(self) -> None:
        """Ends the worker processes. May be called twice."""
        self._finalizer()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _serve(self, i: int, queue: collections.deque, results: list) -> None:
        """Thread of child i: takes items from the queue until it is empty."""
        while True:
            try:
                position, item = queue.popleft()
            except IndexError:
                return
            results[position] = result = self._call(i, item)
            if isinstance(result, Failure):
                with self._count_lock:
                    self.failures[_COUNTERS[result.kind]] += 1

    def _call(self, i: int, item: Any) -> Any:
        """The result of one item on child i; a new child is started first if the old one is gone."""
        if not self._finalizer.alive:
            return Failure("crash", "the pool was closed")
        number = secrets.randbits(62)
        try:
            body = encode([number, item])
        except MessageTooLongError as error:
            return Failure("error", f"{self._function}: {error}")
        child = self._children[i]
        if child is None or not child.is_usable():
            try:
                child = self._restart(i)
            except WorkerError as error:
                self._failed_starts += 1
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    raise
                return Failure("crash", str(error))
            self._failed_starts = 0
        result, usable = child.call(number, body, self._deadline)
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
    """The parent's side of one worker process."""

    def __init__(self, function: str, deadline: float, argument: str | None):
        self.function = function
        self.socket, child_socket = socket.socketpair()
        env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        env["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        command = [sys.executable, "-P", "-m", "dtr1_jax.run.worker_process", function, repr(deadline)]
        command += [] if argument is None else [argument]
        try:  # in a new session, so that Ctrl-C in the terminal reaches the parent alone
            self.process = subprocess.Popen(
                command, stdin=child_socket, stdout=subprocess.DEVNULL, env=env, start_new_session=True
            )
        except OSError as error:
            self.socket.close()
            raise WorkerError(f'cannot start a worker for "{function}": {error}') from error
        finally:
            child_socket.close()

    def wait_ready(self) -> None:
        """Waits for the imports of the child. Raises WorkerError, with the child's own message, if they failed."""
        try:
            fault = decode(receive(self.socket, time.monotonic() + _START_SECONDS))
        except TimeoutError:
            self.kill()
            fault = f"its imports took more than {_START_SECONDS:.0f} s"
        except (OSError, EOFError, ValueError):
            fault = self.describe_exit()
        if fault is not None:
            self.kill()
            raise WorkerError(
                f'worker for "{self.function}" did not start: {fault}. Expected "module:function" with a module that'
                f" {sys.executable} can import and a function that takes one item"
            )

    def is_usable(self) -> bool:
        """Whether the process is alive and has sent nothing that nobody asked for.

        The process is not waited for: its number stays taken, so that `kill` reaches its group and no other.
        """
        try:
            if hasattr(os, "waitid"):
                ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            else:
                ended = self.process.poll() is not None
        except ChildProcessError:
            return False
        return not ended and not has_bytes(self.socket)

    def call(self, number: int, body: bytes, deadline: float) -> tuple[Any, bool]:
        """The result or a Failure, and whether the child can take another item. `body` holds [number, item]."""
        end = time.monotonic() + deadline
        try:
            send(self.socket, body, end)
            answered, returned, value = decode(receive(self.socket, end))
            if answered != number:
                return Failure("crash", f"{self.function}: the worker answered another item, or answered twice"), False
            return (value if returned else Failure("error", str(value))), True
        except TimeoutError:
            return Failure("timeout", f"{self.function} took more than {deadline:g} s"), False
        except (OSError, EOFError):
            return Failure("crash", f"{self.function}: {self.describe_exit()}"), False
        except Exception as error:  # the child sent bytes that are no message, or no answer
            return Failure("crash", f"{self.function}: broken answer ({type(error).__name__}: {error})"), False

    def describe_exit(self) -> str:
        """How the process ended, in words."""
        try:
            code = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "the worker closed its connection"
        if code == OUT_OF_MEMORY:
            return f"the worker needed more than {MAX_MEMORY >> 20} MiB of memory"
        if code >= 0:
            return f"the worker left with exit code {code}"
        return f"the worker was killed by signal {-code} ({signal.strsignal(-code)})"

    def kill(self) -> None:
        """Ends the process at once, and all that it started and that are still in its group."""
        if self.socket.fileno() < 0:  # It is killed already, and another process may have its number.
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of dead processes
            self.process.kill()
        self.socket.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:  # it is inside a system call, and ends when that returns
            pass


def _end_all(children: list, threads: futures.ThreadPoolExecutor) -> None:
    threads.shutdown(wait=False, cancel_futures=True)  # no wait: one of these threads may be running this function
    for child in children:
        if child is not None:
            child.kill()
