"""Which model a path is; and messages for paths that are none."""

import json
import logging

import pytest

from dtr1_jax import specialists
from dtr1_jax.models.weights import hub
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import catalogue


@pytest.fixture
def opened(monkeypatch):
    """Replaces all predictors; returns the list of (module, function, arguments) that were called."""
    calls = []

    class Module:
        def __init__(self, name):
            self.name = name

        def open_checkpoint(self, checkpoint, device_mesh, dtype, **options):
            calls.append((self.name, "checkpoint", checkpoint.config["model_type"], dtype.name, options))

        def open_path(self, path, device_mesh, dtype, **options):
            calls.append((self.name, "path", path.name, dtype.name, options))

    monkeypatch.setattr(catalogue, "_predictor", Module)
    return calls


def write(folder, kind):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    from safetensors.numpy import save_file

    save_file({}, folder / "model.safetensors")
    return folder


def test_by_model_type(tmp_path, opened):
    for kind, module in catalogue.BY_TYPE.items():
        specialists.load(write(tmp_path / kind, kind), dtype="bfloat16", most=3)
        assert opened.pop() == (module, "checkpoint", kind, "bfloat16", {"most": 3})


def test_by_file(tmp_path, opened):
    for name in ("mobile_sam.pt", "depth.onnx", "model.json"):
        (tmp_path / name).write_bytes(b"x")
        specialists.load(str(tmp_path / name))
    assert [call[0] for call in opened] == ["sam.mobile_sam", "onnx.predictor", "ssd.predictor"]
    specialists.load(tmp_path)
    assert opened[-1][:3] == ("ssd.predictor", "path", tmp_path.name)


def test_paths_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"none/here: no such file or folder; expected a folder with config\.json"):
        specialists.load(f"{tmp_path}/none/here")
    with pytest.raises(WeightsError, match=r"model_type 'llama' is no specialist; expected one of sam2, "):
        specialists.load(write(tmp_path / "llama", "llama"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(WeightsError, match=r"a\.txt: expected one of \.pt, "):
        specialists.load(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="dtype: expected 'float32' or 'bfloat16', got 'float16'"):
        specialists.load(tmp_path, dtype="float16")

    def snapshot_download(name, **_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hub.HubError, match=r"`hf download org/name --local-dir DIR`; then copy DIR here and load DIR"):
        specialists.load("org/name")


def test_a_limited_licence_is_said(tmp_path, opened, caplog):
    folder = write(tmp_path / "Depth-Anything-V2-Large-hf", "depth_anything")
    with caplog.at_level(logging.WARNING):
        specialists.load(folder)
    assert "CC-BY-NC-4.0" in caplog.text
