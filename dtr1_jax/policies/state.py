"""The weights that a run trains and the state of its optimizer: new ones, and those that a checkpoint holds."""

from __future__ import annotations

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from dtr1_jax import config, mesh, places
from dtr1_jax.models import policy
from dtr1_jax.policies import policy_files, pretrained
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.rl import advantages, optim, update
from dtr1_jax.run import checkpoint

# Settings that decide the arrays of a checkpoint and their meaning (clipping adds a state to the optimizer).
POLICY_SETTINGS = (
    "policy.name", "policy.path", "policy.adapter", "lora.rank", "lora.alpha", "lora.rslora", "lora.targets",
    "optim.clip",
)  # fmt: skip
EMA = "ema"  # the value of grpo.advantage that keeps moving averages of the rewards in the state

log = logging.getLogger(__name__)


def initial_weights(
    c: config.Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh
) -> tuple[dict, dict]:
    """(trainable, frozen) weights on the mesh before the first step; rl/update.py says what the two dicts hold.

    Raises WeightsError if the policy's files do not fit; ConfigError if lora.targets matches no projection.
    """
    base = pretrained.read_weights(c, pretrained_policy, device_mesh)
    if not c.lora.rank:
        # The reference is a copy, because the trained weights are donated to each update.
        return {"base": base}, {"reference": jax.tree.map(jnp.copy, base)} if c.grpo.beta else {}
    trainable = {"lora": initial_adapters(c, base)}
    places = mesh.shardings(device_mesh, trainable, pretrained_policy.spec.head_counts)
    return mesh.put(trainable, places), {"base": base}


def initial_adapters(c: config.Config, base: dict) -> dict:
    """New LoRA adapters for the weights `base`. Raises ConfigError if lora.targets matches no projection."""
    try:
        return policy.init_lora(jax.random.key(c.seed), base, c.lora.rank, c.lora.targets)
    except ValueError as error:
        raise config.ConfigError(f"config.lora.targets = {c.lora.targets!r}: {error}") from None


def initial_state(
    tx: optax.GradientTransformation, trainable: dict, device_mesh: jax.sharding.Mesh, ema: bool = False,
    heads: dict[str, int] | None = None, behind: bool = False,
) -> update.State:  # fmt: skip
    """The state before the first update. The optimizer's arrays are cut over the mesh as the weights are.

    Args:
      tx: the optimizer.
      trainable: the trainable weights on the mesh.
      ema: keep moving averages of each task's rewards too (grpo.advantage = "ema").
      heads: `Spec.head_counts` of the policy, as the weights were cut.
      behind: keep the weights before the last step too (rollout.ahead); before the first step a copy of these.
    """
    shardings = mesh.shardings(device_mesh, {"opt": jax.eval_shape(tx.init, trainable)}, heads)["opt"]
    averages = mesh.put(advantages.initial_ema(), mesh.replicated(device_mesh)) if ema else None
    older = jax.tree.map(jnp.copy, trainable) if behind else None
    return update.State(trainable, jax.jit(tx.init, out_shardings=shardings)(trainable), averages, older)


def state_template(state: update.State) -> update.State:
    """The shapes, dtypes and shardings of a state, into which a checkpoint is restored."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def untrained_weights(
    c: config.Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh
) -> tuple[dict, dict | None]:
    """(weights, adapters or None) before the first step: the policy's own files, and new adapters where lora.rank >
    0.
    """
    return update.weights(*initial_weights(c, pretrained_policy, device_mesh))


def trained_weights(
    c: config.Config,
    pretrained_policy: PretrainedPolicy,
    device_mesh: jax.sharding.Mesh,
    workdir: Path,
    step: str = "newest",
) -> tuple[dict, dict | None, int | None]:
    """(weights, adapters, step) of a checkpoint in `workdir`; the policy's own weights and None if it has none.

    The run may have had other data, rewards and sampling settings than `c`, but must have trained the same policy.

    Args:
      step: "newest"; "best" = the highest metric of the run's own evaluations; or the number of a step.

    Raises CheckpointError if `step` is of no such form, or its checkpoint is of another policy, damaged or not
    there.
    """
    number = checkpoint.parse_step(step)
    trainable, frozen = initial_weights(c, pretrained_policy, device_mesh)
    if places.is_folder(places.path(workdir) / "checkpoints"):
        with checkpoint.Checkpoints(
            workdir, config.to_dict(c), keep=c.checkpoint.keep, fields=POLICY_SETTINGS, read_only=True
        ) as checkpoints:
            # From the run's config.json, not from `c`: it decides which arrays the checkpoint has.
            ema = checkpoints.settings.get("grpo.advantage") == EMA
            behind = bool(checkpoints.settings.get("rollout.ahead"))
            heads = pretrained_policy.spec.head_counts
            state = initial_state(optim.optimizer(c.optim, c.train.steps), trainable, device_mesh, ema, heads, behind)
            restored = checkpoints.restore(state_template(state), number)
            if restored is not None:
                log.info("weights of step %d in %s", restored[2], workdir)
                return *update.weights(restored[0].trainable, frozen), restored[2]
    elif step != "newest":
        raise checkpoint.CheckpointError(
            f"--step={step}: {workdir} has no checkpoints; leave --step out or name the --workdir of another run"
        )
    log.info("weights of %s", policy_files.weights_path(c))
    return *update.weights(trainable, frozen), None
