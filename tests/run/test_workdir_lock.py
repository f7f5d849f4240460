"""The lock of a workdir: one holder at a time, and what a killed run leaves behind stops nobody for long."""

import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import tiny

from dtr1_jax.run import workdir_lock
from dtr1_jax.run.workdir_lock import LockError, hold

HOLDER = """
import sys, time
from dtr1_jax.run import workdir_lock
with workdir_lock.hold(sys.argv[1], "train"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of tmp_path."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tiny.environment(), cwd=tiny.ROOT)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def left_behind(folder, *, age=0.0, **holder):
    """A lock file as a killed process leaves it, last touched `age` seconds ago."""
    path = folder / workdir_lock.NAME
    holder = {"host": socket.gethostname(), "pid": 2**22 + 1, "time": "then", "mode": "train"} | holder
    path.write_text(json.dumps(holder))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def without_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_one_holder_at_a_time(tmp_path):
    with hold(tmp_path, "train"):
        holder = json.loads((tmp_path / "run.lock").read_text())
        assert (holder["host"], holder["pid"], holder["mode"]) == (socket.gethostname(), os.getpid(), "train")
        with pytest.raises(LockError, match=rf"another run .*--mode=train, process {os.getpid()} on .* since"):
            hold(tmp_path, "sft").__enter__()
    assert not list(tmp_path.iterdir())
    with hold(tmp_path, "train"):
        pass


def test_another_process_is_refused_until_it_is_killed(tmp_path, other, caplog):
    with pytest.raises(LockError, match=rf"process {other.pid} on .*; wait until it ends, or choose another --workdir"):
        hold(tmp_path, "train").__enter__()
    assert json.loads((tmp_path / "run.lock").read_text())["pid"] == other.pid  # as it was
    other.send_signal(signal.SIGKILL)
    other.wait()
    with caplog.at_level(logging.WARNING), hold(tmp_path, "train"):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    assert f"taking over {tmp_path / 'run.lock'}: --mode=train, process {other.pid}" in caplog.text


def test_a_stopped_process_still_holds(tmp_path, other):
    other.send_signal(signal.SIGSTOP)
    os.utime(tmp_path / "run.lock", (0, 0))
    with pytest.raises(LockError):
        hold(tmp_path, "train").__enter__()


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    with hold(tmp_path, "train"):
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
    try:
        with hold(tmp_path, "train"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("age", [0.0, 1e6])
def test_a_dead_process_of_this_host_is_taken_over_at_once(tmp_path, caplog, age):
    left_behind(tmp_path, age=age)
    with caplog.at_level(logging.WARNING), hold(tmp_path, "train"):
        pass
    assert "has ended without removing it" in caplog.text


def test_another_host_is_refused_while_its_lock_is_fresh(tmp_path, caplog):
    path = left_behind(tmp_path, host="elsewhere", age=60)
    with pytest.raises(LockError, match=rf"on elsewhere since then.*wait 120 seconds.*or remove {path} by hand"):
        hold(tmp_path, "train").__enter__()
    left_behind(tmp_path, host="elsewhere", age=3600)
    with caplog.at_level(logging.WARNING), hold(tmp_path, "train"):
        pass
    assert "on elsewhere since then has ended" in caplog.text


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"', b"[" * 4000, b'{"pid": ' + b"9" * 5000 + b"}"], ids=range(7)
)
def test_a_broken_file_stops_nobody(tmp_path, text):
    (tmp_path / "run.lock").write_bytes(text)
    with hold(tmp_path, "train"):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("pid", ["1", -1, 0, None, 2**70, True])
def test_hostile_values_stop_nobody_and_print_harmlessly(tmp_path, pid, caplog, without_flock):
    left_behind(tmp_path, pid=pid, mode="\x1b[31m\n" * 1000, time={"a": "\u202e"})
    with caplog.at_level(logging.WARNING), hold(tmp_path, "train"):
        pass
    assert "\x1b" not in caplog.text and "\u202e" not in caplog.text and len(caplog.text) < 2000


def test_without_flock_the_file_decides(tmp_path, without_flock, other, caplog):
    with pytest.raises(LockError, match=f"process {other.pid}"):
        hold(tmp_path, "train").__enter__()
    other.kill()
    other.wait()
    with caplog.at_level(logging.WARNING), hold(tmp_path, "train"):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    assert "taking over" in caplog.text and not list(tmp_path.iterdir())


def test_without_flock_of_two_at_once_one_wins(tmp_path, without_flock, monkeypatch):
    """Another process writes its name while this one waits: it was later, so it has the lock."""

    def overtaken(seconds):
        (tmp_path / "run.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 1, "token": "other"}))

    monkeypatch.setattr(workdir_lock.time, "sleep", overtaken)
    with pytest.raises(LockError, match="process 1 on"):
        hold(tmp_path, "train").__enter__()


def test_the_holder_touches_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, "_BEAT", 0.01)
    with hold(tmp_path, "train"):
        os.utime(tmp_path / "run.lock", (0, 0))
        for _ in range(500):
            if (tmp_path / "run.lock").stat().st_mtime > 0:
                return
            time.sleep(0.01)
    pytest.fail("the lock was not touched")


def test_a_folder_that_stays_empty_is_removed_again(tmp_path):
    with hold(tmp_path / "new", "train"):
        pass
    assert not (tmp_path / "new").exists()
    with hold(tmp_path / "new", "train"):
        (tmp_path / "new" / "file").touch()
    assert (tmp_path / "new" / "file").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match=r"cannot write to workdir .*file/run: Not a directory; .*another --workdir"):
        hold(tmp_path / "file" / "run", "train").__enter__()
