"""The processes of a run compare what they run, and end with the name of one that is gone.

As a program it is one process of a run: `test_hosts.py RANK COUNT PORT PLAN`. Plans: "kill:1" kills process 1 once all
live, "error:1" raises there, and "term:1" sends SIGTERM to it; with "flag:1" all work under interrupt.Flag, and with
"stuck:1" process 1 is in compiled code that never comes back; with "reset:1" a sum over devices fails in the other.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from dtr1_jax.run import hosts, interrupt, stop_signals

ROOT = pathlib.Path(__file__).parents[2]
LOST_AFTER = 5.0


class Store(dict):
    """The key-value store of JAX, for processes that take turns."""

    def key_value_set(self, key, value, allow_overwrite=False):
        if key in self and not allow_overwrite:
            raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
        self[key] = value

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in self.items() if key.startswith(folder)]

    def key_value_try_get(self, key):
        return self.blocking_key_value_get(key, 0)

    def blocking_key_value_get(self, key, timeout):
        if key not in self:
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
        return self[key]


def compare_all(*values):
    """The error of each process; None where there is none."""
    store, errors = Store(), []
    for rank in (*range(1, len(values)), 0, *range(1, len(values))):  # process 0 decides; the others ask it then
        for key in [key for key in store if key.startswith(f"dtr1_jax/start/{rank}/")]:
            del store[key]
        try:
            hosts.compare(store, rank, len(values), values[rank])
            errors.append(None)
        except hosts.HostsError as error:
            errors.append(str(error))
    return errors[len(values) - 1 :]


def test_each_process_is_told_what_differs():
    same = {"config.train.steps": 4, "code": "a", "config.data.root": "x"}
    assert compare_all(same, dict(same), dict(same)) == [None] * 3
    errors = compare_all(same, same | {"config.train.steps": 5}, same | {"code": "b", "new": None})
    assert len(set(errors)) == 1
    assert "config.train.steps: process 0 has 4, process 1 has 5" in errors[0]
    assert "code: process 0 has 'a', process 2 has 'b'" in errors[0] and "root" not in errors[0]
    many = compare_all({f"s{i}": 0 for i in range(50)}, {f"s{i}": 1 for i in range(50)})[1]
    assert "and 30 more" in many and many.count("process 1 has") == 20


def test_a_process_that_says_nothing():
    with pytest.raises(hosts.HostsError, match="could not compare their settings in 120 seconds: NOT_FOUND"):
        hosts.compare(Store(), 0, 2, {})


def test_the_code_has_a_version():
    assert hosts.code_version() == hosts.code_version() and "jax" in hosts.code_version()


def judged(monkeypatch, *times):
    """The verdicts of process 0 of three, which looks at these times; process 2 lives, process 1 until 10."""
    store, ended, clock = Store(), [], [0.0]
    monkeypatch.setattr(hosts.time, "monotonic", lambda: clock[0])
    watch = hosts.Watch(store, 0, 3)
    monkeypatch.setattr(watch, "_obey", ended.append)
    store["dtr1_jax/name/1"] = "(host far, pid 7)"
    for clock[0] in times:
        for rank in (1, 2):
            if rank == 2 or clock[0] <= 10:
                store[f"dtr1_jax/beat/{rank}"] = str(clock[0])
        watch._judge()
    return [verdict["text"] for verdict in ended]


def test_a_process_without_a_sign_of_life_is_named(monkeypatch):
    assert judged(monkeypatch, *range(30)) == []
    lost = "process 1 of 3 (host far, pid 7) has given no sign of life for 20 seconds"
    assert judged(monkeypatch, *range(32)) == [lost]
    assert judged(monkeypatch, *range(10), 500) == []  # it was process 0 that stood still


def start(plan, count=2):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    running = []
    for rank in range(count):
        command = [sys.executable, __file__, str(rank), str(count), str(port), plan]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    return running


def ends(running):
    """(exit status, output) of each."""
    try:
        said = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, words) for process, words in zip(running, said)]


def test_a_killed_process_ends_the_others_with_its_name():
    (status, words), (killed, _) = ends(start("kill:1"))
    assert killed == -signal.SIGKILL and status == hosts.STATUS, words
    assert "error: process 1 of 2 (host " in words and "has given no sign of life for 5 seconds" in words
    assert "so this process 0 ends too. What was saved before is untouched" in words


def test_where_process_0_is_killed_the_others_say_so():
    (killed, _), (status, words) = ends(start("kill:0"))
    assert killed == -signal.SIGKILL and status == hosts.STATUS, words
    assert "error: process 0 of 2, which holds this run together, is gone, so this process 1 ends too" in words


def test_an_error_of_one_process_ends_the_others():
    (status, words), (failed, own) = ends(start("error:1"))
    assert (status, failed) == (1, 1) and "ValueError: this one alone" in own
    assert "process 1 of 2 (host " in words and "ended with an error: ValueError: this one alone" in words


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_sigterm_to_one_process_ends_all(victim):
    """JAX's own handler would swallow it."""
    got = ends(start(f"term:{victim}"))
    assert [status for status, _ in got] == [interrupt.STATUS] * 2, got
    assert f"process {victim} of 2 (host " in got[1 - victim][1] and "was stopped by a signal" in got[1 - victim][1]
    assert "\nerror: process" not in got[1 - victim][1] and "KeyboardInterrupt" in got[victim][1]


def test_a_sum_that_fails_because_another_process_ended_is_not_the_reason():
    """XLA raises some of its errors as ValueError, and before it is known which process is lost."""
    (status, words), (own_status, _) = ends(start("reset:1"))
    assert (status, own_status) == (interrupt.STATUS, interrupt.STATUS), words
    assert "process 1 of 2 (host " in words and "was stopped by a signal" in words and "Traceback" not in words


def test_sigterm_ends_a_process_that_is_in_compiled_code():
    got = ends(start("stuck:1"))
    assert [status for status, _ in got] == [interrupt.STATUS] * 2, got
    assert all("process 1 of 2 was stopped by a signal, so this process" in words for _, words in got)


def test_work_that_can_be_saved_is_asked_to_stop_in_all_processes():
    (status, words), (own_status, own) = ends(start("flag:1"))
    assert (status, own_status) == (0, 0), words + own  # each left in order
    assert "stopping, as another process of this run" in words and "stopping: this step is saved first" in own


def wait_in_compiled_code() -> None:
    """Locks a mutex twice, which no signal interrupts."""
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_init(mutex, None)
    for _ in range(2):
        library.pthread_mutex_lock(mutex)


if __name__ == "__main__":
    rank, count, port, plan = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    jax.config.update("jax_enable_preemption_service", False)  # as dispatch.join_processes does
    jax.distributed.initialize(f"localhost:{port}", count, rank)
    hosts.LOST_AFTER = float(os.environ.get("LOST_AFTER", LOST_AFTER))
    action, _, victim = plan.partition(":")
    stop_signals.SECONDS = 2.0
    with contextlib.suppress(interrupt.Interrupted), hosts.together({"setting": 1}):
        time.sleep(3)  # all have given signs of life
        if action == "flag":
            with interrupt.Flag() as stop:
                while not stop.is_set:
                    if str(rank) == victim:
                        os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.1)
                hosts._joined().client.wait_at_barrier("saved", 200_000)  # as the modes do before they leave
                raise interrupt.Interrupted(7)
        if str(rank) == victim and action == "stuck":
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
            wait_in_compiled_code()
        if str(rank) != victim and action == "reset":
            raise ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer")
        if str(rank) == victim and action in ("term", "reset"):
            os.kill(os.getpid(), signal.SIGTERM)
        if str(rank) == victim and action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if str(rank) == victim and action == "error":
            raise ValueError("this one alone")
        time.sleep(200)
