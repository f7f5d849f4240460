"""Settings: a ConfigDict from the command line becomes frozen dataclasses, and is checked once when it is read.

The settings and their bounds are in config_groups.py; rules about several settings are here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from dtr1_jax.checked_fields import ConfigError, build, faults_of_bounds, nearest
from dtr1_jax.config_groups import (
    Checkpoint,
    Config,
    Data,
    Grpo,
    Judge,
    Lora,
    Mesh,
    Optim,
    Policy,
    Reward,
    Rollout,
    Sft,
    Specialists,
    Train,
)
from dtr1_jax.outside import SAFE_URL, SAFE_VARIABLE, is_safe_url, is_safe_variable, shown_url
from dtr1_jax.types import TASKS

__all__ = [
    "Checkpoint",
    "Config",
    "ConfigError",
    "Data",
    "Grpo",
    "Judge",
    "Lora",
    "Mesh",
    "Optim",
    "Policy",
    "Reward",
    "Rollout",
    "Sft",
    "Specialists",
    "Train",
    "from_configdict",
    "nearest",
    "to_dict",
]


def from_configdict(values: ConfigDict) -> Config:
    """The checked settings. Raises ConfigError, naming every fault at once."""
    faults: list[str] = []
    config = build(Config, values.to_dict(), "config", faults)
    if not faults:
        faults = [*faults_of_bounds(config, "config"), *_faults_of_rules(config)]
    if faults:
        raise ConfigError("bad settings:\n  " + "\n  ".join(faults))
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The settings as a nested dict that JSON can hold."""
    return dataclasses.asdict(config)


def _faults_of_rules(config: Config) -> Iterator[str]:
    """A line for each rule about several settings that is broken."""
    for rules in RULES:
        for holds, name, expected, value in rules(config):
            if not holds:
                yield f"config.{name}: expected {expected}, got {value!r}"


# A rule: whether it holds, the setting that an error names, the value expected of it, its value.
Rule = tuple[bool, str, str, Any]


def _policy_rules(c: Config) -> Iterator[Rule]:
    yield (
        c.lora.rank > 0 or c.policy.weights_dtype == "float32",
        "policy.weights_dtype",
        "float32 where all weights are trained (lora.rank = 0): steps are smaller than what bfloat16 or int8 can hold",
        c.policy.weights_dtype,
    )
    yield (
        not c.policy.adapter or c.policy.weights_dtype != "int8",
        "policy.weights_dtype",
        "float32 or bfloat16 where policy.adapter is added to the weights (or export their sum and set policy.path)",
        c.policy.weights_dtype,
    )
    yield (
        c.policy.relations or c.policy.constructor != "policy",
        "policy.relations",
        "True for policy.constructor=policy, which writes its twins itself",
        c.policy.relations,
    )
    yield (
        c.policy.prompt != "example" or c.policy.constructor != "policy",
        "policy.prompt",
        "brief or full where the policy writes the twin (example is for the constructors given and specialists)",
        c.policy.prompt,
    )
    asks = c.policy.constructor == "specialists"
    yield (
        c.policy.prompt != "brief" or not asks,
        "policy.prompt",
        "full or example for policy.constructor=specialists, because a brief prompt does not say what can be asked for",
        c.policy.prompt,
    )
    yield (
        not asks or c.rollout.construct_tokens < c.rollout.new_tokens,
        "rollout.construct_tokens",
        f"less than rollout.new_tokens = {c.rollout.new_tokens}, which the request shares with thought and answer",
        c.rollout.construct_tokens,
    )
    for name, value in (("lora.dropout", c.lora.dropout), ("lora.rslora", c.lora.rslora)):
        off = type(value)(0)
        yield c.lora.rank > 0 or value == off, name, f"{off} where there are no adapters (lora.rank = 0)", value


def _reward_rules(c: Config) -> Iterator[Rule]:
    yield (
        c.reward.length_most > c.reward.length_free,
        "reward.length_most",
        f"more tokens than reward.length_free = {c.reward.length_free}",
        c.reward.length_most,
    )
    for task, of_task in c.reward.weights.items():
        weight = of_task.get("blind", 0.0)
        yield (
            not weight or c.policy.constructor == "policy",
            f"reward.weights.{task}.blind",
            "0 where the policy does not write the twin (policy.constructor): it answers from the twin's text anyway",
            weight,
        )
    url, name = c.reward.judge.url, c.reward.judge.key_env  # Both are shown without what may be a key.
    yield not url or is_safe_url(url), "reward.judge.url", SAFE_URL, shown_url(url)
    yield not name or is_safe_variable(name), "reward.judge.key_env", SAFE_VARIABLE, f"{len(name)} characters"


def _grpo_rules(c: Config) -> Iterator[Rule]:
    yield (
        not (c.grpo.dual_clip and c.grpo.variant == "cispo"),
        "grpo.dual_clip",
        "0 with variant cispo, which has no clipped term",
        c.grpo.dual_clip,
    )
    yield (
        not 1 < c.grpo.dual_clip <= 1 + c.grpo.clip_high,
        "grpo.dual_clip",
        f"0 (off) or more than 1 + grpo.clip_high = {1 + c.grpo.clip_high:g}: a lower bound would cut off the gradient"
        " of tokens that clip_high leaves in",
        c.grpo.dual_clip,
    )
    yield (
        c.grpo.hold_twin == 1 or (c.grpo.beta > 0 and c.policy.constructor == "policy"),
        "grpo.hold_twin",
        "1 where there is no KL (grpo.beta = 0) or the policy does not write the twin itself (policy.constructor)",
        c.grpo.hold_twin,
    )
    if c.grpo.minibatches < 1:
        return  # The bound of the setting says so.
    yield (
        c.rollout.queries % c.grpo.minibatches == 0,
        "grpo.minibatches",
        f"a divisor of rollout.queries = {c.rollout.queries}",
        c.grpo.minibatches,
    )
    minibatch = c.rollout.queries // c.grpo.minibatches
    yield (
        c.grpo.micro_queries == 0 or minibatch % c.grpo.micro_queries == 0,
        "grpo.micro_queries",
        f"0 or a divisor of the {minibatch} queries of a minibatch",
        c.grpo.micro_queries,
    )


def _rollout_rules(c: Config) -> Iterator[Rule]:
    yield (
        c.rollout.parts < 1 or c.rollout.queries % c.rollout.parts == 0,
        "rollout.parts",
        f"a divisor of rollout.queries = {c.rollout.queries}",
        c.rollout.parts,
    )
    yield (
        not c.rollout.ahead or c.grpo.importance != "off",
        "rollout.ahead",
        "0 for grpo.importance=off, because completions of older weights need importance weights: set"
        " grpo.importance=token_truncate",
        c.rollout.ahead,
    )


def _optim_rules(c: Config) -> Iterator[Rule]:
    falls = c.optim.schedule != "constant"
    yield (
        c.optim.decay_steps == 0 or (falls and c.optim.decay_steps >= c.train.steps),
        "optim.decay_steps",
        f"0 or at least train.steps = {c.train.steps}, because the learning rate is 0 after optim.decay_steps"
        if falls
        else "0 for optim.schedule=constant, which has no decay",
        c.optim.decay_steps,
    )


def _data_rules(c: Config) -> Iterator[Rule]:
    most = c.data.max_objects
    yield most >= c.data.min_objects, "data.max_objects", "at least data.min_objects", most
    yield (
        not c.data.shuffle_objects or c.policy.constructor == "given",
        "data.shuffle_objects",
        f"False for policy.constructor={c.policy.constructor}, whose prompt shows no objects",
        c.data.shuffle_objects,
    )
    yield (
        c.data.video == 0 or c.data.source == "twinworld",
        "data.video",
        f"0 for data.source={c.data.source}, whose files say what is a video",
        c.data.video,
    )
    for name in c.data.mix:
        yield name in TASKS, f"data.mix.{name}", f"one of {', '.join(TASKS)}", name
    mix = {name: c.data.mix.get(name, 0.0) for name in TASKS}
    yield all(0 <= w < math.inf for w in mix.values()) and any(mix.values()), "data.mix", "weights of 0 or more", mix
    yield (
        c.data.source == "twinworld" or bool(c.data.root),
        "data.root",
        f"a path, for data.source={c.data.source}",
        c.data.root,
    )
    named = "the data set, such as ref_coco/refcoco_unc," if c.data.source == "tfds" else "no name"
    yield (
        bool(c.data.name) == (c.data.source == "tfds"),
        "data.name",
        f"{named} for data.source={c.data.source}",
        c.data.name,
    )


def _mesh_rules(c: Config) -> Iterator[Rule]:
    sizes = [c.mesh.data, c.mesh.fsdp, c.mesh.tensor]
    yield (
        all(s >= 1 or s == -1 for s in sizes if s) and sizes.count(-1) <= 1 and c.mesh.data != 0,
        "mesh",
        "sizes of at least 1, at most one of them -1, and 0 (automatic) for fsdp and tensor alone",
        sizes,
    )


RULES = (_policy_rules, _reward_rules, _grpo_rules, _rollout_rules, _optim_rules, _data_rules, _mesh_rules)
