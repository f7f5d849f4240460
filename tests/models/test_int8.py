"""A frozen base in 8 bits: rounding by hand, products against dequantised floats, meshes, and the export."""

import dataclasses
import functools
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from checkpoints import write
from exports import adapters, settings
from safetensors.numpy import load_file

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.models import int8, layers, policy
from dtr1_jax.models.weights import hf_checkpoint, loading, native
from dtr1_jax.modes import export, plan
from dtr1_jax.policies import memory, pretrained, state
from dtr1_jax.rl import rollout, update
from dtr1_jax.types import Rollout

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
SPEC = dataclasses.replace(small.TEXT, tied=False)
FLOATS = small.params(spec=SPEC)
QUANTISED = jax.device_get(int8.quantise_params(FLOATS, jnp.float32))
LORA = small.lora(FLOATS)
PROMPT = small.prompt(8, pictures=False)


def dequantise(kernel, scale):
    """float32[..., inputs, outputs]: the weights that an int8 kernel and its scales stand for."""
    return jnp.asarray(kernel).astype(jnp.float32) * scale[..., None, :]


@functools.cache
def dequantised_params():
    """The floats that QUANTISED stands for."""
    flat = native.flatten(QUANTISED)
    whole = {n: x for n, x in flat.items() if not n.endswith(int8.SCALE)}
    return native.unflatten(
        {
            n: np.asarray(dequantise(x, flat[int8.scale_path(n)])) if int8.is_quantised(n) else x
            for n, x in whole.items()
        }
    )


def test_by_hand():
    kernel = np.float32([[0.5, 0, 1e-3], [-1.27, 0, -4e-3], [0.004, 0, 2.1e-3]])
    whole, scale = int8.quantise(kernel)
    np.testing.assert_allclose(scale, [0.01, 1, 4e-3 / 127], rtol=1e-6)
    # 0.4 and 31.75 steps are rounded, and the largest of an output is -127
    assert whole.tolist() == [[50, 0, 32], [-127, 0, -127], [0, 0, 67]] and whole.dtype == jnp.int8
    np.testing.assert_allclose(dequantise(whole, scale)[:, 0], [0.5, -1.27, 0], rtol=1e-6)


def test_no_weight_is_off_by_more_than_half_a_step_and_stacks_are_rounded_layer_by_layer():
    kernel = np.random.default_rng(0).normal(size=(3, 40, 7)).astype(np.float32) * np.float32([[[1]], [[10]], [[1e-6]]])
    whole, scale = int8.quantise(kernel)
    assert scale.shape == (3, 7) and (np.abs(whole).max(1) == 127).all()
    off = np.abs(dequantise(whole, scale) - kernel) / np.asarray(scale)[:, None]
    assert 0.4 < off.max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(whole[1], int8.quantise(kernel[1])[0])
    again = int8.quantise(dequantise(whole, scale))[0]
    np.testing.assert_array_equal(again, whole)


def test_template_names_the_quantised_leaves_and_their_sizes():
    whole = jax.eval_shape(lambda: policy.init(jax.random.key(0), dataclasses.replace(small.SPEC, tied=False)))
    shapes = native.flatten(int8.template(whole, jnp.bfloat16))
    before = native.flatten(whole)
    kernels = [n for n, x in shapes.items() if x.dtype == jnp.int8]
    assert set(kernels) == {n for n in before if n.endswith("/kernel")} - {"vision/patch/kernel"}
    assert "head/kernel" in kernels and "vision/blocks/qkv/kernel" in kernels
    for name in kernels:
        assert shapes[name].size * 4 == before[name].size * before[name].dtype.itemsize
        assert shapes[int8.scale_path(name)].shape == (*before[name].shape[:-2], before[name].shape[-1])
    others = set(shapes) - set(kernels) - {int8.scale_path(n) for n in kernels}
    assert {shapes[n].dtype for n in others} == {jnp.dtype(jnp.bfloat16)} and set(kernels) | others == set(before)
    got = int8.quantise_params(small.params(spec=dataclasses.replace(small.SPEC, tied=False)), jnp.bfloat16)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), got) == jax.tree.map(
        lambda x: (x.shape, x.dtype), int8.template(whole, jnp.bfloat16)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_projection_equals_that_of_the_dequantised_kernel(dtype):
    rng = np.random.default_rng(1)
    x, kernel, bias, a, b = (rng.normal(size=s).astype(np.float32) for s in ((5, 24), (24, 6), (6,), (24, 2), (2, 6)))
    whole, scale = int8.quantise(kernel)
    x, layer, near = jnp.asarray(x, dtype), layers.Projection(6, True, 3.0), 1e-5 if dtype == "float32" else 0.1

    def out(kernel, a, x):
        variables = {"params": {**kernel, "bias": bias}, "lora": {"a": a, "b": b}}
        return layer.apply(variables, x).astype(jnp.float32)

    quantised, floats = {"kernel": whole, int8.SCALE: scale}, {"kernel": dequantise(whole, scale)}
    assert layer.apply({"params": {**quantised, "bias": bias}}, x).dtype == dtype
    np.testing.assert_allclose(out(quantised, a, x), out(floats, a, x), rtol=near, atol=near)
    got, wanted = (jax.grad(lambda a, x, k=k: jnp.sin(out(k, a, x)).sum(), (0, 1))(a, x) for k in (quantised, floats))
    assert got[1].dtype == dtype
    if dtype == "float32":  # in bfloat16 the phase of the sine is off
        for one, other in zip(got, wanted):
            np.testing.assert_allclose(one, other, atol=1e-3)


@jax.jit
def logp(base, lora, prompt, token_bgs):
    """Log-probabilities, and the adapters' gradient of their sum with a different weight for each token."""

    def total(lora):
        logp = policy.logprobs(base, lora, SPEC, policy.prefill(base, lora, SPEC, prompt), token_bgs)
        return (logp * jnp.cos(jnp.arange(logp.size)).reshape(logp.shape)).sum(), logp

    (_, logp), gradient = jax.value_and_grad(total, has_aux=True)(lora)
    return logp, gradient


@functools.cache
def tokens():
    return np.random.default_rng(0).integers(1, small.VOCAB, (8, 2, 5)).astype(np.int32)


def test_the_policy_and_its_gradient_equal_those_of_the_dequantised_floats():
    got, gradient = logp(QUANTISED, LORA, PROMPT, tokens())
    wanted, other = logp(dequantised_params(), LORA, PROMPT, tokens())
    np.testing.assert_allclose(got, wanted, atol=3e-5)
    largest = max(float(np.abs(x).max()) for x in jax.tree.leaves(other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), gradient, other)
    assert all(np.abs(x).max() > 1e-3 * largest for x in jax.tree.leaves(gradient))
    off = np.abs(got - logp(FLOATS, LORA, PROMPT, tokens())[0])
    assert 1e-4 < off.max() < 0.3  # 1 / 254 of an output's largest weight in each of a dozen projections


def test_sampling_and_scoring_give_the_same_probabilities():
    got = rollout.sample(
        QUANTISED,
        LORA,
        PROMPT,
        jax.random.key(0),
        None,
        spec=SPEC,
        group=2,
        new_tokens=5,
        end=-1,
        pad=0,
        temperature=1.0,
    )
    np.testing.assert_allclose(got.logp_bgs, logp(QUANTISED, LORA, PROMPT, got.token_bgs)[0], atol=3e-5)


def test_towers_and_their_mergers():
    import towers

    quantised = int8.quantise_params(towers.params(), jnp.float32)["vision"]
    flat = native.flatten(quantised)
    floats = {
        n: dequantise(x, flat[int8.scale_path(n)]) if int8.scale_path(n) in flat and n.endswith("kernel") else x
        for n, x in flat.items() if not n.endswith(int8.SCALE)
    }  # fmt: skip
    encode = jax.jit(functools.partial(towers.encode, images=towers.images()))
    np.testing.assert_allclose(encode(quantised), encode(native.unflatten(floats)), atol=1e-4)
    assert flat["deepstack/fc1/kernel"].dtype == flat["blocks/gate/kernel"].dtype == jnp.int8


def step(base, device_mesh=None):
    """(adapters, metrics) after one update by plain gradient descent, whose step is the gradient."""
    knobs = config.from_configdict(default.get_config()).grpo
    knobs = dataclasses.replace(knobs, beta=0.1, micro_group=0, mask_truncated=False)
    tx, trainable, frozen = optax.sgd(1.0), {"lora": LORA}, {"base": base}
    sampled = Rollout(tokens(), np.ones((8, 2, 5), bool), np.full((8, 2, 5), -3.4, np.float32), np.ones((8, 2), bool))
    advantage = np.random.default_rng(2).normal(size=(8, 2)).astype(np.float32)
    data = update.Minibatch(PROMPT, sampled, advantage)
    if device_mesh is None:
        trainable = jax.tree.map(jnp.array, trainable)
    else:
        trainable, frozen = (mesh.put(x, mesh.shardings(device_mesh, x)) for x in (trainable, frozen))
        data = mesh.put_batch(device_mesh, data)
    state, numbers = update.update(
        update.State(trainable, tx.init(trainable)), frozen, data, None, spec=SPEC, tx=tx, knobs=knobs,
        temperature=1.0, mesh=device_mesh,
    )  # fmt: skip
    return jax.device_get((state.trainable["lora"], numbers))


@pytest.mark.slow  # virtual devices can wait for each other for ever where few cores serve them
@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_mesh_takes_the_same_step():
    device_mesh = mesh.make(config.Mesh(2, 2, 2), jax.devices()[:8])
    placed = mesh.shardings(device_mesh, QUANTISED)["decoder"]
    assert tuple(placed["q"][int8.SCALE].spec) == (None, "tensor") and tuple(placed["o"][int8.SCALE].spec) == (
        None, "fsdp",
    )  # fmt: skip
    got, numbers = step(QUANTISED, device_mesh)
    wanted, others = step(QUANTISED)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, wanted)
    assert numbers["loss"] == pytest.approx(others["loss"], rel=1e-4)


def folder_config(path, **changes):
    values = settings(path)
    values.policy.weights_dtype = "int8"
    values.policy.update(changes)
    return config.from_configdict(values)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2), (1, 8, 1)])
def test_a_checkpoint_is_rounded_while_it_is_read_the_same_on_any_mesh(tmp_path, sizes, monkeypatch):
    monkeypatch.setattr(loading, "PART", 512)  # bytes: tensors are read in several parts
    wanted = int8.quantise_params(write(tmp_path, "qwen3_vl"), jnp.float32)
    c = folder_config(tmp_path)
    device_mesh = mesh.make(config.Mesh(*sizes), jax.devices()[: int(np.prod(sizes))])
    got = pretrained.read_weights(c, pretrained.load_policy(c), device_mesh)
    jax.tree.map(np.testing.assert_array_equal, got, jax.tree.map(np.asarray, wanted))
    places = mesh.shardings(device_mesh, got)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, p: x.sharding.is_equivalent_to(p, x.ndim), got, places)))


def test_our_own_file_is_quantised_and_other_leaves_have_the_compute_dtype():
    values = default.get_config()
    values.lora.rank, values.policy.weights_dtype, values.policy.dtype = 2, "int8", "bfloat16"
    c = config.from_configdict(values)
    pretrained_policy = pretrained.load_policy(c)
    got = pretrained.read_weights(c, pretrained_policy)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), got) == jax.tree.map(
        lambda x: (x.shape, x.dtype), int8.template(pretrained.template(pretrained_policy), jnp.bfloat16)
    )
    size = sum(x.nbytes for x in jax.tree.leaves(got))
    stays, count = memory.resident(c, pretrained_policy.spec, plan.abstract_mesh(config.Mesh(1, 1, 1)))
    assert stays["weights"] == size
    assert count["parameters"] == sum(x.size for x in jax.tree.leaves(pretrained.template(pretrained_policy)))


def test_the_plan_of_a_large_policy_is_smaller():
    def planned(kind):
        values = default.get_config("qwen2_5_7b")
        values.policy.weights_dtype, values.mesh.data = kind, 1
        c = config.from_configdict(values)
        return plan.plan(c, plan.policy_spec(c))

    small, large = planned("int8"), planned("bfloat16")
    assert 0.5 < small["resident"]["weights"] / large["resident"]["weights"] < 0.55
    assert small["rollout"]["weights_by_layer"] < 0.51 * large["rollout"]["weights_by_layer"]
    assert small["parameters"] == large["parameters"]
    peaks = [f"{found['peak'] / plan.GIB:.1f}" for found in (small, large)]
    assert "qwen2_5_7b by LoRA on one device {} in place of {}".format(*peaks) in " ".join(
        PAGE.read_text("utf-8").split()
    )


def test_exported_weights_are_not_quantised(tmp_path, monkeypatch, caplog):
    base = write(tmp_path / "base")
    lora = adapters(base)

    def trained_weights(c, pretrained_policy, device_mesh, workdir, step):
        return pretrained.read_weights(c, pretrained_policy), lora, 1

    monkeypatch.setattr(state, "trained_weights", trained_weights)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        out = export.run(folder_config(tmp_path / "base"), tmp_path / "run", str(tmp_path / "out"))
    assert "int8" in caplog.text and "unrounded" in caplog.text
    got = load_file(out / hf_checkpoint.SINGLE)["model.layers.1.mlp.gate_proj.weight"]
    gate = {n: x[1] for n, x in lora["decoder"]["gate"].items()}
    np.testing.assert_allclose(got.T, base["decoder"]["gate"]["kernel"][1] + 2 * gate["a"] @ gate["b"], atol=1e-6)
