"""`--mode=plan`: the memory that a run needs on each device, computed from the settings before anything is loaded.

policies/memory.py counts what stays; policies/phase_memory.py counts the rest, and says how exact it is.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dtr1_jax import config, mesh
from dtr1_jax.data import sources
from dtr1_jax.evaluation import blind
from dtr1_jax.models import published_sizes, spec
from dtr1_jax.models.spec import Spec
from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.policies import ahead_of_time, memory, phase_memory, policy_files, pretrained, rollout_layout
from dtr1_jax.policies.phase_memory import DeviceShare
from dtr1_jax.rl import accumulate, staged
from dtr1_jax.run import local_copy
from dtr1_jax.specialists.learned_segmenter import PREFIX
from dtr1_jax.specialists.needs import Needs, needs
from dtr1_jax.specialists.segmenter import DESCRIPTIONS

GIB = 2**30


def run(c: config.Config) -> str:
    """The memory of each device as a table; its last line is one JSON object in bytes.

    Raises ConfigError if the batch cannot be cut over the mesh, and the errors of reading config.json.
    """
    planned = plan(c, policy_spec(c))
    return "\n".join([*_table(planned), json.dumps(planned)])


def policy_spec(c: config.Config) -> Spec:
    """The policy's sizes, from its name or from the config.json of config.policy.path (a folder or a hub repository).

    Weights are neither needed nor fetched. Raises ConfigError if the files are of another size than the name says,
    as training does.
    """
    path, name = c.policy.path, c.policy.name
    if not path and name == policy_files.AUTO:
        raise config.ConfigError(f"config.policy.path is empty, but policy {name!r} takes its sizes from there")
    if not path or (policy_files.is_hub_id(path) and name != policy_files.AUTO):
        return published_sizes.get_spec(name)
    if policy_files.is_hub_id(path):
        folder = policy_files.download(path, ["config.json"])
    else:
        folder = local_copy.fetch(path, "config.policy.path", ["config.json", policy_files.OURS])
    if not (folder / "config.json").is_file():
        return pretrained.load_policy(c).spec
    try:
        values = hf_checkpoint.read_json(folder / "config.json", "the sizes of the model")
        sizes = spec.from_hf(values, pretrained.reach(c))
    except ValueError as error:  # The file is not JSON, or describes a policy that we cannot run.
        raise config.ConfigError(f"config.policy.path: {folder / 'config.json'}: {error}") from error
    pretrained.check_sizes(name, folder, sizes)
    return sizes


def plan(
    c: config.Config, sizes: Spec, device_mesh: memory.Mesh | None = None, device_bytes: int | None = None
) -> dict[str, Any]:
    """Bytes on each device: {"parameters", "resident", "update", "rollout", "evaluation", "peak", ...}.

    The parts of `resident` stay for the whole run. Those of `update`, `rollout` and `evaluation` (empty where
    train.eval_examples is 0) and `scoring` (empty without a learned segmenter) come on top of it, never two of them at
    once. Where the column `blind` has a weight,
    `rollout` and `evaluation` are those of its second rollout if that is larger.

    Args:
      c: the settings.
      sizes: of the policy.
      device_mesh: the devices; None = config.mesh, with -1 filled from the devices here.
      device_bytes: memory of a device, on which the rollout's copy of the weights depends; None = as the devices here
        say it.

    Raises ConfigError if the batch cannot be cut over the mesh.
    """
    device_mesh, sizes = device_mesh or abstract_mesh(c.mesh), pretrained.adjusted(c, sizes)
    share = device_share(c, sizes, device_mesh)
    resident, counts = memory.resident(c, sizes, device_mesh)
    trained_bytes = resident["adapters"] if c.lora.rank else resident["weights"]
    device_bytes = device_bytes or rollout_layout.device_memory()
    sampling_mesh, copied, why = ahead_of_time.rollout_mesh(c, sizes, device_mesh, device_bytes)
    layers_bytes = memory.layer_bytes(c, sizes, sampling_mesh, copied, share.platform)
    copy_bytes = memory.copy_bytes(c, sizes, sampling_mesh) if copied else 0
    evaluation = evaluation_share(c, sampling_share(c, share, sampling_mesh), sampling_mesh)
    specialists = specialist_needs(c)

    def sampling(of_phase: DeviceShare) -> dict[str, int]:
        shares = [of_phase] + [blind_share(of_phase)] * blind.is_on(c.reward)
        return max((phase_memory.rollout_parts(sizes, x, layers_bytes, copy_bytes) for x in shares), key=_together)

    held = {"weights_copy": copy_bytes} if c.rollout.ahead else {}  # until the completions of a step ahead are scored
    activations = max((n.activations or 0 for n in specialists.values()), default=0)
    phases = {
        "update": phase_memory.update_parts(c, sizes, share, trained_bytes, memory.used_bytes(c, sizes, device_mesh))
        | held,
        "rollout": sampling(sampling_share(c, share, sampling_mesh)),
        "evaluation": sampling(evaluation) if evaluation.queries else {},
        "scoring": {"specialists": activations} if specialists else {},
    }
    if specialists:
        resident["specialists"] = sum(n.weights for n in specialists.values())
    return {
        "policy": c.policy.name,
        "devices": math.prod(device_mesh.shape.values()),
        "mesh": dict(device_mesh.shape),
        "rollout_mesh": dict(sampling_mesh.shape),
        "rollout_layout": why,
        "dtype": c.policy.dtype,
        "lora_rank": c.lora.rank,
        "per_device": dataclasses.asdict(share),
        **counts,
        "resident": resident,
        **phases,
        "specialists": {name: dataclasses.asdict(n) for name, n in specialists.items()},
        "peak": _together(resident) + max(map(_together, phases.values())),
    }


def _together(parts: dict[str, int]) -> int:
    return sum(parts.values())


def specialist_needs(c: config.Config) -> dict[str, Needs]:
    """The memory of each specialist that the settings name, by the setting; each device holds all its weights.

    The reward may have a learned segmenter, and the constructor "specialists" has a detector, a segmenter and a depth
    model. A model that both name is held twice.

    Raises ConfigError, which names the setting, if the model's files are missing or of another kind.
    """
    named = {"reward.segmenter": (c.reward.segmenter, "float32")} if c.reward.segmenter.startswith(PREFIX) else {}
    if c.policy.constructor == "specialists":
        named |= {
            f"specialists.{role}": (getattr(c.specialists, role), c.specialists.dtype)
            for role in ("detector", "segmenter", "depth")
            if getattr(c.specialists, role) not in ("", *DESCRIPTIONS)
        }
    found = {}
    for setting, (value, dtype) in named.items():
        try:
            found[setting] = needs(value.removeprefix(PREFIX), dtype)
        except ValueError as error:
            raise config.ConfigError(f"config.{setting} = {value!r}: {error}") from error
    return found


def abstract_mesh(sizes: config.Mesh) -> jax.sharding.AbstractMesh:
    """The mesh of the settings, which may have more devices than this machine; -1 is filled from the devices here."""
    return jax.sharding.AbstractMesh(mesh.axis_sizes(sizes, jax.device_count()), mesh.AXES)


def device_share(c: config.Config, sizes: Spec, device_mesh: memory.Mesh) -> DeviceShare:
    """The work of one device. Raises ConfigError if the batch cannot be cut evenly."""
    shares = mesh.batch_shards(device_mesh)
    mesh.check_batch(device_mesh, "rollout.queries", c.rollout.queries)
    mesh.check_batch(device_mesh, "train.eval_batch", c.train.eval_batch)
    micro = accumulate.micro_batch(c.rollout, c.grpo, device_mesh) or c.rollout.queries // c.grpo.minibatches
    return DeviceShare(
        queries=c.rollout.queries // shares,
        group=c.rollout.group,
        part_queries=micro // shares,
        part_group=accumulate.micro_group(c.rollout.group, c.grpo.micro_group),
        prompt=c.policy.prompt_tokens,
        new=pretrained.completion_slots(c),
        patches=patches(c, sizes),
        branches=memory.mlp_adapters(c, sizes),
        item=jnp.dtype(c.policy.dtype).itemsize,
        shards=shares,
        tensor=device_mesh.shape["tensor"],
        gathers=device_mesh.shape["fsdp"] > 1,
        rounded=c.policy.weights_dtype == "int8",
        inserted=staged.chunk(c.rollout.twin_tokens) if c.policy.constructor == "specialists" else 0,
        platform=device_mesh.devices.flat[0].platform if isinstance(device_mesh, Mesh) else jax.default_backend(),
    )


def sampling_share(c: config.Config, share: DeviceShare, sampling_mesh: memory.Mesh) -> DeviceShare:
    """The work of one device in a rollout, whose mesh may have a larger tensor axis than the update's."""
    size, shards = c.rollout.queries // c.rollout.parts, mesh.batch_shards(sampling_mesh)
    mesh.check_batch(sampling_mesh, "rollout.queries / rollout.parts", size)
    # With specialists, the caches of up to three parts wait for the host (asking.complete.complete_in_turn).
    queries = size // shards * (min(c.rollout.parts, 3) if c.policy.constructor == "specialists" else 1)
    return dataclasses.replace(share, queries=queries, tensor=sampling_mesh.shape["tensor"])


def blind_share(share: DeviceShare) -> DeviceShare:
    """The work of one device where the policy is asked blind (evaluation/blind.py): a prompt for each completion."""
    return dataclasses.replace(
        share, queries=share.queries * share.group, group=1, prompt=share.prompt + share.new, patches=0
    )


def evaluation_share(c: config.Config, share: DeviceShare, device_mesh: memory.Mesh) -> DeviceShare:
    """The work of one device in an evaluation: one completion each of train.eval_batch queries, or of all if fewer.

    All devices share the queries, on any number of processes.
    """
    rows = min(c.train.eval_batch, c.train.eval_examples)
    return dataclasses.replace(share, queries=-(-rows // mesh.batch_shards(device_mesh)), group=1)


def patches(c: config.Config, sizes: Spec) -> int:
    """The most patches of a query: of one picture or of all frames of a video at their largest size.

    Their tokens must fit into the prompt. JSON lines may bring pictures or videos, so they count as a full prompt.
    """
    tower = sizes.vision
    if tower is None:
        return 0
    most, frames = c.policy.prompt_tokens * tower.merge**2, sources.max_frames(c.data)
    pixels = c.policy.max_pixels
    if frames > 1:
        pixels = pretrained.video_pixels(c.policy, tower) or pixels * (c.policy.name in spec.SPECS)
    if c.data.source in ("jsonl", "foreign") or not pixels:
        return most
    return min(most, frames * pixels // tower.patch**2)


def _table(planned: dict[str, Any]) -> Iterator[str]:
    """Lines for people, in GiB."""
    share = planned["per_device"]
    yield f"{planned['policy']}: {planned['parameters']:,} parameters, {planned['trainable']:,} of them trained" + (
        f" (LoRA of rank {planned['lora_rank']})" if planned["lora_rank"] else ""
    )
    yield (
        f"{planned['devices']} device(s): " + ", ".join(f"{k} {v}" for k, v in planned["mesh"].items()) + "; on each "
        f"{share['queries']} queries x {share['group']} completions of {share['prompt']} + {share['new']} tokens, the"
        f" update by {share['part_queries']} x {share['part_group']}; {planned['dtype']}"
    )
    yield ""
    yield "GiB on each device"
    for phase in ("resident", "update", "rollout", "evaluation", "scoring"):
        parts, title = planned[phase], "stays" if phase == "resident" else phase
        for name, size in ({**parts, "together": sum(parts.values())} if parts else {}).items():
            yield f"  {title:<10} {name.replace('_', ' '):<20} {size / GIB:9.2f}"
    yield f"  {'peak':<31} {planned['peak'] / GIB:9.2f}"
    if planned["rollout"]["weights_copy"]:
        yield (
            f"A rollout has a copy of the weights, cut over {planned['rollout_mesh']['tensor']} device(s)"
            f" ({planned['rollout_layout']})"
        )
    yield ""
