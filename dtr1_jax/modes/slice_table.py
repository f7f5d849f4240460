"""The figures of `--mode=plan --topology=...` as lines for people, and what to change if a step does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jax.sharding import Mesh

from dtr1_jax.config import Config
from dtr1_jax.policies.chips import Chip
from dtr1_jax.rl import accumulate

GIB = 2**30
PHASES = ("update", "weights_copy", "prefill", "decode")


def lines(planned: dict[str, Any]) -> Iterator[str]:
    """The table.

    Args:
      planned: the figures of modes/slice_plan.py.
    """
    yield from _heading(planned)
    yield ""
    yield f"{'GiB on each chip':<24}{'':>10}"
    yield f"  {'stays':<22}{planned['memory']['resident']['all'] / GIB:>10.2f}"
    for name in ("update", "rollout"):
        counted = planned["counted"][name] / GIB
        yield f"  {name + ', in all':<22}{planned['memory'][name] / GIB:>10.2f}   without the compiler: {counted:.2f}"
    yield f"  {'usable':<22}{planned['usable_bytes'] / GIB:>10.2f}   fits: {'yes' if planned['fits'] else 'NO'}"
    yield ""
    yield "a step on each chip       TFLOP   GB of memory      GB sent   seconds at least, and what takes them"
    for name in PHASES:
        if phase := planned[name]:
            yield (
                f"  {name.replace('_', ' '):<18}{phase['flops'] / 1e12:>11.2f}{phase['hbm_bytes'] / 1e9:>15.2f}"
                f"{phase['sent_bytes'] / 1e9:>13.3f}{phase['seconds']:>10.3f}   {phase['bound']}"
            )
    yield from _messages(planned)
    yield from _rates(planned)
    yield from (f"To make it fit: {line}" for line in planned["advice"])
    yield ""


def _heading(planned):
    axes = {name: ", ".join(f"{k} {v}" for k, v in planned[name].items()) for name in ("mesh", "rollout_mesh")}
    training = f"LoRA of rank {planned['lora_rank']}" if planned["lora_rank"] else "all weights"
    yield f"{planned['policy']} ({planned['layers']} layers), {training}, {planned['dtype']}"
    yield f"{planned['topology']}: {planned['chips']} chips; update on {axes['mesh']} ({planned['mesh_layout']})"
    yield f"rollout on {axes['rollout_mesh']} ({planned['rollout_layout']})"
    for name, (first, second) in planned["extrapolated"].items():
        yield (
            f"EXTRAPOLATED: the {name} was compiled with {first} and {second} layers, and its figures are continued to"
            f" {planned['layers']} layers on a straight line; its memory is what the compiler names for all layers"
        )
    if planned["fast"]:
        yield "--fast: the compiler worked with low effort; a run moves less through memory"


def _messages(planned):
    yield ""
    yield "messages between chips                     GB   largest"
    for name in PHASES:
        phase = planned[name]
        for kind, size in (phase or {"by_kind": {}})["by_kind"].items():
            yield f"  {name.replace('_', ' '):<14}{kind:<22}{size / 1e9:>10.3f}"
        if phase and (largest := phase["largest"]):
            yield (
                f"  {name:<14}{phase['messages']:,.0f} messages, the largest {largest['bytes'] / 1e6:,.3f} MB"
                f" ({largest['kind']} {largest['shape']:.80})"
            )


def _rates(planned):
    yield ""
    if planned["mfu"] is not None:
        yield f"MFU of the update: at most {planned['mfu']:.3f}"
    if decode := planned["decode"]:
        yield (
            f"decoding, each token: {1e3 * decode['token_seconds']:.3f} ms at least, {decode['token_ici_ms']:.4f} ms of"
            f" them for messages if nothing else is done; {decode['bandwidth_share']:.2f} of the memory's bandwidth is"
            " for weights, keys and values that must be read"
        )
    if planned["step_seconds"] is not None:
        yield (
            f"a step: {planned['step_seconds']:.3g} s at least, without rewards, data and checkpoints; links wait for"
            " each message besides"
        )


def advice(
    c: Config, device_mesh: Mesh, sampling_mesh: Mesh, chip: Chip, need: dict[str, float], resident: int
) -> list[str]:
    """Settings to change, the cheapest first, for each phase that does not fit; empty if all fits.

    Args:
      c: the settings.
      device_mesh, sampling_mesh: the meshes of update and rollout.
      chip: the chips.
      need: bytes of "update" and "rollout" on a chip.
      resident: bytes that stay on a chip.
    """
    found = []
    if resident > chip.usable_bytes / 2:
        found += _to_shrink_what_stays(c, device_mesh)
    if need["update"] > chip.usable_bytes:
        found += _to_shrink_the_update(c, device_mesh)
    if need["rollout"] > chip.usable_bytes:
        found += _to_shrink_the_rollout(c, device_mesh, sampling_mesh)
    if found or max(need.values()) > chip.usable_bytes:
        found.append("or a slice with more chips, or with more memory on each")
    fits = max(need.values()) <= chip.usable_bytes
    return [] if fits else list(dict.fromkeys(found))


def _to_shrink_what_stays(c, device_mesh):
    if device_mesh.shape["data"] > 1:
        yield "config.mesh.fsdp larger at the cost of config.mesh.data: weights and optimizer are cut over fsdp"
    if c.lora.rank and c.policy.weights_dtype == "float32":
        yield "config.policy.weights_dtype=bfloat16 halves the frozen weights"
    elif c.lora.rank and c.policy.weights_dtype == "bfloat16":
        yield "config.policy.weights_dtype=int8 halves the frozen weights"
    elif not c.lora.rank:
        yield "config.lora.rank=16 trains adapters: the optimizer's moments and float32 weights fall away"
    if c.grpo.beta and not c.lora.rank:
        yield "config.grpo.beta=0 needs no reference, which is a copy of all weights"


def _to_shrink_the_update(c, device_mesh):
    if c.policy.remat == "off":
        yield "config.policy.remat=on keeps the input of each layer alone"
    group = accumulate.micro_group(c.rollout.group, c.grpo.micro_group)
    if c.grpo.micro_queries != 1:
        yield f"config.grpo.micro_queries=1 (now {c.grpo.micro_queries or 'all'}) takes fewer queries at a time"
    if group > 1:
        yield f"config.grpo.micro_group={accumulate.micro_group(c.rollout.group, group - 1)} (now {group})"
    if device_mesh.shape["tensor"] == 1:
        yield "config.mesh.tensor above 1 cuts the arrays of each query too"
    yield f"config.policy.prompt_tokens (now {c.policy.prompt_tokens}), rollout.new_tokens (now {c.rollout.new_tokens})"


def _to_shrink_the_rollout(c, device_mesh, sampling_mesh):
    if c.lora.rank and c.policy.weights_dtype != "int8":
        yield "config.policy.weights_dtype=int8 halves the rollout's copy of the weights"
    if sampling_mesh.shape["fsdp"] > 1:
        now = sampling_mesh.shape["tensor"]
        yield f"config.mesh.rollout above {now} cuts the rollout's copy over more chips of a host"
    yield (
        f"config.rollout.queries (now {c.rollout.queries}), rollout.group (now {c.rollout.group}) or"
        f" rollout.new_tokens (now {c.rollout.new_tokens}): the cache of keys and values grows with each"
    )
