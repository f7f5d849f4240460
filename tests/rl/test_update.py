"""One optimizer step against a naive one: no shared prefix, no accumulation, no mesh, TRL's loss as a plain loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from configs import default
from dtr1_jax import config
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.rl import optim, sampling, update
from dtr1_jax.types import Rollout

B, G, S, TEMPERATURE, MAX_TOKENS = 8, 2, 5, 0.8, 16
SETTINGS = config.from_configdict(default.get_config())
KNOBS = dataclasses.replace(
    SETTINGS.grpo, variant="dapo", beta=0.0, clip_low=0.2, clip_high=0.28, dual_clip=0.0, mask_truncated=False,
    micro_group=0,
)  # fmt: skip
# a large eps: with a small one the first step is the sign of the gradient, where rounding can be everything
TX = optim.optimizer(dataclasses.replace(SETTINGS.optim, lr=0.05, warmup=0, eps=1e-2, weight_decay=0.1, clip=0.5), 10)
BANNED = jnp.asarray(np.isin(np.arange(small.VOCAB), (3, 7, 8)))
TEMPER = functools.partial(sampling.temper, temperature=TEMPERATURE, banned_v=BANNED)
SPEC, PROMPT = small.TEXT, small.prompt(B, pictures=False)
PARAMS = small.params(spec=SPEC)
LORA = small.lora(PARAMS)


@functools.cache
def batch():
    """Completions of length 1 to S - 1, off-policy by enough that a part of them is clipped; numpy."""
    rng = np.random.default_rng(0)
    token = rng.choice(np.flatnonzero(~BANNED), (B, G, S)).astype(np.int32)
    mask = np.arange(S) < rng.integers(1, S, (B, G, 1))
    logp = np.asarray(naive_logp({"base": PARAMS}, {}, token)) + rng.normal(0, 0.3, token.shape)
    rollout = Rollout(
        np.where(mask, token, small.PAD).astype(np.int32), mask, np.where(mask, logp, 0).astype(np.float32),
        rng.random((B, G)) < 0.6,
    )  # fmt: skip
    return update.Minibatch(PROMPT, rollout, rng.normal(size=(B, G)).astype(np.float32))


@jax.jit
def naive_logp(trainable, frozen, token_bgs):
    return small.without_sharing(*update.weights(trainable, frozen), SPEC, PROMPT, token_bgs, TEMPER)


@jax.jit
def naive_gradient(trainable, frozen, token_bgs, dlogp_bgs):
    return jax.vjp(lambda t: naive_logp(t, frozen, token_bgs), trainable)[1](dlogp_bgs)[0]


def trl(logp, old, ref, advantage, mask, knobs):
    """TRL 1.10.0.dev0 (commit f2cd5771), trl/trainer/grpo_trainer.py, `_compute_loss`, completion by completion."""

    def completion(logp, old, ref, a, m):
        n = jnp.maximum(m.sum(), 1)
        log_ratio = (logp - old) * m
        if knobs.variant == "gspo":
            log_ratio = jnp.full(S, log_ratio.sum() / n)
        coef_1 = jnp.exp(log_ratio)
        coef_2 = jnp.clip(coef_1, 1 - knobs.clip_low, 1 + knobs.clip_high)
        loss = -jnp.minimum(coef_1 * a, coef_2 * a)
        if knobs.variant == "cispo":
            loss = -jax.lax.stop_gradient(jnp.minimum(coef_1, 1 + knobs.clip_high)) * a * logp
        loss = loss + knobs.beta * (jnp.exp(ref - logp) - (ref - logp) - 1)
        total = jnp.where(m, loss, 0).sum()
        return total, total / n

    total_bg, mean_bg = jax.vmap(jax.vmap(completion))(logp, old, ref, advantage, mask)
    if knobs.variant in ("grpo", "gspo"):
        return mean_bg.mean()
    return total_bg.sum() / (B * G * MAX_TOKENS if knobs.variant == "dr_grpo" else mask.sum())


def naive_step(trainable, frozen, knobs, reference=None):
    """(loss, gradients, weights after the step); `reference` are its log-probabilities."""
    data = batch()
    rollout, mask = data.rollout, data.rollout.mask_bgs
    if knobs.mask_truncated:
        mask = mask & rollout.stopped_bg[..., None]
    logp = naive_logp(trainable, frozen, rollout.token_bgs)
    reference = logp if reference is None else reference
    value, dlogp = jax.jit(jax.value_and_grad(trl), static_argnames="knobs")(
        logp, rollout.logp_bgs, reference, data.advantage_bg, mask, knobs=knobs
    )
    grads = naive_gradient(trainable, frozen, rollout.token_bgs, dlogp)
    updates, _ = TX.update(grads, TX.init(trainable), trainable)
    return value, grads, optax.apply_updates(trainable, updates)


def step(trainable, frozen, knobs, data=None, mesh=None, state=None, spec=SPEC, **options):
    """(state, metrics) of update.update."""
    if state is None:
        trainable = jax.tree.map(jnp.array, trainable)  # a copy: the state is donated
        state = update.State(trainable, TX.init(trainable))
    return update.update(
        state, frozen, data or batch(), BANNED, spec=spec, tx=TX, knobs=knobs, temperature=TEMPERATURE, mesh=mesh,
        max_tokens=MAX_TOKENS, **options,
    )  # fmt: skip


def close(got, want, atol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=atol, err_msg=jax.tree_util.keystr(path))


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


FULL = ({"base": PARAMS}, {})
ADAPTERS = ({"lora": LORA}, {"base": PARAMS})


@pytest.mark.parametrize("variant", ["grpo", "dapo", "gspo"])
def test_a_step_is_the_naive_step(variant):
    knobs = dataclasses.replace(KNOBS, variant=variant, mask_truncated=variant == "grpo")
    value, grads, want = naive_step(*FULL, knobs)
    state, metrics = step(*FULL, knobs)
    close(state.trainable, want)
    np.testing.assert_allclose(metrics["loss"], value, atol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], optax.global_norm(grads), rtol=1e-5)
    assert metrics["skipped"] == 0 and not np.allclose(state.trainable["base"]["norm"]["scale"], 1, atol=1e-4)
    if variant == "dapo":
        assert (
            metrics["clip_low"] > 0 and metrics["clip_high"] > 0 and metrics["tokens"] == batch().rollout.mask_bgs.sum()
        )


@pytest.mark.parametrize("micro, micro_group", [(1, 0), (2, 1)])
def test_accumulation_changes_nothing(micro, micro_group):
    knobs = dataclasses.replace(KNOBS, beta=0.1)
    frozen = ADAPTERS[1]
    want, numbers = whole_lora_step()
    state, metrics = step(ADAPTERS[0], frozen, dataclasses.replace(knobs, micro_group=micro_group), micro=micro)
    close(state.trainable, want.trainable)
    assert metrics.keys() == numbers.keys()
    for name in numbers:
        np.testing.assert_allclose(metrics[name], numbers[name], rtol=1e-4, atol=1e-6, err_msg=name)


@functools.cache
def whole_lora_step():
    return step(*ADAPTERS, dataclasses.replace(KNOBS, beta=0.1))


def test_lora_trains_the_adapters_toward_the_policy_without_them():
    knobs = dataclasses.replace(KNOBS, beta=0.1)
    reference = naive_logp({"base": PARAMS}, {}, batch().rollout.token_bgs)
    value, _, want = naive_step(*ADAPTERS, knobs, reference)
    before = bits(ADAPTERS[1])
    state, metrics = whole_lora_step()
    close(state.trainable, want)
    np.testing.assert_allclose(metrics["loss"], value, atol=1e-6)
    assert set(state.trainable) == {"lora"} and bits(ADAPTERS[1]) == before
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).all()), state.trainable["lora"], LORA)
    assert all(jax.tree.leaves(moved))
    assert metrics["kl"] > 1e-3


def test_kl_to_a_frozen_copy():
    knobs = dataclasses.replace(KNOBS, beta=0.5)
    state, metrics = step({"base": PARAMS}, {"reference": PARAMS}, knobs)
    assert 0 <= metrics["kl"] < 1e-10  # at the start the policy is its reference
    want = naive_step(*FULL, KNOBS)
    close(state.trainable, want[2])  # so the gradient is that without the KL
    other = small.params(7, SPEC)
    reference = naive_logp({"base": other}, {}, batch().rollout.token_bgs)
    state, metrics = step({"base": PARAMS}, {"reference": other}, knobs)
    value, _, after = naive_step(*FULL, knobs, reference)
    close(state.trainable, after)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    assert metrics["kl"] > 0.1


def test_the_twin_may_be_held_more_than_the_rest():
    """The weight of the KL at its tokens is hold_twin * beta; where all tokens are of the twin, that of all."""
    knobs = dataclasses.replace(KNOBS, beta=0.1, hold_twin=3.0, micro_group=1)
    want, numbers = step(*ADAPTERS, dataclasses.replace(knobs, beta=0.3, hold_twin=1.0))
    mask = batch().rollout.mask_bgs
    state, metrics = step(*ADAPTERS, knobs, dataclasses.replace(batch(), twin_bgs=np.ones_like(mask)), micro=1)
    close(state.trainable, want.trainable)
    np.testing.assert_allclose(metrics["loss"], numbers["loss"], rtol=1e-5)
    twin = np.broadcast_to(np.arange(S) < 2, mask.shape)
    loss = step(*ADAPTERS, knobs, dataclasses.replace(batch(), twin_bgs=twin), micro=1)[1]["loss"]
    reference = naive_logp({"base": PARAMS}, {}, batch().rollout.token_bgs)
    logp = naive_logp(*ADAPTERS, batch().rollout.token_bgs)
    kl = np.where(mask, np.exp(reference - logp) - (reference - logp) - 1, 0)
    free = step(*ADAPTERS, dataclasses.replace(knobs, beta=0.0))[1]["loss"]
    np.testing.assert_allclose(loss - free, (np.where(twin, 0.3, 0.1) * kl).sum() / mask.sum(), rtol=1e-4)


def test_kl_of_fresh_adapters_is_zero():
    fresh = {k: {n: {"a": x["a"], "b": 0 * x["b"]} for n, x in v.items()} for k, v in LORA.items()}
    _, metrics = step({"lora": fresh}, ADAPTERS[1], dataclasses.replace(KNOBS, beta=0.1))
    assert 0 <= metrics["kl"] < 1e-10 and metrics["grad_norm"] > 0


LONG = 40  # tokens; the stretches are 32 and 40


@functools.cache
def mixed_lengths():
    """Completions of 0 to LONG tokens, most of them short; the last token of each counts, some before it do not."""
    rng = np.random.default_rng(5)
    length = np.minimum(LONG, rng.geometric(0.06, (B, G)))
    length[0], length[1, 0] = (LONG, 32), 0
    place = np.arange(LONG)
    mask = (place < length[..., None]) & ((rng.random((B, G, LONG)) < 0.8) | (place == length[..., None] - 1))
    token = rng.choice(np.flatnonzero(~BANNED), mask.shape).astype(np.int32)
    rollout = Rollout(token, mask, np.where(mask, -2.0, 0.0).astype(np.float32), np.ones((B, G), bool))
    return dataclasses.replace(batch(), rollout=rollout)


@functools.cache
def one_stretch(variant):
    """The step where all completions are one micro-group, which takes the stretch of the longest."""
    return jax.tree.map(np.asarray, step(*ADAPTERS, dataclasses.replace(KNOBS, variant=variant), mixed_lengths()))


@pytest.mark.parametrize("variant, micro, group", [("dapo", 1, 1), ("dapo", 0, 1), ("gspo", 2, 0)])
def test_the_stretches_of_the_micro_groups_change_nothing(variant, micro, group):
    knobs = dataclasses.replace(KNOBS, variant=variant, micro_group=group)
    state, metrics = step(*ADAPTERS, knobs, mixed_lengths(), micro=micro)
    want, numbers = one_stretch(variant)
    close(state.trainable, want.trainable)
    for name in numbers:
        np.testing.assert_allclose(metrics[name], numbers[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_mesh_agrees_on_the_stretch():
    """The completions of one device may be short while those of another are long."""
    want, _ = one_stretch("dapo")
    mesh = mesh_lib.make(config.Mesh(2, 2, 2), jax.devices()[:8])
    trainable = mesh_lib.put(ADAPTERS[0], mesh_lib.shardings(mesh, ADAPTERS[0]))
    frozen = mesh_lib.put(ADAPTERS[1], mesh_lib.shardings(mesh, ADAPTERS[1]))
    state = update.State(trainable, TX.init(trainable))
    knobs = dataclasses.replace(KNOBS, micro_group=1)
    state, _ = step(None, frozen, knobs, mesh_lib.put_batch(mesh, mixed_lengths()), mesh, state, micro=4)
    close(state.trainable, want.trainable)


@pytest.mark.parametrize("variant, parts_add_up", [("dapo", True), ("grpo", False)])
def test_the_losses_of_the_minibatches_add_up_to_that_of_the_generation_batch(variant, parts_add_up):
    """So a token weighs the same in each minibatch; variants that take a mean over rows have the mean of the losses."""
    knobs, order = dataclasses.replace(KNOBS, variant=variant), np.argsort(batch().rollout.mask_bgs.sum((1, 2)))
    data = jax.tree.map(lambda x: x[order], batch())  # The second half has more tokens.
    tokens = jnp.float32(data.rollout.mask_bgs.sum())
    whole = step(*ADAPTERS, knobs, batch_tokens=tokens)[1]["loss"]
    halves = []
    for rows in (slice(0, B // 2), slice(B // 2, B)):
        half = jax.tree.map(lambda x, rows=rows: x[rows], data)
        assert half.rollout.mask_bgs.sum() != tokens / 2
        halves.append(float(step(*ADAPTERS, knobs, half, batch_tokens=tokens)[1]["loss"]))
    np.testing.assert_allclose(whole, sum(halves) if parts_add_up else np.mean(halves), rtol=1e-5)


def test_the_weight_of_a_completion_multiplies_its_advantage():
    """As importance weights of whole completions do, in every micro-group, and not the KL."""
    weight = np.random.default_rng(2).uniform(0.2, 3, (B, G)).astype(np.float32)
    knobs = dataclasses.replace(KNOBS, beta=0.1, micro_group=1)
    data = dataclasses.replace(batch(), importance_bgs=np.repeat(weight[..., None], S, -1))
    want, numbers = step(*ADAPTERS, knobs, dataclasses.replace(batch(), advantage_bg=batch().advantage_bg * weight))
    state, metrics = step(*ADAPTERS, knobs, data, micro=2)
    close(state.trainable, want.trainable)
    np.testing.assert_allclose(metrics["loss"], numbers["loss"], rtol=1e-5)
    assert metrics["loss"] != pytest.approx(float(whole_lora_step()[1]["loss"]))


def test_minibatches_use_the_state_of_the_one_before():
    other = dataclasses.replace(batch(), advantage_bg=batch().advantage_bg[::-1].copy())
    first, _ = step(*ADAPTERS, KNOBS)
    copy = jax.tree.map(np.array, first)
    second, metrics = step(*ADAPTERS, KNOBS, other, state=first)
    assert jax.tree.leaves(second.opt)[0] == 2 and metrics["skipped"] == 0
    alone, _ = step(*ADAPTERS, KNOBS, other)
    again, _ = step(*ADAPTERS, KNOBS, other, state=jax.tree.map(jnp.array, copy))
    assert bits(again) == bits(second) != bits(alone)


def test_the_state_is_donated():
    trainable = jax.tree.map(jnp.array, ADAPTERS[0])
    state = update.State(trainable, TX.init(trainable))
    frozen = jax.tree.map(jnp.asarray, ADAPTERS[1])
    step(None, frozen, KNOBS, state=state)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))
    assert not any(x.is_deleted() for x in jax.tree.leaves(frozen))


@pytest.mark.parametrize("place", ["advantage", "weight"])
def test_not_finite_changes_nothing(place):
    data, trainable = batch(), jax.tree.map(jnp.array, ADAPTERS[0])
    if place == "advantage":
        data = dataclasses.replace(data, advantage_bg=np.where(np.arange(G) == 1, np.nan, data.advantage_bg))
    else:
        trainable["lora"]["decoder"]["q"]["a"] = trainable["lora"]["decoder"]["q"]["a"].at[0, 0, 0].set(jnp.nan)
    state = update.State(trainable, TX.init(trainable))
    before = bits(state)
    state, metrics = step(*ADAPTERS, KNOBS, data, state=state)
    assert metrics["skipped"] == 1 and bits(state) == before


def test_nothing_but_truncated_completions_is_a_step_of_zero_gradient():
    data = dataclasses.replace(batch(), rollout=dataclasses.replace(batch().rollout, stopped_bg=np.zeros((B, G), bool)))
    _, metrics = step(*FULL, dataclasses.replace(KNOBS, variant="grpo", mask_truncated=True), data)
    assert metrics["grad_norm"] == 0 and metrics["tokens"] == 0 and metrics["loss"] == 0 and metrics["skipped"] == 0


def test_bfloat16_keeps_float32_weights():
    state, metrics = step(*ADAPTERS, KNOBS, dtype=jnp.bfloat16)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.trainable))
    exact = naive_step(*ADAPTERS, KNOBS)
    np.testing.assert_allclose(metrics["grad_norm"], optax.global_norm(exact[1]), rtol=0.1)
    assert metrics["skipped"] == 0 and metrics["loss"] != exact[0]


@functools.cache
def with_pictures():
    """(weights, batch, state and metrics after a step on one device) of a policy that sees."""
    weights = {"base": small.params()}
    data = dataclasses.replace(batch(), prompt=small.prompt(B))
    state, metrics = step(weights, {}, KNOBS, data, spec=small.SPEC)
    return weights, data, *jax.tree.map(np.asarray, (state, metrics))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("sizes, micro", [((8, 1, 1), 0), ((2, 4, 1), 0), ((2, 2, 2), 4), ((1, 2, 4), 0)])
def test_a_mesh_takes_the_same_step(sizes, micro):
    weights, data, want, numbers = with_pictures()
    mesh = mesh_lib.make(config.Mesh(*sizes), jax.devices()[:8])
    heads = small.SPEC.head_counts
    trainable = mesh_lib.put(weights, mesh_lib.shardings(mesh, weights, heads))
    opt = jax.eval_shape(TX.init, trainable)
    opt = jax.jit(TX.init, out_shardings=mesh_lib.shardings(mesh, {"opt": opt}, heads)["opt"])(trainable)
    data = mesh_lib.put_batch(mesh, data)
    places = [x.sharding for x in jax.tree.leaves((trainable, opt))]
    q = trainable["base"]["decoder"]["q"]["kernel"]
    assert q.addressable_shards[0].data.shape == (2, 16 // sizes[1], 32 // sizes[2])
    assert data.rollout.token_bgs.addressable_shards[0].data.shape == (B // (sizes[0] * sizes[1]), G, S)
    state, metrics = step(None, {}, KNOBS, data, mesh, update.State(trainable, opt), spec=small.SPEC, micro=micro)
    close(state, want)
    for name in numbers:
        np.testing.assert_allclose(metrics[name], numbers[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for x, place in zip(jax.tree.leaves((state.trainable, state.opt)), places):
        assert x.sharding.is_equivalent_to(place, x.ndim), (x.shape, x.sharding, place)
