"""The lock of a workdir in a bucket: a living run keeps others out, and a dead one does not for long."""

import json
import threading
import time

import buckets
import pytest

from dtr1_jax import places
from dtr1_jax.run import bucket_lock, workdir_lock
from dtr1_jax.run.workdir_lock import LockError

URL, OBJECT = "gs://bucket/run", "bucket/run/run.lock"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("_BEAT", 0.05), ("_STALE", 0.6), ("_LOOK", 0.02), ("_SETTLE", 0.02)):
        monkeypatch.setattr(bucket_lock, name, seconds)
    with buckets.installed():
        yield


def other(**changes) -> dict:
    """What a run on another host wrote."""
    holder = {"host": "far", "pid": 7, "time": "noon", "mode": "train", "token": "a", "beat": 3, "machine": "m"}
    buckets.put(OBJECT, json.dumps(holder | changes).encode())
    return holder | changes


def test_it_is_there_while_held_and_names_its_holder():
    with bucket_lock.hold(URL, "train"):
        first = json.loads(buckets.objects[OBJECT][0])
        assert first["mode"] == "train" and first["host"]
        for _ in range(200):
            if json.loads(buckets.objects[OBJECT][0])["beat"] > first["beat"]:
                break
            time.sleep(0.02)
        else:
            pytest.fail("the lock is not written anew")
    assert not buckets.objects
    with bucket_lock.hold(URL, "eval"):
        pass


def test_a_living_run_is_not_disturbed():
    with bucket_lock.hold(URL, "train"):
        held = json.loads(buckets.objects[OBJECT][0])["token"]
        with pytest.raises(LockError, match=r"another run writes to gs://bucket/run: --mode=train, process \d+ on"):
            with bucket_lock.hold(URL, "eval"):
                pass
        assert json.loads(buckets.objects[OBJECT][0])["token"] == held


def test_the_lock_of_a_dead_run_is_taken_over(caplog, monkeypatch):
    other()
    start = time.monotonic()
    with bucket_lock.hold(URL, "train"):
        assert json.loads(buckets.objects[OBJECT][0])["token"] != "a"
    assert time.monotonic() - start >= 0.6  # it was watched
    assert "taking over gs://bucket/run/run.lock: --mode=train, process 7 on far since noon has ended" in caplog.text
    monkeypatch.setattr(bucket_lock, "_STALE", 60.0)
    monkeypatch.setattr(workdir_lock, "exists", lambda pid: False)
    other(machine=bucket_lock._machine())  # its process would be on this machine, and is not
    with bucket_lock.hold(URL, "train"):
        pass
    monkeypatch.setattr(bucket_lock, "_STALE", 0.1)
    for broken in (b"", b"[1]", b'{"host": "far', b"\xff"):
        buckets.put(OBJECT, broken)
        with bucket_lock.hold(URL, "train"):
            pass


def test_a_broken_object_is_watched_like_a_whole_one(monkeypatch):
    buckets.put(OBJECT, b'{"host": "f')
    monkeypatch.setattr(bucket_lock.time, "sleep", lambda seconds: other())  # it is written whole meanwhile
    with pytest.raises(LockError, match="process 7 on far"):
        with bucket_lock.hold(URL, "train"):
            pass


def test_of_two_that_start_at_once_the_bucket_lets_one_through(monkeypatch):
    looked = bucket_lock._wait_for_end

    def look(path):
        assert looked(path) is None
        other(token="first")  # between our look and our writing

    monkeypatch.setattr(bucket_lock, "_wait_for_end", look)
    with pytest.raises(LockError, match="process 7 on far"):
        with bucket_lock.hold(URL, "train"):
            pass
    assert json.loads(buckets.objects[OBJECT][0])["token"] == "first"  # the other one's is left alone


def test_an_object_that_the_network_sent_twice_is_ours(monkeypatch):
    def twice(file, text):
        places.write_text(file, text)
        raise FileExistsError(file)  # the second sending finds the first

    monkeypatch.setattr(places, "create", twice)
    with bucket_lock.hold(URL, "train"):
        pass
    assert not buckets.objects


def test_of_two_that_take_over_at_once_the_last_writer_goes_on(monkeypatch):
    other(machine=bucket_lock._machine())
    monkeypatch.setattr(workdir_lock, "exists", lambda pid: False)
    monkeypatch.setattr(bucket_lock.time, "sleep", lambda seconds: other(token="later"))
    with pytest.raises(LockError, match="process 7 on far"):
        with bucket_lock.hold(URL, "train"):
            pass
    assert json.loads(buckets.objects[OBJECT][0])["token"] == "later"


def test_a_lock_that_was_taken_away_is_said_and_not_taken_back(caplog):
    with bucket_lock.hold(URL, "train"):
        other(token="thief")
        for _ in range(200):
            if "both write into" in caplog.text:
                break
            time.sleep(0.02)
    assert "now names another run, --mode=train, process 7 on far since noon: both write into" in caplog.text
    assert json.loads(buckets.objects[OBJECT][0])["token"] == "thief"


def test_a_bucket_that_cannot_be_written(monkeypatch):
    def refuse(self, path, value, **_):
        raise RuntimeError("403 Forbidden")

    monkeypatch.setattr(buckets.Bucket, "pipe_file", refuse)
    with pytest.raises(LockError, match=r"cannot write to gs://bucket/run: .*403 Forbidden; expected a bucket that"):
        with bucket_lock.hold(URL, "train"):
            pass
    assert threading.active_count() < 20
