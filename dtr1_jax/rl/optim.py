"""Gradients become better parameters: schedule, clipping, AdamW, and an update that refuses non-finite numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtr1_jax import config

# Names of vectors. Layers are stacked for scan, so a norm's scale has two axes and looks like a matrix.
_VECTORS = ("scale", "bias")


def lr_at(optim: config.Optim, steps: int, step: jax.Array | int, updates: int = 1) -> jax.Array:
    """Learning rate of optimizer step `step` (the first is 0), float32[].

    Warm-up rises in equal strides and reaches the peak at step warmup = optim.warmup * updates; no step has rate 0.
    After it, with x = (step - warmup) / (steps - warmup), the rate is the peak times 1 (constant), 1 - x (linear) or
    (1 + cos(pi x)) / 2 (cosine); x is 1 from `steps` on.

    Args:
      optim: settings.
      steps: optimizer steps of the whole run.
      step: int32[] or int.
      updates: optimizer steps in a step of training, which is the unit of optim.warmup.

    Raises:
      ValueError: unknown schedule.
    """
    step = jnp.asarray(step, jnp.float32)
    warmup = optim.warmup * updates
    rise = jnp.minimum((step + 1) / (warmup + 1), 1.0)
    x = jnp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    if optim.schedule == "constant":
        fall = jnp.ones_like(x)
    elif optim.schedule == "linear":
        fall = 1 - x
    elif optim.schedule == "cosine":
        fall = (1 + jnp.cos(jnp.pi * x)) / 2
    else:
        raise ValueError(f"optim.schedule: expected constant, cosine or linear, got {optim.schedule!r}")
    return optim.lr * rise * fall


def optimizer(optim: config.Optim, steps: int, updates: int = 1) -> optax.GradientTransformation:
    """Clipping by global norm (off where `optim.clip` is 0), then AdamW (arXiv:1711.05101) with the rate of `lr_at`.

    Weight decay acts on matrices only: arrays of two or more axes whose name is not "scale" or "bias".
    """
    adamw = optax.adamw(
        lambda step: lr_at(optim, steps, step, updates),
        b1=optim.b1,
        b2=optim.b2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        mask=decayed,
    )
    return optax.chain(optax.clip_by_global_norm(optim.clip), adamw) if optim.clip else adamw


def decayed(params: Any) -> Any:
    """A tree like `params` with True at the arrays that weight decay acts on."""

    def is_matrix(path, leaf):
        name = path[-1] if path else None
        return leaf.ndim >= 2 and str(getattr(name, "key", getattr(name, "name", name))) not in _VECTORS

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def guarded_update(
    grads: Any, loss: jax.Array, opt_state: Any, params: Any, tx: optax.GradientTransformation
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """One optimizer step, or none at all where the loss or a gradient is not finite.

    A skipped step does not change a bit of `params` and `opt_state`, nor the step count of the schedule.
    A gradient whose squared norm overflows float32 counts as not finite.

    Args:
      grads: tree like `params`.
      loss: float[].
      opt_state: state of `tx`.
      params: tree of float arrays.
      tx: from `optimizer`.

    Returns:
      params, opt_state, and info: `grad_norm`, float32[], before clipping (not finite where a gradient is not), and
      `skipped`, int32[], 1 for a skipped step.
    """
    # The sum is in float32, since a sum of bfloat16 squares stops growing after 256 terms.
    grad_norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(grads)))
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    updates, new_state = tx.update(grads, opt_state, params)
    new_params = optax.apply_updates(params, updates)

    def choose(new, old):
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    info = {"grad_norm": grad_norm, "skipped": (~finite).astype(jnp.int32)}
    return choose(new_params, params), choose(new_state, opt_state), info
