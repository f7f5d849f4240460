"""Schedule, decay, clipping, and the update that refuses non-finite numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtr1_jax import config
from dtr1_jax.rl import optim

BASE = config.Optim(
    lr=0.1, warmup=4, schedule="constant", decay_steps=0, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0, clip=1.0
)


def with_(**values):
    return dataclasses.replace(BASE, **values)


def rates(settings, steps, at):
    return [float(optim.lr_at(settings, steps, step)) for step in at]


def test_warmup_has_no_wasted_step():
    np.testing.assert_allclose(rates(BASE, 100, range(6)), [0.02, 0.04, 0.06, 0.08, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(rates(with_(warmup=0), 100, [0, 50, 99]), [0.1] * 3, rtol=1e-6)


def test_warmup_counts_steps_of_training():
    """With 3 optimizer steps in a step of training, 2 steps of warm-up are 6 optimizer steps."""
    got = [float(optim.lr_at(with_(warmup=2, schedule="linear"), 12, step, updates=3)) for step in (0, 2, 5, 6, 9, 12)]
    np.testing.assert_allclose(got, [0.1 / 7, 0.3 / 7, 0.6 / 7, 0.1, 0.05, 0], atol=1e-7)
    tx = optim.optimizer(with_(warmup=2), 12, updates=3)
    params = {"kernel": jnp.ones((1, 1))}
    changes, _ = tx.update({"kernel": jnp.full((1, 1), 0.5)}, tx.init(params), params)
    np.testing.assert_allclose(changes["kernel"], -0.1 / 7, rtol=1e-5)


def test_decay_by_hand():
    at = [4, 9, 14, 24, 30]
    np.testing.assert_allclose(rates(with_(schedule="linear"), 24, at), [0.1, 0.075, 0.05, 0, 0], atol=1e-7)
    root = np.cos(np.pi / 4)
    np.testing.assert_allclose(rates(with_(schedule="cosine"), 24, at), [0.1, 0.05 * (1 + root), 0.05, 0, 0], atol=1e-7)


def test_warmup_longer_than_the_run():
    assert all(np.isfinite(rates(with_(schedule="cosine", warmup=9), 3, range(4))))


def test_unknown_schedule():
    with pytest.raises(ValueError, match="expected constant, cosine or linear, got 'step'"):
        optim.lr_at(with_(schedule="step"), 10, 0)


def test_decay_acts_on_matrices_only():
    params = {
        "attn": {"kernel": jnp.ones((2, 3, 4)), "bias": jnp.ones((2, 3))},
        "norm": {"scale": jnp.ones((2, 3))},
        "embedding": jnp.ones((5, 3)),
        "temperature": jnp.ones(()),
        "gain": jnp.ones(3),
    }
    want = {
        "attn": {"kernel": True, "bias": False},
        "norm": {"scale": False},
        "embedding": True,
        "temperature": False,
        "gain": False,
    }
    assert optim.decayed(params) == want
    tx = optim.optimizer(with_(weight_decay=0.5, warmup=0), 10)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    for update, matrix in zip(jax.tree.leaves(updates), jax.tree.leaves(want)):
        np.testing.assert_allclose(update, -0.1 * 0.5 if matrix else 0.0, rtol=1e-6)


def adamw(settings, steps, grads, x):
    """AdamW on one number, arXiv:1711.05101 algorithm 2 with the bias correction, as a plain loop."""
    m = v = 0.0
    for t, g in enumerate(grads):
        g = g * min(1.0, settings.clip / abs(g)) if settings.clip else g
        m = settings.b1 * m + (1 - settings.b1) * g
        v = settings.b2 * v + (1 - settings.b2) * g * g
        corrected = v / (1 - settings.b2 ** (t + 1))
        step = m / (1 - settings.b1 ** (t + 1)) / (np.sqrt(corrected) + settings.eps)
        x -= float(optim.lr_at(settings, steps, t)) * (step + settings.weight_decay * x)
    return x


@pytest.mark.parametrize(
    "change", [{}, {"clip": 0.0}, {"b1": 0.5}, {"b2": 0.5}, {"eps": 1.0}, {"weight_decay": 0.3}, {"schedule": "linear"}]
)
def test_adamw_by_hand(change):
    settings, grads, steps = with_(**change), [0.5, -3.0, 0.2], 8
    tx = optim.optimizer(settings, steps)
    params = {"kernel": jnp.full((1, 1), 2.0)}
    state = tx.init(params)
    for g in grads:
        params, state, _ = optim.guarded_update({"kernel": jnp.full((1, 1), g)}, 0.0, state, params, tx)
    np.testing.assert_allclose(params["kernel"][0, 0], adamw(settings, steps, grads, 2.0), rtol=1e-5)


@pytest.fixture(scope="module")
def started():
    """Settings whose every part has state, after one good step."""
    tx = optim.optimizer(with_(weight_decay=0.1), 10)
    params = {"kernel": jnp.arange(6.0).reshape(2, 3) - 0.0, "bias": jnp.array([-0.0, 1e-38, 3.0])}
    update = jax.jit(lambda g, l, s, p: optim.guarded_update(g, l, s, p, tx))
    grads = jax.tree.map(lambda x: jnp.cos(x), params)
    params, state, info = update(grads, 1.0, tx.init(params), params)
    assert info["skipped"] == 0
    return update, grads, state, params


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("where, bad", [
    *((where, bad) for where in ("loss", "kernel", "bias") for bad in (np.nan, np.inf, -np.inf)), ("kernel", 3e38),
])  # fmt: skip
def test_non_finite_changes_nothing(started, where, bad):
    update, grads, state, params = started
    loss = np.float32(1.0)
    if where == "loss":
        loss = np.float32(bad)
    else:
        grads = grads | {where: grads[where].at[..., 1].set(bad)}
    new_params, new_state, info = update(grads, loss, state, params)
    assert info["skipped"] == 1
    assert bits(new_params) == bits(params) and bits(new_state) == bits(state)


def test_next_step_is_as_if_the_bad_one_never_was(started):
    update, grads, state, params = started
    skipped_params, skipped_state, _ = update(grads, np.nan, state, params)
    assert bits(update(grads, 1.0, skipped_state, skipped_params)) == bits(update(grads, 1.0, state, params))
    assert bits(update(grads, 1.0, state, params)[0]) != bits(params)


def test_grad_norm_is_before_clipping():
    tx = optim.optimizer(BASE, 10)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array(12.0)}
    assert optim.guarded_update(grads, 0.0, tx.init(params), params, tx)[2]["grad_norm"] == 13.0


def test_grad_norm_of_many_bfloat16():
    params = {"a": jnp.zeros(4096, jnp.bfloat16)}
    tx = optax.sgd(1.0)
    new, _, info = optim.guarded_update({"a": jnp.ones(4096, jnp.bfloat16)}, 0.0, tx.init(params), params, tx)
    assert info["grad_norm"] == 64.0 and new["a"].dtype == jnp.bfloat16
