"""The same with gcsfs itself, by which users reach their buckets, on a server of Google's JSON API in memory.

Needs the extra `gs`, which the other tests do without.
"""

import json
import os
import time

import buckets
import fsspec
import pytest

from dtr1_jax import places
from dtr1_jax.run import atomic, bucket_lock, local_copy, run_log, warnings_file, workdir_lock


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else it asks Google over gRPC
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "copies"))
    gcsfs = pytest.importorskip("gcsfs")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    local_copy._copied.cache_clear()
    buckets.objects.clear()
    with buckets.server() as address:
        for name in ("gs", "gcs"):
            monkeypatch.setitem(fsspec.config.conf, name, {"token": "anon", "endpoint_url": address})
        yield
        assert not os.listdir(), "no folder named gs:"
    gcsfs.GCSFileSystem.clear_instance_cache()
    local_copy._copied.cache_clear()
    buckets.objects.clear()


def test_objects():
    folder = places.path("gs://bucket/run")
    places.check_writable(folder)
    assert not buckets.objects
    file = folder / "a b?.txt"
    places.write_text(file, "ä")
    places.write_text(file, "äö")
    assert (places.read_text(file), places.size(file)) == ("äö", 4)
    assert file.exists() and places.is_file(file) and folder.is_dir() and not places.is_file(folder)
    assert any(folder.iterdir()) and not places.path("gs://bucket/none").exists()
    places.remove(file)
    places.remove(file)
    with pytest.raises(FileNotFoundError):
        places.read_bytes(file)
    places.create(file, "1")
    with pytest.raises(FileExistsError):
        places.create(file, "2")
    assert places.read_text(file) == "1"


def test_folders():
    for name in ("keep", "policy2/keep"):
        places.write_text(places.path(f"gs://bucket/{name}"), "1")
    for text in ("old", "new"):
        with atomic.replacing_folder(places.path("gs://bucket/policy")) as folder:
            (folder / text).mkdir()
            (folder / text / "x").write_text(text)
            (folder / "config.json").write_text("{}")
    assert set(buckets.objects) == {
        "bucket/keep", "bucket/policy2/keep", "bucket/policy/new/x", "bucket/policy/config.json",
    }  # fmt: skip
    places.move(places.path("gs://bucket/policy"), places.path("gs://bucket/moved"))
    assert {n for n in buckets.objects if "policy/" in n} == set() and "bucket/moved/new/x" in buckets.objects


def test_copies():
    for i in range(3):
        buckets.put(f"bucket/data/p/{i}.png", b"x" * i)
    folder = local_copy.fetch("gs://bucket/data", "")
    assert [(folder / f"p/{i}.png").read_bytes() for i in range(3)] == [b"", b"x", b"xx"]
    buckets.put("bucket/data/p/2.png", b"yy")  # the same size, another generation
    del buckets.objects["bucket/data/p/1.png"]
    local_copy._copied.cache_clear()
    local_copy.fetch("gs://bucket/data", "")
    assert (folder / "p/2.png").read_bytes() == b"yy" and not (folder / "p/1.png").exists()
    assert local_copy.fetch("gs://bucket/data/p/2.png", "").read_bytes() == b"yy"
    with pytest.raises(places.PlaceError, match=r"config\.data\.root=gs://bucket/none: cannot be copied"):
        local_copy.fetch("gs://bucket/none", "config.data.root")


def test_lock_and_logs(monkeypatch):
    for name, seconds in (("_BEAT", 0.05), ("_STALE", 2.0), ("_LOOK", 0.05), ("_SETTLE", 0.05)):
        monkeypatch.setattr(bucket_lock, name, seconds)
    place = "bucket/run/run.lock"
    with bucket_lock.hold("gs://bucket/run", "train"):
        first = json.loads(buckets.objects[place][0])["beat"]
        for _ in range(200):
            if json.loads(buckets.objects[place][0])["beat"] > first:
                break
            time.sleep(0.02)
        with pytest.raises(workdir_lock.LockError, match="another run writes to gs://bucket/run: --mode=train"):
            with bucket_lock.hold("gs://bucket/run", "eval"):
                pass
        with run_log.RunLog("gs://bucket/run") as log:
            log.write(1, {"x": 1.0})
        for step in (1, 2):
            warnings_file.append_warning("gs://bucket/run", step, "a", "b")
    assert place not in buckets.objects
    assert [row["step"] for row in run_log.read_run_log("gs://bucket/run")] == [1]
    assert [row["step"] for row in warnings_file.read_warnings("gs://bucket/run")] == [1, 2]
    buckets.put(place, json.dumps({"host": "far", "token": "a"}).encode())  # of a run that was killed
    with bucket_lock.hold("gs://bucket/run", "train"):
        pass
