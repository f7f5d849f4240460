"""The optimizer steps on one batch of experience: rewards become advantages, and advantages better weights."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtr1_jax import mesh
from dtr1_jax.config import Config
from dtr1_jax.data import completions
from dtr1_jax.modes.experience import Experience
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.policies.state import EMA
from dtr1_jax.rl import accumulate, advantages, importance, scorer, update
from dtr1_jax.types import TASKS

# fold_in turns a step's key with this number into the key of the dropout; rollout i of the step has the number i.
DROPOUT = 2**31

_advantages = jax.jit(advantages.advantages, static_argnames=("scale",))
_importance_weights = jax.jit(importance.importance_weights, static_argnames=("mode", "low", "high"))


def learn(
    runtime: Runtime,
    state: update.State,
    frozen: dict,
    tx: optax.GradientTransformation,
    experience: Experience,
    key: jax.Array,
) -> tuple[update.State, Callable[[], dict[str, float]]]:
    """The grpo.epochs x grpo.minibatches optimizer steps on one batch of experience.

    The device has all its work when this returns.

    Args:
      state: donated to the first optimizer step; without the weights `behind`.
      frozen: the weights that are not trained.
      tx: the optimizer.
      key: the key of the whole step; the dropout masks of the adapters come from it.

    Returns:
      The new state, and a function that waits for the device and gives the `train/...` numbers: means over the
      optimizer steps, but the sum of `skipped` and the maximum of each `..._max`; with importance sampling also its
      numbers.
    """
    c, policy = runtime.config, runtime.policy
    advantage_bg, state, numbers = _advantages_of(c, runtime.mesh, experience, state)
    twin_bgs = None
    if c.grpo.beta and c.grpo.hold_twin != 1:
        twin_bgs = completions.twin_tokens(experience.rollout, policy.style.tokenizer)
    micro = accumulate.micro_batch(c.rollout, c.grpo, runtime.mesh)
    mask_bgs = update.loss_mask(experience.rollout, c.grpo.mask_truncated)
    batch_tokens = mesh.total_of_shares(runtime.mesh, int(mask_bgs.sum()))
    batch = update.Minibatch(experience.prompt, experience.rollout, advantage_bg, twin_bgs)
    if c.grpo.importance != importance.OFF:
        both = update.weights(state.trainable, frozen)
        batch, weight_numbers = _with_importance(runtime.with_weights(*both), batch, mask_bgs, micro)
        numbers |= weight_numbers
    key, metrics = jax.random.fold_in(key, DROPOUT), []
    for i, minibatch in enumerate(_minibatches(batch, c.grpo.minibatches) * c.grpo.epochs):
        state, step_metrics = update.update(
            state, frozen, mesh.put_batch(runtime.mesh, minibatch), jnp.asarray(policy.banned_v), spec=policy.spec,
            tx=tx, knobs=c.grpo, temperature=c.rollout.temperature, micro=micro, mesh=runtime.mesh,
            dtype=policy.dtype, max_tokens=c.rollout.new_tokens,
            batch_tokens=jnp.float32(batch_tokens),
            key=jax.random.fold_in(key, i) if c.lora.dropout else None,
        )  # fmt: skip
        metrics.append(step_metrics)
    return state, lambda: _over_steps(jax.device_get(metrics)) | numbers


def _with_importance(
    runtime: Runtime, batch: update.Minibatch, mask_bgs: np.ndarray, micro: int
) -> tuple[update.Minibatch, dict[str, float]]:
    """The batch with importance weights and with the log-probabilities of the scorer, and `train/...` numbers.

    The scorer reads the completions once, before the first update; all epochs and minibatches use the result.

    Args:
      runtime: with the weights before the first update; those that sampled the batch may be older (rollout.ahead).
      batch: rows of this process, with the log-probabilities of the sampler.
      mask_bgs: bool[B, G, S], True at tokens that carry loss.
      micro: queries that are scored at once, over all devices; 0 = all.
    """
    c, policy, rollout = runtime.config, runtime.policy, batch.rollout
    prompt, token_bgs, sampled_bgs, sampler_bgs, loss_bgs = mesh.put_batch(
        runtime.mesh, (batch.prompt, rollout.token_bgs, rollout.mask_bgs, rollout.logp_bgs, mask_bgs)
    )
    scorer_bgs = scorer.score(
        runtime.params, runtime.lora, prompt, token_bgs, sampled_bgs, jnp.asarray(policy.banned_v), spec=policy.spec,
        temperature=c.rollout.temperature, micro=micro, micro_group=c.grpo.micro_group, mesh=runtime.mesh,
        dtype=policy.dtype,
    )  # fmt: skip
    weight_bgs, metrics = _importance_weights(
        scorer_bgs, sampler_bgs, loss_bgs, mode=c.grpo.importance, low=c.grpo.importance_low,
        high=c.grpo.importance_high,
    )  # fmt: skip
    scorer_bgs, weight_bgs = mesh.local((scorer_bgs, weight_bgs))
    batch = dataclasses.replace(
        batch, rollout=dataclasses.replace(rollout, logp_bgs=scorer_bgs), importance_bgs=weight_bgs
    )
    return batch, {f"train/{name}": float(value) for name, value in jax.device_get(metrics).items()}


def _advantages_of(
    c: Config, device_mesh: jax.sharding.Mesh, experience: Experience, state: update.State
) -> tuple[np.ndarray, update.State, dict[str, float]]:
    """(float32[B, G] advantages of this process' rows, the state with new averages, `train/ema_std/...` numbers)."""
    reward_bg = mesh.put_batch(device_mesh, experience.rewards.total_bg)
    if c.grpo.advantage != EMA:
        return mesh.local(_advantages(reward_bg, scale=c.grpo.advantage)), state, {}
    task_b = np.array([TASKS.index(query.task) for query in experience.asked], np.int32)
    advantage_bg, ema = ema_advantages(
        reward_bg, mesh.put_batch(device_mesh, task_b), state.ema, decay=c.grpo.ema_decay,
        place=mesh.replicated(device_mesh),
    )  # fmt: skip
    return mesh.local(advantage_bg), update.State(state.trainable, state.opt, ema), describe_ema(ema)


@functools.partial(jax.jit, static_argnames=("decay", "place"))
def ema_advantages(
    reward_bg: jax.Array, task_b: jax.Array, ema: advantages.Ema, *, decay: float, place: jax.sharding.NamedSharding
) -> tuple[jax.Array, advantages.Ema]:
    """rl/advantages.ema_advantages of the whole batch, computed by each device in the same order.

    So the averages are the same bit for bit on every mesh. `place` is the sharding that replicates an array.
    """
    reward_bg, task_b = jax.lax.with_sharding_constraint((reward_bg, task_b), place)
    result = advantages.ema_advantages(reward_bg, task_b, ema, decay=decay)
    return jax.lax.with_sharding_constraint(result, place)


def describe_ema(ema: advantages.Ema) -> dict[str, float]:
    """`train/ema_std/<task>`: the deviation that divides the advantages of each task that has had a query."""
    weight_k, variance_k = np.asarray(ema.weight_k), np.asarray(ema.variance_k)
    return {f"train/ema_std/{task}": float(v) ** 0.5 for task, w, v in zip(TASKS, weight_k, variance_k) if w > 0}


def _minibatches(batch: update.Minibatch, count: int) -> list[update.Minibatch]:
    """The batch cut into `count` equal parts along the queries: part i has the rows i, i + count, i + 2 * count, ...

    So the minibatches of a run do not depend on how many processes share its rows.
    """
    return [jax.tree.map(lambda x, i=i: x[i::count], batch) for i in range(count)]


def _over_steps(metrics: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Combines the `train/...` numbers of several optimizer steps. `mismatch` and `mismatch_max` compare sampler and
    scorer; they are those of the first step, because later steps score with changed weights.
    """
    numbers = {}
    for name in metrics[0]:
        reduce = np.sum if name == "skipped" else np.max if name.endswith("_max") else np.mean
        numbers[f"train/{name}"] = float(reduce([m[name] for m in metrics]))
    return numbers | {f"train/{name}": float(metrics[0][name]) for name in ("mismatch", "mismatch_max")}
