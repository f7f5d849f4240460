"""The processes of a run on several hosts: they compare what they run, and none waits for ever for one that is gone.

They talk through the key-value store of JAX's coordination service, which process 0 holds, so no further port is open.
Each process writes there that it lives; process 0 says which one does not, and then all others end with its name.
JAX alone would wait 100 seconds and then abort the process, and a collective on a TPU or GPU would wait for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import json
import multiprocessing
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from dtr1_jax.run import interrupt, stop_signals

STATUS = 75  # exit status of a process that ends because another one is lost; EX_TEMPFAIL of sysexits.h
BEAT = 1.0  # seconds between two signs of life
LOST_AFTER = 20.0  # seconds without a sign of life after which a process counts as lost
GRACE = 3.0  # seconds in which the others can read why the run ends, before process 0 takes the store away
START = 120.0  # seconds in which all processes must have said what they run
MOST = 20  # differences that a message lists
BY_SIGNAL = "was stopped by a signal"
_PREFIX = "dtr1_jax"
_NEWS = f"{_PREFIX}/news/"  # "verdict": why all end, and with which exit status; "stop": a process is asked to stop


class HostsError(RuntimeError):
    """The processes of a run do not run the same; the message says what differs."""


@contextlib.contextmanager
def together(what: Mapping[str, Any]) -> Iterator[None]:
    """Context manager around the work of one process of a run; it does nothing in a run of one process.

    Before the work, all processes compare their code and `what`: names -> values that JSON can hold, such as settings.
    During the work, a process that is killed, hangs as a whole, or ends with an error ends all others. Where one is
    asked to stop, all are: their interrupt.Flag is set, or they end with interrupt.STATUS where there is none.

    Raises HostsError in all processes if code or values differ.
    """
    state = _joined()
    if state is None:
        yield
        return
    compare(state.client, state.process_id, state.num_processes, {"code": code_version(), **what})
    watch = Watch(state.client, state.process_id, state.num_processes, state.coordinator_address)
    watch.start()
    try:
        with stop_signals.caught(watch.end_by_signal):
            yield
    except BaseException as error:
        if _is_of_the_runtime(error):
            # Sums over devices fail at once where a process is lost, before anyone knows which one. The watch will end
            # this process with its name.
            watch.wait(LOST_AFTER + 2 * GRACE)
        if not getattr(error, "is_orderly", False):
            watch.fail(error)
        raise
    finally:
        watch.stop()


def _is_of_the_runtime(error: BaseException) -> bool:
    """Whether XLA raised the error. Some of its errors are a plain ValueError, whose message begins with the name of a
    status code, such as "UNKNOWN: Gloo AllGather failed".
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        return True
    return isinstance(error, (ValueError, RuntimeError)) and re.match(r"[A-Z][A-Z_]+: ", str(error)) is not None


def _joined() -> Any:
    """JAX's record of the processes that have joined; None in a run of one process."""
    from jax._src import distributed  # JAX has no public name for the store

    state = distributed.global_state
    return state if state.client is not None and state.num_processes > 1 else None


def code_version() -> str:
    """A hash of the files of this package, and the version of JAX."""
    folder, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return f"files {digest.hexdigest()[:12]}, jax {jax.__version__}"


def compare(client: Any, rank: int, count: int, what: Mapping[str, Any]) -> None:
    """Raises HostsError in all processes if `what` is not equal in all of them.

    Process 0 compares hashes, and reads the values of the processes whose hash differs. All others read its verdict.
    """
    text = json.dumps(dict(what), sort_keys=True)
    client.key_value_set(f"{_PREFIX}/start/{rank}/all", text)
    client.key_value_set(f"{_PREFIX}/start/{rank}/hash", hashlib.sha256(text.encode()).hexdigest())
    try:
        if rank == 0:
            client.key_value_set(f"{_PREFIX}/differences", json.dumps(_differences(client, count)))
        lines = json.loads(client.blocking_key_value_get(f"{_PREFIX}/differences", _milliseconds(START + 30)))
    except jax.errors.JaxRuntimeError as error:
        raise HostsError(
            f"the {count} processes of this run could not compare their settings in {START:.0f} seconds: {error}; look"
            " at the output of the others"
        ) from error
    if lines:
        rest = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
        raise HostsError(
            "the processes of this run were started differently:\n  "
            + "\n  ".join(lines[:MOST] + rest)
            + "\nstart the same command with the same code on all hosts"
        )


def _differences(client: Any, count: int) -> list[str]:
    """Lines that name each value in which a process differs from process 0."""

    def read(rank: int, name: str) -> str:
        return client.blocking_key_value_get(f"{_PREFIX}/start/{rank}/{name}", _milliseconds(START))

    first, lines = read(0, "hash"), []
    for rank in range(1, count):
        if read(rank, "hash") == first:
            continue
        own, other = json.loads(read(0, "all")), json.loads(read(rank, "all"))
        lines += [
            f"{name}: process 0 has {own.get(name)!r}, process {rank} has {other.get(name)!r}"
            for name in sorted({*own, *other})
            if own.get(name) != other.get(name)
        ]
    return lines


class Watch:
    """Two threads that write signs of life of this process and look for those of the others."""

    def __init__(self, client: Any, rank: int, count: int, address: str = ""):
        self._client, self._rank, self._count, self._address = client, rank, count, address
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._answer = 0  # how often the store has answered
        self._seen = dict.fromkeys(range(count), ("", 0.0))  # the newest sign of life, and the seconds without another
        self._judged = time.monotonic()

    def start(self) -> None:
        """Starts the threads."""
        name = f"(host {socket.gethostname()}, pid {os.getpid()})"
        self._client.key_value_set(f"{_PREFIX}/name/{self._rank}", name)
        _delay_abort()
        for target in (self._beat, self._guard):
            threading.Thread(target=target, daemon=True, name="other hosts").start()

    def stop(self) -> None:
        """Ends the threads. From now on nobody misses this process."""
        self._stopped.set()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{_PREFIX}/beat/{self._rank}", "done", allow_overwrite=True)

    def wait(self, seconds: float) -> None:
        """Waits, so that the threads may end this process."""
        self._stopped.wait(seconds)

    def fail(self, error: BaseException) -> None:
        """Tells the others that this process ends with an error, and lets it end without waiting for them."""
        status = interrupt.STATUS if isinstance(error, KeyboardInterrupt) else 1
        text = f"ended with an error: {type(error).__name__}: {error}"[:2000] if status == 1 else BY_SIGNAL
        self._publish({"status": status, "text": f"{self._name(self._rank)} {text}"})
        atexit.register(_leave, status, GRACE if self._rank == 0 else 0.0)

    def end_by_signal(self) -> None:
        """Ends this process and the others; for a signal that the main thread does not take."""
        text = f"process {self._rank} of {self._count} {BY_SIGNAL}"  # without the name, for which the store is asked
        self._publish({"status": interrupt.STATUS, "text": text})
        self._obey({"status": interrupt.STATUS, "text": text})

    def _publish(self, verdict: dict[str, Any]) -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the first verdict stands
            self._client.key_value_set(f"{_NEWS}verdict", json.dumps(verdict))

    def _name(self, rank: int) -> str:
        try:
            name = self._client.key_value_try_get(f"{_PREFIX}/name/{rank}")
        except jax.errors.JaxRuntimeError:
            name = ""
        return f"process {rank} of {self._count} {name}".rstrip()

    def _beat(self) -> None:
        number = 0
        while not self._stopped.wait(BEAT):
            number += 1
            try:
                self._client.key_value_set(f"{_PREFIX}/beat/{self._rank}", str(number), allow_overwrite=True)
                news = dict(self._client.key_value_dir_get(_NEWS))
                self._answer = number
                self._share_stop(f"{_NEWS}stop" in news)
                if f"{_NEWS}verdict" in news:
                    self._obey(json.loads(news[f"{_NEWS}verdict"]))
                elif self._rank == 0:
                    self._judge()
            except jax.errors.JaxRuntimeError:
                continue  # _guard finds out why the store does not answer

    def _share_stop(self, is_known: bool) -> None:
        """A process that is asked to stop asks the others, whose work may take no step together."""
        flag = interrupt.current()
        if flag is None or flag.is_set == is_known:
            return
        if flag.is_set:
            self._client.key_value_set(f"{_NEWS}stop", str(self._rank), allow_overwrite=True)
        else:
            flag.set_by_another()

    def _judge(self) -> None:
        """Process 0: looks for a process without a sign of life."""
        # Where this process itself stood still, the time does not count.
        now = time.monotonic()
        elapsed, self._judged = min(now - self._judged, 2 * BEAT), now
        beats = dict(self._client.key_value_dir_get(f"{_PREFIX}/beat/"))
        for rank in range(1, self._count):
            beat = beats.get(f"{_PREFIX}/beat/{rank}", "")
            before, silent = self._seen[rank]
            self._seen[rank] = (beat, 0.0 if beat == "done" or beat != before else silent + elapsed)
            if self._seen[rank][1] > LOST_AFTER:
                text = f"{self._name(rank)} has given no sign of life for {LOST_AFTER:.0f} seconds"
                self._publish({"status": STATUS, "text": text})
                self._obey({"status": STATUS, "text": text})

    def _guard(self) -> None:
        """Ends this process where process 0 is gone, or its host has lost the network.

        It uses a connection of its own to the port of the store, because calls of the store may wait for ever then.
        """
        answer, silent, before = self._answer, 0.0, time.monotonic()
        connection = self._connect()
        while not self._stopped.is_set():
            if connection is None:
                self._stopped.wait(BEAT)
            elif _is_closed(connection, BEAT):  # The store also closes a connection that says nothing for long.
                connection.close()
                connection = self._connect() or self._connect()
                if connection is None and not self._stopped.wait(BEAT):
                    self._end(f"process 0 of {self._count}, which holds this run together, is gone")
            now = time.monotonic()
            silent += min(now - before, 2 * BEAT)  # Where this process itself stood still, the time does not count.
            before = now
            if self._answer != answer:
                answer, silent = self._answer, 0.0
            elif silent > LOST_AFTER + BEAT:
                self._end(f"process 0 of {self._count} has not answered for {LOST_AFTER:.0f} seconds")

    def _connect(self) -> socket.socket | None:
        """A connection to the port of the store; None in process 0, and where there is none."""
        host, _, port = self._address.rpartition(":")
        if self._rank == 0 or not port.isdigit():
            return None
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT)
        except OSError:
            return None

    def _obey(self, verdict: dict[str, Any]) -> None:
        """Ends this process; one with an error of its own gets the time to report that itself."""
        if self._rank == 0 or verdict["status"] != STATUS:
            self._stopped.wait(GRACE)
        self._end(verdict["text"], verdict["status"])

    def _end(self, text: str, status: int = STATUS) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            error = "" if status == interrupt.STATUS else "error: "
            os.write(2, (
                f"\n{error}{text}, so this process {self._rank} ends too. What was saved before is untouched: the same"
                " command on all hosts goes on from the newest checkpoint\n"
            ).encode("utf-8", "replace"))  # fmt: skip
            _leave(status, flushes=False)


def _leave(status: int, seconds: float = 0.0, flushes: bool = True) -> None:
    """Ends this process after some seconds: JAX's orderly end would wait for processes that do not come any more.

    A stream cannot be flushed (`flushes`) where a thread that waits for ever may hold it.
    """
    time.sleep(seconds)
    if flushes:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(status)


def _delay_abort() -> None:
    """Lets an abort of this process wait for some seconds.

    JAX aborts the process in the moment in which process 0 is gone. The threads here need a second to say so. As the
    handler of the signal, the C function sleep gets the number of the signal as its seconds, 6; then the abort goes on.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.signal.argtypes, library.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def _is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side closes the connection within some seconds."""
    connection.settimeout(seconds)
    try:
        return not connection.recv(4096)
    except TimeoutError:
        return False
    except OSError:
        return True


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
