"""One optimizer step of GRPO on a minibatch of scored completions.

Weights live in two dicts that are read as one, {**frozen, **trainable}: "base" are the policy's weights, "lora" its
adapters, "reference" a copy of the weights as they were. Full training has {"base"} in trainable (and {"reference"} in
frozen if the KL to it is wanted); LoRA has {"lora"} in trainable and {"base"} in frozen, and needs no copy, because the
policy without its adapters is the reference.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from dtr1_jax import mesh as mesh_lib
from dtr1_jax.config import Grpo
from dtr1_jax.models import policy
from dtr1_jax.models.policy import Spec
from dtr1_jax.rl import loss as loss_lib
from dtr1_jax.rl import optim, sampling
from dtr1_jax.rl.advantages import Ema
from dtr1_jax.types import Prompt, Rollout, pytree

STRETCHES, MULTIPLE = 8, 32  # see stretches


@pytree
class Minibatch:
    """What an optimizer step learns from.

    Attributes:
      prompt: of the B queries.
      rollout: their completions; its log-probabilities are those of the policy that sampled.
      advantage_bg: float32[B, G].
      twin_bgs: bool[B, G, S], tokens of the twin, at which the weight of the KL is knobs.hold_twin times that of the
        others; None where all have the same.
    """

    prompt: Prompt
    rollout: Rollout
    advantage_bg: Any
    twin_bgs: Any = None


@pytree
class State:
    """What a checkpoint holds: the trainable weights, the optimizer's own state, and what the rewards of each task were
    of late (None where the advantage does not ask; an optimizer step leaves it as it is)."""

    trainable: Any
    opt: Any
    ema: Ema | None = None


def weights(trainable: dict, frozen: dict) -> tuple[dict, dict | None]:
    """(weights, adapters or None) of the policy."""
    both = {**frozen, **trainable}
    return both["base"], both.get("lora")


@functools.partial(
    jax.jit,
    static_argnames=("spec", "tx", "knobs", "temperature", "micro", "mesh", "dtype", "max_tokens"),
    donate_argnames=("state",),
)
def update(
    state: State, frozen: dict, batch: Minibatch, banned_v: jax.Array | None, *, spec: Spec,
    tx: optax.GradientTransformation, knobs: Grpo, temperature: float, micro: int = 0, mesh: Mesh | None = None,
    dtype: jnp.dtype = jnp.float32, max_tokens: int = 0, key: jax.Array | None = None,
) -> tuple[State, dict[str, jax.Array]]:  # fmt: skip
    """One step; a loss or gradient that is not finite changes nothing and is reported.

    Args:
      state: donated.
      frozen: weights that stay.
      banned_v: bool[V] or None, as in sampling.
      tx: from `optim.make`.
      knobs: variant, clipping, KL, and `micro_group`: completions of each query at a time, at most; 0 = all.
      temperature: of the sampling.
      micro: queries per gradient accumulation step, a divisor of B (and over a mesh a multiple of its shares); 0 = all.
      mesh: over which the arrays are cut, or None.
      dtype: compute dtype.
      max_tokens: the most tokens a completion may have, by which dr_grpo divides; 0 = S.
      key: of the dropout of the adapters (spec.lora_dropout); None = none. The completions of a query in one part share
        the masks over their prompt.

    Returns:
      state, and metrics as float32 scalars: loss, grad_norm, skipped, tokens, and those of `loss.grpo_loss` per token.
    """
    rollout = batch.rollout
    mask_bgs = rollout.mask_bgs
    if knobs.mask_truncated:
        mask_bgs = mask_bgs & rollout.stopped_bg[..., None]
    weight_bgs = loss_lib.loss_weights(mask_bgs, variant=knobs.variant, max_tokens=max_tokens or mask_bgs.shape[-1])
    temper = functools.partial(sampling.temper, temperature=temperature, banned_v=banned_v)

    def score(base, lora, prefix, token_bgs, key=None):
        return policy.logprobs(base, lora, spec, prefix, token_bgs, temper=temper, key=key)

    def accumulate(total, part):
        """Adds loss and gradient of some queries: prompts once forward, groups in parts, prompts once back."""
        part, key = part
        prompt, rows = mesh_lib.constrain(part, mesh)
        k_prompt, k_rows = (None, None) if key is None else jax.random.split(key)

        def read(trainable):
            prefix = policy.prefill(*weights(trainable, frozen), spec, prompt, dtype, key=k_prompt)
            return (prefix.kv, prefix.last_bd), prefix

        state_of_prompt, backward, prefix = jax.vjp(read, state.trainable, has_aux=True)
        if knobs.beta:
            reference = frozen.get("reference", weights(state.trainable, frozen)[0])
            reference_prefix = policy.prefill(reference, None, spec, prompt, dtype)

        def loss(trainable, state_of_prompt, rows, key):
            token, old, advantage, beta, weight, mask = rows
            kv, last_bd = state_of_prompt
            logp = score(*weights(trainable, frozen), prefix._replace(kv=kv, last_bd=last_bd), token, key)
            reference_logp = score(reference, None, reference_prefix, token) if knobs.beta else None
            return loss_lib.grpo_loss(
                logp, old, reference_logp, advantage, weight, mask, variant=knobs.variant,
                beta=beta if knobs.beta else 0.0,
                clip_low=knobs.clip_low, clip_high=knobs.clip_high, dual_clip=knobs.dual_clip,
            )  # fmt: skip

        def branch(total, part):
            rows, key = part

            def gradient(rows):
                found = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
                return found(state.trainable, state_of_prompt, mesh_lib.constrain(rows, mesh), key)

            (value, metrics), grads = _over_time_needed(gradient, rows)
            return jax.tree.map(jnp.add, total, (value, *grads)), metrics

        value, grads = total
        zero = jax.tree.map(jnp.zeros_like, state_of_prompt)
        count = _parts(rollout.token_bgs.shape[1], knobs.micro_group)
        rows = _by_length(rows, count)
        (value, grads, cotangent), metrics = _scan(branch, (value, grads, zero), rows, count, axis=1, key=k_rows)
        return (value, jax.tree.map(jnp.add, grads, backward(cotangent)[0])), metrics

    beta_bgs = jnp.full(mask_bgs.shape, knobs.beta, jnp.float32)
    if batch.twin_bgs is not None:
        beta_bgs = jnp.where(batch.twin_bgs, knobs.hold_twin * beta_bgs, beta_bgs)
    parts = batch.prompt, (rollout.token_bgs, rollout.logp_bgs, batch.advantage_bg, beta_bgs, weight_bgs, mask_bgs)
    zero = jnp.float32(0), jax.tree.map(jnp.zeros_like, state.trainable)
    count = batch.advantage_bg.shape[0] // micro if micro else 1
    (value, grads), metrics = _scan(accumulate, zero, parts, count, axis=0, key=key)
    trainable, opt, info = optim.guarded_update(grads, value, state.opt, state.trainable, tx)
    metrics = loss_lib.reduce_metrics(metrics) | info | {"loss": value}
    state = State(trainable, opt, state.ema)
    if mesh is not None:  # else the compiler cuts as it likes, and the next step is compiled anew for what it liked
        state = jax.lax.with_sharding_constraint(state, mesh_lib.shardings(mesh, state))
    return state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)


def _parts(size, most):
    """The fewest equal parts of `size` that are no larger than `most`; 0 = no limit."""
    return next(n for n in range(1, size + 1) if size % n == 0 and (not most or size // n <= most))


def _scan(function, carry, tree, count, axis, key):
    """lax.scan of `function` over `count` parts of `tree` along `axis`, each with a key of its own (None without
    `key`); a call where there is but one."""
    if count == 1:
        return function(carry, (tree, key))
    keys = None if key is None else jax.random.split(key, count)
    return jax.lax.scan(function, carry, (jax.tree.map(lambda x: _split(x, count, axis), tree), keys))


def _split(x, count, axis):
    """[.., n, ..] -> [count, .., n / count, ..]; part i takes i, i + count, ..., so each device keeps its own rows."""
    return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, count, *x.shape[axis + 1 :]), axis + 1, 0)


def _by_length(rows, count):
    """The completions of each query in another order, so that `_split` into `count` parts along axis 1 puts those of
    like length together, the longest first.

    Args:
      rows: arrays [B, G, S] or [B, G], of which the last is the mask bool[B, G, S].
    """
    order_bg = jnp.argsort(-_length(rows[-1]), axis=1)
    order_bg = order_bg.reshape(len(order_bg), count, -1).swapaxes(1, 2).reshape(order_bg.shape)
    return tuple(jnp.take_along_axis(x, order_bg.reshape(*order_bg.shape, *(1,) * (x.ndim - 2)), 1) for x in rows)


def _over_time_needed(function, rows):
    """`function(rows)`, computed over the first of `stretches` that holds all tokens that count; what is behind them
    may change nothing in what it gives, and the shapes of that may not depend on the time.

    All stretches are in one program, so that any mixture of lengths costs little more than the tokens there are. (As a
    branch: a loop for each stretch costs a copy of the gradient.)
    """
    mask_bgs = rows[-1]
    times = stretches(mask_bgs.shape[-1])

    def over(time):
        return lambda rows: function(tuple(x[..., :time] if x.ndim == mask_bgs.ndim else x for x in rows))

    too_short = _length(mask_bgs).max() > jnp.array(times[:-1], int)
    return jax.lax.switch(too_short.sum(), [over(time) for time in times], rows)


def _length(mask_bgs):
    """int[B, G] tokens up to the last that counts."""
    return (mask_bgs * jnp.arange(1, mask_bgs.shape[-1] + 1)).max(-1)


def stretches(time: int) -> list[int]:
    """Rising numbers of tokens over which completions of up to `time` are computed: at most STRETCHES in equal steps of
    a multiple of MULTIPLE, from a quarter of the time on, as each is a program to compile."""
    step = -(-time // (STRETCHES * MULTIPLE)) * MULTIPLE
    return [t for t in range(step, time, step) if 4 * t >= time] + [time]
