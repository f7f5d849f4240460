"""`--mode=plan --topology=v5e:4x4`: a step of a run on a TPU slice, planned by the TPU compiler without any TPU.

The update and the rollout are compiled as training would (policies/ahead_of_time.py). Memory comes from the compiler;
operations, memory traffic and messages are counted in the compiled programs; times are lower bounds by the published
peaks of the chip (policies/roofline.py).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dtr1_jax import config, layout, mesh
from dtr1_jax.models.spec import Spec
from dtr1_jax.modes import mesh_choice, plan, slice_table
from dtr1_jax.policies import (
    ahead_of_time,
    chips,
    compiled_figures,
    memory,
    model_flops,
    pretrained,
    roofline,
)  # fmt: skip
from dtr1_jax.policies.compiled_figures import Figures, Part, TooLargeError
from dtr1_jax.policies.roofline import Work
from dtr1_jax.rl import compaction

FAST = -1.0  # effort of the TPU compiler with --fast

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Slice:
    """What is planned.

    Attributes:
      config: all settings.
      spec: sizes of the policy.
      topology: name of the slice.
      chip: its chips.
      mesh: the mesh of the update, of the slice's devices.
      why_mesh: the reason for it.
      sampling_mesh: that of the rollout.
      copied: whether a rollout has a copy of the weights.
      why: the reason for the two before.
      patches: patches of the pictures of a query.
      effort: of the compiler.
    """

    config: config.Config
    spec: Spec
    topology: str
    chip: chips.Chip
    mesh: jax.sharding.Mesh
    why_mesh: str
    sampling_mesh: jax.sharding.Mesh
    copied: bool
    why: str
    patches: int
    effort: float


def run(c: config.Config, topology: str, layers: int = 0, fast: bool = False) -> str:
    """A table about a step on the slice; its last line is one JSON object.

    Args:
      c: the settings.
      topology: name of a slice, such as "v5e:4x4".
      layers: plan a policy with so many layers of the decoder; 0 = all.
      fast: low effort of the compiler, which then is about 4 times as fast, and more passes
        through memory.

    Raises ConfigError if libtpu is missing, or the mesh or the batch does not fit the slice.
    """
    planned = plan_slice(c, plan.policy_spec(c), topology, layers, fast)
    return "\n".join([*slice_table.lines(planned), json.dumps(planned)])


def plan_slice(c: config.Config, sizes: Spec, topology: str, layers: int = 0, fast: bool = False) -> dict[str, Any]:
    """The figures of a step, as `run` prints them; the arguments are those of `run`, and the sizes of the policy."""
    chip, count = chips.of_slice(topology)
    ahead_of_time.check_mesh(c, topology, count)
    if layers < 0 or layers > sizes.layers:
        raise config.ConfigError(
            f"--layers={layers}: expected 1 to {sizes.layers}, the layers of {c.policy.name}, or 0"
        )
    for name, value, planned in (("parts", c.rollout.parts, 1), ("ahead", c.rollout.ahead, 0)):
        if value != planned:
            raise config.ConfigError(
                f"config.rollout.{name} = {value}: a slice is planned for rollouts in one part that are not ahead; add"
                f" --config.rollout.{name}={planned}"
            )
    devices = ahead_of_time.devices_of_slice(topology)
    chosen, why_mesh = mesh_choice.choose(c, sizes, devices, chip.usable_bytes)
    c = dataclasses.replace(c, mesh=chosen)
    spec = with_layers(pretrained.adjusted(c, sizes), layers or sizes.layers)
    device_mesh = mesh.make(c.mesh, devices)
    share = plan.device_share(c, spec, device_mesh)  # It raises where the batch cannot be cut.
    sampling_mesh, copied, why = ahead_of_time.rollout_mesh(c, spec, device_mesh, chip.usable_bytes)
    effort = FAST if fast else 0.0
    this = Slice(c, spec, topology, chip, device_mesh, why_mesh, sampling_mesh, copied, why, share.patches, effort)
    return _figures(this, count, _update(this), _rollout(this))


def with_layers(spec: Spec, layers: int) -> Spec:
    """The policy with the first `layers` layers of its decoder. Raises ConfigError if DeepStack needs more."""
    least = len(spec.vision.deepstack) if spec.vision else 0
    if layers < least:
        raise config.ConfigError(f"--layers={layers}: expected at least {least}, one for each level of DeepStack")
    return dataclasses.replace(spec, layers=layers)


def depths(spec: Spec) -> tuple[int, int]:
    """The two depths for what does not fit with all layers: small, and with all levels of DeepStack."""
    first = max(2, len(spec.vision.deepstack) if spec.vision else 0)
    return first, first + 2


def _update(this):
    """(figures or None, bytes that are needed where they do not fit, depths whose figures were continued or None)."""

    def lower(spec):
        return ahead_of_time.lower_update(this.config, spec, this.mesh, this.patches)

    return _compiled(this, "update", lower)


def _rollout(this):
    """As `_update`."""

    def lower(spec):
        return ahead_of_time.lower_rollout(
            this.config, spec, this.sampling_mesh, this.patches, this.copied, shrink=True
        )

    return _compiled(this, "rollout", lower)


def _compiled(this: Slice, name: str, lower: Callable[[Spec], Any]):
    layers, pair = this.spec.layers, depths(this.spec)
    try:
        return _of_depth(this, name, lower, layers), 0, None
    except TooLargeError as error:
        refused = error
    log.info("%s: too large for a chip: %s", name, str(refused).splitlines()[0])
    if layers <= pair[1]:
        return None, refused.needed, None
    try:
        first, second = (_of_depth(this, name, lower, depth) for depth in pair)
    except TooLargeError as error:
        return None, max(refused.needed, error.needed), None
    figures = compiled_figures.extrapolated(first, second, pair, layers)
    beside = figures.arguments + figures.results if refused.temporary else 0
    return figures, refused.needed + beside, pair


def _of_depth(this, name, lower, layers):
    log.info("compiling the %s with %d layers for %s", name, layers, this.topology)
    start = time.monotonic()
    tower = this.spec.vision
    full = len(tower.full_layers) / tower.layers if tower and tower.window else None
    _, found = compiled_figures.compiled(lower(with_layers(this.spec, layers)), this.effort, full)
    log.info("compiled in %.0f s", time.monotonic() - start)
    return found


def _figures(this: Slice, count: int, of_update, of_rollout) -> dict[str, Any]:
    """The JSON object: figures on one chip, in bytes and seconds."""
    c, chip = this.config, this.chip
    resident = _resident(this)
    update, update_needed, update_depths = of_update
    rollout, rollout_needed, rollout_depths = of_rollout
    counted = _counted(this)
    # The weights that a rollout takes from the update are among its arguments.
    beside = resident["all"] - (0 if this.copied else resident["weights"])
    need = {
        "update": _need(this, update, update_needed, update_depths, counted["update"]),
        "rollout": _need(this, rollout, rollout_needed, rollout_depths, counted["rollout"], beside),
    }
    if update is not None:
        _check_loops(this, "update", update.loops, 0)
    updates = c.grpo.epochs * c.grpo.minibatches
    phases = {
        "update": update and _phase(chip, update.once, updates),
        "weights_copy": _phase(chip, _copy(this), 1) if this.copied else None,
        "prefill": rollout and _phase(chip, rollout.once, 1),
        "decode": rollout and _decode(this, rollout),
    }  # fmt: skip
    times = [phase["seconds"] for phase in phases.values() if phase]
    complete = update is not None and rollout is not None
    wanted = _model_flops(this)
    peak = max(need.values())
    return {
        "topology": this.topology, "policy": c.policy.name, "layers": this.spec.layers, "chips": count,
        "mesh": dict(this.mesh.shape), "mesh_layout": this.why_mesh,
        "rollout_mesh": dict(this.sampling_mesh.shape), "rollout_layout": this.why,
        "lora_rank": c.lora.rank, "dtype": c.policy.dtype, "fast": this.effort < 0,
        "extrapolated": {name: pair for name, pair in (("update", update_depths), ("rollout", rollout_depths)) if pair},
        "fits": complete and peak <= chip.usable_bytes,
        "hbm_bytes_per_chip": round(peak), "usable_bytes": chip.usable_bytes,
        "memory": {"resident": resident, **{name: round(size) for name, size in need.items()}},
        "counted": counted,
        "step_seconds": sum(times) if complete else None,
        "mfu": roofline.mfu(wanted, phases["update"]["seconds"] / updates, chip, count) if update else None,
        "update_flops": wanted,
        "collective_bytes": sum(p["collective_bytes"] for p in phases.values() if p) if complete else None,
        **phases,
        "advice": slice_table.advice(c, this.mesh, this.sampling_mesh, chip, need, resident["all"]),
    }  # fmt: skip


def _need(this, figures, needed, pair, counted, beside=0) -> float:
    """Bytes of a program and what stays `beside` it; where the compiler refused it, by its own number, or what is
    counted without it.

    A straight line through small depths says nothing of memory: there a program holds most at another moment.
    """
    if figures is not None and pair is None:
        return figures.memory + beside
    return max(needed + beside if needed else counted, this.chip.usable_bytes + 1)


def _phase(chip: chips.Chip, part: Part, repeats: int) -> dict[str, Any]:
    """The fields of a phase: of all its repeats together, but `largest`, and of one repeat under "each"."""
    bound, seconds = part.work.bound(chip)
    largest = part.largest
    return {
        "seconds": seconds * repeats, "bound": bound, "repeats": repeats,
        "flops": part.work.flops * repeats, "hbm_bytes": part.work.hbm_bytes * repeats,
        "sent_bytes": part.work.sent_bytes * repeats,
        "collective_bytes": sum(part.message_bytes.values()) * repeats,
        "by_kind": {kind: size * repeats for kind, size in part.message_bytes.items()},
        "messages": part.message_count * repeats,
        "largest": {"kind": largest.kind, "shape": largest.shape, "bytes": largest.bytes} if largest else None,
        "each": {f"{term}_seconds": value for term, value in part.work.seconds(chip).items()},
    }  # fmt: skip


def _resident(this: Slice) -> dict[str, int]:
    """Bytes on a chip of what training holds all the time: everything, and the weights and adapters in it."""
    trainable, frozen = ahead_of_time.weight_shapes(this.config, this.spec)
    state, _ = ahead_of_time.state_shapes(this.config, this.spec, this.mesh)
    size = functools.partial(memory.bytes_on_device, this.mesh, spec=this.spec)
    both = {name: tree for name, tree in {**frozen, **trainable}.items() if name != "reference"}
    everything = {"trainable": trainable, "opt": state.opt, "frozen": frozen}
    return {"all": size(everything), "weights": size(both)}


def _counted(this):
    """The bytes of update and rollout that `--mode=plan` counts without a compiler (policies/phase_memory.py)."""
    counted = plan.plan(this.config, this.spec, this.mesh, this.chip.usable_bytes)
    stays = sum(counted["resident"].values())
    return {name: stays + sum(counted[name].values()) for name in ("update", "rollout")}


def _copy(this):
    """Making the rollout's copy of the weights: each chip gets its share of it from the others, and writes it."""
    held = memory.copy_bytes(this.config, this.spec, this.sampling_mesh)
    return Part(Work(0, 2 * held, held), {"all-gather": held}, 0, None)


def _model_flops(this: Slice) -> float:
    """Operations that one update needs, over all chips."""
    c = this.config
    adapters = memory.adapter_shapes(c, memory.base_shapes(c, this.spec))
    sizes = model_flops.Sizes(
        c.rollout.queries // c.grpo.minibatches, c.rollout.group, c.policy.prompt_tokens,
        pretrained.completion_slots(c), this.patches,
    )  # fmt: skip
    number = sum(x.size for x in jax.tree.leaves(adapters))
    return model_flops.update(this.spec, sizes, adapters=number, reference=c.grpo.beta > 0)


def _decode(this: Slice, rollout: Figures) -> dict[str, Any]:
    """The fields of the decoding, with those of one token and the share of the memory's bandwidth for bytes that must
    be read.
    """
    c, chip = this.config, this.chip
    base, lora = ahead_of_time.rollout_weights(c, this.spec, this.sampling_mesh, this.copied)
    read = {name: base[name] for name in ("decoder", "norm") + (() if this.spec.tied else ("head",))}
    read |= {"embed": base["embed"]} if this.spec.tied else {}
    tree = {"base": read, "lora": (lora or {}).get("decoder", {})}
    weights = memory.bytes_on_device(this.sampling_mesh, tree, this.spec, resident=this.copied)
    shards = mesh.batch_shards(this.sampling_mesh)
    sizes = model_flops.Sizes(
        c.rollout.queries // shards, c.rollout.group, c.policy.prompt_tokens, pretrained.completion_slots(c)
    )
    item = jnp.dtype(c.policy.dtype).itemsize
    must = model_flops.bytes_of_token(this.spec, sizes, weights, this.sampling_mesh.shape["tensor"], item)
    token = _token(this, rollout.loops)
    seconds = token.work.bound(chip)[1]
    return _phase(chip, token, sizes.new) | {
        "token_seconds": seconds,
        "token_bytes_needed": must,
        "bandwidth_share": must / (seconds * chip.hbm_bytes_s),
        "token_ici_ms": 1e3 * token.work.seconds(chip)["ici"],
    }


def _token(this: Slice, loops: Sequence[Part]) -> Part:
    """What a token costs in the mean, where no row ends before its last token: a loop runs until its cache is full."""
    slots = pretrained.completion_slots(this.config)
    with layout.use(this.sampling_mesh, resident=True):
        shapes = compaction.shapes(this.config.rollout.queries, this.config.rollout.group, slots)
    ends = [shape.slots for shape in shapes]
    trips = [end - start for start, end in zip([0, *ends], ends)]
    _check_loops(this, "rollout", loops, len(trips))
    return compiled_figures.weighted(loops, [count / slots for count in trips])


def _check_loops(this, name, loops, expected):
    """Raises ConfigError if a program has other loops without known trip count than its decode loops."""
    if len(loops) != expected:
        raise config.ConfigError(
            f"--topology={this.topology}: the compiled {name} has {len(loops)} loops whose trips are not known,"
            f" expected {expected}; this version of libtpu writes loops in a form that is not understood"
            " (policies/hlo_text.py), and the figures would be too low"
        )
