"""Rewards of a group become advantages: how much better a completion is than the others of its group.

A reward that is NaN, infinite, or so large that its square overflows (1e18 and more) is *unscored*: it stays out of the
mean and the standard deviation of its group, and its completion gets advantage 0. Nothing raises on the device.
"Deviation" is the standard deviation throughout.

Sources: GRPO, arXiv:2402.03300, equation 3, as in TRL 1.10.0.dev0 (commit f2cd5771, trl/trainer/grpo_trainer.py,
`_generate_and_score_completions`), which also drops unscored rewards and uses the unbiased deviation. For several
tasks: EMA-GRPO of OneThinker, arXiv:2512.03043 (`ema_advantages`).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from dtr1_jax.types import TASKS, pytree

LIMIT = 5.0  # a larger advantage by the moving deviation is replaced by one that the group's own deviation divides
_LARGEST = 1e18
_ROUNDINGS = 4  # sums of the same rewards in another order differ by up to this many roundings, which is no spread


@pytree
class Ema:
    """Moving averages over the rewards of each of the K tasks, in the order of types.TASKS.

    Attributes:
      weight_k: float32[K], total weight of the rewards so far: 1 - decay^n after n batches with that task.
      mean_k: float32[K], moving average of the reward.
      variance_k: float32[K], moving average of its square, less the square of mean_k.
    """

    weight_k: jax.Array
    mean_k: jax.Array
    variance_k: jax.Array


def advantages(reward_bg: jax.Array, *, scale: Literal["group", "batch", "none"], eps: float = 1e-4) -> jax.Array:
    """Advantage of each completion, float32[B, G].

    (reward - mean of the group) / (deviation + eps). The deviation is unbiased (divided by n - 1). It is taken over the
    group, over the whole batch (arXiv:2508.08221), or left out (Dr. GRPO, arXiv:2503.20783). A group without spread
    gets exactly 0, so its completions have no gradient but that of the KL.

    Args:
      reward_bg: float[B, G].
      scale: the rewards that the deviation is taken over; "none" leaves the division out.
      eps: keeps the division finite, in units of the reward.

    Raises:
      ValueError: unknown scale.
    """
    reward_bg, scored_bg = _scored(reward_bg)
    centred_bg, deviation_b1 = _moments(reward_bg, scored_bg, axis=1)
    if scale == "group":
        centred_bg = centred_bg / (deviation_b1 + eps)
    elif scale == "batch":
        centred_bg = centred_bg / (_moments(reward_bg, scored_bg, axis=(0, 1))[1] + eps)
    elif scale != "none":
        raise ValueError(f"scale: expected group, batch or none, got {scale!r}")
    return jnp.where(informative_b(reward_bg, scored_bg)[:, None], centred_bg, 0.0)


def initial_ema() -> Ema:
    """The averages before the first batch."""
    return Ema(*(jnp.zeros(len(TASKS), jnp.float32) for _ in range(3)))


def update_ema(ema: Ema, reward_bg: jax.Array, task_b: jax.Array, *, decay: float) -> Ema:
    """The averages after one more batch. Unscored rewards are left out; a task without rewards keeps its averages.

    With x and q the means of reward and reward^2 over all scored completions of the task in the batch, and m1, m2 = 0
    before the first: m1 <- decay m1 + (1 - decay) x, m2 <- decay m2 + (1 - decay) q, both divided by 1 - decay^n
    (Kingma and Ba, arXiv:1412.6980, section 3). They are stored as m1 and m2 - m1^2, which loses no digits where the
    rewards lie close together. With r = (1 - decay) / (1 - decay^n) and v = q - x^2, these are m1 + r (x - m1) and
    (1 - r) (m2 - m1^2 + r (x - m1)^2) + r v.

    Args:
      reward_bg: float[B, G].
      task_b: int32[B], place of each query's task in types.TASKS.
      ema: the averages before this batch.
      decay: in [0, 1); with 0 the averages are those of the last batch.
    """
    reward_bg, scored_bg = _scored(reward_bg)
    scored_kbg = (task_b == jnp.arange(len(TASKS))[:, None])[:, :, None] & scored_bg
    count_k = jnp.sum(scored_kbg, axis=(1, 2))
    share_kbg = scored_kbg / jnp.maximum(count_k, 1)[:, None, None]
    lowest_k = jnp.min(jnp.broadcast_to(reward_bg, scored_kbg.shape), axis=(1, 2), where=scored_kbg, initial=_LARGEST)
    # As in `_moments`: from the distances to the lowest reward, so that equal rewards have a variance of exactly 0.
    mean_k = lowest_k + jnp.sum(share_kbg * (reward_bg - lowest_k[:, None, None]), axis=(1, 2))
    variance_k = jnp.sum(share_kbg * jnp.square(reward_bg - mean_k[:, None, None]), axis=(1, 2))
    weight_k = decay * ema.weight_k + (1 - decay)
    rate_k, change_k = (1 - decay) / weight_k, mean_k - ema.mean_k
    averages = Ema(
        weight_k,
        ema.mean_k + rate_k * change_k,
        (1 - rate_k) * (ema.variance_k + rate_k * jnp.square(change_k)) + rate_k * variance_k,
    )
    return jax.tree.map(lambda new, old: jnp.where(count_k > 0, new, old), averages, ema)


def ema_advantages(
    reward_bg: jax.Array, task_b: jax.Array, ema: Ema, *, decay: float, eps: float = 1e-4
) -> tuple[jax.Array, Ema]:
    """(advantage of each completion, float32[B, G]; the averages after this batch).

    (reward - mean of the group) / (deviation of its task + eps). The deviation is sqrt(m2 - m1^2) of moving averages
    over the rewards of the task (`update_ema`). So a task whose rewards lie close together weighs as much as one whose
    rewards lie far apart. Within a task, a group with little spread weighs less than one with much spread; the group's
    own deviation would make them equal. A group without spread gets exactly 0.

    Source: EMA-GRPO of OneThinker, arXiv:2512.03043, and its code (github.com/tulerfeng/OneThinker, commit 768b20f3,
    EasyR1/verl/trainer/core_algos.py, `compute_ema_grpo_outcome_advantage`). As in that code, the averages include the
    batch that they divide; the deviation is over all completions of the task, not the mean over its groups; and a group
    that would get an advantage beyond LIMIT is divided by its own deviation, which happens when rewards that were all
    equal begin to differ. Unlike that code, we correct the bias of the first batches, where it treats the first batch
    as if it had always been there; we keep one average for each of types.TASKS, where it keeps two for segmentation,
    one for pictures and one for videos; and the deviation of a group is unbiased, as in `advantages`.

    Args:
      reward_bg: float[B, G].
      task_b: int32[B], place of each query's task in types.TASKS.
      ema: the averages before this batch.
      decay: of the averages, in [0, 1).
      eps: keeps the division finite, in units of the reward.
    """
    ema = update_ema(ema, reward_bg, task_b, decay=decay)
    reward_bg, scored_bg = _scored(reward_bg)
    centred_bg, deviation_b1 = _moments(reward_bg, scored_bg, axis=1)
    centred_bg = jnp.where(informative_b(reward_bg, scored_bg)[:, None], centred_bg, 0.0)
    advantage_bg = centred_bg / (jnp.sqrt(ema.variance_k)[task_b][:, None] + eps)
    beyond_b1 = jnp.max(jnp.abs(advantage_bg), axis=1, keepdims=True) > LIMIT
    return jnp.where(beyond_b1, centred_bg / (deviation_b1 + eps), advantage_bg), ema


def informative_b(reward_bg: jax.Array, scored_bg: jax.Array | None = None) -> jax.Array:
    """bool[B]: True at groups whose scored rewards differ by more than rounding, so that they have a gradient."""
    if scored_bg is None:
        reward_bg, scored_bg = _scored(reward_bg)
    highest_b = jnp.max(reward_bg, axis=1, where=scored_bg, initial=-jnp.inf)
    lowest_b = jnp.min(reward_bg, axis=1, where=scored_bg, initial=jnp.inf)
    size_b = jnp.maximum(jnp.abs(highest_b), jnp.abs(lowest_b))
    # Without a scored reward this compares -inf with inf, and is False.
    return highest_b - lowest_b > _ROUNDINGS * jnp.finfo(jnp.float32).eps * size_b


def _scored(reward_bg):
    """(rewards with 0 in place of the unscored ones, float32[B, G]; True at the scored ones, bool[B, G])."""
    reward_bg = jnp.asarray(reward_bg, jnp.float32)
    scored_bg = jnp.abs(reward_bg) < _LARGEST
    return jnp.where(scored_bg, reward_bg, 0.0), scored_bg


def _moments(reward_bg, scored_bg, axis):
    """(reward - mean, float32[B, G]; unbiased deviation, `axis` kept with size 1) of the scored rewards over `axis`.

    Both are 0 if there are none. They are computed from the distances to the lowest reward, so for equal rewards both
    are exactly 0: the plain float32 mean of eight times 0.9 is 0.90000004.
    """
    count = jnp.sum(scored_bg, axis=axis, keepdims=True)
    lowest = jnp.min(reward_bg, axis=axis, keepdims=True, where=scored_bg, initial=_LARGEST)
    distance_bg = jnp.where(scored_bg, reward_bg - lowest, 0.0)
    mean_distance = jnp.sum(distance_bg, axis=axis, keepdims=True) / jnp.maximum(count, 1)
    centred_bg = jnp.where(scored_bg, distance_bg - mean_distance, 0.0)
    squares = jnp.sum(jnp.square(centred_bg), axis=axis, keepdims=True)
    return centred_bg, jnp.sqrt(squares / jnp.maximum(count - 1, 1))
