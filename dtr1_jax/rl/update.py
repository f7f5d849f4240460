"""One optimizer step of GRPO on a minibatch of scored completions.

Weights live in two dicts, `trainable` and `frozen`. Together they have "base", the weights of the policy, and may have
"lora", its adapters, and "reference", a copy of its initial weights. Full training has "base" in trainable, and
"reference" in frozen if the loss has a KL. LoRA has "lora" in trainable and "base" in frozen; it needs no copy, because
the policy without its adapters is the reference policy.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from dtr1_jax import layout
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.config import Grpo
from dtr1_jax.models import policy
from dtr1_jax.models.policy import Spec
from dtr1_jax.rl import loss as loss_lib
from dtr1_jax.rl import optim, sampling
from dtr1_jax.rl.accumulate import micro_group, scan_parts
from dtr1_jax.rl.advantages import Ema
from dtr1_jax.rl.stretches import over_shortest_stretch, sort_by_length
from dtr1_jax.types import Prompt, Rollout, pytree


@pytree
class Minibatch:
    """Scored completions, from which one optimizer step learns.

    Attributes:
      prompt: the prompts of B queries.
      rollout: their completions; its log-probabilities are those of the policy before the first update: the sampler's,
        or with `importance_bgs` the scorer's.
      advantage_bg: float32[B, G].
      twin_bgs: bool[B, G, S], True at the tokens of the twin. There the KL weighs beta * hold_twin, elsewhere beta.
        None = it weighs beta everywhere.
      importance_bgs: float32[B, G, S], weights between sampler and scorer (rl/importance.py); None = 1.
    """

    prompt: Prompt
    rollout: Rollout
    advantage_bg: Any
    twin_bgs: Any = None
    importance_bgs: Any = None


@pytree
class State:
    """The part of the training state that a checkpoint holds.

    Attributes:
      trainable: the trainable weights.
      opt: the optimizer's own state.
      ema: moving averages of the rewards of each task; None if grpo.advantage does not use them. `update` passes
        them through.
      behind: with rollout.ahead, the trainable weights before the last step, which sampled the completions of the next
        one; None = not kept. `update` does not take them.
    """

    trainable: Any
    opt: Any
    ema: Ema | None = None
    behind: Any = None


@pytree
class _Completions:
    """Completions as arrays for the loss; the fields are arguments of `loss.grpo_loss`."""

    token_bgs: jax.Array
    old_logp_bgs: jax.Array
    advantage_bg: jax.Array
    beta_bgs: jax.Array
    weight_bgs: jax.Array
    mask_bgs: jax.Array
    importance_bgs: jax.Array | None


def weights(trainable: dict, frozen: dict) -> tuple[dict, dict | None]:
    """(weights of the policy, its adapters or None), taken from the two dicts."""
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
    dtype: jnp.dtype = jnp.float32, max_tokens: int = 0, batch_tokens: jax.Array | None = None,
    key: jax.Array | None = None,
) -> tuple[State, dict[str, jax.Array]]:  # fmt: skip
    """One optimizer step on a minibatch; where the loss or a gradient is not finite, the state does not change.

    Args:
      state: donated.
      frozen: weights that are not trained.
      batch: the minibatch.
      banned_v: bool[V] or None, as in `sampling.sample`.
      spec: sizes of the policy.
      tx: from `optim.optimizer`.
      knobs: variant, clipping, KL, and `micro_group`, the most completions of each query in a micro-group; 0 = all.
      temperature: that of the sampling.
      micro: queries of a micro-batch, a divisor of B (and over a mesh a multiple of its shares); 0 = all.
      mesh: the mesh over which the arrays are cut, or None.
      dtype: compute dtype.
      max_tokens: the most tokens that a completion may have, by which dr_grpo divides; 0 = S.
      batch_tokens: float32[], tokens that carry loss in the generation batch, by which dapo and cispo divide; None =
        those of the minibatch.
      key: for the dropout of the adapters (spec.lora_dropout); None = no dropout. The completions of a query in one
        micro-batch share the dropout masks over their prompt.

    Returns:
      The new state, and metrics as float32 scalars: loss, grad_norm, skipped (1 where the state did not change),
      tokens, and the metrics of `loss.grpo_loss`, reduced over the minibatch.
    """
    completions = _completions(batch, knobs, max_tokens, batch_tokens)
    temper = functools.partial(sampling.temper, temperature=temperature, banned_v=banned_v)
    count = batch.advantage_bg.shape[0] // micro if micro else 1
    with layout.use(mesh):
        # Each batch shard has adapters of its own in all parts, so their gradients are summed over the shards once.
        used, join = jax.vjp(functools.partial(_used, spec=spec), state.trainable)
        add_micro_batch = functools.partial(
            _add_micro_batch, trainable=used, frozen=frozen, spec=spec, knobs=knobs, dtype=dtype, temper=temper
        )
        zero = jnp.float32(0), _placed(jax.tree.map(jnp.zeros_like, used), spec, mesh)
        (loss, grads), metrics = scan_parts(add_micro_batch, zero, (batch.prompt, completions), count, axis=0, key=key)
        grads = join(grads)[0]

    trainable, opt, info = optim.guarded_update(grads, loss, state.opt, state.trainable, tx)
    metrics = loss_lib.reduce_metrics(metrics) | info | {"loss": loss}
    state = State(trainable, opt, state.ema)
    if mesh is not None:
        # Otherwise the compiler chooses the output shardings itself, and the next step recompiles where they differ
        # from the input shardings.
        state = jax.lax.with_sharding_constraint(state, mesh_lib.shardings(mesh, state, spec.head_counts))
    return state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)


def loss_mask(rollout: Rollout, mask_truncated: bool) -> Any:
    """bool[B, G, S], True at the tokens that carry loss: the sampled ones, and if `mask_truncated` only those of
    completions that have their end token. numpy or jax, as the rollout.
    """
    return rollout.mask_bgs & rollout.stopped_bg[..., None] if mask_truncated else rollout.mask_bgs


def _used(trainable, spec):
    """The trainable weights as the parts of a minibatch use them, with a copy of the adapters on each batch shard."""
    return {
        name: layout.spread({name: x}, spec.head_counts)[name] if name == "lora" else x for name, x in trainable.items()
    }


def _placed(gradients, spec, mesh):
    """Gradients of `_used` weights, cut as these are; the compiler must not guess the cut of a sum over parts."""
    if mesh is None:
        return gradients
    places = {
        name: (mesh_lib.spread_shardings if name == "lora" else mesh_lib.shardings)(mesh, {name: x}, spec.head_counts)
        for name, x in gradients.items()
    }
    return {name: jax.lax.with_sharding_constraint(x, places[name][name]) for name, x in gradients.items()}


def _completions(batch, knobs, max_tokens, batch_tokens):
    """The completions of a whole minibatch, with the weight of each token in the loss."""
    rollout = batch.rollout
    mask_bgs = loss_mask(rollout, knobs.mask_truncated)
    weight_bgs = loss_lib.loss_weights(
        mask_bgs, variant=knobs.variant, max_tokens=max_tokens or mask_bgs.shape[-1], batch_tokens=batch_tokens
    )
    beta_bgs = jnp.full(mask_bgs.shape, knobs.beta, jnp.float32)
    if batch.twin_bgs is not None:
        beta_bgs = jnp.where(batch.twin_bgs, knobs.hold_twin * beta_bgs, beta_bgs)
    return _Completions(
        rollout.token_bgs, rollout.logp_bgs, batch.advantage_bg, beta_bgs, weight_bgs, mask_bgs, batch.importance_bgs
    )


def _add_micro_batch(total, part, *, trainable, frozen, spec, knobs, dtype, temper):
    """Adds loss and gradient of one micro-batch to `total`: (new total, metrics of its micro-groups).

    All completions of a query share its prompt, so the prompt goes forward once and backward once. In between, the
    micro-groups add up their losses, the gradients of the weights, and the gradients of the prompt's keys, values and
    last hidden state. The prompt's backward pass turns the last two into the rest of the weights' gradient.
    """
    (prompt, completions), key = part
    prompt, completions = layout.place_tree((prompt, completions))
    k_prompt, k_completions = (None, None) if key is None else jax.random.split(key)

    # The prompts, forward: under the policy that learns, and under the reference.
    @jax.named_scope("prompts")
    def read_prompts(trainable):
        prefix = policy.prefill(*weights(trainable, frozen), spec, prompt, dtype, key=k_prompt)
        return (prefix.kv, prefix.last_bd), prefix

    prompt_state, prompt_backward, prefix = jax.vjp(read_prompts, trainable, has_aux=True)
    if knobs.beta:
        reference = frozen.get("reference", weights(trainable, frozen)[0])
        reference_prefix = policy.prefill(reference, None, spec, prompt, dtype)

    # The completions, forward and backward, one micro-group after the other.
    logprobs = functools.partial(policy.logprobs, temper=temper)

    def micro_group_loss(trainable, prompt_state, rows, key):
        kv, last_bd = prompt_state
        own_prefix = prefix._replace(kv=kv, last_bd=last_bd)
        logp_bgs = logprobs(*weights(trainable, frozen), spec, own_prefix, rows.token_bgs, key=key)
        reference_logp_bgs = None
        if knobs.beta:
            reference_logp_bgs = logprobs(reference, None, spec, reference_prefix, rows.token_bgs)
        return loss_lib.grpo_loss(
            logp_bgs, rows.old_logp_bgs, reference_logp_bgs, rows.advantage_bg, rows.weight_bgs, rows.mask_bgs,
            rows.importance_bgs, variant=knobs.variant, beta=rows.beta_bgs if knobs.beta else 0.0,
            clip_low=knobs.clip_low, clip_high=knobs.clip_high, dual_clip=knobs.dual_clip,
        )  # fmt: skip

    @jax.named_scope("completions")
    def add_micro_group(total, part):
        rows, key = part

        def gradient(rows):
            rows = layout.place_tree(rows)
            value_and_grad = jax.value_and_grad(micro_group_loss, argnums=(0, 1), has_aux=True)
            return value_and_grad(trainable, prompt_state, rows, key)

        (loss, metrics), grads = over_shortest_stretch(gradient, rows, rows.mask_bgs)
        return jax.tree.map(jnp.add, total, (loss, *grads)), metrics

    (loss, grads), zero = total, jax.tree.map(jnp.zeros_like, prompt_state)
    group = completions.token_bgs.shape[1]
    count = group // micro_group(group, knobs.micro_group)
    completions = sort_by_length(completions, completions.mask_bgs, count)
    (loss, grads, prompt_grads), metrics = scan_parts(
        add_micro_group, (loss, grads, zero), completions, count, axis=1, key=k_completions
    )

    # The prompts, backward.
    return (loss, jax.tree.map(jnp.add, grads, prompt_backward(prompt_grads)[0])), metrics
