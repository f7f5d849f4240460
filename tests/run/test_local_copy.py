"""Inputs in a bucket are on this machine before they are read, and later runs copy only what changed."""

import collections
import pathlib
import re

import buckets
import pytest

from dtr1_jax import places
from dtr1_jax.run import local_copy


@pytest.fixture(autouse=True)
def bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "copies"))
    local_copy._copied.cache_clear()
    with buckets.installed():
        for name, data in {"data/a.json": b"{}", "data/pictures/1.png": b"one", "data/pictures/2.png": b"two"}.items():
            buckets.put(f"bucket/{name}", data)
        buckets.put("bucket/database/x", b"not below data/")
        yield buckets.objects
    local_copy._copied.cache_clear()


@pytest.fixture
def copied(monkeypatch):
    """The objects that are read, as they are asked for."""
    seen, read = [], buckets.Bucket._open
    monkeypatch.setattr(buckets.Bucket, "_open", lambda self, path, *a, **k: [seen.append(path), read(self, path)][1])
    return seen


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def again(url: str, *args) -> pathlib.Path:
    """A fetch in a new process."""
    local_copy._copied.cache_clear()
    return local_copy.fetch(url, "config.data.root", *args)


def test_local_paths_are_left_alone(tmp_path):
    assert local_copy.fetch("~/x", "x") == pathlib.Path.home() / "x"
    assert not (tmp_path / "copies").exists()


def test_a_folder_comes_whole_and_is_copied_once(copied, tmp_path):
    folder = local_copy.fetch("gs://bucket/data/", "config.data.root")
    assert folder.name == "data" and (tmp_path / "copies") in folder.parents
    assert contents(folder) == {"a.json": b"{}", "pictures/1.png": b"one", "pictures/2.png": b"two"}
    assert len(copied) == 3 and again("gs://bucket/data") == folder and len(copied) == 3


def test_only_what_changed_is_copied_and_what_is_gone_is_removed(bucket, copied):
    folder = local_copy.fetch("gs://bucket/data", "")
    del copied[:], bucket["bucket/data/pictures/1.png"]
    buckets.put("bucket/data/a.json", b"[]")  # the same size
    assert contents(again("gs://bucket/data")) == {"a.json": b"[]", "pictures/2.png": b"two"}
    assert copied == ["bucket/data/a.json"]
    (folder / "pictures/2.png").write_bytes(b"half of it")
    assert contents(again("gs://bucket/data"))["pictures/2.png"] == b"two"


def test_an_object_may_be_named_like_our_own_files(bucket):
    for name in ("copied.jsonl", "lock"):
        buckets.put(f"bucket/data/{name}", name.encode())
        assert local_copy.fetch(f"gs://bucket/data/{name}", "").read_bytes() == name.encode()
        assert again(f"gs://bucket/data/{name}").read_bytes() == name.encode()


def test_a_copy_has_one_name_on_all_machines(monkeypatch, tmp_path):
    first = local_copy.stable_name(local_copy.fetch("gs://bucket/data", "") / "a.json")
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "elsewhere"))
    copy = again("gs://bucket/data") / "a.json"
    assert local_copy.stable_name(copy) == first and first.endswith("/files/data/a.json")
    assert copy.is_relative_to(tmp_path / "elsewhere") and local_copy.stable_name(tmp_path / "x") == str(tmp_path / "x")


def test_a_file_and_chosen_files(copied):
    file = local_copy.fetch("gs://bucket/data/pictures/1.png", "")
    assert file.name == "1.png" and file.read_bytes() == b"one"
    assert contents(again("gs://bucket/data", ["*.json"])) == {"a.json": b"{}"}
    assert len(contents(again("gs://bucket/data"))) == 3  # the rest, asked for later
    assert collections.Counter(copied)["bucket/data/a.json"] == 1
    with pytest.raises(places.PlaceError, match=r"config.data.root=gs://bucket/data: .*expected files named \*.gguf"):
        again("gs://bucket/data", ["*.gguf"])


def test_a_killed_copy_goes_on(monkeypatch, copied):
    monkeypatch.setattr(local_copy, "_PART", 1)

    def killed(self, path, mode="rb", **_):
        if path.endswith("2.png"):
            raise KeyboardInterrupt
        return read(self, path, mode)

    with monkeypatch.context() as patch:
        read = buckets.Bucket._open
        patch.setattr(buckets.Bucket, "_open", killed)
        with pytest.raises(KeyboardInterrupt):
            local_copy.fetch("gs://bucket/data", "")
    with open(next(local_copy.folder().glob("*/copied.jsonl")), "a") as listing:
        listing.write('["a.json", 2, "broken off')
    del copied[:]
    assert len(contents(again("gs://bucket/data"))) == 3
    assert copied == ["bucket/data/pictures/2.png"] or set(copied) <= {"bucket/data/pictures/2.png"}


def test_a_short_read_is_not_kept(monkeypatch):
    def short(self, here, there, **_):
        for file in there:
            pathlib.Path(file).write_bytes(b"")

    monkeypatch.setattr(buckets.Bucket, "get", short)
    with pytest.raises(places.PlaceError, match="expected 2 bytes, got 0"):
        local_copy.fetch("gs://bucket/data", "")
    assert not list(local_copy.folder().rglob("*.json"))


def test_nothing_there_no_room_and_hostile_names(monkeypatch, bucket):
    with pytest.raises(places.PlaceError, match=r"--image=gs://bucket/none: .* there is no such file|none"):
        local_copy.fetch("gs://bucket/none", "--image")
    monkeypatch.setattr(local_copy.shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "free")(1 << 29))
    with pytest.raises(places.PlaceError, match=re.escape("0.5 GB free; name another disk by the environment")):
        again("gs://bucket/data")
    buckets.put("bucket/evil/../../x", b"")
    with pytest.raises(places.PlaceError, match="has a name that no local file can have"):
        again("gs://bucket/evil")
