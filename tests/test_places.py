"""Texts of flags and settings become local paths or addresses of buckets, and nothing else."""

import pathlib
import re

import buckets
import fsspec
import pytest

from dtr1_jax import places
from dtr1_jax.run import local_copy


@pytest.fixture
def bucket():
    with buckets.installed():
        yield buckets.objects


def test_local_texts_and_paths_stay_local(monkeypatch):
    monkeypatch.setenv("HOME", "/home-of-me")
    assert places.path("runs/a b") == pathlib.Path("runs/a b") and type(places.path("x")) is type(pathlib.Path())
    assert places.path("~/runs") == pathlib.Path("/home-of-me/runs")
    kept = pathlib.Path("~/as it is")
    assert places.path(kept) is kept
    assert places.absolute("x") == pathlib.Path.cwd() / "x"
    # of these, none names a bucket: a hub id, a setting with a model, a time
    for text in ("Qwen/Qwen2.5-VL-3B-Instruct", "sam:models/sam", "12:30/x", "", "grabcut"):
        assert not places.is_bucket(text)


@pytest.mark.parametrize(
    "text", ["https://host/data", "gs:/bucket/run", "s3:/bucket", "gs://", "gs:///run", "az://c/x", "gs://b/../c/x"]
)
def test_other_addresses_are_refused_and_not_taken_for_folders(bucket, text):
    assert places.is_bucket(text)
    with pytest.raises(places.PlaceError, match=re.escape(f"{text}: expected a path of this machine, gs://BUCKET")):
        places.path(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/run", "s3://...@bucket/run"),
        ("https://me:SECRET@host/a?sig=SECRET", "https://...@host/a"),
        ("https://host/a?sig=SECRET", "https://host/a"),
    ],
)
def test_no_message_repeats_a_password(bucket, monkeypatch, tmp_path, text, shown):
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path))
    for act in (
        places.path,
        lambda x: places.here(x, "--out", "no"),
        lambda x: local_copy.fetch(x, "config.data.root"),
    ):
        with pytest.raises(places.PlaceError) as error:
            act(text)
        assert shown in str(error.value) and "SECRET" not in str(error.value)
    assert places.shown("gs://bucket/what?/x") == "gs://bucket/what?/x" and places.shown("a@b?c") == "a@b?c"


def test_an_object_that_is_written_anew_meanwhile_is_read_whole(bucket, monkeypatch):
    """gcsfs learns the size when a file is opened, and then reads so many bytes."""

    class Grown(buckets.Bucket):
        def _open(self, path, mode="rb", **more):
            pytest.fail("opened, so its size was asked for first")

        def cat_file(self, path, start=None, end=None, **more):
            assert start is end is None
            return bucket[self._strip_protocol(path)][0]

    buckets.put("bucket/x", b"10")
    monkeypatch.setattr(places, "system", lambda place: Grown())
    assert places.read_text(places.path("gs://bucket/x")) == "10"


def test_one_object_is_created_once(bucket):
    place = places.path("gs://bucket/run/x")
    places.create(place, "1")
    with pytest.raises(FileExistsError):
        places.create(place, "2")
    assert bucket["bucket/run/x"][0] == b"1"
    assert places.is_file("gs://bucket/run/x") and not places.is_file("gs://bucket/run")


def test_a_missing_package_is_named_with_its_installation(monkeypatch):
    def missing(scheme):
        raise ImportError(f"no {scheme}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    for scheme, package in (("gs", "gcsfs"), ("s3", "s3fs")):
        with pytest.raises(places.PlaceError, match=rf"needs {package}, .*pip install 'dtr1_jax\[{scheme}\]'"):
            places.path(f"{scheme}://bucket/run")


def test_listings_are_asked_for_anew_each_time(bucket):
    """gcsfs keeps a listing for ever by default: it would never see what another host writes."""
    places.path("gs://bucket/run")
    assert fsspec.config.conf["gcs"]["use_listings_cache"] is False is fsspec.config.conf["gs"]["use_listings_cache"]


@pytest.mark.parametrize("address", ["gs://bucket/run", None])
def test_files_and_objects_are_used_alike(bucket, tmp_path, address):
    folder = places.path(address or str(tmp_path / "run"))
    places.check_writable(folder)
    assert not bucket and not (address and buckets.log[0][0] == "mkdir")  # the probe is gone; no bucket was made
    places.make_folder(folder)
    file = folder / "a.txt"
    places.write_text(file, "ä\n")
    assert places.read_text(file) == "ä\n" and places.size(file) == 3 and file.exists()
    places.write_bytes(file, b"\xff")
    assert places.read_text(file, "replace") == "\ufffd"
    places.make_folder(folder / "old")
    places.write_text(folder / "old" / "b", "1")
    places.move(folder / "old", folder / "new")
    assert places.read_text(folder / "new" / "b") == "1" and not (folder / "old").exists()
    places.remove(file)
    places.remove(file)
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        places.read_bytes(file)
    assert not (tmp_path / "gs:").exists() and not pathlib.Path("gs:").exists()


def test_an_upload_of_another_size_is_an_error(bucket, tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"123")
    target = places.path("gs://bucket/x")
    places.upload(tmp_path / "x", target)
    assert bucket["bucket/x"][0] == b"123"
    monkeypatch.setattr(buckets.Bucket, "put_file", lambda self, here, there, **_: buckets.put("bucket/x", b"12"))
    with pytest.raises(places.PlaceError, match="expected 3 bytes after the upload, got 2"):
        places.upload(tmp_path / "x", target)


def test_errors_of_the_package_name_the_object(bucket, monkeypatch):
    def refuse(self, path, mode="rb", **_):
        raise RuntimeError("Anonymous caller has no access,\n401")

    monkeypatch.setattr(buckets.Bucket, "_open", refuse)
    with pytest.raises(places.PlaceError, match="gs://bucket/run/x: RuntimeError: Anonymous caller has no access, 401"):
        places.read_bytes(places.path("gs://bucket/run/x"))


def test_questions_about_a_bucket_that_refuses_name_it_too(bucket, monkeypatch):
    def refuse(self, path, **_):
        raise RuntimeError("401 Anonymous caller")

    for name in ("info", "exists", "isfile", "isdir"):
        monkeypatch.setattr(buckets.Bucket, name, refuse)
    for ask in (places.exists, places.is_file, places.is_folder, places.size):
        with pytest.raises(places.PlaceError, match="gs://bucket/run: RuntimeError: 401 Anonymous caller"):
            ask(places.path("gs://bucket/run"))


def test_what_cannot_be_in_a_bucket_is_refused_by_its_name(bucket):
    with pytest.raises(places.PlaceError, match=r"--out=gs://b/x: expected a path of this machine, .*; copy it later"):
        places.here("gs://b/x", "--out", "copy it later")
    assert places.here("x", "--out", "") == pathlib.Path("x")
    places.check_for_checkpoints(places.path("gs://bucket/run"))
    places.check_for_checkpoints(pathlib.Path("runs"))
    with pytest.raises(places.PlaceError, match="--workdir=s3://bucket/run: checkpoints can be saved in gs://"):
        places.check_for_checkpoints(places.path("s3://bucket/run"))
