"""Files and folders in a bucket appear whole, and in an order that no reader takes for the whole."""

import buckets
import pytest

from dtr1_jax import places
from dtr1_jax.run import atomic


@pytest.fixture(autouse=True)
def bucket():
    with buckets.installed():
        yield


def test_an_object_appears_at_the_end_or_not_at_all():
    path = places.path("gs://bucket/run/x.json")
    with atomic.replacing(path) as partial:
        partial.write_text("1")
        assert not buckets.objects
    assert buckets.objects["bucket/run/x.json"][0] == b"1" and not partial.exists()
    with pytest.raises(ValueError):
        with atomic.replacing(path) as partial:
            partial.write_text("2")
            raise ValueError
    assert {name: data for name, (data, _) in buckets.objects.items()} == {"bucket/run/x.json": b"1"}


def test_a_folder_is_replaced_with_its_json_files_last():
    for name in ("config.json", "old.safetensors", "deep/old.txt"):
        buckets.put(f"bucket/policy/{name}", b"old")
    buckets.put("bucket/policy2/x", b"another folder")
    del buckets.log[:]
    with atomic.replacing_folder(places.path("gs://bucket/policy")) as folder:
        for name in ("a.json", "config.json", "z.safetensors"):
            (folder / name).write_text(name)
        (folder / "deep").mkdir()
        (folder / "deep" / "b.txt").write_text("b")
        assert not buckets.log
    assert set(buckets.objects) == {
        "bucket/policy/a.json", "bucket/policy/config.json", "bucket/policy/z.safetensors", "bucket/policy/deep/b.txt",
        "bucket/policy2/x",
    }  # fmt: skip
    order = [(kind, name.rpartition("/")[2]) for kind, name in buckets.log if kind in ("rm", "put")]
    assert order[0] == ("rm", "config.json") and {kind for kind, _ in order[:3]} == {"rm"}
    assert [name for _, name in order[-2:]] == ["a.json", "config.json"]
    assert all(kind == "put" for kind, _ in order[3:])


def test_a_folder_stays_where_the_new_one_fails():
    buckets.put("bucket/policy/config.json", b"old")
    with pytest.raises(ValueError):
        with atomic.replacing_folder(places.path("gs://bucket/policy")) as folder:
            (folder / "config.json").write_text("new")
            raise ValueError
    assert buckets.objects["bucket/policy/config.json"][0] == b"old"
