"""Compiles the trainer's own update and rollout for devices that this machine need not have, from shapes alone.

    devices = ahead_of_time.devices_of_slice("v5e:4x4")      # needs libtpu, but no TPU
    device_mesh = mesh.make(c.mesh, devices)
    compiled = ahead_of_time.lower_update(c, spec, device_mesh, patches).compile()

`rl/update.update` and `rl/rollout.sample` are lowered with the static arguments, dtypes and shardings that training
uses. Nothing is allocated. Virtual CPU devices and TPU slices work alike.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dtr1_jax import mesh
from dtr1_jax.config import Config, ConfigError
from dtr1_jax.models.spec import Spec
from dtr1_jax.policies import chips, memory, pretrained, rollout_layout
from dtr1_jax.rl import accumulate, optim, rollout, stretches, update
from dtr1_jax.types import Images, Prompt, Rollout

# Without the first, a second process that loads libtpu ends; without the second, libtpu asks a server of Google Cloud
# about the machine that it is on, and waits.
ENVIRONMENT = {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1"}


def prepare() -> None:
    """Sets ENVIRONMENT, and keeps JAX on the CPU; must come before anything touches a device.

    Otherwise JAX would look for TPUs on this machine, because libtpu is installed.
    """
    os.environ |= {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}
    jax.config.update("jax_platforms", "cpu")


def devices_of_slice(topology: str) -> list:
    """The devices of a TPU slice such as "v5e:4x4", which can be compiled for, but not computed with.

    `prepare` comes first.

    Raises ConfigError if libtpu is not installed, does not know the slice, or describes it with another number of
    devices than chips.
    """
    _, count = chips.of_slice(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f"--topology={topology}: the TPU compiler is not installed; pip install 'dtr1_jax[tpu]' brings it (libtpu),"
            " also on a machine without TPUs"
        )
    from jax.experimental import topologies

    try:
        devices = list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except RuntimeError as error:  # JaxRuntimeError: the compiler's own words
        raise ConfigError(f"--topology={topology}: the TPU compiler does not take it: {error}") from error
    if len(devices) != count:
        raise ConfigError(
            f"--topology={topology}: expected a device for each of the {count} chips, but the TPU compiler describes"
            f" {len(devices)} devices; the chips of v4 have two each, so use v5e, v5p or v6e"
        )
    return devices


def check_mesh(c: Config, topology: str, count: int) -> None:
    """Raises ConfigError if the mesh of the settings does not have the `count` chips of the slice."""
    sizes = mesh.axis_sizes(c.mesh, count)
    product = sizes[0] * sizes[1] * sizes[2]
    if product != count:
        given = " x ".join(map(str, sizes))
        raise ConfigError(
            f"config.mesh: data x fsdp x tensor = {given} = {product}, but --topology={topology} has {count} chips;"
            " set one of the three to -1 to use the remaining chips"
        )


def weight_shapes(c: Config, spec: Spec) -> tuple[dict, dict]:
    """Shapes of the (trainable, frozen) weights, as policies/state.initial_weights makes them."""
    base = memory.base_shapes(c, spec)
    if not c.lora.rank:
        return {"base": base}, {"reference": base} if c.grpo.beta else {}
    return {"lora": memory.adapter_shapes(c, base)}, {"base": base}


def state_shapes(c: Config, spec: Spec, device_mesh: Mesh) -> tuple[update.State, dict]:
    """Shapes of the (training state, frozen weights), cut over the mesh."""
    trainable, frozen = weight_shapes(c, spec)
    tx = optim.optimizer(c.optim, c.train.steps)
    state = update.State(trainable, jax.eval_shape(tx.init, trainable))
    places = [mesh.shardings(device_mesh, tree, spec.head_counts) for tree in (state, frozen)]
    return _placed(state, places[0]), _placed(frozen, places[1])


def minibatch_shapes(c: Config, spec: Spec, device_mesh: Mesh, patches: int) -> update.Minibatch:
    """The shapes of all completions of a step, cut over the mesh, with `patches` patches of pictures in each prompt."""
    b, g, p, s = c.rollout.queries, c.rollout.group, c.policy.prompt_tokens, pretrained.completion_slots(c)
    place = mesh.batch(device_mesh)

    def shape(*sizes, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=place)

    images, tower, real = None, spec.vision, functools.partial(shape, dtype=jnp.float32)
    if tower is not None and patches:
        n = patches
        corner = (shape(b, n, 4), real(b, n, 4)) if tower.side else (None, None)
        images = Images(
            real(b, n, tower.values), shape(b, n, 2), *corner, shape(b, n), shape(b, n) if tower.window else None
        )
    prompt = Prompt(shape(b, p), shape(b, p, dtype=bool), shape(b, p, 3), shape(b, p), shape(b), images)
    completions = Rollout(shape(b, g, s), shape(b, g, s, dtype=bool), real(b, g, s), shape(b, g, dtype=bool))
    return update.Minibatch(prompt, completions, real(b, g))


def lower_update(c: Config, spec: Spec, device_mesh: Mesh, patches: int) -> Any:
    """update.update, lowered for the mesh: one minibatch, with the branch for the longest completions alone.

    The other branches are shorter, and would only take time to compile.
    """
    size = c.rollout.queries // c.grpo.minibatches
    batch = minibatch_shapes(c, spec, device_mesh, patches)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype, sharding=x.sharding), batch)
    state, frozen = state_shapes(c, spec, device_mesh)
    everywhere = functools.partial(jax.ShapeDtypeStruct, sharding=mesh.replicated(device_mesh))
    every, stretches.STRETCHES = stretches.STRETCHES, 1
    try:
        return update.update.lower(
            state, frozen, batch, everywhere((spec.vocab,), bool), spec=spec,
            tx=optim.optimizer(c.optim, c.train.steps), knobs=c.grpo, temperature=c.rollout.temperature,
            micro=accumulate.micro_batch(c.rollout, c.grpo, device_mesh), mesh=device_mesh,
            dtype=jnp.dtype(c.policy.dtype), max_tokens=c.rollout.new_tokens,
            batch_tokens=everywhere((), jnp.float32),
            key=everywhere((), jax.random.key(0).dtype) if c.lora.dropout else None,
        )  # fmt: skip
    finally:
        stretches.STRETCHES = every


def rollout_mesh(c: Config, spec: Spec, device_mesh: Mesh, usable_bytes: int | None) -> tuple[Mesh, bool, str]:
    """(mesh of the rollout, whether it has a copy of the weights, the reason), as policies/rollout_layout decides.

    Args:
      usable_bytes: memory of a device, or None if it is not known.
    """
    trainable, frozen = weight_shapes(c, spec)
    base, _ = update.weights(trainable, frozen)
    return rollout_layout.mesh_of_copy(c.mesh.rollout, device_mesh, spec, base, c.policy.dtype, usable_bytes)


def rollout_weights(c: Config, spec: Spec, sampling_mesh: Mesh, copied: bool) -> tuple[dict, dict | None]:
    """Shapes of the (weights, adapters) of a rollout, cut over its mesh."""
    trainable, frozen = weight_shapes(c, spec)
    base, lora = update.weights(trainable, frozen)
    both = {"base": base, "lora": lora or {}}
    if copied:
        both = jax.eval_shape(functools.partial(rollout_layout.as_computed, dtype=jnp.dtype(c.policy.dtype)), both)
    both = _placed(both, mesh.shardings(sampling_mesh, both, spec.head_counts, resident=copied))
    return both["base"], both["lora"] if lora else None


def lower_rollout(
    c: Config, spec: Spec, sampling_mesh: Mesh, patches: int, copied: bool = True, shrink: bool = False
) -> Any:
    """rollout.sample, lowered for the mesh of a rollout.

    With `shrink` it has all the loops of a run (compaction.py). Otherwise one loop decodes all, as where no row ends
    before its last token.
    """
    base, lora = rollout_weights(c, spec, sampling_mesh, copied)
    everywhere = functools.partial(jax.ShapeDtypeStruct, sharding=mesh.replicated(sampling_mesh))
    return rollout.sample.lower(
        base, lora, minibatch_shapes(c, spec, sampling_mesh, patches).prompt,
        everywhere((), jax.random.key(0).dtype), everywhere((spec.vocab,), bool), spec=spec, group=c.rollout.group,
        new_tokens=pretrained.completion_slots(c), end=(0,), pad=0, temperature=c.rollout.temperature,
        top_k=c.rollout.top_k, top_p=c.rollout.top_p, dtype=jnp.dtype(c.policy.dtype), mesh=sampling_mesh,
        shrink=shrink,
    )  # fmt: skip


def _placed(tree: Any, shardings: Any) -> Any:
    """The shapes of `tree` with shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
