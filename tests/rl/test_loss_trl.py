"""Values and gradients of the loss against TRL's formulas in torch, with autograd: cut into minibatches, with the
second bound, and with importance weights between sampler and scorer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax.rl import importance
from dtr1_jax.rl import loss as rl_loss

torch = pytest.importorskip("torch")

VARIANTS = ("grpo", "dr_grpo", "dapo", "gspo", "cispo")
CLIPPED = tuple(v for v in VARIANTS if v != "cispo")
B, G, S, MINIBATCHES, MAX_TOKENS = 6, 3, 5, 3, 7
OFF = {"mode": None, "low": None, "high": 3.0}
KNOBS = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 0.0}
# the third completion of the first query carries no loss; the minibatches have very different numbers of tokens
LENGTH = np.array([[5, 5, 0], [5, 4, 5], [1, 1, 2], [1, 2, 1], [3, 5, 1], [2, 4, 3]])


def case(seed):
    """Log-probabilities of learner, scorer, sampler and reference, advantages, mask; float64, off-policy enough to
    reach every bound."""
    rng = np.random.default_rng(seed)
    sampler = -rng.gamma(1.0, 1.0, (B, G, S))
    scorer = sampler + rng.normal(0, 0.7, sampler.shape)
    logp, ref = scorer + rng.normal(0, 0.6, sampler.shape), sampler + rng.normal(0, 0.6, sampler.shape)
    return logp, scorer, sampler, ref, rng.normal(size=(B, G)), np.arange(S) < LENGTH[..., None]


def trl(variant, part, logp, scorer, sampler, ref, advantage, mask, is_, beta, clip_low, clip_high, dual_clip):
    """Loss of one optimizer step, and its gradient, by TRL 1.10.0.dev0 (commit f2cd5771), trl/trainer/grpo_trainer.py.

    `part` are the rows of the minibatch; the other arrays are those of the generation batch, rows [B * G, S]. The
    settings there: loss_type = the variant; gspo is loss_type "grpo" with importance_sampling_level "sequence"; delta =
    dual_clip; epsilon_high of cispo is the cap; is_ are vllm_importance_sampling_mode, clip_min and clip_max.
    """
    num_items_in_batch = mask.sum()
    old = sampler if is_["mode"] is None else scorer
    logp, old, ref, advantage, mask, scorer, sampler = (
        torch.tensor(x[part]) for x in (logp, old, ref, advantage[:, None], mask, scorer, sampler)
    )
    logp.requires_grad_(True)
    weight = torch.ones_like(logp)
    if is_["mode"]:
        difference = (scorer - sampler) * mask
        if "sequence" in is_["mode"]:
            difference = difference.sum(-1, keepdim=True)
        weight = torch.exp(difference)
        if "truncate" in is_["mode"]:
            weight = torch.clamp(weight, min=is_["low"], max=is_["high"])
        else:
            low = float("-inf") if is_["low"] is None else is_["low"]
            weight = weight.masked_fill((weight < low) | (weight > is_["high"]), 0.0)
    log_weights = logp - old
    if variant == "gspo":
        log_weights = ((log_weights * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).unsqueeze(-1)
    ratio = torch.exp(log_weights)
    if variant == "cispo":
        token_loss = -torch.clamp(ratio, max=1 + clip_high).detach() * advantage * logp
    else:
        inside = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
        if dual_clip:
            ratio = torch.clamp(ratio, max=dual_clip)
        token_loss = -torch.min(ratio * advantage, inside * advantage)
    token_loss = token_loss * weight
    if beta:
        token_loss = token_loss + beta * (torch.exp(ref - logp) - (ref - logp) - 1)
    total = token_loss * mask
    if variant in ("grpo", "gspo"):
        loss = (total.sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    elif variant == "dr_grpo":
        loss = total.sum() / (len(logp) * MAX_TOKENS)
    else:
        loss = total.sum() / max(num_items_in_batch, 1.0)
    loss.backward()
    return loss.item(), logp.grad.numpy()


def ours(variant, part, logp, scorer, sampler, ref, advantage, mask, is_, **knobs):
    """(loss, gradient) of the queries `part`, with float32 arrays [B, G, S]."""
    batch_tokens, weight = mask.sum(), None
    logp, scorer, sampler, ref, advantage, mask = (
        jnp.asarray(x[part], bool if x.dtype == bool else jnp.float32)
        for x in (logp, scorer, sampler, ref, advantage, mask)
    )
    if is_["mode"]:
        weight, _ = importance.importance_weights(
            scorer, sampler, mask, mode=is_["mode"], low=is_["low"] or 0.0, high=is_["high"]
        )
    tokens = rl_loss.loss_weights(mask, variant=variant, max_tokens=MAX_TOKENS, batch_tokens=batch_tokens)
    old = sampler if is_["mode"] is None else scorer

    def loss(logp):
        return rl_loss.grpo_loss(logp, old, ref, advantage, tokens, mask, weight, variant=variant, **knobs)[0]

    value, grad = jax.value_and_grad(loss)(logp)
    return float(value), np.asarray(grad)


def agree(variant, is_=OFF, seeds=2, **changes):
    """Each minibatch of a generation batch has TRL's loss and gradient."""
    knobs, size = KNOBS | changes, B // MINIBATCHES
    for seed, k in itertools.product(range(seeds), range(MINIBATCHES)):
        arrays = case(seed)
        rows = [x.reshape(B * G, *x.shape[2:]) for x in arrays]
        want, want_grad = trl(variant, slice(k * size * G, (k + 1) * size * G), *rows, is_, **knobs)
        value, grad = ours(variant, slice(k * size, (k + 1) * size), *arrays, is_, **knobs)
        np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(grad.reshape(-1, S), np.nan_to_num(want_grad), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("knobs", [{}, {"beta": 0.3}, {"clip_low": 0.05, "clip_high": 0.6}])
def test_minibatches(variant, knobs):
    agree(variant, **knobs)


@pytest.mark.parametrize("variant", CLIPPED)
@pytest.mark.parametrize("dual_clip", [1.29, 1.5, 3.0])
def test_dual_clip(variant, dual_clip):
    agree(variant, dual_clip=dual_clip, beta=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", importance.MODES)
@pytest.mark.parametrize("low, high", [(None, 3.0), (0.5, 1.2)])
def test_importance(variant, mode, low, high):
    agree(variant, {"mode": mode, "low": low, "high": high}, beta=0.1, seeds=1)


def test_importance_with_dual_clip():
    for variant in CLIPPED:
        agree(variant, {"mode": "token_truncate", "low": None, "high": 2.0}, dual_clip=1.4, seeds=1)
