"""The settings as frozen dataclasses, one for each group; the bound of a single setting is beside its field."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from dtr1_jax.checked_fields import Bound, above, at_least, within_one
from dtr1_jax.types import SourceName


@dataclasses.dataclass(frozen=True)
class Data:
    source: SourceName
    root: str
    name: str
    task: Literal["segmentation", "grounding", "vqa", "summary", "unified"]
    mix: dict[str, float]
    video: float = within_one("a share in [0, 1]")
    frames: int = at_least(0)
    max_video_objects: int = at_least(1)
    train_split: str
    eval_split: str
    seed: int = at_least(0)
    min_objects: int = at_least(1)
    max_objects: int
    image_size: int = at_least(1)
    shuffle_objects: bool
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
    attention: Literal["auto", "einsum", "flash"]
    max_pixels: int = at_least(0)
    video_pixels: int = at_least(0)
    fps: float = at_least(0)
    max_frames: int = at_least(0)
    prompt_tokens: int = at_least(1)
    prompt: Literal["brief", "full", "example"]
    constructor: Literal["policy", "given", "specialists"]
    ids: Literal["number", "named"]
    relations: bool


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
    tracker: Literal["auto", "memory", "iou", "none"]
    gap: int = at_least(0)
    colour_share: float = Bound("a share in (0, 1]", lambda x: 0 < x <= 1).field()
    dtype: Literal["float32", "bfloat16"]
    max_pixels: int = at_least(4096)  # smaller masks are refused in JSON lines (data/readers/jsonl_agreement.py)
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
    parts: int = at_least(1)
    ahead: int = Bound("0 or 1", lambda x: x in (0, 1)).field()
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
    profile: int = Bound("0 or more", lambda n: n >= 0).field(0)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int = at_least(0)
    keep: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class Mesh:
    data: int
    fsdp: int
    tensor: int
    rollout: int = Bound("-1, 0 or a number of devices", lambda n: n >= -1).field(0)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings. `configs/default.py` says what each means and its unit."""

    seed: int = at_least(0)
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
