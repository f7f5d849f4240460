"""The GRPO loss and its variants, as a weighted sum over tokens.

`loss_weights` reads the mask of a whole minibatch once; `grpo_loss` is then a plain sum of weight * loss of a token. So
a minibatch may be cut along B into micro-batches, or over devices, and the losses, gradients and metrics of the parts
add up to those of the whole.

A *generation batch* is all completions of one step; grpo.minibatches cuts it into minibatches, one for each optimizer
step of a pass.

Formulas are those of TRL 1.10.0.dev0 (commit f2cd5771, trl/trainer/grpo_trainer.py, `_compute_loss`), by our names:

    name      ratio of        token loss                            divided by                           paper
    grpo      a token         -min(r A, clip(r) A)                  tokens of the completion, then R     2402.03300
    dr_grpo   a token         same                                  R * max_tokens                       2503.20783
    dapo      a token         same, clip_high > clip_low            tokens of the generation batch       2503.14476
    gspo      a completion    same, r = exp(mean of log ratios)     as grpo                              2507.18071
    cispo     a token         -stop_gradient(min(r, cap)) A logp    as dapo                              2506.13585

R is the number of completions in the minibatch; tokens are those that carry loss. So the losses of dapo and cispo over
the minibatches of a pass add up to the loss of the generation batch (TRL's `num_items_in_batch`), and the length of the
other completions in a minibatch does not change the weight of a token. The other variants take means over rows, which
are as many in each minibatch. With importance sampling (rl/importance.py) each token loss is multiplied by a weight;
the KL is not.

Here clip(r) is r clipped to [1 - clip_low, 1 + clip_high], and cap = 1 + clip_high. So clip_high has one meaning in all
variants, whereas TRL's cispo takes the cap itself as epsilon_high. cispo has no lower bound and ignores clip_low, as in
TRL.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

Variant = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"]

# exp of a much larger log ratio overflows, and inf times an advantage of 0 is NaN. Such a ratio is clipped anyway.
_LARGEST_LOG_RATIO = 20.0


def loss_weights(
    mask_bgs: jax.Array, *, variant: Variant, max_tokens: int, batch_tokens: jax.Array | float | None = None
) -> jax.Array:
    """Weight of each token's loss, float32[B, G, S]; 0 if the mask is False.

    Completions without active tokens (such as truncated ones that the caller masked) still count in R = B*G, as in TRL.

    Args:
      mask_bgs: bool[B, G, S] of the *whole* minibatch, True at tokens that carry loss. Example row: [1 1 1 0 0].
      variant: see the table above.
      max_tokens: the most tokens that a completion may have, whatever its length; used by dr_grpo.
      batch_tokens: tokens that carry loss in the whole generation batch, over all processes, by which dapo and cispo
        divide; None = the minibatch is the generation batch.

    Raises:
      ValueError: unknown variant.
    """
    mask_bgs = mask_bgs.astype(jnp.float32)
    rows = mask_bgs.shape[0] * mask_bgs.shape[1]
    if variant in ("grpo", "gspo"):
        return mask_bgs / (rows * jnp.maximum(mask_bgs.sum(-1, keepdims=True), 1.0))
    if variant == "dr_grpo":
        return mask_bgs / (rows * max_tokens)
    if variant in ("dapo", "cispo"):
        return mask_bgs / jnp.maximum(mask_bgs.sum() if batch_tokens is None else batch_tokens, 1.0)
    raise ValueError(f"variant: expected grpo, dr_grpo, dapo, gspo or cispo, got {variant!r}")


# long because the docstring and the signature are more than half of it
def grpo_loss(
    logp_bgs: jax.Array, old_logp_bgs: jax.Array, ref_logp_bgs: jax.Array | None, advantage_bg: jax.Array,
    weight_bgs: jax.Array, mask_bgs: jax.Array, importance_bgs: jax.Array | None = None, *, variant: Variant,
    beta: float | jax.Array, clip_low: float, clip_high: float, dual_clip: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
    """Loss of a (micro-)batch, and metrics that add up over micro-batches.

    The loss is sum(weight * (importance * token loss + beta * kl)), kl = exp(ref - logp) - (ref - logp) - 1 (the k3
    estimator, never negative). Only `logp_bgs` gets a gradient. Values where the mask is False do not matter, not even
    NaN.

    Args:
      logp_bgs: float[B, G, S], log-probabilities under the policy that learns.
      old_logp_bgs: float[B, G, S], under the policy that sampled: the sampler's own, or those of the scorer before the
        first update if there are importance weights.
      ref_logp_bgs: float[B, G, S], under the reference policy, or None; with it, there is a metric `kl` even if beta
        is 0.
      advantage_bg: float[B, G].
      weight_bgs: float32[B, G, S], the rows of `loss_weights` that belong to this (micro-)batch.
      mask_bgs: bool[B, G, S], the same rows of the mask that `loss_weights` was called with.
      importance_bgs: float[B, G, S], weights from `importance.importance_weights`, or None for 1.
      variant: see the table above.
      beta: weight of the KL to the reference policy, one for all tokens or float[B, G, S].
      clip_low: the ratio is clipped below at 1 - clip_low.
      clip_high: the ratio is clipped above at 1 + clip_high.
      dual_clip: where A < 0, the token loss is at most dual_clip * |A| (arXiv:1912.09729, equation 5; equal to TRL's
        `delta`); 0 = off, else above 1 + clip_high, because a lower bound would cut off tokens that the ratio's own
        clip leaves in. Not for cispo, whose ratio is bounded already.

    Returns:
      The loss, float32[], and metrics for `reduce_metrics`, all float32[]. Sums over active tokens: `tokens`, their
      number; `clip_low`, `clip_high`, `clip_dual`, the number of tokens without gradient because of that bound (for
      cispo the number with A > 0 at the cap); `mismatch`, the sum of |logp - old|; `kl`, with a reference policy.
      Maxima over active tokens: `mismatch_max`, `ratio_max`. In the first pass over a rollout, `mismatch` compares
      sampler and scorer.

    Raises:
      ValueError: unknown variant, beta without reference, dual_clip with cispo, or dual_clip at or below 1 + clip_high.
    """
    _check_knobs(variant, beta, clip_high, dual_clip, reference=ref_logp_bgs is not None)
    mask_bgs = mask_bgs.astype(bool)
    logp_bgs = _active(logp_bgs, mask_bgs)
    log_ratio_bgs = logp_bgs - jax.lax.stop_gradient(_active(old_logp_bgs, mask_bgs))
    advantage_bg1 = jax.lax.stop_gradient(advantage_bg.astype(jnp.float32))[..., None]

    step_bgs = log_ratio_bgs
    if variant == "gspo":
        mean_bg1 = log_ratio_bgs.sum(-1, keepdims=True) / jnp.maximum(mask_bgs.sum(-1, keepdims=True), 1)
        step_bgs = jnp.broadcast_to(mean_bg1, log_ratio_bgs.shape)
    ratio_bgs = jnp.exp(jnp.minimum(step_bgs, _LARGEST_LOG_RATIO))

    loss_bgs, clipped = _token_loss(
        ratio_bgs, logp_bgs, advantage_bg1, variant=variant, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
    )
    if importance_bgs is not None:
        loss_bgs = loss_bgs * jax.lax.stop_gradient(_active(importance_bgs, mask_bgs))
    metrics = {name: jnp.sum(x_bgs & mask_bgs, dtype=jnp.float32) for name, x_bgs in clipped.items()}
    if ref_logp_bgs is not None:
        kl_bgs = k3(logp_bgs, jax.lax.stop_gradient(_active(ref_logp_bgs, mask_bgs)))
        metrics["kl"] = kl_bgs.sum()
        loss_bgs = loss_bgs + beta * kl_bgs

    mismatch_bgs = jnp.abs(log_ratio_bgs)
    metrics |= {
        "tokens": jnp.sum(mask_bgs, dtype=jnp.float32),
        "mismatch": mismatch_bgs.sum(),
        "mismatch_max": mismatch_bgs.max(),
        "ratio_max": jnp.where(mask_bgs, ratio_bgs, 0.0).max(),
    }
    return jnp.sum(weight_bgs * loss_bgs), jax.lax.stop_gradient(metrics)


def _check_knobs(variant, beta, clip_high, dual_clip, reference):
    """Raises ValueError for knobs that do not fit together; `reference` says whether there is a reference policy."""
    if variant not in ("grpo", "dr_grpo", "dapo", "gspo", "cispo"):
        raise ValueError(f"variant: expected grpo, dr_grpo, dapo, gspo or cispo, got {variant!r}")
    if not reference and not (isinstance(beta, (int, float)) and beta == 0):
        raise ValueError(f"beta = {beta} needs ref_logp_bgs, got None; pass it, or set beta to 0")
    if dual_clip and variant == "cispo":
        raise ValueError(f"dual_clip: expected 0 for cispo, which bounds every ratio by 1 + clip_high, got {dual_clip}")
    if dual_clip and dual_clip <= 1 + clip_high:
        raise ValueError(f"dual_clip: expected 0 or more than 1 + clip_high = {1 + clip_high:g}, got {dual_clip}")


def _token_loss(ratio_bgs, logp_bgs, advantage_bg1, *, variant, clip_low, clip_high, dual_clip):
    """(loss of each token without KL, name of a clip -> True at tokens without gradient because of it)."""
    good, bad = advantage_bg1 > 0, advantage_bg1 < 0
    clipped = {"clip_high": good & (ratio_bgs > 1 + clip_high)}
    if variant == "cispo":
        capped_bgs = jax.lax.stop_gradient(jnp.minimum(ratio_bgs, 1 + clip_high))
        loss_bgs = -capped_bgs * advantage_bg1 * logp_bgs
    else:
        clipped["clip_low"] = bad & (ratio_bgs < 1 - clip_low)
        inside_bgs = jnp.clip(ratio_bgs, 1 - clip_low, 1 + clip_high)
        loss_bgs = -jnp.minimum(ratio_bgs * advantage_bg1, inside_bgs * advantage_bg1)
        if dual_clip:
            clipped["clip_dual"] = bad & (ratio_bgs > dual_clip)
            loss_bgs = jnp.where(bad, jnp.minimum(loss_bgs, -dual_clip * advantage_bg1), loss_bgs)
    return loss_bgs, clipped


def k3(logp: jax.Array, ref_logp: jax.Array) -> jax.Array:
    """exp(ref - logp) - (ref - logp) - 1, elementwise: an unbiased, never negative estimate of KL(policy || reference).

    Source: J. Schulman, "Approximating KL divergence", 2020. The difference is capped at 20, so that exp stays finite.
    """
    difference = jnp.minimum(ref_logp - logp, _LARGEST_LOG_RATIO)
    # expm1 keeps the digits that exp(x) - x - 1 loses where policy and reference agree.
    return jnp.expm1(difference) - difference


def reduce_metrics(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Reduces the metrics of micro-batches, stacked on any leading axes, to one scalar each.

    `tokens` is a sum, names that end in `_max` are maxima, all others are means over the active tokens (0 if there
    are none).
    """
    tokens = metrics["tokens"].sum()

    def reduce(name, value):
        if name.endswith("_max"):
            return value.max()
        return tokens if name == "tokens" else value.sum() / jnp.maximum(tokens, 1.0)

    return {name: reduce(name, value) for name, value in metrics.items()}


def _active(value_bgs, mask_bgs):
    """float32, with 0 if the mask is False; a `where` on the input also keeps NaN there out of the gradient."""
    return jnp.where(mask_bgs, value_bgs.astype(jnp.float32), 0.0)
