"""The sizes and options of a policy, which decide the shapes of its weights, and how config.json gives them."""

from __future__ import annotations

import dataclasses
import math


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
    def values(self) -> int:
        """How many values one patch has: channels x frames x rows x columns."""
        return 3 * self.temporal_patch * self.patch**2


@dataclasses.dataclass(frozen=True)
class Spec:
    """Sizes and options of a policy: the decoder, and its vision tower if it has one.

    Attributes:
      vocab, width, layers, heads, kv_heads, head_dim, hidden: sizes of the decoder.
      theta: base of the rotary frequencies.
      sections: how many of the head_dim / 2 rotary frequencies follow time, row and column; None = all follow time.
      interleaved: frequencies of the three axes alternate (Qwen3-VL) instead of forming three blocks (Qwen2.5-VL).
      qk_norm: RMS norm of each query and key head (Qwen3).
      qkv_bias: bias of the query, key and value projections (Qwen2.5).
      tied: the embedding is also the output projection.
      eps: epsilon of the RMS norms.
      unroll: layers of the scan that are compiled in line; a larger number makes small models faster, and compilation
        slower.
      remat: the backward pass recomputes each layer instead of keeping its activations.
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
    sections: tuple[int, int, int] | None = None
    interleaved: bool = True
    qk_norm: bool = True
    qkv_bias: bool = False
    tied: bool = True
    eps: float = 1e-6
    unroll: int = 1
    remat: bool = True
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


class SpecError(ValueError):
    """A config.json describes a model that this code cannot run; the message names the field."""


_TEXT = {  # model_type -> options that config.json leaves to the family's code; theta is a default
    "llama": {"theta": 1e4, "qk_norm": False, "qkv_bias": False},
    "qwen2": {"theta": 1e4, "qk_norm": False, "qkv_bias": True},
    "qwen3": {"theta": 1e4, "qk_norm": True, "qkv_bias": False},
    "qwen2_5_vl": {"theta": 1e6, "qk_norm": False, "qkv_bias": True, "interleaved": False, "frame": "pixel"},
    "qwen3_vl": {"theta": 5e5, "qk_norm": True, "qkv_bias": False, "interleaved": True},
}
_HEAD_DIM = {"qwen3": 128, "qwen3_vl": 128}  # defaults; the default of other families is width / heads


def from_hf(config: dict) -> Spec:
    """The spec that the values of a Hugging Face config.json describe.

    Takes llama, qwen2, qwen3, qwen2_5_vl and qwen3_vl, in the forms of the hub and of transformers 4 and 5.

    Raises SpecError, which names the field, for another architecture, for a size that is missing or does not fit, and
    for a feature that would change the logits and is not implemented (scaled rotary positions, sliding windows,
    quantised weights, ...).
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _TEXT:
        raise SpecError(f"model_type {kind!r} is not supported; expected one of {', '.join(_TEXT)}")
    for name in _names(config, "architectures"):
        if not name.endswith(("ForCausalLM", "ForConditionalGeneration")):
            raise SpecError(f"architectures: {name} does not generate text; expected ...ForCausalLM or the like")
    text = config
    inner = _dict(config, "text_config")
    if inner:
        text = {**inner, "tie_word_embeddings": inner.get("tie_word_embeddings") or config.get("tie_word_embeddings")}
    _refuse(config, "", {"quantization_config": (None,), "dtr1_frame": (None, "norm1000", "pixel")})
    heads = _size(text, "num_attention_heads")
    width = _size(text, "hidden_size")
    vision = _vision(config, kind, width) if kind.endswith("_vl") else None
    rope = _dict(text, "rope_scaling") | _dict(text, "rope_parameters")
    fixed = dict(_TEXT[kind])
    if config.get("dtr1_frame"):  # our own field, see published_sizes.TINY
        fixed["frame"] = config["dtr1_frame"]
    theta = _number({"rope_theta": fixed.pop("theta")} | _field(text, "rope_theta") | rope, "rope_theta")
    _check_features(text, rope, fixed["qkv_bias"])
    if vision is not None:
        fixed["sections"] = _sections(rope)
        _refuse(rope, "rope_scaling.", {"mrope_interleaved": (None, fixed["interleaved"])})
    try:
        return Spec(
            vocab=_size(text, "vocab_size"),
            width=width,
            layers=_size(text, "num_hidden_layers", most=LAYERS),
            heads=heads,
            kv_heads=_size(text, "num_key_value_heads", heads),
            head_dim=_size(text, "head_dim", _HEAD_DIM.get(kind, width // heads)),
            hidden=_size(text, "intermediate_size"),
            theta=theta,
            tied=bool(text.get("tie_word_embeddings")),
            eps=_number({"rms_norm_eps": 1e-6} | text, "rms_norm_eps"),
            vision=vision,
            **fixed,
        )
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"the sizes do not fit: {error}") from error


def _check_features(text, rope, qkv_bias):
    """Refuses features of the decoder that would change the logits and are not implemented."""
    _refuse(text, "", {
        "hidden_act": (None, "silu"),
        "attention_bias": (None, qkv_bias),
        "mlp_bias": (None, False),
        "use_sliding_window": (None, False),
        "rope_interleaved": (None, False),
        "partial_rotary_factor": (None, 1, 1.0),
    })  # fmt: skip
    layers = set(_names(text, "layer_types"))
    if layers - {"full_attention"}:
        raise SpecError(f"layer_types: expected full_attention everywhere, got {sorted(layers)}")
    _refuse(rope, "rope_scaling.", {
        "rope_type": (None, "default", "mrope"), "type": (None, "default", "mrope"),
        "partial_rotary_factor": (None, 1, 1.0),
    })  # fmt: skip


def _sections(rope):
    sections = rope.get("mrope_section")
    three = isinstance(sections, list | tuple) and len(sections) == 3
    if not three or not all(type(n) is int and n >= 0 for n in sections):
        raise SpecError(f"rope_scaling.mrope_section: expected three integers from 0 on, got {sections!r}")
    return tuple(sections)


def _vision(config, kind, width):
    v = _dict(config, "vision_config")
    if not v:
        raise SpecError(f"vision_config: expected the tower's sizes, got {config.get('vision_config')!r}")
    out = _size(v, "out_hidden_size", width, "vision_config.")
    if out != width:
        raise SpecError(f"vision_config.out_hidden_size = {out} is not the decoder's hidden_size = {width}")
    gated = kind == "qwen2_5_vl"
    _refuse(v, "vision_config.", {
        "hidden_act": (None, "silu") if gated else (None, "gelu_pytorch_tanh"),
        "in_channels": (None, 3), "in_chans": (None, 3),
    })  # fmt: skip
    patch, merge = _size(v, "patch_size", None, "vision_config."), _size(v, "spatial_merge_size", 2, "vision_config.")
    common = {
        "width": _size(v, "hidden_size", None, "vision_config."),
        "layers": _size(v, "depth", None, "vision_config.", LAYERS),
        "heads": _size(v, "num_heads", None, "vision_config."),
        "hidden": _size(v, "intermediate_size", None, "vision_config."),
        "patch": patch,
        "merge": merge,
        "temporal_patch": _size(v, "temporal_patch_size", 2, "vision_config."),
        "theta": _number({"rope_theta": 1e4} | _dict(v, "rope_parameters"), "rope_theta", "vision_config."),
    }
    try:
        if gated:
            pixels = _size(v, "window_size", 112, "vision_config.")
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
                tokens_per_second=_number({"tokens_per_second": 4} | v, "tokens_per_second", "vision_config."),
            )
        rows = _size(v, "num_position_embeddings", 2304, "vision_config.")
        side = math.isqrt(rows)
        if side**2 != rows:
            raise SpecError(f"vision_config.num_position_embeddings = {rows} is not a square")
        return VisionSpec(**common, side=side, deepstack=tuple(v.get("deepstack_visual_indexes", (8, 16, 24))))
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"vision_config: {error}") from error


def _size(config, name, default=None, where="", most=None):
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{where}{name}: expected a positive integer, got {config.get(name)!r}")
    if most is not None and value > most:
        raise SpecError(f"{where}{name}: expected at most {most:,} layers, got {value!r:.20}")
    return value


def _number(config, name, where=""):
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        raise SpecError(f"{where}{name}: expected a positive number, got {value!r:.40}")
    return float(value)


def _dict(config, name):
    value = config.get(name)
    if not isinstance(value, dict | None):
        raise SpecError(f"{name}: expected an object, got {value!r}")
    return dict(value or {})


def _names(config, name):
    value = config.get(name)
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
        raise SpecError(f"{name}: expected a list of names, got {value!r}")
    return value


def _field(config, name):
    return {name: config[name]} if config.get(name) is not None else {}


def _refuse(config, where, allowed):
    for name, values in allowed.items():
        if config.get(name) not in values:
            expected = " or ".join(repr(v) for v in values if v is not None) or "none"
            raise SpecError(f"{where}{name} = {config[name]!r} is not supported; expected {expected}")
