"""Importance sampling between the sampler and the scorer, which give one token slightly different probabilities.

The sampler reads a completion token by token from a cache; the scorer, which computes the update, reads it at once. In
exact arithmetic both have the same log-probabilities. In bfloat16 they differ: by up to 0.03 in the mean over tokens,
and much more at single tokens. The completions were drawn from the sampler, so the gradient of the scorer is biased.
The weight w = p_scorer / p_sampler of a token, or of a whole completion, removes the bias. A weight far from 1 has a
large variance, so it is truncated or left out.

With these weights the ratio of the policy loss compares the policy that learns with the *scorer* before the first
update. So clipping acts on the change of the policy alone, and not on the noise between sampler and scorer.

Sources: F. Yao et al., "Your efficient RL framework secretly brings you off-policy RL training", 2025 (truncated
importance sampling); masked importance sampling: Ling Team, arXiv:2510.18855. Formulas as in TRL 1.10.0.dev0 (commit
f2cd5771, trl/trainer/grpo_trainer.py, `vllm_importance_sampling_mode`, with our bounds as its clip_min and clip_max).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

Mode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
MODES: tuple[Mode, ...] = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
OFF = "off"  # the value of grpo.importance that leaves the weights out

_LARGEST_LOG_WEIGHT = 20.0  # exp of a much larger number overflows; a weight above exp(20) is beyond every bound


def importance_weights(
    scorer_bgs: jax.Array, sampler_bgs: jax.Array, mask_bgs: jax.Array, *, mode: Mode, low: float, high: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weight of each token's loss, float32[B, G, S] without gradient (0 where the mask is False), and metrics.

    A token mode takes w = exp(scorer - sampler) of each token; a sequence mode takes exp of the sum of these
    differences over the completion, for all its tokens. `..._truncate` clips w to [low, high]; `..._mask` sets w
    outside [low, high] to 0.

    Args:
      scorer_bgs: float[B, G, S], log-probabilities under the scorer before the first update.
      sampler_bgs: float[B, G, S], log-probabilities under the sampler.
      mask_bgs: bool[B, G, S], True at tokens that carry loss. Example row: [1 1 1 0 0].
      mode: one of MODES.
      low, high: the bounds of w; low = 0 is no lower bound.

    Returns:
      The weights, and float32[] metrics over the tokens that carry loss (0 if there are none): `mismatch` and
      `mismatch_max`, mean and maximum of |scorer - sampler|; `importance`, the mean weight; `importance_bounded`, the
      share of tokens whose w was outside [low, high].

    Raises:
      ValueError: unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    mask_bgs = mask_bgs.astype(bool)
    # A `where` on the inputs keeps NaN at padding out.
    scorer_bgs, sampler_bgs = (jnp.where(mask_bgs, x.astype(jnp.float32), 0.0) for x in (scorer_bgs, sampler_bgs))
    difference_bgs = scorer_bgs - sampler_bgs
    log_weight_bgs = difference_bgs
    if mode.startswith("sequence"):
        log_weight_bgs = jnp.broadcast_to(difference_bgs.sum(-1, keepdims=True), difference_bgs.shape)
    weight_bgs = jnp.exp(jnp.minimum(log_weight_bgs, _LARGEST_LOG_WEIGHT))
    outside_bgs = (weight_bgs < low) | (weight_bgs > high)
    weight_bgs = jnp.where(outside_bgs, 0.0, weight_bgs) if mode.endswith("mask") else jnp.clip(weight_bgs, low, high)
    weight_bgs = jax.lax.stop_gradient(jnp.where(mask_bgs, weight_bgs, 0.0))
    tokens = jnp.maximum(mask_bgs.sum(), 1)
    size_bgs = jnp.abs(difference_bgs)
    return weight_bgs, {
        "mismatch": size_bgs.sum() / tokens,
        "mismatch_max": size_bgs.max(),
        "importance": weight_bgs.sum() / tokens,
        "importance_bounded": jnp.sum(outside_bgs & mask_bgs) / tokens,
    }
