"""One worker process: it imports a function and calls it with each item that the pool (run/worker_pool.py) sends.

The pool starts it as `python -m dtr1_jax.run.worker_process module:function deadline [argument]`, with a socket as its
stdin. It imports neither JAX nor `main.py`, so that it starts fast and touches no device.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import sys

from dtr1_jax.run.worker_messages import MAX_MEMORY, OUT_OF_MEMORY, decode, encode, receive, send


def main(function: str, deadline: float, *argument: str) -> None:
    """Imports the function, reports None or the error, then answers items until the parent closes the connection.

    An item arrives as [number, item]. The answer is [number, True, result] or [number, False, error message], so that
    the pool notices an answer to another item. `argument` is that of `worker_pool.Pool`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # so that the function cannot read from the connection by accident
    try:
        module, _, name = function.partition(":")
        call = getattr(importlib.import_module(module), name)
        if not callable(call):
            raise TypeError(f"{call!r} is not callable")
        call = call(*argument) if argument else call
    except BaseException as error:
        send(connection, encode(f"{type(error).__name__}: {error}"), None)
        return
    _limit_memory()
    send(connection, encode(None), None)
    while True:
        try:
            number, item = decode(receive(connection, None))
        except (EOFError, OSError):
            if os.getpgrp() == os.getpid():  # as the pool starts it
                os.killpg(0, signal.SIGKILL)  # with this process end those that the function started
            return
        # SIGALRM is left at its default effect, which ends the process even inside C code. So a child that hangs ends
        # by itself when its parent was killed and cannot kill it.
        signal.setitimer(signal.ITIMER_REAL, deadline + 1.0)
        try:
            body = encode([number, True, call(item)])
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # a new process begins without what this one still holds
        except Exception as error:
            body = encode([number, False, f"{type(error).__name__}: {error}"[:500]])
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        try:
            send(connection, body, None)
        except OSError:
            return


def _limit_memory() -> None:
    """Lets this process, and each that it starts, take MAX_MEMORY bytes more than it has now.

    Where the system does not say how much that is (macOS), or does not limit it, there is no limit.
    """
    try:
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MAX_MEMORY, now + MAX_MEMORY))
    except (OSError, ValueError):
        pass


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:])
