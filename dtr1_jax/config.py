"""Settings: a ConfigDict from the command line becomes frozen dataclasses, checked once at the door."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from typing import Any, Literal

from ml_collections import ConfigDict

from dtr1_jax import types


class ConfigError(ValueError):
    """A setting that can not be used; the message names it, what was expected and what was got."""


@dataclasses.dataclass(frozen=True)
class Data:
    source: Literal["twinworld", "coco", "davis", "jsonl", "easy_vqa"]
    root: str
    task: Literal["segmentation", "grounding", "vqa", "summary", "unified"]
    mix: dict[str, float]
    video: float
    frames: int
    max_video_objects: int
    train_split: str
    eval_split: str
    seed: int
    min_objects: int
    max_objects: int
    image_size: int
    workers: int


@dataclasses.dataclass(frozen=True)
class Policy:
    name: str
    path: str
    dtype: Literal["float32", "bfloat16"]
    weights_dtype: Literal["float32", "bfloat16", "int8"]
    remat: Literal["auto", "on", "off"]
    max_pixels: int
    video_pixels: int
    fps: float
    max_frames: int
    prompt_tokens: int
    prompt: Literal["brief", "full", "example"]
    constructor: Literal["policy", "given"]


@dataclasses.dataclass(frozen=True)
class Lora:
    rank: int
    alpha: float
    rslora: bool
    dropout: float
    targets: str

    @property
    def scale(self) -> float:
        """Factor on the output of each branch; with rslora that of arXiv 2312.03732. Needs rank > 0."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclasses.dataclass(frozen=True)
class Rollout:
    queries: int
    group: int
    new_tokens: int
    temperature: float
    top_k: int
    top_p: float


@dataclasses.dataclass(frozen=True)
class Judge:
    url: str
    model: str
    key_env: str
    cache: str
    deadline: float
    budget: int
    workers: int


@dataclasses.dataclass(frozen=True)
class Reward:
    weights: dict[str, dict[str, float]]
    segmenter: Literal["grabcut", "box"]
    mask_size: int
    tolerance: float
    length_free: int
    length_most: int
    idf: str
    sentences: str
    judge: Judge
    deadline: float
    workers: int


@dataclasses.dataclass(frozen=True)
class Grpo:
    variant: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"]
    advantage: Literal["group", "batch", "none", "ema"]
    ema_decay: float
    beta: float
    hold_twin: float
    clip_low: float
    clip_high: float
    dual_clip: float
    mask_truncated: bool
    epochs: int
    minibatches: int
    micro_queries: int
    micro_group: int
    resample: int


@dataclasses.dataclass(frozen=True)
class Optim:
    lr: float
    warmup: int
    schedule: Literal["constant", "cosine", "linear"]
    b1: float
    b2: float
    eps: float
    weight_decay: float
    clip: float


@dataclasses.dataclass(frozen=True)
class Sft:
    steps: int
    batch: int
    lr: float
    warmup: int
    direct: float
    reasoning: float
    practice: int
    practice_queries: int
    practice_drills: int
    dense: float
    tower: float
    log_every: int
    curriculum: float


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int
    eval_every: int
    eval_examples: int
    eval_batch: int
    eval_temperature: float
    log_every: int
    samples_every: int
    gallery: int


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int
    keep: int


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
    config = _build(Config, values.to_dict(), "config", faults)
    if not faults:
        faults = _cross_checks(config)
    if faults:
        raise ConfigError("bad settings:\n  " + "\n  ".join(faults))
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Plain nested dict, for JSON."""
    return dataclasses.asdict(config)


def nearest(name: str, known) -> str:
    """` (did you mean "x"?)` for the nearest known name, or the list of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else f" (known: {', '.join(known)})"


def _build(kind, value, path: str, faults: list[str]):
    """`value` as `kind`, which is a dataclass or an annotation; appends to faults what does not fit."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            faults.append(f"{path}: expected a group of settings, got {value!r}")
            return None
        hints = typing.get_type_hints(kind)
        faults += [f"{path}.{n}: unknown setting{nearest(n, hints)}" for n in value if n not in hints]
        faults += [f"{path}.{n}: missing" for n in hints if n not in value]
        return kind(**{n: _build(h, value[n], f"{path}.{n}", faults) if n in value else None for n, h in hints.items()})
    origin = typing.get_origin(kind)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            hint = nearest(str(value), options)
            faults.append(f"{path}: expected one of {', '.join(map(str, options))}, got {value!r}{hint}")
        return value
    if origin is dict:
        inner = typing.get_args(kind)[1]
        if not isinstance(value, dict):
            faults.append(f"{path}: expected names with {'numbers' if inner is float else 'groups'}, got {value!r}")
            return {}
        return {k: _build(inner, v, f"{path}.{k}", faults) for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        faults.append(f"{path}: expected {kind.__name__}, got {value!r} ({type(value).__name__})")
    elif kind is float and value != value:
        faults.append(f"{path}: expected a number, got nan")
    return value


def _cross_checks(c: Config) -> list[str]:
    """What types alone do not say."""
    faults = []

    def check(ok: bool, name: str, expected: str, got) -> None:
        if not ok:
            faults.append(f"config.{name}: expected {expected}, got {got!r}")

    for name in (
        "rollout.queries", "rollout.group", "rollout.new_tokens", "policy.prompt_tokens", "data.image_size",
        "data.min_objects", "data.max_video_objects", "reward.workers", "reward.mask_size", "grpo.epochs",
        "grpo.minibatches", "sft.batch", "train.eval_batch", "train.log_every", "sft.log_every", "checkpoint.keep",
    ):  # fmt: skip
        section, key = name.split(".")
        got = getattr(getattr(c, section), key)
        check(got >= 1, name, "at least 1", got)
    for name in (
        "data.workers",
        "data.frames",
        "policy.max_pixels",
        "policy.video_pixels",
        "policy.fps",
        "policy.max_frames",
        "lora.rank",
        "rollout.temperature",
        "rollout.top_k",
        "grpo.beta",
        "grpo.hold_twin",
        "grpo.clip_low",
        "grpo.clip_high",
        "grpo.dual_clip",
        "grpo.micro_queries",
        "grpo.micro_group",
        "grpo.resample",
        "reward.tolerance",
        "reward.length_free",
        "optim.lr",
        "optim.warmup",
        "optim.clip",
        "optim.eps",
        "optim.weight_decay",
        "sft.steps",
        "sft.lr",
        "sft.warmup",
        "sft.dense",
        "train.steps",
        "train.eval_every",
        "train.eval_examples",
        "train.eval_temperature",
        "train.samples_every",
        "train.gallery",
        "checkpoint.every",
    ):
        section, key = name.split(".")
        got = getattr(getattr(c, section), key)
        check(got >= 0, name, "0 or more", got)
    check(
        c.lora.rank > 0 or c.policy.weights_dtype == "float32",
        "policy.weights_dtype",
        "float32 where all weights are trained (lora.rank = 0): steps are smaller than what bfloat16 or int8 can hold",
        c.policy.weights_dtype,
    )
    check(
        c.policy.prompt != "example" or c.policy.constructor == "given",
        "policy.prompt",
        "brief or full where the policy writes the twin (example is for constructor given)",
        c.policy.prompt,
    )
    check(0 <= c.lora.dropout < 1, "lora.dropout", "a share in [0, 1)", c.lora.dropout)
    for name, got in (("lora.dropout", c.lora.dropout), ("lora.rslora", c.lora.rslora)):
        off = type(got)(0)
        check(c.lora.rank > 0 or got == off, name, f"{off} where there are no adapters (lora.rank = 0)", got)
    check(c.data.max_objects >= c.data.min_objects, "data.max_objects", "at least data.min_objects", c.data.max_objects)
    check(0 <= c.grpo.ema_decay < 1, "grpo.ema_decay", "a number in [0, 1)", c.grpo.ema_decay)
    check(0 < c.rollout.top_p <= 1, "rollout.top_p", "a number in (0, 1]", c.rollout.top_p)
    check(
        c.rollout.temperature > 0,
        "rollout.temperature",
        "above 0 (greedy groups have no spread)",
        c.rollout.temperature,
    )
    check(c.reward.deadline > 0, "reward.deadline", "seconds above 0", c.reward.deadline)
    check(
        c.reward.length_most > c.reward.length_free,
        "reward.length_most",
        f"more tokens than reward.length_free = {c.reward.length_free}",
        c.reward.length_most,
    )
    judge = c.reward.judge
    check(judge.deadline > 0, "reward.judge.deadline", "seconds above 0", judge.deadline)
    check(judge.budget >= 0, "reward.judge.budget", "0 or more", judge.budget)
    check(judge.workers >= 1, "reward.judge.workers", "at least 1", judge.workers)
    check(0 <= c.sft.curriculum <= 1, "sft.curriculum", "a share in [0, 1]", c.sft.curriculum)
    check(0 <= c.sft.tower <= 1, "sft.tower", "a share in [0, 1]", c.sft.tower)
    check(
        not (c.grpo.dual_clip and c.grpo.variant == "cispo"),
        "grpo.dual_clip",
        "0 with variant cispo, which has no clipped term",
        c.grpo.dual_clip,
    )
    check(0 <= c.optim.b1 < 1, "optim.b1", "a number in [0, 1)", c.optim.b1)
    check(0 <= c.optim.b2 < 1, "optim.b2", "a number in [0, 1)", c.optim.b2)
    check(c.grpo.dual_clip == 0 or c.grpo.dual_clip > 1, "grpo.dual_clip", "0 (off) or above 1", c.grpo.dual_clip)
    check(c.rollout.group >= 2, "rollout.group", "at least 2 (the advantage compares within a group)", c.rollout.group)
    check(
        c.rollout.queries % c.grpo.minibatches == 0,
        "grpo.minibatches",
        f"a divisor of rollout.queries = {c.rollout.queries}",
        c.grpo.minibatches,
    )
    per = c.rollout.queries // c.grpo.minibatches
    check(
        c.grpo.micro_queries == 0 or per % c.grpo.micro_queries == 0,
        "grpo.micro_queries",
        f"0 or a divisor of the {per} queries of a minibatch",
        c.grpo.micro_queries,
    )
    check(0 <= c.data.video <= 1, "data.video", "a share in [0, 1]", c.data.video)
    check(
        c.data.video == 0 or c.data.source == "twinworld",
        "data.video",
        f"0 for data.source={c.data.source}, whose files say what is a video",
        c.data.video,
    )
    for name in c.data.mix:
        check(name in types.TASKS, f"data.mix.{name}", f"one of {', '.join(types.TASKS)}", name)
    mix = {name: c.data.mix.get(name, 0.0) for name in types.TASKS}
    check(all(0 <= w < math.inf for w in mix.values()) and any(mix.values()), "data.mix", "weights of 0 or more", mix)
    check(
        c.data.source == "twinworld" or bool(c.data.root),
        "data.root",
        f"a path, for data.source={c.data.source}",
        c.data.root,
    )
    sizes = [c.mesh.data, c.mesh.fsdp, c.mesh.tensor]
    check(
        all(s >= 1 or s == -1 for s in sizes) and sizes.count(-1) <= 1,
        "mesh",
        "sizes of at least 1, at most one of them -1",
        sizes,
    )
    return faults
