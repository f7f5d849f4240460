"""`--mode=fetch` as a user gives it: what it prints, its exit status, and that one failure costs the others nothing."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import file_server
import pytest
import tiny

from configs import photo
from dtr1_jax import config
from dtr1_jax.models.weights import published_files
from dtr1_jax.models.weights.published_files import FIRST, MODELS, File
from dtr1_jax.modes import dispatch, fetch


@pytest.fixture
def server(monkeypatch):
    """All models of the table come from a server on this machine, with content of their own."""
    with file_server.serving() as state:
        for name, model in MODELS.items():
            files = []
            for one in model.files:
                data = f"{name} {one.name}".encode()
                state.files[f"{name}/{one.name}"] = data
                files.append(File(one.name, hashlib.sha256(data).hexdigest(), len(data)))
            local = dataclasses.replace(model, files=tuple(files), address=f"{state.address}{name}/", package=None)
            monkeypatch.setitem(MODELS, name, local)
        yield state


def test_the_first_models_and_their_flags(server, tmp_path):
    text, complete = fetch.run(str(tmp_path), None)
    assert complete and sorted(x.name for x in tmp_path.iterdir()) == sorted(FIRST)
    assert text.count(" fetched") == 4 and "detector: SSDLite-MobileNetV2, 80 classes of COCO (Apache-2.0" in text
    flags = [line.strip() for line in text.splitlines() if line.startswith("  --config.")]
    assert flags == [
        f"--config.specialists.detector={tmp_path}/ssdlite/model.json",
        f"--config.specialists.segmenter=sam:{tmp_path}/mobile_sam/mobile_sam.pt",
        f"--config.specialists.depth={tmp_path}/fastdepth/fastdepth_7.onnx",
        f"--config.policy.path={tmp_path}/qwen2_5_coder_0_5b/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    ]
    asked = len(server.asked)
    text, complete = fetch.run(str(tmp_path), None)
    assert complete and text.count("was here already") == 4 and len(server.asked) == asked


def test_a_failure_costs_the_other_models_nothing(server, tmp_path, capsys):
    server.files["mobile_sam/mobile_sam.pt"] = b"another"
    assert dispatch.run("fetch", None, None, dispatch.Options(out=str(tmp_path))) == 1
    out = capsys.readouterr().out
    assert "MobileSAM (Apache-2.0, 0 MB): NOT HERE\n  http://127" in out and "nothing was kept" in out
    assert "By hand: put these files into" in out and "specialists.segmenter" not in out
    assert (tmp_path / "fastdepth/specialist.json").is_file() and list((tmp_path / "mobile_sam").iterdir()) == []


def test_chosen_models(server, tmp_path):
    assert fetch.run(str(tmp_path), "sam2_1_tiny, sam2_1_tiny")[0].endswith(f"sam:{tmp_path}/sam2_1_tiny")
    assert fetch.run(str(tmp_path), "all")[1] and {x.name for x in tmp_path.iterdir()} == set(MODELS)
    with pytest.raises(config.ConfigError, match=r"got nix\n(?s:.*)owlv2_base: detector: OWLv2 base ensemble"):
        fetch.run(str(tmp_path), "nix,ssdlite")
    with pytest.raises(config.ConfigError, match="--mode=fetch needs --out"):
        fetch.run(None, None)


def test_the_photo_settings_are_what_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, _ = fetch.run("weights", None)
    assert text.splitlines()[-1].strip() == fetch.EXAMPLE and "--config=configs/photo.py" in fetch.EXAMPLE
    c = config.from_configdict(photo.get_config())
    paths = [c.specialists.detector, c.specialists.segmenter.removeprefix("sam:"), c.specialists.depth, c.policy.path]
    assert all(Path(path).is_file() for path in paths)
    named = [MODELS[name].flag(Path("weights")).partition("=")[2].removeprefix("sam:") for name in FIRST]
    assert sorted(named) == sorted(paths)


def test_an_onnx_file_needs_its_runtime(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'dtr1_jax[onnx]'" in fetch.run(str(tmp_path), "fastdepth")[0]
    assert "onnxruntime" not in fetch.run(str(tmp_path), "ssdlite")[0]


def test_the_command(tmp_path):
    arguments = ["--mode=fetch", f"--out={tmp_path}", "--models=nix"]
    done = subprocess.run([sys.executable, "main.py", *arguments], cwd=tiny.ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: --models: expected names of this table")
    assert all(name in done.stderr for name in published_files.MODELS)
