"""Advantages against hand-computed numbers and TRL's formula, and groups without spread or without scored rewards."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dtr1_jax.rl import advantages as adv

SCALES = ("group", "batch", "none")


def trl(reward_bg, scale):
    """TRL 1.10.0.dev0 (commit f2cd5771), trl/trainer/grpo_trainer.py, sum_then_normalize, as a plain float64 loop."""
    reward_bg = np.asarray(reward_bg, np.float64)
    everything = reward_bg[~np.isnan(reward_bg)]
    out = np.zeros_like(reward_bg)
    for b, group in enumerate(reward_bg):
        known = group[~np.isnan(group)]
        for g, reward in enumerate(group):
            if np.isnan(reward):
                continue
            out[b, g] = reward - known.mean()
            if scale != "none":
                out[b, g] /= (known if scale == "group" else everything).std(ddof=1) + 1e-4
    return out


def test_by_hand():
    got = adv.advantages(np.array([[0.0, 1.0, 2.0, 3.0]]), scale="group")
    deviation = np.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 3)  # n - 1 = 3, not 4
    np.testing.assert_allclose(got, np.array([[-1.5, -0.5, 0.5, 1.5]]) / (deviation + 1e-4), rtol=1e-6)
    np.testing.assert_allclose(adv.advantages(np.array([[0.0, 1.0]]), scale="none"), [[-0.5, 0.5]])


@pytest.mark.parametrize("scale", SCALES)
def test_trl_parity(scale):
    reward_bg = np.array([[0.0, 0.5, 1.0, 0.25], [2.0, 1.5, np.nan, 1.9], [0.1, 0.1, 0.1, 0.7]])
    np.testing.assert_allclose(adv.advantages(reward_bg, scale=scale), trl(reward_bg, scale), rtol=2e-6, atol=1e-6)


def test_eps_is_used():
    reward_bg = np.array([[0.0, 1e-3]])
    np.testing.assert_allclose(
        adv.advantages(reward_bg, scale="group", eps=1.0), [[-5e-4, 5e-4] / (1 + np.std(reward_bg, ddof=1))], rtol=1e-5
    )


@pytest.mark.parametrize("scale", SCALES)
def test_group_without_spread_is_exactly_zero(scale):
    # 0.1 + 0.2 and 0.3 are the same reward, summed in another order.
    same = np.float32(0.1) + np.float32(0.2)
    reward_bg = np.array([[0.1] * 3, [same, 0.3, same], [1 / 3] * 3, [0.0, 0.0, 1.0]], np.float32)
    got = np.asarray(adv.advantages(reward_bg, scale=scale))
    assert (got[:3] == 0).all() and (got[3] != 0).all()
    assert adv.informative_b(reward_bg).tolist() == [False, False, False, True]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -1e30])
def test_unscored_reward_touches_nobody_else(scale, bad):
    got = np.asarray(adv.advantages(np.array([[bad, 0.0, 1.0], [1.0, 2.0, 4.0]]), scale=scale))
    assert got[0, 0] == 0
    np.testing.assert_allclose(got, trl(np.array([[np.nan, 0.0, 1.0], [1.0, 2.0, 4.0]]), scale), rtol=1e-5)


@pytest.mark.parametrize("reward", [0.9, 1.65, 1 / 3, 1e-3, 1.195, -0.7, 1e17])
@pytest.mark.parametrize("size", [2, 3, 7, 8, 16])
def test_equal_rewards_are_their_own_mean_and_have_no_deviation(reward, size):
    """The plain float32 mean of eight times 0.9 is 0.90000004, and the deviation 6e-8."""
    reward_bg = np.full((3, size), reward, np.float32)
    for moments in (adv._moments, jax.jit(adv._moments, static_argnames="axis")):
        assert not any(np.asarray(x).any() for x in moments(*adv._scored(reward_bg), axis=1))
    for scale in SCALES:
        assert (np.asarray(advantages_jit(reward_bg, scale=scale)) == 0).all()
    task_b = np.zeros(3, np.int32)
    for _ in range(2):
        got, ema = adv.ema_advantages(reward_bg, task_b, adv.initial_ema(), decay=0.9)
        assert (np.asarray(got) == 0).all() and ema.variance_k[0] == 0


@pytest.mark.parametrize("scale", SCALES)
def test_a_tiny_spread_is_not_blown_up(scale):
    """A spread of 1e-6 is real, but far below eps = 1e-4: its advantages stay small, as in TRL."""
    reward_bg = (0.9 + np.array([[0, 1e-6, 2e-6, 3e-6]])).astype(np.float32)
    got = np.asarray(adv.advantages(reward_bg, scale=scale))
    np.testing.assert_allclose(got, trl(reward_bg, scale), atol=1e-6)
    assert 0 < np.abs(got).max() < 0.02


def deviation(reward_bg):
    """float32[B], the deviation of each group that divides its advantages."""
    return adv._moments(*adv._scored(reward_bg), axis=1)[1][:, 0]


def test_nothing_to_compare():
    reward_bg = np.array([[np.nan] * 3, [np.nan, np.inf, 0.5]])
    assert (np.asarray(adv.advantages(reward_bg, scale="group")) == 0).all()
    assert adv.informative_b(reward_bg).tolist() == [False, False]
    assert deviation(reward_bg).tolist() == [0.0, 0.0]
    assert (np.asarray(adv.advantages(np.ones((2, 1)), scale="batch")) == 0).all()


def test_spread_is_the_unbiased_deviation():
    reward_bg = np.array([[0.0, 1.0, np.nan, 3.0], [2.0, 2.0, 2.0, 2.0]])
    np.testing.assert_allclose(deviation(reward_bg), [np.std([0, 1, 3], ddof=1), 0], rtol=1e-6)


def test_unknown_scale():
    with pytest.raises(ValueError, match="expected group, batch or none, got 'std'"):
        adv.advantages(np.ones((1, 2)), scale="std")


@given(hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 20)).map(lambda x: x / 10), st.sampled_from(SCALES))
@settings(max_examples=50, deadline=None)
def test_properties(reward_bg, scale):
    got = np.asarray(advantages_jit(reward_bg, scale=scale))
    np.testing.assert_allclose(got.sum(1), 0, atol=1e-3)
    for b, informative in enumerate(adv.informative_b(reward_bg)):
        order = np.argsort(reward_bg[b], kind="stable")
        assert (np.diff(got[b][order]) >= 0).all()
        assert (got[b] != 0).any() == bool(informative)


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32)), st.sampled_from(SCALES))
@settings(max_examples=100, deadline=None)
def test_always_finite(reward_bg, scale):
    assert np.isfinite(advantages_jit(reward_bg, scale=scale)).all()


advantages_jit = jax.jit(adv.advantages, static_argnames="scale")
