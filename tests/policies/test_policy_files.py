"""Where a policy's files are: shipped, in a folder or file, or on the hub; and paths that lead nowhere."""

import pytest
from checkpoints import write
from policy_settings import of_files, settings

from dtr1_jax import config
from dtr1_jax.data import tokenizer
from dtr1_jax.models.weights import native
from dtr1_jax.policies import policy_files, pretrained


def test_where_the_weights_are(tmp_path, monkeypatch):
    assert policy_files.weights_path(settings()) == policy_files.ASSETS / "tiny" / "policy.safetensors"
    assert policy_files.weights_path(settings(path=str(tmp_path))) == tmp_path / "policy.safetensors"
    assert policy_files.weights_path(settings(path=str(tmp_path / "x.safetensors"))) == tmp_path / "x.safetensors"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert policy_files.weights_path(settings(path="~")) == tmp_path / "policy.safetensors"
    write(tmp_path / "hf")
    assert policy_files.weights_path(settings(path=str(tmp_path / "hf"))) == tmp_path / "hf"
    assert policy_files.weights_path(settings(path=str(tmp_path / "hf" / "model.safetensors"))) == tmp_path / "hf"


def test_nothing_given():
    with pytest.raises(config.ConfigError, match=r"no weights are shipped for qwen3_4b; expected a folder with config"):
        pretrained.load_policy(of_files("", "qwen3_4b"))


def test_hub_ids_are_downloaded_without_code_or_pickles(tmp_path, monkeypatch):
    write(tmp_path / "snapshot")
    asked = {}

    def snapshot_download(name, **arguments):
        asked.update(arguments, name=name)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert pretrained.load_policy(of_files("Qwen/Tiny@v1")).spec.layers == 2
    assert (asked["name"], asked["revision"]) == ("Qwen/Tiny", "v1")
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["allow_patterns"])


def test_a_hub_id_is_one_also_beside_a_folder_of_its_first_half(tmp_path, monkeypatch):
    write(tmp_path / "snapshot")
    (tmp_path / "Qwen").mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path / "snapshot"))
    monkeypatch.chdir(tmp_path)
    assert pretrained.load_policy(of_files("Qwen/Tiny")).spec.layers == 2


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(config.ConfigError, match=r"models/Qwen2.5-VL-3X': no such file or folder; expected a folder"):
        pretrained.load_policy(of_files(tmp_path / "models" / "Qwen2.5-VL-3X", "qwen2_5_vl_3b"))
    (tmp_path / "shards").mkdir()
    with pytest.raises(native.WeightsError, match=r"shards/config.json: no such file"):
        pretrained.load_policy(of_files(tmp_path / "shards", "qwen2_5_vl_3b"))
    with pytest.raises(tokenizer.TokenizerError, match=r"shards"):
        pretrained.load_policy(of_files(tmp_path / "shards" / "policy.safetensors", "qwen3_4b"))


def test_no_network_says_how_to_fetch(tmp_path, monkeypatch):
    def snapshot_download(name, **_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(config.ConfigError, match=r"no route to host\)\. On a machine with network: `hf download") as e:
        pretrained.load_policy(of_files("Qwen/Qwen3-4B"))
    assert "set config.policy.path=DIR" in str(e.value)
    with pytest.raises(config.ConfigError, match=r"`hf download Qwen/Qwen3-4B --revision v2 --local-dir DIR`"):
        pretrained.load_policy(of_files("Qwen/Qwen3-4B@v2"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "policy.PTH", "last.ckpt"])
def test_a_pickle_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(config.ConfigError, match=rf"{name}': a pickle can run code, so it is never loaded; convert it"):
        policy_files.weights_path(settings(path=str(tmp_path / name)))
