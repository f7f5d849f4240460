"""Programs are lowered as training calls them: the same shapes, dtypes and places; and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest
import small
from plan_settings import settings

from dtr1_jax import config, mesh
from dtr1_jax.policies import ahead_of_time, chips, rollout_layout, state
from dtr1_jax.rl import optim, update

eight = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


def changed(**changes):
    c = settings("tiny", rollout_queries=8, rollout_group=2, rollout_new_tokens=4, policy_prompt_tokens=7, **changes)
    return dataclasses.replace(c, lora=dataclasses.replace(c.lora, targets="decoder/(q|v|down)"))


def described(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), x.sharding.spec), tree)


@eight
@pytest.mark.parametrize("changes", [
    {"lora_rank": 2, "policy_weights_dtype": "bfloat16"}, {"lora_rank": 0, "grpo_beta": 0.1}, {"lora_rank": 0},
])  # fmt: skip
def test_the_state_is_that_of_training(changes, monkeypatch):
    c = changed(mesh_data=1, mesh_fsdp=4, mesh_tensor=2, **{"grpo_beta": 0.0, **changes})
    m, spec, tx = mesh.make(c.mesh, jax.devices()[:8]), small.SPEC, optim.optimizer(c.optim, c.train.steps)
    dtype = c.policy.weights_dtype
    base = jax.tree.map(lambda x: x.astype(dtype), small.params())
    base = mesh.put(base, mesh.shardings(m, {"base": base}, spec.head_counts)["base"])
    monkeypatch.setattr(state.pretrained, "read_weights", lambda *_: base)
    trainable, frozen = state.initial_weights(c, type("Policy", (), {"spec": spec}), m)
    real = state.initial_state(tx, trainable, m, heads=spec.head_counts), frozen
    assert described(ahead_of_time.state_shapes(c, spec, m)) == described(real)


@eight
@pytest.mark.parametrize("rollout, rank", [(0, 2), (4, 2), (-1, 0)])
def test_the_rollout_has_the_copy_that_rollouts_have(rollout, rank):
    c = changed(mesh_data=1, mesh_fsdp=8, mesh_rollout=rollout, lora_rank=rank, policy_dtype="bfloat16")
    m, spec = mesh.make(c.mesh, jax.devices()[:8]), small.SPEC
    trainable, frozen = ahead_of_time.weight_shapes(c, spec)
    weights = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), update.weights(trainable, frozen))
    both = {"base": weights[0], "lora": weights[1] or {}}
    there = mesh.put(both, mesh.shardings(m, both, spec.head_counts))
    real = rollout_layout.copy(rollout, m, spec, there["base"], there["lora"] or None, c.policy.dtype)
    sampling_mesh, copied, why = ahead_of_time.rollout_mesh(c, spec, m, None)
    assert sampling_mesh == real[0] and copied == (rollout >= 0) and why
    assert described(ahead_of_time.rollout_weights(c, spec, sampling_mesh, copied)) == described(real[1:])


@eight
def test_the_batch_is_cut_over_the_mesh():
    c = changed(mesh_data=2, mesh_fsdp=4)
    m = mesh.make(c.mesh, jax.devices()[:8])
    batch = ahead_of_time.minibatch_shapes(c, small.SPEC, m, 8)
    real = mesh.put_batch(m, small.prompt(8, 7))
    assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), batch.prompt) == jax.tree.map(
        lambda x: (x.shape, str(x.dtype)), real
    )
    assert {x.sharding for x in jax.tree.leaves(batch)} == {mesh.batch(m)}
    assert ahead_of_time.minibatch_shapes(c, small.TEXT, m, 8).prompt.images is None


def test_without_the_tpu_compiler_the_error_names_it(monkeypatch):
    monkeypatch.setattr(ahead_of_time.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(config.ConfigError, match=r"v5e:4x4: .* not installed; pip install 'dtr1_jax\[tpu\]'"):
        ahead_of_time.devices_of_slice("v5e:4x4")


@pytest.mark.parametrize("topology, answer, message", [
    ("v5e:5x4", RuntimeError("INVALID_ARGUMENT: not divisible"), "does not take it: INVALID_ARGUMENT"),
    ("v4:2x2x1", [0] * 8, "each of the 4 chips, but the TPU compiler describes 8 devices"),
])  # fmt: skip
def test_slices_that_the_compiler_does_not_know(topology, answer, message, monkeypatch):
    from jax.experimental import topologies

    def describe(**_):
        if isinstance(answer, Exception):
            raise answer
        return type("Topology", (), {"devices": answer})

    monkeypatch.setattr(ahead_of_time.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(topologies, "get_topology_desc", describe)
    with pytest.raises(config.ConfigError, match=f"--topology={topology}: .*{message}"):
        ahead_of_time.devices_of_slice(topology)


@pytest.mark.parametrize("sizes, fits", [
    ((1, -1, 1), True), ((-1, 4, 1), True), ((1, 16, 1), True), ((1, 3, -1), False), ((1, 8, 1), False),
    ((-1, 32, 1), False),
])  # fmt: skip
def test_the_mesh_must_have_the_chips_of_the_slice(sizes, fits):
    c = changed(mesh_data=sizes[0], mesh_fsdp=sizes[1], mesh_tensor=sizes[2])
    if fits:
        ahead_of_time.check_mesh(c, "v5e:4x4", 16)
    else:
        with pytest.raises(config.ConfigError, match=r"config\.mesh: .* but --topology=v5e:4x4 has 16 chips"):
            ahead_of_time.check_mesh(c, "v5e:4x4", 16)


def test_a_real_slice():
    pytest.importorskip("libtpu", reason="needs libtpu: pip install 'dtr1_jax[tpu]'")
    devices = ahead_of_time.devices_of_slice("v5e:4x4")
    assert len(devices) == chips.of_slice("v5e:4x4")[1] and {d.platform for d in devices} == {"tpu"}
    with pytest.raises(config.ConfigError, match="does not take it"):
        ahead_of_time.devices_of_slice("v5e:5x4")
    with pytest.raises(config.ConfigError, match="describes 8 devices"):
        ahead_of_time.devices_of_slice("v4:2x2x1")
