"""The loss against TRL's formulas, by gradient identities, and cut into micro-batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rl import loss as rl_loss

VARIANTS = ("grpo", "dr_grpo", "dapo", "gspo", "cispo")
MAX_TOKENS = 7
KNOBS = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 0.0}


def case(seed=0, b=4, g=3, s=5, far=0.6):
    """logp, old, ref, advantage, mask with completions of length 0 to s; one token in the middle is masked too."""
    rng = np.random.default_rng(seed)
    old = -rng.gamma(1.0, 1.0, (b, g, s)).astype(np.float32)
    logp = old + rng.normal(0, far, old.shape).astype(np.float32)
    ref = old + rng.normal(0, far, old.shape).astype(np.float32)
    mask = np.arange(s) < rng.integers(1, s + 1, (b, g, 1))
    mask[0, 0], mask[0, 1] = False, [True, False, True, True, False]
    return logp, old, ref, rng.normal(0, 1, (b, g)).astype(np.float32), mask


def run(logp, old, ref, advantage, mask, variant, weight=None, **knobs):
    if weight is None:
        weight = rl_loss.loss_weights(jnp.asarray(mask), variant=variant, max_tokens=MAX_TOKENS)
    # Not jitted: at this size compiling each variant would be most of the time.
    args = [x if x is None else jnp.asarray(x) for x in (logp, old, ref, advantage, weight, mask)]
    return rl_loss.grpo_loss(*args, variant=variant, **(KNOBS | knobs))


def gradient(logp, *args, **knobs):
    return np.asarray(jax.grad(lambda logp: run(logp, *args, **knobs)[0])(jnp.asarray(logp)))


def trl(logp, old, ref, advantage, mask, variant, beta, clip_low, clip_high, dual_clip):
    """TRL 1.10.0.dev0 (commit f2cd57710ae345ea6428ae95363267fcf38a3dc8), trl/trainer/grpo_trainer.py, `_compute_loss`.

    A plain float64 loop. Their settings: loss_type = the variant; gspo is loss_type "grpo" with
    importance_sampling_level "sequence"; delta = dual_clip; epsilon_high of cispo is the cap itself.
    """
    rows = [(b, g) for b in range(mask.shape[0]) for g in range(mask.shape[1])]
    token_sums, sequence_means, active = [], [], 0
    for b, g in rows:
        times = [t for t in range(mask.shape[2]) if mask[b, g, t]]
        log_ratio = {t: float(logp[b, g, t]) - float(old[b, g, t]) for t in times}
        mean = sum(log_ratio.values()) / max(len(times), 1)
        a, total = float(advantage[b, g]), 0.0
        for t in times:
            coef_1 = np.exp(mean if variant == "gspo" else log_ratio[t])
            if variant == "cispo":
                token = -min(coef_1, 1 + clip_high) * a * float(logp[b, g, t])
            else:
                coef_2 = min(max(coef_1, 1 - clip_low), 1 + clip_high)
                if dual_clip:
                    coef_1 = min(coef_1, dual_clip)
                token = -min(coef_1 * a, coef_2 * a)
            if beta:
                d = float(ref[b, g, t]) - float(logp[b, g, t])
                token += beta * (np.exp(d) - d - 1)
            total += token
        token_sums.append(total)
        sequence_means.append(total / max(len(times), 1))
        active += len(times)
    if variant in ("grpo", "gspo"):
        return sum(sequence_means) / len(rows)
    if variant == "dr_grpo":
        return sum(token_sums) / (len(rows) * MAX_TOKENS)
    return sum(token_sums) / max(active, 1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("knobs", [{}, {"beta": 0.3}, {"clip_low": 0.05, "clip_high": 0.6}, {"dual_clip": 1.5}])
def test_trl_parity(variant, knobs):
    if variant == "cispo":  # takes no dual_clip, see test_refuses
        knobs = knobs | {"dual_clip": 0.0}
    for seed in range(3):
        args = case(seed)
        np.testing.assert_allclose(
            run(*args, variant, **knobs)[0], trl(*args, variant, **(KNOBS | knobs)), rtol=2e-5, atol=1e-6
        )


def test_by_hand():
    """Two completions: ratios 2 and 0.5, and 2 alone; advantages 1 and -1; so token terms -1.28, -0.5 and +2."""
    old = np.zeros((1, 2, 2), np.float32)
    logp = np.log(np.array([[[2.0, 0.5], [2.0, 9.0]]], np.float32))
    mask = np.array([[[True, True], [True, False]]])
    args = (logp, old, None, np.array([[1.0, -1.0]], np.float32), mask)
    want = {
        "grpo": ((-1.28 - 0.5) / 2 + 2) / 2,
        "dr_grpo": (-1.28 - 0.5 + 2) / (2 * MAX_TOKENS),
        "dapo": (-1.28 - 0.5 + 2) / 3,
        "gspo": (-1.0 + 2) / 2,  # the mean log ratio of the first is 0
        "cispo": (-1.28 * np.log(2) - 0.5 * np.log(0.5) + 1.28 * np.log(2)) / 3,
    }
    for variant, value in want.items():
        np.testing.assert_allclose(run(*args, variant)[0], value, rtol=1e-5, err_msg=variant)
    np.testing.assert_allclose(run(*args, "dapo", dual_clip=1.5)[0], (-1.28 - 0.5 + 1.5) / 3, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_on_policy_gradient_is_the_policy_gradient(variant):
    logp, _, _, advantage, mask = case()
    weight = np.asarray(rl_loss.loss_weights(jnp.asarray(mask), variant=variant, max_tokens=MAX_TOKENS))
    want = -weight * advantage[..., None]
    if variant == "gspo":  # each token moves the ratio of its completion, which all its tokens carry: the same sum
        want = -advantage[..., None] * weight.sum(-1, keepdims=True) * mask / np.maximum(mask.sum(-1, keepdims=True), 1)
    np.testing.assert_allclose(gradient(logp, logp, None, advantage, mask, variant), want, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("variant", ["grpo", "dr_grpo", "dapo", "gspo"])
@pytest.mark.parametrize("ratio, advantage, flows", [
    (1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.2, 1.0, True), (0.9, -1.0, True),
])  # fmt: skip
def test_clip_stops_the_gradient_on_the_right_side(variant, ratio, advantage, flows):
    logp = np.full((1, 1, 2), np.log(ratio), np.float32)
    got = gradient(logp, 0 * logp, None, np.full((1, 1), advantage, np.float32), np.ones((1, 1, 2), bool), variant)
    assert (got != 0).all() == flows and (got == 0).all() != flows
    if flows:
        assert (np.sign(got) == -advantage).all()


def test_dual_clip_stops_the_gradient():
    logp = np.log(np.array([[[2.9, 3.1]]], np.float32))
    args = (logp, 0 * logp, None, -np.ones((1, 1), np.float32), np.ones((1, 1, 2), bool), "dapo")
    assert (gradient(*args) > 0).all()
    assert (gradient(*args, dual_clip=3.0) > 0).tolist() == [[[True, False]]]
    assert run(*args, dual_clip=3.0)[1]["clip_dual"] == 1


def test_cispo_keeps_the_gradient_of_clipped_tokens():
    logp = np.log(np.array([[[4.0, 0.1]]], np.float32))
    got = gradient(logp, 0 * logp, None, np.ones((1, 1), np.float32), np.ones((1, 1, 2), bool), "cispo")
    np.testing.assert_allclose(got, [[[-1.28 / 2, -0.1 / 2]]], rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_add_up(variant, size):
    args = logp, old, ref, advantage, mask = case()
    weight = rl_loss.loss_weights(jnp.asarray(mask), variant=variant, max_tokens=MAX_TOKENS)
    whole, metrics = run(*args, variant, beta=0.1)
    parts = [slice(i, i + size) for i in range(0, len(mask), size)]
    runs = [run(*(x[p] for x in args), variant, weight=weight[p], beta=0.1) for p in parts]
    np.testing.assert_allclose(sum(r[0] for r in runs), whole, rtol=1e-5)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(r[1] for r in runs))
    reduced, want = rl_loss.reduce_metrics(stacked), rl_loss.reduce_metrics(metrics)
    assert reduced.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(reduced[name], want[name], rtol=1e-5, err_msg=name)
    grads = [
        gradient(logp[p], old[p], ref[p], advantage[p], mask[p], variant, weight=weight[p], beta=0.1) for p in parts
    ]
    np.testing.assert_allclose(np.concatenate(grads), gradient(*args, variant, beta=0.1), rtol=1e-6)


def test_each_token_may_have_a_kl_weight_of_its_own():
    args = logp, old, ref, advantage, mask = case()
    beta = np.random.default_rng(1).uniform(0, 2, mask.shape).astype(np.float32)
    free, _ = run(*args, "dapo", beta=0.0)
    loss, metrics = run(*args, "dapo", beta=beta)
    kl = np.where(mask, np.exp(ref - logp) - (ref - logp) - 1, 0)
    np.testing.assert_allclose(loss - free, (beta * kl).sum() / mask.sum(), rtol=1e-5)
    same, plain = run(*args, "dapo", beta=np.full_like(beta, 0.1)), run(*args, "dapo", beta=0.1)
    np.testing.assert_allclose(same[0], plain[0], rtol=1e-6)
    assert metrics["kl"] == plain[1]["kl"]  # the metric is not weighed
    with pytest.raises(ValueError, match="ref_logp_bgs"):
        run(logp, old, None, advantage, mask, "dapo", beta=beta)


@pytest.mark.parametrize("variant", VARIANTS)
def test_masked_tokens_do_not_matter(variant):
    args = logp, old, ref, advantage, mask = case()
    dirty = [np.where(mask, x, bad) for x, bad in zip((logp, old, ref), (np.nan, -np.inf, 1e30))]
    clean_loss, clean_metrics = run(*args, variant, beta=0.1)
    loss, metrics = run(*dirty, advantage, mask, variant, beta=0.1)
    assert loss == clean_loss and metrics == clean_metrics
    got = gradient(*dirty, advantage, mask, variant, beta=0.1)
    assert (got[~mask] == 0).all() and np.isfinite(got).all() and (got[mask] != 0).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_masked_is_zero(variant):
    logp, old, ref, advantage, mask = case()
    loss, metrics = run(logp, old, ref, advantage, np.zeros_like(mask), variant, beta=0.1)
    assert loss == 0 and all(v == 0 for v in rl_loss.reduce_metrics(metrics).values())
    assert (gradient(logp, old, ref, advantage, np.zeros_like(mask), variant, beta=0.1) == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_only_through_the_policy(variant):
    logp, old, ref, advantage, mask = case()
    for argument in (1, 2, 3):
        grad = jax.grad(lambda *a: run(*a, mask, variant, beta=0.1)[0], argument)
        assert not np.any(grad(logp, old, ref, advantage))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_far_off_policy_stays_finite(variant, advantage):
    logp, old = np.zeros((1, 1, 3), np.float32), np.full((1, 1, 3), -1e4, np.float32)
    for a, b in ((logp, old), (old, logp)):
        args = (a, b, b, np.full((1, 1), advantage, np.float32), np.ones((1, 1, 3), bool), variant)
        loss, metrics = run(*args, beta=0.1)
        assert np.isfinite(loss) and all(np.isfinite(v) for v in metrics.values())
        assert np.isfinite(gradient(*args, beta=0.1)).all()


def test_k3():
    d = np.array([-3.0, -1e-4, 0.0, 0.5, 2.0])
    np.testing.assert_allclose(rl_loss.k3(jnp.zeros(5), jnp.asarray(d, jnp.float32)), np.exp(d) - d - 1, atol=1e-6)
    slope = jax.vmap(jax.grad(lambda x, y: rl_loss.k3(x, y)))(jnp.zeros(5), jnp.asarray(d, jnp.float32))
    np.testing.assert_allclose(slope, 1 - np.exp(d), rtol=1e-4, atol=1e-6)  # d/dlogp: pulls logp toward ref


@given(st.floats(-100, 0, width=32), st.floats(-100, 0, width=32))
@settings(max_examples=100, deadline=None)
def test_k3_is_never_negative(logp, ref):
    value, slope = _k3(logp, ref)
    assert value >= 0 and np.isfinite(value)
    # Downhill leads toward the reference, or nowhere where the difference is capped.
    assert slope * np.sign(logp - ref) >= 0


_k3 = jax.jit(jax.value_and_grad(rl_loss.k3))


def test_kl_gradient_of_the_loss():
    logp, old, ref, advantage, mask = case()
    got = gradient(logp, old, ref, 0 * advantage, mask, "dapo", beta=0.5)
    np.testing.assert_allclose(got, 0.5 * mask * (1 - np.exp(ref - logp)) / mask.sum(), rtol=1e-4, atol=1e-6)


def test_metrics_by_hand():
    old = np.zeros((1, 2, 3), np.float32)
    logp = np.log(np.array([[[2.0, 0.5, 7.0], [2.0, 0.5, 0.25]]], np.float32))
    mask = np.array([[[True, True, False], [True, True, True]]])
    args = (logp, old, old, np.array([[1.0, -1.0]], np.float32), mask)
    _, sums = run(*args, "dapo")
    assert (sums["tokens"], sums["clip_high"], sums["clip_low"]) == (5, 1, 2)
    got = rl_loss.reduce_metrics(sums)
    ratios = np.array([2, 0.5, 2, 0.5, 0.25])
    np.testing.assert_allclose(got["mismatch"], np.abs(np.log(ratios)).mean(), rtol=1e-6)
    np.testing.assert_allclose(got["mismatch_max"], np.log(4), rtol=1e-6)
    np.testing.assert_allclose(got["ratio_max"], 2, rtol=1e-6)
    np.testing.assert_allclose(got["kl"], (1 / ratios + np.log(ratios) - 1).mean(), rtol=1e-5)
    np.testing.assert_allclose(got["clip_low"], 2 / 5, rtol=1e-6)
    assert "kl" not in run(logp, old, None, args[3], mask, "dapo")[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights(variant):
    mask = case()[-1]
    weight = np.asarray(rl_loss.loss_weights(jnp.asarray(mask), variant=variant, max_tokens=MAX_TOKENS))
    assert ((weight > 0) == mask).all()
    rows, full = mask.shape[0] * mask.shape[1], mask.any(-1).sum()
    want = {"grpo": full / rows, "gspo": full / rows, "dr_grpo": mask.sum() / (rows * MAX_TOKENS)}.get(variant, 1.0)
    np.testing.assert_allclose(weight.sum(), want, rtol=1e-6)


def test_refuses():
    logp, old, _, advantage, mask = case()
    with pytest.raises(ValueError, match="ref_logp_bgs"):
        run(logp, old, None, advantage, mask, "dapo", beta=0.1)
    with pytest.raises(ValueError, match="dual_clip"):
        run(logp, old, None, advantage, mask, "cispo", dual_clip=3.0)
    for too_low in (1.1, 1.28):
        with pytest.raises(ValueError, match=r"more than 1 \+ clip_high = 1.28, got 1"):
            run(logp, old, None, advantage, mask, "dapo", dual_clip=too_low)
    with pytest.raises(ValueError, match="got 'ppo'"):
        run(logp, old, None, advantage, mask, "ppo", weight=mask)
    with pytest.raises(ValueError, match="got 'ppo'"):
        rl_loss.loss_weights(jnp.asarray(mask), variant="ppo", max_tokens=3)
