"""Rewards of a group become advantages: how much better a completion is than its siblings.

A reward that is NaN, infinite, or so large that its square overflows (1e18 and more) is *unscored*: it stays out of the
mean and the deviation of its group, and its completion gets advantage 0. Nothing raises on the device.

Source: GRPO, arXiv:2402.03300, equation 3, as in TRL 1.10.0.dev0 (commit f2cd5771, trl/trainer/grpo_trainer.py,
`_generate_and_score_completions`), which also drops unscored rewards and uses the unbiased deviation.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

_LARGEST = 1e18
# Equal rewards that were summed in another order differ by a few roundings; that is no spread.
_ROUNDINGS = 4


def advantages(reward_bg: jax.Array, *, scale: Literal["group", "batch", "none"], eps: float = 1e-4) -> jax.Array:
    """Advantage of each completion, float32[B, G].

    (reward - mean of the group) / (deviation + eps), where the deviation is unbiased (divided by n - 1) and is that of
    the group, of the whole batch (arXiv:2508.08221), or left out (Dr. GRPO, arXiv:2503.20783). The mean is always that
    of the group. A group without spread gets exactly 0, so its completions carry no gradient but that of the KL.

    Args:
      reward_bg: float[B, G].
      scale: whose deviation divides.
      eps: keeps the division finite, in units of the reward.

    Raises:
      ValueError: unknown scale.
    """
    reward_bg, scored_bg = _scored(reward_bg)
    mean_b1, deviation_b1 = _moments(reward_bg, scored_bg, axis=1)
    centred_bg = reward_bg - mean_b1
    if scale == "group":
        centred_bg = centred_bg / (deviation_b1 + eps)
    elif scale == "batch":
        centred_bg = centred_bg / (_moments(reward_bg, scored_bg, axis=(0, 1))[1] + eps)
    elif scale != "none":
        raise ValueError(f"scale: expected group, batch or none, got {scale!r}")
    return jnp.where(scored_bg & informative_b(reward_bg, scored_bg)[:, None], centred_bg, 0.0)


def spread_b(reward_bg: jax.Array) -> jax.Array:
    """Unbiased standard deviation of the rewards of each group, float32[B]; 0 where fewer than two are scored."""
    return _moments(*_scored(reward_bg), axis=1)[1][:, 0]


def informative_b(reward_bg: jax.Array, scored_bg: jax.Array | None = None) -> jax.Array:
    """Which groups teach something, bool[B]: those whose scored rewards differ by more than rounding."""
    if scored_bg is None:
        reward_bg, scored_bg = _scored(reward_bg)
    highest_b = jnp.max(reward_bg, axis=1, where=scored_bg, initial=-jnp.inf)
    lowest_b = jnp.min(reward_bg, axis=1, where=scored_bg, initial=jnp.inf)
    size_b = jnp.maximum(jnp.abs(highest_b), jnp.abs(lowest_b))
    # Without a scored reward this compares -inf with inf, and is False.
    return highest_b - lowest_b > _ROUNDINGS * jnp.finfo(jnp.float32).eps * size_b


def _scored(reward_bg):
    """The rewards with 0 in place of the unscored ones, and which are scored."""
    reward_bg = jnp.asarray(reward_bg, jnp.float32)
    scored_bg = jnp.abs(reward_bg) < _LARGEST
    return jnp.where(scored_bg, reward_bg, 0.0), scored_bg


def _moments(reward_bg, scored_bg, axis):
    """Mean and unbiased deviation of the scored rewards over `axis` (kept, with size 1); 0 where there are none."""
    count = jnp.sum(scored_bg, axis=axis, keepdims=True)
    mean = jnp.sum(reward_bg, axis=axis, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.square(reward_bg - mean), axis=axis, keepdims=True, where=scored_bg)
    return mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1))
