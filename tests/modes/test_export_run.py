"""A run that is trained, exported from its own checkpoint by workdir and folder alone, and read back."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from checkpoints import write
from exports import settings as read_as
from safetensors.numpy import load_file

from configs import default
from dtr1_jax import config, mesh, settings_of_run
from dtr1_jax.models import policy
from dtr1_jax.models.weights import native
from dtr1_jax.modes import dispatch
from dtr1_jax.policies import pretrained, state
from dtr1_jax.types import Prompt

IDS = np.array([3, 200, 41, 7, 960, 12, 33, 600])


def settings(base, rank):
    """Of a run of one step on the checkpoint in `base`."""
    c = default.get_config("auto")
    lora = {"lora.rank": rank, "lora.alpha": 3.0, "lora.targets": "(vision/blocks|decoder)/.*", "optim.clip": 0.5}
    c.update_from_flattened_dict(tiny.SMALL | lora | {"policy.path": str(base), "train.steps": 1})
    c.policy.dtype = c.policy.weights_dtype = "float32"
    c.policy.prompt, c.policy.prompt_tokens = "brief", 64
    c.train.eval_examples = 0
    return c


def logits(spec, base, lora=None):
    prompt = Prompt(
        token_bp=IDS[None, :1], mask_bp=np.ones((1, 1), bool), position_bp3=np.zeros((1, 1, 3), np.int32),
        slot_bp=np.full((1, 1), -1), next_b=np.ones(1, np.int32), images=None,
    )  # fmt: skip
    prompt = jax.tree.map(jax.numpy.asarray, prompt)
    prefix = policy.prefill(base, lora, spec, prompt)
    return np.asarray(policy.logits(base, spec, policy.hidden(base, lora, spec, prefix, IDS[None, None, 1:])))


@pytest.mark.parametrize("rank", [2, 0])
def test_a_trained_run_is_exported_by_its_workdir_alone(small, tmp_path, capsys, rank):
    write(tmp_path / "base", "qwen3_vl")
    values, workdir = settings(tmp_path / "base", rank), str(tmp_path / "run")
    assert dispatch.run("train", values, workdir) == 0, capsys.readouterr().err
    c = config.from_configdict(values)
    made = pretrained.load_policy(c)
    base, lora, step = state.trained_weights(c, made, mesh.make(c.mesh), tmp_path / "run")
    assert step == values.train.steps
    wanted = logits(made.spec, base, lora)

    command = [sys.executable, "main.py", "--mode=export", f"--workdir={workdir}", f"--out={tmp_path}/out"]
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"exported: {tmp_path}/out\n", done.stderr
    again = config.from_configdict(read_as(tmp_path / "out"))
    read = pretrained.load_policy(again)
    got = pretrained.read_weights(again, read)
    np.testing.assert_allclose(logits(read.spec, got), wanted, atol=1e-4)
    first = pretrained.read_weights(c, made)
    moved = jax.tree.map(lambda x, y: bool(np.any(np.asarray(x) != np.asarray(y))), got, first)
    assert moved["decoder"]["q"]["kernel"] and moved["vision"]["blocks"]["qkv"]["kernel"]
    assert moved["embed"]["table"] == (rank == 0)
    assert np.abs(logits(made.spec, first) - wanted).max() > 1e-3
    if not rank:
        jax.tree.map(np.testing.assert_array_equal, got, base)

    status = dispatch.run(
        "export",
        settings_of_run.get_config(workdir),
        workdir,
        dispatch.Options(out=str(tmp_path / "adapter"), adapter=True),
    )
    assert status == (0 if rank else 1), capsys.readouterr().err
    if rank:
        alone = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        name = "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_B.weight"
        np.testing.assert_array_equal(alone[name].T, lora["decoder"]["q"]["b"][1])
        assert sum(x.size for x in alone.values()) == sum(x.size for x in native.flatten(lora).values())


def begun(**changes):
    return config.to_dict(config.from_configdict(default.get_config())) | changes


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "No such file or directory"),
        ("", "Expecting value"),
        (b"\xff\xfe", "can't decode byte"),
        ("[1, 2]", ""),
        ("null", "config.seed: missing"),
        (json.dumps({"keys": {}, "a.b": 1}), "a.b"),
        (json.dumps({"__class__": {}}), "__class__"),
        ('{"a":' * 100_000, ""),
        (json.dumps(begun(seed=10**400, lora=[])), "config.lora: expected a group of settings"),
        (json.dumps(begun(sead=1)), 'config.sead: unknown setting (did you mean "seed"?)'),
        (json.dumps(begun(lora={"rank": "2", "alpha": 10**400})), "expected a number of at most 64 bits"),
        (json.dumps(begun(seed=True)), "config.seed: expected int, got True (bool)"),
    ],
)
def test_settings_of_a_run_that_cannot_be_read(tmp_path, text, fault):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:
        settings_of_run.get_config(str(tmp_path))
    message = str(error.value)
    assert message.startswith(f"{path}: expected a JSON object with the settings")
    assert "--config=configs/seg.py" in message and fault in message


@pytest.mark.parametrize("mode", ["export", "eval", "infer"])
def test_a_workdir_without_readable_settings_is_one_message(tmp_path, mode):
    (tmp_path / "config.json").write_text(json.dumps(begun(sead=1)))
    command = [sys.executable, "main.py", f"--mode={mode}", f"--workdir={tmp_path}", f"--out={tmp_path}/out"]
    result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and 'config.sead: unknown setting (did you mean "seed"?)' in result.stderr
    assert result.stderr.startswith(f"error: {tmp_path}/config.json: expected a JSON object with the settings")
    assert not (tmp_path / "out").exists()
