"""The sizes and options of a policy, which decide the shapes of its weights, and how config.json gives them."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from dtr1_jax.models import rotary_scaling
from dtr1_jax.models.config_fields import SpecError, names, number, refuse, section, size, switch
from dtr1_jax.models.rotary_scaling import RotaryScaling


@dataclasses.dataclass(frozen=True)
class VisionSpec:
    """Sizes and options of a vision tower; the defaults are those of Qwen3-VL.

    Attributes:
      width, layers, heads, hidden: sizes of the transformer.
      patch: side of a patch in pixels.
      temporal_patch: frames in a patch.
      merge: merge x merge patches become one token of the decoder.
      side: the learned position table has side x side rows; 0 = rotary positions only (Qwen2.5-VL).
      eps: epsilon of the norms.
      theta: base of the rotary frequencies.
      norm: kind of the norms, "layer" or "rms" (Qwen2.5-VL).
      gated: the MLP is SwiGLU (Qwen2.5-VL) instead of GELU.
      patch_bias: the patch projection has a bias.
      window: side of an attention window in tokens; 0 = every layer attends to the whole picture.
      full_layers: in a tower with windows, the layers that attend to the whole picture (Qwen2.5-VL).
      deepstack: layers whose states are merged too; the decoder adds them after its first layers, in this order
        (DeepStack, arXiv 2406.04334; Qwen3-VL).
      tokens_per_second: rotary positions of a second of a video (Qwen2.5-VL); 0 = frames of a video are separate
        pictures, with timestamps in the text (Qwen3-VL).
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
    norm: str = "layer"
    gated: bool = False
    patch_bias: bool = True
    window: int = 0
    full_layers: tuple[int, ...] = ()
    deepstack: tuple[int, ...] = ()
    tokens_per_second: float = 0.0

    def __post_init__(self):
        if self.width % (4 * self.heads):
            raise ValueError(f"vision width = {self.width} is not a multiple of 4 x heads = {4 * self.heads}")
        if self.norm not in ("layer", "rms"):
            raise ValueError(f"vision norm: expected layer or rms, got {self.norm!r}")
        for name in ("full_layers", "deepstack"):
            layers = getattr(self, name)
            if list(layers) != sorted(set(layers) & set(range(self.layers))):
                raise ValueError(f"vision {name} = {layers}: expected increasing numbers below layers = {self.layers}")

    @property
    def head_counts(self) -> dict[str, int]:
        """As `Spec.head_counts`."""
        return {"qkv": self.heads, "out": self.heads}

    @property
    def values(self) -> int:
        """How many values one patch has: channels x frames x rows x columns."""
        return 3 * self.temporal_patch * self.patch**2


@dataclasses.dataclass(frozen=True)
class Spec:
    """Sizes and options of a policy: the decoder, and its vision tower if it has one.

    Attributes:
      vocab, width, layers, heads, kv_heads, head_dim, hidden: sizes of the decoder.
      theta: base of the rotary frequencies.
      rotary: how they are scaled for long sequences, or None.
      window: tokens of the sliding window that some layers have; 0 = none. Windows are not computed, so sequences must
        not be longer (policy.prefill and others check it).
      sections: how many of the head_dim / 2 rotary frequencies follow time, row and column; None = all follow time.
      interleaved: frequencies of the three axes alternate (Qwen3-VL) instead of forming three blocks (Qwen2.5-VL).
      qk_norm: RMS norm of each query and key head (Qwen3).
      qkv_bias: bias of the query, key and value projections (Qwen2.5).
      out_bias: bias of the projection behind the attention (`attention_bias` of Llama and Qwen3, with qkv_bias).
      mlp_bias: biases of the three projections of the MLP (Llama).
      tied: the embedding is also the output projection.
      eps: epsilon of the RMS norms.
      unroll: layers of the scan that are compiled in line; a larger number makes small models faster, and compilation
        slower.
      remat: the backward pass recomputes each layer instead of keeping its activations.
      attention: how whole sequences attend (layers.uses_kernel): "auto", "einsum" or "flash".
      lora_scale: factor on the output of LoRA branches: alpha / rank, or alpha / sqrt(rank) (rsLoRA).
      lora_dropout: share of a LoRA branch's input values that is dropped, in calls with a random key.
      frame: coordinate frame in which the policy writes boxes (names of twin.coordinates.Frame): "pixel" of the resized
        picture or "norm1000".
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
    rotary: RotaryScaling | None = None
    window: int = 0
    sections: tuple[int, int, int] | None = None
    interleaved: bool = True
    qk_norm: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    tied: bool = True
    eps: float = 1e-6
    unroll: int = 1
    remat: bool = True
    attention: Literal["auto", "einsum", "flash"] = "auto"
    lora_scale: float = 1.0
    lora_dropout: float = 0.0
    frame: str = "norm1000"
    vision: VisionSpec | None = None

    def __post_init__(self):
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} is odd, but rotary positions turn pairs of values")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.sections is not None and sum(self.sections) != self.head_dim // 2:
            raise ValueError(f"sections {self.sections} must sum to head_dim / 2 = {self.head_dim // 2}")
        if self.vision is not None and len(self.vision.deepstack) > self.layers:
            raise ValueError(f"{len(self.vision.deepstack)} DeepStack levels do not fit into {self.layers} layers")

    @property
    def head_counts(self) -> dict[str, int]:
        """The number of heads in each projection that has heads; mesh.shardings cuts these between heads only."""
        tower = {} if self.vision is None else self.vision.head_counts
        return {"q": self.heads, "o": self.heads, "k": self.kv_heads, "v": self.kv_heads, **tower}


TINY = Spec(
    vocab=1664,
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
LAYERS = 10_000  # limit for a decoder or a tower: looking up the names of a billion layers would never end


_TEXT = {  # model_type -> options that config.json leaves to the family's code
    "llama": {"qk_norm": False, "qkv_bias": False},
    "qwen2": {"qk_norm": False, "qkv_bias": True},
    "qwen3": {"qk_norm": True, "qkv_bias": False},
    "qwen2_5_vl": {"qk_norm": False, "qkv_bias": True, "interleaved": False, "frame": "pixel"},
    "qwen3_vl": {"qk_norm": True, "qkv_bias": False, "interleaved": True},
}
# Defaults of fields that config.json may lack. The default of head_dim in other families is width / heads.
_HEAD_DIM = {"qwen3": 128, "qwen3_vl": 128}
_THETA = {"qwen2_5_vl": 1e6, "qwen3_vl": 5e5}  # 10,000 in other families
_POSITIONS = {"llama": 2048, "qwen3_vl": 128_000}  # 32,768 in other families
_WINDOW_LAYERS = {"qwen2": 28, "qwen3": 28, "qwen2_5_vl": 80}  # the first layer with a window


def from_hf(config: dict, reach: int | None = None) -> Spec:
    """The spec that the values of a Hugging Face config.json describe.

    Takes llama, qwen2, qwen3, qwen2_5_vl and qwen3_vl, in the forms of the hub and of transformers 4 and 5.

    Args:
      config: the values.
      reach: most tokens of a prompt and its completion together. A sliding window that some layer uses is refused
        unless it holds so many tokens, because it then changes nothing; None refuses every such window.

    Raises SpecError, which names the field, for another architecture, for a size that is missing or does not fit, and
    for a feature that would change the logits and is not implemented (sliding windows, quantised weights, ...).
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _TEXT:
        raise SpecError(f"model_type {kind!r} is not supported; expected one of {', '.join(_TEXT)}")
    for name in names(config, "architectures"):
        if not name.endswith(("ForCausalLM", "ForConditionalGeneration")):
            raise SpecError(f"architectures: {name} does not generate text; expected ...ForCausalLM or the like")
    text = _decoder(config)
    refuse(config, "", {"quantization_config": (None,), "dtr1_frame": (None, "norm1000", "pixel")})
    heads = size(text, "num_attention_heads")
    width = size(text, "hidden_size")
    vision = _vision(config, kind, width) if kind.endswith("_vl") else None
    layers = size(text, "num_hidden_layers", most=LAYERS)
    head_dim = size(text, "head_dim", _HEAD_DIM.get(kind, width // heads))
    fixed = dict(_TEXT[kind])
    if config.get("dtr1_frame"):  # our own field, see published_sizes.TINY
        fixed["frame"] = config["dtr1_frame"]
    rotary = rotary_scaling.from_hf(
        text, head_dim, _THETA.get(kind, 1e4), _POSITIONS.get(kind, 32_768), sections=vision is not None
    )
    refuse(text, "", {"hidden_act": (None, "silu"), "rope_interleaved": (None, False)})
    fixed |= _biases(text, kind)
    if vision is not None:
        fixed["sections"] = _sections(rotary.fields, rotary.where)
        refuse(rotary.fields, rotary.where, {"mrope_interleaved": (None, fixed["interleaved"])})
    try:
        return Spec(
            vocab=size(text, "vocab_size"),
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=size(text, "num_key_value_heads", heads),
            head_dim=head_dim,
            hidden=size(text, "intermediate_size"),
            theta=rotary.theta,
            rotary=rotary.scaling,
            window=_window(text, kind, layers, reach),
            tied=bool(text.get("tie_word_embeddings")),
            eps=number(text, "rms_norm_eps", default=1e-6),
            vision=vision,
            **fixed,
        )
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"the sizes do not fit: {error}") from error


def _decoder(config):
    """The values about the decoder, which models with a tower may have in a section of their own."""
    inner = section(config, "text_config")
    if not inner:
        return config
    return inner | {"tie_word_embeddings": inner.get("tie_word_embeddings") or config.get("tie_word_embeddings")}


def _biases(text, kind):
    """Which projections have biases. Only Llama and Qwen3 leave it to config.json, and the MLP only Llama."""
    always = _TEXT[kind]["qkv_bias"]
    if always:
        refuse(text, "", {"attention_bias": (None, True)})
    if kind != "llama":
        refuse(text, "", {"mlp_bias": (None, False)})
    attention = switch(text, "attention_bias", always)
    return {"qkv_bias": attention, "out_bias": attention and not always, "mlp_bias": switch(text, "mlp_bias", False)}


def _window(text, kind, layers, reach):
    """The sliding window in tokens, 0 if no layer uses one. Raises SpecError for one that is shorter than `reach`."""
    kinds = names(text, "layer_types")
    if set(kinds) - {"full_attention", "sliding_attention"}:
        raise SpecError(f"layer_types: expected full_attention everywhere, got {sorted(set(kinds))}")
    used = switch(text, "use_sliding_window", False)
    by_type = [i for i, name in enumerate(kinds) if name == "sliding_attention"]
    first = text.get("max_window_layers")
    first = _WINDOW_LAYERS.get(kind, 0) if first is None else first
    if isinstance(first, bool) or not isinstance(first, int):
        raise SpecError(f"max_window_layers: expected a whole number, got {first!r:.40}")
    by_number = list(range(max(first, 0), layers)) if used and not kinds else []
    # Qwen's own code takes 4096 where the field is missing, and no window where it is null.
    window = size(text, "sliding_window", 4096) if text.get("sliding_window", 0) is not None else 0
    if by_number and window and (reach is None or reach > window):
        raise SpecError(
            f"use_sliding_window = True is not supported: from layer {by_number[0]} on (max_window_layers), a token "
            f"sees {window} tokens (sliding_window), {_shorter(reach)}"
        )
    if by_type and not (used and window and reach is not None and reach <= window):
        raise SpecError(
            f"layer_types: expected full_attention everywhere, got {sorted(set(kinds))}; sliding_window = {window} is "
            f"{_shorter(reach)}"
        )
    if kinds and len(kinds) != layers:
        raise SpecError(f"layer_types: expected {layers} names (num_hidden_layers), got {len(kinds)}")
    return window if by_number or by_type else 0


def _shorter(reach):
    if reach is None:
        return "and windows are not implemented; expected full attention"
    return (
        f"less than the {reach} tokens of a prompt and its completion, and windows are not implemented; lower "
        "policy.prompt_tokens or rollout.new_tokens"
    )


def _sections(rope, where):
    sections = rope.get("mrope_section")
    three = isinstance(sections, list | tuple) and len(sections) == 3
    if not three or not all(type(n) is int and n >= 0 for n in sections):
        raise SpecError(f"{where}mrope_section: expected three integers from 0 on, got {sections!r}")
    return tuple(sections)


def _vision(config, kind, width):
    v = section(config, "vision_config")
    if not v:
        raise SpecError(f"vision_config: expected the tower's sizes, got {config.get('vision_config')!r}")
    out = size(v, "out_hidden_size", width, "vision_config.")
    if out != width:
        raise SpecError(f"vision_config.out_hidden_size = {out} is not the decoder's hidden_size = {width}")
    gated = kind == "qwen2_5_vl"
    refuse(v, "vision_config.", {
        "hidden_act": (None, "silu") if gated else (None, "gelu_pytorch_tanh"),
        "in_channels": (None, 3), "in_chans": (None, 3),
    })  # fmt: skip
    patch, merge = size(v, "patch_size", None, "vision_config."), size(v, "spatial_merge_size", 2, "vision_config.")
    common = {
        "width": size(v, "hidden_size", None, "vision_config."),
        "layers": size(v, "depth", None, "vision_config.", LAYERS),
        "heads": size(v, "num_heads", None, "vision_config."),
        "hidden": size(v, "intermediate_size", None, "vision_config."),
        "patch": patch,
        "merge": merge,
        "temporal_patch": size(v, "temporal_patch_size", 2, "vision_config."),
        "theta": number(section(v, "rope_parameters"), "rope_theta", "vision_config.", 1e4),
    }
    try:
        if gated:
            pixels = size(v, "window_size", 112, "vision_config.")
            window = pixels // merge // patch
            if not window:
                raise SpecError(f"vision_config.window_size = {pixels} is less than a token's {merge * patch}")
            return VisionSpec(
                **common,
                side=0,
                norm="rms",
                gated=True,
                patch_bias=False,
                window=window,
                full_layers=tuple(v.get("fullatt_block_indexes", (7, 15, 23, 31))),
                tokens_per_second=number(v, "tokens_per_second", "vision_config.", 4),
            )
        rows = size(v, "num_position_embeddings", 2304, "vision_config.")
        side = math.isqrt(rows)
        if side**2 != rows:
            raise SpecError(f"vision_config.num_position_embeddings = {rows} is not a square")
        return VisionSpec(**common, side=side, deepstack=tuple(v.get("deepstack_visual_indexes", (8, 16, 24))))
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"vision_config: {error}") from error
