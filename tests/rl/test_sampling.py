"""The distribution of the tokens, and their log-probabilities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dtr1_jax import config, layout, mesh
from dtr1_jax.rl import sampling

LOGITS = np.array([2.0, 1.0, 0.0, -1.0, 1.5, -3.0], np.float32)


def draws(logits_v, rows=4096, seed=0, temperature=1.0, **knobs):
    logits_rv = jnp.broadcast_to(jnp.asarray(logits_v, jnp.float32), (rows, len(logits_v)))
    # Not jitted: at this size compiling each combination of knobs would be most of the time.
    token_r, logp_r = sampling.sample(jax.random.key(seed), logits_rv, temperature=temperature, **knobs)
    assert token_r.dtype == jnp.int32 and logp_r.dtype == jnp.float32 and token_r.shape == logp_r.shape == (rows,)
    return np.asarray(token_r), np.asarray(logp_r)


def softmax(logits_v):
    p = np.exp(np.asarray(logits_v, np.float64) - np.max(logits_v))
    return p / p.sum()


def assert_distribution(token_r, p_v):
    """Chi-square at a level of 1e-4, keys are fixed; nothing of probability 0 was drawn."""
    counts = np.bincount(token_r, minlength=len(p_v))
    assert (counts[p_v == 0] == 0).all()
    alive = p_v > 0
    if alive.sum() > 1:
        assert scipy.stats.chisquare(counts[alive], p_v[alive] * len(token_r)).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_distribution_and_logp(temperature):
    token_r, logp_r = draws(LOGITS, temperature=temperature)
    p_v = softmax(LOGITS / temperature)
    assert_distribution(token_r, p_v)
    np.testing.assert_allclose(logp_r, np.log(p_v)[token_r], rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 101, 1000])
def test_any_number_of_tokens(size):
    rng = np.random.default_rng(size)
    logits = rng.normal(size=size).astype(np.float32)
    logits[rng.random(size) < 0.5] = -np.inf
    logits[size // 2] = 1.0
    token_r, logp_r = draws(logits, rows=40 * size)
    p_v = softmax(logits)
    assert_distribution(token_r, p_v)
    np.testing.assert_allclose(logp_r, np.log(p_v[token_r]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 1 - 2.0**-23])
@pytest.mark.parametrize("size", [1, 5, 64, 1664])
def test_at_the_ends_of_the_random_numbers_too_nothing_impossible_is_drawn(share, size, monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, share))
    rng = np.random.default_rng(size)
    logits_rv = rng.normal(scale=5, size=(200, size)).astype(np.float32)
    logits_rv[rng.random((200, size)) < 0.7] = -np.inf
    logits_rv[np.arange(200), rng.integers(0, size, 200)] = 0.0
    token_r, logp_r = sampling.sample(jax.random.key(0), jnp.asarray(logits_rv), temperature=1.0)
    assert np.isfinite(logits_rv[np.arange(200), token_r]).all() and np.isfinite(logp_r).all()
    if share == 0:
        assert (np.asarray(token_r) == np.isfinite(logits_rv).argmax(1)).all()


def test_greedy():
    token_r, logp_r = draws([0.0, 3.0, 1.0, 3.0], rows=3, temperature=0.0, top_k=2, top_p=0.5)
    assert token_r.tolist() == [1, 1, 1]  # the lower id of a tie
    np.testing.assert_allclose(logp_r, np.log(softmax([0, 3, 1, 3]))[1], rtol=1e-6)
    banned = jnp.array([False, True, False, True])
    assert draws([0.0, 3.0, 1.0, 3.0], rows=1, temperature=0.0, banned_v=banned)[0].tolist() == [2]


def cut(p_v, keep):
    p_v = np.where(np.isin(np.arange(len(p_v)), keep), p_v, 0)
    return p_v / p_v.sum()


@pytest.mark.parametrize("k, keep", [(1, [0]), (2, [0, 4]), (3, [0, 4, 1]), (6, range(6)), (99, range(6))])
def test_top_k(k, keep):
    token_r, logp_r = draws(LOGITS, top_k=k)
    assert_distribution(token_r, cut(softmax(LOGITS), list(keep)))
    np.testing.assert_allclose(logp_r, np.log(softmax(LOGITS))[token_r], rtol=1e-5)  # that of before the cut


def test_top_k_with_ties_keeps_k():
    assert set(draws([1.0, 1.0, 1.0, 0.0], top_k=2)[0].tolist()) == {0, 1}


P = np.array([0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize(
    "p, keep", [(1e-6, [1]), (0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 3, 2]), (0.95, range(4))]
)
def test_top_p(p, keep):
    token_r, logp_r = draws(np.log(P), top_p=p)
    assert_distribution(token_r, cut(P, list(keep)))
    np.testing.assert_allclose(logp_r, np.log(P)[token_r], rtol=1e-5)


def test_top_p_with_ties():
    assert set(draws(np.zeros(4), top_p=0.3)[0].tolist()) == {0, 1}
    assert set(draws(np.zeros(4), top_p=1e-9)[0].tolist()) == {0}


def test_top_p_is_of_what_top_k_left():
    # 0.4 and 0.3 become 0.57 and 0.43, so 0.5 is reached by the first alone; of all four it takes both.
    assert set(draws(np.log(P), top_k=2, top_p=0.5)[0].tolist()) == {1}
    assert set(draws(np.log(P), top_p=0.5)[0].tolist()) == {1, 3}


@pytest.mark.parametrize("knobs", [{}, {"top_k": 3}, {"top_k": 6}, {"top_p": 0.9}])
def test_banned(knobs):
    banned = np.array([True, False, False, True, False, False])
    token_r, logp_r = draws(LOGITS, banned_v=jnp.asarray(banned), **knobs)
    p_v = cut(softmax(LOGITS), np.flatnonzero(~banned))
    assert not banned[token_r].any()
    np.testing.assert_allclose(logp_r, np.log(p_v[token_r]), rtol=1e-5)
    if "top_p" not in knobs:
        assert_distribution(token_r, p_v if knobs.get("top_k") != 3 else cut(p_v, [4, 1, 2]))


def test_more_top_k_than_allowed_tokens():
    banned = jnp.array([True, True, True, True, True, False])
    assert set(draws(LOGITS, top_k=4, banned_v=banned)[0].tolist()) == {5}


def test_temper_is_what_the_sampler_reports():
    banned = jnp.array([True, False, False, False, False, False])
    token_r, logp_r = draws(LOGITS, temperature=0.7, top_k=2, banned_v=banned)
    scorer_v = jax.nn.log_softmax(sampling.temper(jnp.asarray(LOGITS), temperature=0.7, banned_v=banned))
    np.testing.assert_allclose(logp_r, scorer_v[token_r], rtol=1e-6)
    assert scorer_v[0] == -jnp.inf


INF = np.inf


@pytest.mark.parametrize("knobs", [
    {}, {"temperature": 0.0}, {"temperature": 1e-6}, {"temperature": 1e6}, {"top_k": 2}, {"top_p": 0.5},
])  # fmt: skip
@pytest.mark.parametrize("logits_v, allowed", [
    ([INF, 0.0, 1.0, -INF], {0}),
    ([INF, 0.0, INF, 1e9], {0, 2}),
    ([-INF, -INF, -1e30, 5.0], {3}),
    ([-INF] * 4, {0, 1, 2, 3}),
    ([np.nan, 0.0, np.nan, -1e30], {1}),
    ([np.nan] * 4, {0, 1, 2, 3}),
    ([3e38, -3e38, 3e38, 0.0], {0, 2}),
])  # fmt: skip
def test_extreme_logits(logits_v, allowed, knobs):
    token_r, logp_r = draws(logits_v, rows=64, **knobs)
    assert set(token_r.tolist()) <= allowed
    assert np.isfinite(logp_r).all() and (logp_r <= 0).all()
    if not knobs:
        assert set(token_r.tolist()) == allowed
    banned = jnp.array([False, True, True, True])
    token_r, logp_r = draws(logits_v, rows=64, banned_v=banned, **knobs)
    assert (token_r == 0).all() and (logp_r == 0).all()


@pytest.mark.parametrize("knobs", [{}, {"top_k": 3, "top_p": 0.9}])
def test_a_row_does_not_depend_on_the_others(knobs):
    logits_rv = jax.random.normal(jax.random.key(1), (16, 50))
    f = functools.partial(sampling.sample, jax.random.key(2), temperature=1.0, **knobs)
    token_r, logp_r = f(logits_rv)
    few_token_r, few_logp_r = f(logits_rv[:3])
    assert (few_token_r == token_r[:3]).all() and (few_logp_r == logp_r[:3]).all()
    assert len(set(token_r.tolist())) > 3
    other_r, _ = sampling.sample(jax.random.key(3), logits_rv, temperature=1.0, **knobs)
    assert (other_r != token_r).any()


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_sharding_does_not_change_the_draw():
    logits_rv = jax.random.normal(jax.random.key(1), (16, 50))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    cut_rv = jax.device_put(logits_rv, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    f = jax.jit(functools.partial(sampling.sample, jax.random.key(2), temperature=1.0))
    (token_r, logp_r), (cut_token_r, cut_logp_r) = f(logits_rv), f(cut_rv)
    assert (np.asarray(cut_token_r) == np.asarray(token_r)).all()
    np.testing.assert_allclose(np.asarray(cut_logp_r), np.asarray(logp_r), rtol=1e-6)


@pytest.mark.parametrize("vocab", [64, 52])
@pytest.mark.parametrize(
    "knobs",
    [{"temperature": 0.0}, {}, {"top_k": 5}, {"top_k": 40}, {"top_p": 0.7}, {"top_k": 9, "top_p": 0.5}],
    ids=str,
)
def test_a_vocabulary_that_is_cut_over_devices_gives_the_same_tokens(knobs, vocab):
    """Rows with ties, bans, -inf and NaN; a top_k of 5 is within a device's part of the vocabulary, and 40 is not."""
    rng = np.random.default_rng(vocab)
    logits_rv = rng.normal(0, 2, (6, vocab)).astype(np.float32)
    logits_rv[0] = np.round(logits_rv[0])  # ties, within a part and between parts
    logits_rv[1, ::3], logits_rv[2, 5] = -np.inf, np.nan
    logits_rv[3, [7, vocab - 1]] = 30.0
    banned_v = np.arange(vocab) % 11 == 7
    device_mesh = mesh.make(config.Mesh(1, 1, 4), jax.devices()[:4])

    def draw(key, logits_rv, on):
        with layout.use(on):
            return sampling.sample(key, logits_rv, **{"temperature": 1.0} | knobs, banned_v=banned_v)

    one, cut = (jax.jit(functools.partial(draw, on=on)) for on in (None, device_mesh))
    for key in jax.random.split(jax.random.key(1), 20):
        (token_r, logp_r), (cut_token_r, cut_logp_r) = one(key, logits_rv), cut(key, logits_rv)
        np.testing.assert_array_equal(cut_token_r, token_r)
        np.testing.assert_allclose(cut_logp_r, logp_r, atol=1e-5)


def test_nothing_is_sorted_without_a_cut():
    def primitives(**knobs):
        return str(jax.make_jaxpr(functools.partial(sampling.sample, temperature=1.0, **knobs))(
            jax.random.key(0), jnp.zeros((2, 8))))  # fmt: skip

    assert " top_k[" in primitives(top_k=2) and " top_k[" not in primitives() and " sort[" not in primitives()


@pytest.mark.parametrize("knobs", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_refuses(knobs):
    with pytest.raises(ValueError, match="expected temperature >= 0"):
        sampling.sample(jax.random.key(0), jnp.zeros((1, 4)), **({"temperature": 1.0} | knobs))
