"""A module of functions that hang, crash and make noise, and a pool that calls them."""

import sys

import pytest

from dtr1_jax.run.worker_pool import Pool

HOSTILE = '''
"""A function that does what its item names."""
import ctypes, os, signal, socket, subprocess, sys, time
import numpy as np

def connections():
    """The sockets that this process has open, found as a hostile function finds them."""
    for fd in range(3, 64):
        try:
            yield socket.socket(fileno=os.dup(fd))
        except OSError:
            pass

def frame(body):
    return len(body).to_bytes(8, "little") + body

def act(item):
    name, value = item
    if name == "sleep":
        time.sleep(3600)
    if name == "hold":  # a C call that keeps the interpreter lock
        ctypes.PyDLL(None).sleep(3600)
    if name == "segfault":
        ctypes.string_at(0)
    if name == "exit":
        os._exit(3)
    if name == "raise":
        raise ValueError("bad \\ud800 value")
    if name == "object":
        return object()
    if name == "noise":
        print("noise", flush=True)
        os.write(1, b"\\x00" * 4096)
        return sys.stdin.read()
    if name == "garbage":
        for fd in range(3, 64):
            try:
                os.write(fd, b"\\x10" + b"\\x00" * 7 + b"x" * 16)
            except OSError:
                pass
    if name == "twice":  # sends the same answer again when it is asked for the next one
        from dtr1_jax.run import worker_messages, worker_process
        send = worker_process.send
        def again(connection, body, end):
            send(connection, body, end)
            send(connection, body, end)
        worker_process.send = sys.modules["__main__"].send = again
        return value
    if name in ("forge", "claim"):  # an answer to no item, or the beginning of one that is said to be huge
        from dtr1_jax.run import worker_messages
        forged = frame(worker_messages.encode([value, True, "forged"]))
        for connection in connections():
            connection.sendall(forged if name == "forge" else b"\\xff" * 5 + bytes(3))
    if name == "grandchild":
        return subprocess.Popen(["sleep", "600"]).pid
    if name == "grandchild and hang":
        open(value, "w").write(str(subprocess.Popen(["sleep", "600"]).pid))
        time.sleep(3600)
    if name == "memory":
        return len(np.ones(value << 20, np.uint8))
    if name == "large":
        return np.zeros(value << 20, np.uint8)
    if name == "text":
        return "a" * value
    if name == "pid":
        return os.getpid()
    if name == "modules":
        return sorted(m for m in ("jax", "flax", "main", "pytest") if m in sys.modules)
    if name == "interrupt":
        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return value

number = 3

def make_counter(folder):
    """A function that returns how many processes have called make_counter; takes longer than an item's deadline."""
    time.sleep(1.5)
    open(os.path.join(folder, str(os.getpid())), "x").close()
    return lambda item: act(item) and len(os.listdir(folder))
'''


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Folder of the modules; the children find them because they have the parent's search path."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "hostile.py").write_text(HOSTILE)
    (folder / "not_importable.py").write_text("raise ImportError('no such library')")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def pool(hostile):
    with Pool("hostile:act", workers=2, deadline=20.0) as pool:
        yield pool
