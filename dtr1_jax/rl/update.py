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
from dtr1_jax.types import Prompt, Rollout, pytree


@pytree
class Minibatch:
    """What an optimizer step learns from.

    Attributes:
      prompt: of the B queries.
      rollout: their completions; its log-probabilities are those of the policy that sampled.
      advantage_bg: float32[B, G].
    """

    prompt: Prompt
    rollout: Rollout
    advantage_bg: Any


@pytree
class State:
    """What an optimizer step changes: the trainable weights and the optimizer's own state."""

    trainable: Any
    opt: Any


def weights(trainable: dict, frozen: dict) -> tuple[dict, dict | None]:
    """(weights, adapters or None) of the policy."""
    both = {**frozen, **trainable}
    return both["base"], both.get("lora")


@functools.partial(
    jax.jit,
    static_argnames=("spec", "tx", "knobs", "temperature", "micro", "mesh", "dtype"),
    donate_argnames=("state",),
)
def update(
    state: State, frozen: dict, batch: Minibatch, banned_v: jax.Array | None, *, spec: Spec,
    tx: optax.GradientTransformation, knobs: Grpo, temperature: float, micro: int = 0, mesh: Mesh | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> tuple[State, dict[str, jax.Array]]:  # fmt: skip
    """One step; a loss or gradient that is not finite changes nothing and is reported.

    Args:
      state: donated.
      frozen: weights that stay.
      banned_v: bool[V] or None, as in sampling.
      tx: from `optim.make`.
      knobs: variant, clipping, KL.
      temperature: of the sampling.
      micro: queries per gradient accumulation step, a divisor of B (and over a mesh a multiple of its shares); 0 = all.
      dtype: compute dtype.

    Returns:
      state, and metrics as float32 scalars: loss, grad_norm, skipped, tokens, and those of `loss.grpo_loss` per token.
    """
    rollout = batch.rollout
    mask_bgs = rollout.mask_bgs
    if knobs.mask_truncated:
        mask_bgs = mask_bgs & rollout.stopped_bg[..., None]
    weight_bgs = loss_lib.loss_weights(mask_bgs, variant=knobs.variant, max_tokens=mask_bgs.shape[-1])
    temper = functools.partial(sampling.temper, temperature=temperature, banned_v=banned_v)

    def score(base, lora, prompt):
        prefix = policy.prefill(base, lora, spec, prompt, dtype)
        return lambda token_bgs: policy.logprobs(base, lora, spec, prefix, token_bgs, temper=temper)

    def micro_loss(trainable, part):
        prompt, token, old, advantage, weight, mask = part
        base, lora = weights(trainable, frozen)
        logp = score(base, lora, prompt)(token)
        reference = None
        if knobs.beta:
            reference = jax.lax.stop_gradient(score(frozen.get("reference", base), None, prompt)(token))
        return loss_lib.grpo_loss(
            logp, old, reference, advantage, weight, mask, variant=knobs.variant, beta=knobs.beta,
            clip_low=knobs.clip_low, clip_high=knobs.clip_high, dual_clip=knobs.dual_clip,
        )  # fmt: skip

    parts = (batch.prompt, rollout.token_bgs, rollout.logp_bgs, batch.advantage_bg, weight_bgs, mask_bgs)
    value_and_grad = jax.value_and_grad(micro_loss, has_aux=True)
    count = batch.advantage_bg.shape[0] // micro if micro else 1
    if count == 1:
        (value, metrics), grads = value_and_grad(state.trainable, parts)
    else:

        def accumulate(total, part):
            out, grads = value_and_grad(state.trainable, mesh_lib.constrain(part, mesh))
            return jax.tree.map(jnp.add, total, (out[0], grads)), out[1]

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, state.trainable))
        (value, grads), metrics = jax.lax.scan(accumulate, zero, _split(parts, count))
    trainable, opt, info = optim.guarded_update(grads, value, state.opt, state.trainable, tx)
    metrics = loss_lib.reduce_metrics(metrics) | info | {"loss": value}
    return State(trainable, opt), jax.tree.map(lambda x: x.astype(jnp.float32), metrics)


def _split(tree, count):
    """[B, ...] -> [count, B / count, ...]; part i takes rows i, i + count, ..., so each device keeps the rows it has."""
    return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), tree)


def trim(rollout: Rollout, multiple: int = 32) -> Rollout:
    """Cuts the time that no completion uses, to a multiple, so that only a few shapes are ever compiled. Host side."""
    longest = int(jax.device_get(rollout.mask_bgs.sum(-1).max()))
    keep = min(rollout.token_bgs.shape[-1], max(1, -(-longest // multiple)) * multiple)
    return Rollout(
        rollout.token_bgs[..., :keep], rollout.mask_bgs[..., :keep], rollout.logp_bgs[..., :keep], rollout.stopped_bg
    )
