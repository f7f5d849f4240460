"""Rewards of a group become advantages: how much better a completion is than its siblings.

A reward that is NaN, infinite, or so large that its square overflows (1e18 and more) is *unscored*: it stays out of the
mean and the deviation of its group, and its completion gets advantage 0. Nothing raises on the device.

Sources: GRPO, arXiv:2402.03300, equation 3, as in TRL 1.10.0.dev0 (commit f2cd5771, trl/trainer/grpo_trainer.py,
`_generate_and_score_completions`), which also drops unscored rewards and uses the unbiased deviation. For several
tasks: EMA-GRPO of OneThinker, arXiv:2512.03043 (`ema_advantages`).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from dtr1_jax.types import TASKS, pytree

LIMIT = 5.0  # the largest advantage that the moving deviation may make, before that of the group takes its place
_LARGEST = 1e18
# Equal rewards that were summed in another order differ by a few roundings; that is no spread.
_ROUNDINGS = 4


@pytree
class Ema:
    """What the rewards of each task were of late, in the order of types.TASKS, K of them.

    Attributes:
      weight_k: float32[K], of all that was seen: 1 - decay^n after n batches with that task; 0 = never seen.
      mean_k: float32[K], moving average of the reward.
      variance_k: float32[K], moving average of its square, less the square of mean_k.
    """

    weight_k: jax.Array
    mean_k: jax.Array
    variance_k: jax.Array


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


def unseen() -> Ema:
    """The averages before the first batch."""
    return Ema(*(jnp.zeros(len(TASKS), jnp.float32) for _ in range(3)))


def seen(ema: Ema, reward_bg: jax.Array, task_b: jax.Array, *, decay: float) -> Ema:
    """The averages after one more batch. Unscored rewards are left out; a task without any stays as it was.

    With x and q the means of reward and reward^2 over all scored completions of the task in the batch, and m1, m2 = 0
    before the first: m1 <- decay m1 + (1 - decay) x, m2 <- decay m2 + (1 - decay) q, both divided by 1 - decay^n
    (Kingma and Ba, arXiv:1412.6980, section 3). Held as m1 and m2 - m1^2, which is the same and loses no digits where
    the rewards lie close together: with r = (1 - decay) / (1 - decay^n) and v = q - x^2, these are m1 + r (x - m1) and
    (1 - r) (m2 - m1^2 + r (x - m1)^2) + r v.

    Args:
      reward_bg: float[B, G].
      task_b: int32[B], place of each query's task in types.TASKS.
      decay: in [0, 1); 0 keeps the last batch alone.
    """
    reward_bg, scored_bg = _scored(reward_bg)
    of_kbg = (task_b == jnp.arange(len(TASKS))[:, None])[:, :, None] & scored_bg
    count_k = jnp.sum(of_kbg, axis=(1, 2))
    share_kbg = of_kbg / jnp.maximum(count_k, 1)[:, None, None]
    mean_k = jnp.sum(share_kbg * reward_bg, axis=(1, 2))
    variance_k = jnp.sum(share_kbg * jnp.square(reward_bg - mean_k[:, None, None]), axis=(1, 2))
    weight_k = decay * ema.weight_k + (1 - decay)
    rate_k, apart_k = (1 - decay) / weight_k, mean_k - ema.mean_k
    now = Ema(
        weight_k,
        ema.mean_k + rate_k * apart_k,
        (1 - rate_k) * (ema.variance_k + rate_k * jnp.square(apart_k)) + rate_k * variance_k,
    )
    return jax.tree.map(lambda new, old: jnp.where(count_k > 0, new, old), now, ema)


def ema_advantages(
    reward_bg: jax.Array, task_b: jax.Array, ema: Ema, *, decay: float, eps: float = 1e-4
) -> tuple[jax.Array, Ema]:
    """(advantage of each completion, float32[B, G]; the averages with this batch).

    (reward - mean of the group) / (deviation of its task + eps), where the deviation is sqrt(m2 - m1^2) of moving
    averages over the rewards of the task (`seen`). So a task whose rewards lie close together weighs as much as one
    whose rewards lie far apart, and within a task a group with little spread weighs less than one with much, where
    the deviation of the group would make them equal. A group without spread gets exactly 0.

    Source: EMA-GRPO of OneThinker, arXiv:2512.03043, and its code (github.com/tulerfeng/OneThinker, commit 768b20f3,
    EasyR1/verl/trainer/core_algos.py, `compute_ema_grpo_outcome_advantage`). From the code: the averages take in a
    batch before they divide it; the deviation is over all completions of the task, not the mean of the groups'; and
    where a group would get an advantage beyond LIMIT, which happens when rewards that were all the same begin to
    differ, its own deviation divides it. What we chose: bias correction, where the code begins with the first batch
    as if it had been there for ever; one average for each of types.TASKS, where the code has two for segmentation,
    of pictures and videos; and the deviation of the group is unbiased, as in `advantages`.

    Args:
      reward_bg: float[B, G].
      task_b: int32[B], place of each query's task in types.TASKS.
      ema: the averages before this batch.
      decay: of the averages, in [0, 1).
      eps: keeps the division finite, in units of the reward.
    """
    ema = seen(ema, reward_bg, task_b, decay=decay)
    reward_bg, scored_bg = _scored(reward_bg)
    mean_b1, deviation_b1 = _moments(reward_bg, scored_bg, axis=1)
    centred_bg = jnp.where(scored_bg & informative_b(reward_bg, scored_bg)[:, None], reward_bg - mean_b1, 0.0)
    advantage_bg = centred_bg / (jnp.sqrt(ema.variance_k)[task_b][:, None] + eps)
    beyond_b1 = jnp.max(jnp.abs(advantage_bg), axis=1, keepdims=True) > LIMIT
    return jnp.where(beyond_b1, centred_bg / (deviation_b1 + eps), advantage_bg), ema


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
