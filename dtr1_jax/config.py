"""Settings: a ConfigDict from the command line becomes frozen dataclasses, and is checked once when it is read.

The bound of a single setting is beside its field; rules about several settings are at the end of the file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

from ml_collections import ConfigDict

from dtr1_jax.checked_fields import Bound, ConfigError, above, at_least, build, faults_of_bounds, nearest, within_one
from dtr1_jax.outside import SAFE_URL, SAFE_VARIABLE, is_safe_url, is_safe_variable, shown_url
from dtr1_jax.types import TASKS

__all__ = ["Config", "ConfigError", "from_configdict", "nearest", "to_dict"]


@dataclasses.dataclass(frozen=True)
class Data:
    source: Literal["twinworld", "coco", "davis", "jsonl", "easy_vqa"]
    root: str
    task: Literal["segmentation", "grounding", "vqa", "summary", "unified"]
    mix: dict[str, float]
    video: float = within_one("a share in [0, 1]")
    frames: int = at_least(0)
    max_video_objects: int = at_least(1)
    train_split: str
    eval_split: str
    seed: int
    min_objects: int = at_least(1)
    max_objects: int
    image_size: int = at_least(1)
    phrases: str
    workers: int = at_least(0)
    prefetch_mb: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class Policy:
    name: str
    path: str
    adapter: str
    dtype: Literal["float32", "bfloat16"]
    weights_dtype: Literal["float32", "bfloat16", "int8"]
    remat: Literal["auto", "on", "off"]
    max_pixels: int = at_least(0)
    video_pixels: int = at_least(0)
    fps: float = at_least(0)
    max_frames: int = at_least(0)
    prompt_tokens: int = at_least(1)
    prompt: Literal["brief", "full", "example"]
    constructor: Literal["policy", "given", "specialists"]
    ids: Literal["number", "named"]


@dataclasses.dataclass(frozen=True)
class Specialists:
    detector: str
    threshold: float = within_one("a score in [0, 1)", closed=False)
    phrases: str
    max_objects: int = Bound("1 to 256, the most objects of a twin", lambda n: 1 <= n <= 256).field()
    merge_iou: float = Bound("an IoU in (0, 1]", lambda x: 0 < x <= 1).field()
    segmenter: str
    depth: str
    depth_tie: float = within_one("a share in [0, 1)", closed=False)
    tracker: Literal["iou", "none"]
    gap: int = at_least(0)
    colour_share: float = Bound("a share in (0, 1]", lambda x: 0 < x <= 1).field()
    dtype: Literal["float32", "bfloat16"]
    max_pixels: int = at_least(1)
    batch: int = at_least(1)
    cache_mb: int = at_least(0)
    workers: int = at_least(1)
    deadline: float = above(0, "seconds above 0")
    pseudo_queries: int = at_least(0)
    examples: int = at_least(0)


@dataclasses.dataclass(frozen=True)
class Lora:
    rank: int = at_least(0)
    alpha: float
    rslora: bool
    dropout: float = within_one("a share in [0, 1)", closed=False)
    targets: str

    @property
    def scale(self) -> float:
        """Factor on the output of each branch; with rslora that of arXiv 2312.03732. Needs rank > 0."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclasses.dataclass(frozen=True)
class Rollout:
    queries: int = at_least(1)
    group: int = at_least(2, "at least 2 (the advantage compares within a group)")
    new_tokens: int = at_least(1)
    temperature: float = above(0, "above 0 (greedy groups have no spread)")
    top_k: int = at_least(0)
    top_p: float = Bound("a number in (0, 1]", lambda x: 0 < x <= 1).field()
    construct_tokens: int = at_least(1)
    twin_tokens: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class Judge:
    url: str
    model: str
    key_env: str
    cache: str
    deadline: float = above(0, "seconds above 0")
    budget: int = at_least(0)
    workers: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class Reward:
    weights: dict[str, dict[str, float]]
    segmenter: str = Bound(
        "grabcut, box, or sam:PATH with the folder, hub id or file of a SAM, SAM 2 or MobileSAM",
        lambda value: value in ("grabcut", "box") or (value.startswith("sam:") and bool(value[4:].strip())),
    ).field()
    mask_size: int = at_least(1)
    tolerance: float = at_least(0)
    length_free: int = at_least(0)
    length_most: int
    idf: str
    sentences: str
    judge: Judge
    deadline: float = above(0, "seconds above 0")
    workers: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class Grpo:
    variant: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"]
    advantage: Literal["group", "batch", "none", "ema"]
    ema_decay: float = within_one("a number in [0, 1)", closed=False)
    beta: float = at_least(0)
    hold_twin: float = at_least(0)
    clip_low: float = at_least(0)
    clip_high: float = at_least(0)
    dual_clip: float = Bound("0 (off) or above 1", lambda x: x == 0 or x > 1).field()
    importance: Literal["off", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    importance_low: float = within_one("a number in [0, 1]; 0 = no lower bound")
    importance_high: float = at_least(1)
    mask_truncated: bool
    epochs: int = at_least(1)
    minibatches: int = at_least(1)
    micro_queries: int = at_least(0)
    micro_group: int = at_least(0)
    resample: int = at_least(0)


@dataclasses.dataclass(frozen=True)
class Optim:
    lr: float = at_least(0)
    warmup: int = at_least(0)
    schedule: Literal["constant", "cosine", "linear"]
    decay_steps: int = at_least(0)
    b1: float = within_one("a number in [0, 1)", closed=False)
    b2: float = within_one("a number in [0, 1)", closed=False)
    eps: float = at_least(0)
    weight_decay: float = at_least(0)
    clip: float = at_least(0)


@dataclasses.dataclass(frozen=True)
class Sft:
    steps: int = at_least(0)
    batch: int = at_least(1)
    lr: float = at_least(0)
    warmup: int = at_least(0)
    direct: float
    reasoning: float
    practice: int
    practice_queries: int
    practice_drills: int
    dense: float = at_least(0)
    tower: float = within_one("a share in [0, 1]")
    log_every: int = at_least(1)
    curriculum: float = within_one("a share in [0, 1]")


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int = at_least(0)
    eval_every: int = at_least(0)
    eval_examples: int = at_least(0)
    eval_batch: int = at_least(1)
    eval_temperature: float = at_least(0)
    log_every: int = at_least(1)
    samples_every: int = at_least(0)
    gallery: int = at_least(0)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int = at_least(0)
    keep: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class Mesh:
    data: int
    fsdp: int
    tensor: int


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings. `configs/default.py` says what each means and its unit."""

    seed: int
    data: Data
    policy: Policy
    specialists: Specialists
    lora: Lora
    rollout: Rollout
    reward: Reward
    grpo: Grpo
    optim: Optim
    sft: Sft
    train: Train
    checkpoint: Checkpoint
    mesh: Mesh


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


def _mesh_rules(c: Config) -> Iterator[Rule]:
    sizes = [c.mesh.data, c.mesh.fsdp, c.mesh.tensor]
    yield (
        all(s >= 1 or s == -1 for s in sizes) and sizes.count(-1) <= 1,
        "mesh",
        "sizes of at least 1, at most one of them -1",
        sizes,
    )


RULES = (_policy_rules, _reward_rules, _grpo_rules, _optim_rules, _data_rules, _mesh_rules)
