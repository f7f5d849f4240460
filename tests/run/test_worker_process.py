"""The worker process: it keeps its connection clean, imports little, and ends with its parent."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from live_processes import has_ended

from dtr1_jax.run.worker_pool import Failure, Pool, WorkerError

pytestmark = pytest.mark.usefixtures("hostile")


def test_noise_does_not_reach_the_protocol(pool):
    assert pool.map([("noise", None), ("echo", "after")]) == ["", "after"]


def test_garbage_on_the_connection_is_a_crash(pool):
    result, after = pool.map([("garbage", None), ("echo", "after")])
    assert isinstance(result, Failure) and result.kind == "crash" and after == "after"


def test_children_import_little_and_ignore_ctrl_c(pool):
    modules, ignores_ctrl_c = pool.map([("modules", None), ("interrupt", None)])
    assert modules == [] and ignores_ctrl_c is True


def test_each_process_calls_the_argument_once_without_a_deadline(tmp_path):
    with Pool("hostile:make_counter", workers=1, deadline=1.0, argument=str(tmp_path)) as pool:
        results = pool.map([["echo", 1], ["sleep", 0], ["echo", 1], ["echo", 1]])
    assert isinstance(results.pop(1), Failure) and results == [1, 2, 2]
    with pytest.raises(WorkerError, match="FileNotFoundError"):
        Pool("hostile:make_counter", workers=1, argument=str(tmp_path / "nowhere"))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_a_killed_parent(hostile, busy):
    """An idle child reads the end of the connection; a busy child is ended by its own alarm."""
    timer = "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()\npool.map([('hold', None)] * 2)"
    script = (
        "import json, os, signal, sys, threading, time\n"
        f"sys.path.insert(0, {str(hostile)!r})\n"
        "from dtr1_jax.run.worker_pool import Pool\n"
        "pool = Pool('hostile:act', workers=2, deadline=1.0)\n"
        "print(json.dumps([c.process.pid for c in pool._children]), flush=True)\n"
        + (timer if busy else "os.kill(os.getpid(), signal.SIGKILL)")
    )
    parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=60)
    assert parent.returncode == -signal.SIGKILL
    pids = json.loads(parent.stdout)
    assert len(pids) == 2
    for _ in range(500):
        if all(has_ended(pid) for pid in pids):
            return
        time.sleep(0.02)
    pytest.fail(f"workers {pids} outlived their parent")
