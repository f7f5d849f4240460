"""`--mode=sft` on published policies, adapters or all weights; and GRPO goes on from them."""

import functools
import json
import signal

import jax
import numpy as np
import pytest
from checkpoints import write
from safetensors.numpy import load_file

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.models.weights import native
from dtr1_jax.modes import export, sft, train
from dtr1_jax.policies import pretrained, state
from dtr1_jax.rl import imitation
from dtr1_jax.run import interrupt, run_log

MAKE = mesh.make


def values(path, constructor="given", **changes):
    c = default.get_config("auto")
    c.policy.path, c.policy.constructor = str(path), constructor
    c.policy.dtype = c.policy.weights_dtype = "float32"
    c.policy.prompt_tokens, c.policy.max_pixels = 1000, 56 * 56
    c.data.max_objects = 3
    c.rollout.new_tokens = 240
    c.lora.rank, c.lora.alpha = 4, 8.0
    c.sft.steps, c.sft.batch, c.sft.warmup, c.sft.lr, c.sft.log_every = 4, 2, 0, 2e-2, 1
    c.checkpoint.every, c.mesh.data = 0, 1
    c.update_from_flattened_dict(changes)
    return c


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    make = mesh.make
    monkeypatch.setattr(mesh, "make", lambda sizes: make(sizes, devices=jax.devices()[:1]))


def losses(workdir):
    return [row["sft/loss"] for row in run_log.read_run_log(workdir)]


@pytest.mark.parametrize("family, constructor", [("qwen2", "given"), ("qwen2", "specialists"), ("qwen3_vl", "policy")])
def test_adapters_are_trained_and_taken_up(tmp_path, family, constructor):
    write(tmp_path / "base", family)
    more = {"rollout.construct_tokens": 100} if constructor == "specialists" else {}
    c = config.from_configdict(values(tmp_path / "base", constructor, **{"policy.prompt": "full", **more}))
    folder = sft.run(c, tmp_path / "run")
    assert folder == tmp_path / "run" / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in folder.iterdir()}
    found = losses(tmp_path / "run")
    assert len(found) == 4 and found[-1] < found[0]

    with_adapter = config.from_configdict(
        values(tmp_path / "base", constructor, **{"policy.adapter": str(folder), "lora.rank": 0, **more})
    )
    made = pretrained.load_policy(c)
    base = native.flatten(pretrained.read_weights(c, made))
    got = native.flatten(pretrained.read_weights(with_adapter, pretrained.load_policy(with_adapter)))
    changed = {path for path, x in got.items() if not np.array_equal(x, base[path])}
    assert changed == {path for path in base if path.startswith("decoder/") and path.endswith("/kernel")}


def test_stopped_and_gone_on_with_dropout_is_the_same_as_in_one_go(tmp_path, monkeypatch):
    write(tmp_path / "base", "qwen2")
    c = config.from_configdict(values(tmp_path / "base", **{"lora.dropout": 0.2}))
    whole = sft.run(c, tmp_path / "whole")
    update, calls = imitation.update, []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return update(*args, **kwargs)

    monkeypatch.setattr(imitation, "update", counted)
    with pytest.raises(interrupt.Interrupted):
        sft.run(c, tmp_path / "parts")
    parts = sft.run(c, tmp_path / "parts")
    name = "adapter_model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
    without = config.from_configdict(values(tmp_path / "base"))
    assert (sft.run(without, tmp_path / "plain") / name).read_bytes() != (whole / name).read_bytes()


def test_grpo_goes_on_from_the_adapter_and_its_export_holds_both(tmp_path):
    write(tmp_path / "base", "qwen2")
    folder = sft.run(config.from_configdict(values(tmp_path / "base")), tmp_path / "sft")
    c = values(
        tmp_path / "base", **{"policy.adapter": str(folder), "lora.rank": 2, "lora.alpha": 2.0, "grpo.beta": 0.1}
    )
    c.rollout.queries, c.rollout.group, c.rollout.new_tokens = 2, 2, 8
    c.train.steps, c.train.eval_examples, c.train.gallery, c.train.samples_every = 1, 0, 0, 0
    c.reward.segmenter, c.optim.warmup, c.optim.lr = "box", 0, 0.05
    c.grpo.advantage, c.grpo.mask_truncated = "none", False
    settings = config.from_configdict(c)
    train.run(settings, tmp_path / "grpo")
    made = pretrained.load_policy(settings)
    base, lora, step = state.trained_weights(settings, made, mesh.make(settings.mesh), tmp_path / "grpo")
    assert step == 1
    alone = export.run(settings, tmp_path / "grpo", str(tmp_path / "both"), adapter=True)
    assert json.loads((alone / "adapter_config.json").read_text())["r"] == 6
    plain = config.from_configdict(values(tmp_path / "base", **{"policy.adapter": str(alone), "lora.rank": 0}))
    joined = native.flatten(pretrained.read_weights(plain, pretrained.load_policy(plain)))
    scale = settings.lora.scale
    for name in ("decoder/q", "decoder/down"):
        a, b = (native.flatten(lora)[f"{name}/{n}"] for n in "ab")
        wanted = native.flatten(base)[f"{name}/kernel"] + scale * np.matmul(a, b)
        np.testing.assert_allclose(joined[f"{name}/kernel"], wanted, atol=1e-5)
    merged = export.run(settings, tmp_path / "grpo", str(tmp_path / "merged"))
    whole = config.from_configdict(values(merged, **{"lora.rank": 0}))
    again = native.flatten(pretrained.read_weights(whole, pretrained.load_policy(whole)))
    np.testing.assert_allclose(again["decoder/q/kernel"], joined["decoder/q/kernel"], atol=1e-5)


def test_all_weights_of_a_published_policy_become_a_folder(tmp_path):
    base = write(tmp_path / "base", "qwen2")
    c = config.from_configdict(values(tmp_path / "base", **{"lora.rank": 0}))
    folder = sft.run(c, tmp_path / "run")
    assert folder == tmp_path / "run" / "policy"
    found = config.from_configdict(values(folder))
    got = pretrained.read_weights(found, pretrained.load_policy(found))
    assert not np.array_equal(got["decoder"]["q"]["kernel"], base["decoder"]["q"]["kernel"])
    assert sft.run(c, tmp_path / "run") == folder and not list((tmp_path / "run").glob("policy.*"))


def test_what_cannot_be_adapted_is_refused(tmp_path, caplog):
    c = default.get_config()
    c.lora.rank = 4
    with pytest.raises(config.ConfigError, match=r"config.lora.rank: expected 0 for tiny, whose cold start"):
        sft.run(config.from_configdict(c), tmp_path / "run")
    write(tmp_path / "base", "qwen2")
    with pytest.raises(
        config.ConfigError, match=r"config.policy.adapter = '.*nowhere': expected a folder with adapter"
    ):
        bad = config.from_configdict(values(tmp_path / "base", **{"policy.adapter": str(tmp_path / "nowhere")}))
        pretrained.read_weights(bad, pretrained.load_policy(bad))
    with pytest.raises(config.ConfigError, match=r"where policy\.adapter is added to the weights"):
        config.from_configdict(values(tmp_path, **{"policy.adapter": "x", "policy.weights_dtype": "int8"}))
    folder = sft.run(config.from_configdict(values(tmp_path / "base", **{"sft.steps": 1})), tmp_path / "run")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "org/other-model"}))
    other = config.from_configdict(values(tmp_path / "base", **{"policy.adapter": str(folder)}))
    pretrained.read_weights(other, pretrained.load_policy(other))
    assert "was trained on org/other-model" in caplog.text


@pytest.mark.slow  # virtual devices can wait for each other for ever where few cores serve them
@pytest.mark.parametrize("family, constructor", [("qwen2", "given"), ("qwen3_vl", "policy")])
def test_adapters_are_the_same_on_eight_devices(tmp_path, monkeypatch, family, constructor):
    write(tmp_path / "base", family)
    arrays = []
    for sizes in ((1, 1, 1), (2, 2, 2)):
        c = values(
            tmp_path / "base", constructor, **{"policy.prompt": "full", "sft.steps": 2, "sft.batch": 4, "sft.lr": 2e-3}
        )
        c.mesh.data, c.mesh.fsdp, c.mesh.tensor = sizes
        count = sizes[0] * sizes[1] * sizes[2]
        with monkeypatch.context() as patch:
            patch.setattr(mesh, "make", functools.partial(MAKE, devices=jax.devices()[:count]))
            folder = sft.run(config.from_configdict(c), tmp_path / str(count))
        arrays.append(load_file(folder / "adapter_model.safetensors"))
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "8"), rel=1e-5)
    for name, array in arrays[0].items():
        np.testing.assert_allclose(arrays[1][name], array, atol=2e-5, err_msg=name)
