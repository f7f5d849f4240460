"""Sizes of a policy: everything about its shape that the code needs to know before it sees a weight."""

from __future__ import annotations

import dataclasses

from dtr1_jax import config


@dataclasses.dataclass(frozen=True)
class VisionSpec:
    """Vision tower in the Qwen3-VL shape.

    Attributes:
      width, layers, heads, hidden: of the transformer.
      patch: side of a patch, pixels.
      temporal_patch: frames in a patch.
      merge: merge x merge patches become one token of the decoder.
      side: the learned position table has side x side rows.
      eps: of the layer norms.
      theta: base of the rotary frequencies.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch: int = 16
    temporal_patch: int = 2
    merge: int = 2
    side: int = 48
    eps: float = 1e-6
    theta: float = 1e4

    def __post_init__(self):
        if self.width % (4 * self.heads):
            raise ValueError(f"vision width = {self.width} is not a multiple of 4 x heads = {4 * self.heads}")

    @property
    def values(self) -> int:
        """Values in one patch."""
        return 3 * self.temporal_patch * self.patch**2


@dataclasses.dataclass(frozen=True)
class Spec:
    """Decoder, and its vision tower if it has one.

    Attributes:
      vocab, width, layers, heads, kv_heads, head_dim, hidden: of the decoder.
      theta: base of the rotary frequencies.
      sections: how many of the head_dim / 2 rotary frequencies follow time, row and column; None = all follow time.
      interleaved: frequencies take turns (Qwen3-VL) instead of standing in three blocks (Qwen2.5-VL).
      qk_norm: RMS norm of each query and key head (Qwen3).
      qkv_bias: bias of the query, key and value projections (Qwen2.5).
      tied: the embedding is also the output projection.
      eps: of the RMS norms.
      unroll: how many layers of the scoring scan are compiled in line; more is faster on small models, and more to
        compile.
      remat: recompute each layer in the backward pass instead of keeping its activations.
      lora_scale: factor on the output of LoRA branches (alpha / rank).
      frame: coordinate frame in which the policy writes boxes (names of dtr1_jax.twin.text.Frame): "pixel" of the
        resized picture or "norm1000".
      vision: the tower, or None for a text-only policy.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    theta: float = 1e6
    sections: tuple[int, int, int] | None = None
    interleaved: bool = True
    qk_norm: bool = True
    qkv_bias: bool = False
    tied: bool = True
    eps: float = 1e-6
    unroll: int = 1
    remat: bool = True
    lora_scale: float = 1.0
    frame: str = "norm1000"
    vision: VisionSpec | None = None

    def __post_init__(self):
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} is odd, but rotary positions turn pairs of values")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.sections is not None and sum(self.sections) != self.head_dim // 2:
            raise ValueError(f"sections {self.sections} must sum to head_dim / 2 = {self.head_dim // 2}")


TINY = Spec(
    vocab=1536,
    width=192,
    layers=4,
    heads=6,
    kv_heads=2,
    head_dim=32,
    hidden=512,
    theta=1e4,
    sections=(6, 5, 5),
    unroll=4,
    remat=False,
    frame="pixel",
    vision=VisionSpec(width=128, layers=4, heads=4, hidden=384, patch=8, temporal_patch=1, merge=2, side=12),
)

SPECS = {"tiny": TINY}


def get(name: str) -> Spec:
    """The spec of a named policy. Raises ConfigError with the nearest name."""
    if name not in SPECS:
        raise config.ConfigError(f"config.policy.name: no policy {name!r}{config.nearest(name, SPECS)}")
    return SPECS[name]
