"""Policies by name: the sizes of published checkpoints, in the form of their config.json.

If `config.policy.path` is set, the sizes come from the config.json at that path, and must agree with the name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dtr1_jax import config
from dtr1_jax.models import spec
from dtr1_jax.models.spec import Spec

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")


def _text(family: str, sizes: tuple[int, ...], vocab: int, tied: bool, **others: Any) -> dict[str, Any]:
    return {
        "model_type": family,
        **dict(zip(_SIZES, sizes)),
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        **others,
    }


def _qwen2_5_vl(sizes: tuple[int, ...], vocab: int, tied: bool, tower_hidden: int) -> dict[str, Any]:
    tower = {
        "depth": 32, "hidden_size": 1280, "intermediate_size": tower_hidden, "num_heads": 16, "in_chans": 3,
        "out_hidden_size": sizes[0], "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2, "hidden_act": "silu",
    }  # fmt: skip
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    return _text("qwen2_5_vl", sizes, vocab, tied, rope_scaling=rope, vision_config=tower)


def _qwen3_vl(sizes: tuple[int, ...], tied: bool, tower: tuple[int, int, int], levels: list[int]) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text = _text("qwen3_vl_text", sizes, 151936, tied, rope_theta=5e6, rope_scaling=rope, head_dim=128)
    depth, width, hidden = tower
    vision = {
        "depth": depth, "hidden_size": width, "intermediate_size": hidden, "num_heads": 16, "in_channels": 3,
        "out_hidden_size": sizes[0], "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "num_position_embeddings": 2304, "deepstack_visual_indexes": levels, "hidden_act": "gelu_pytorch_tanh",
    }  # fmt: skip
    return {"model_type": "qwen3_vl", "tie_word_embeddings": tied, "text_config": text, "vision_config": vision}


_SMALL_TOWER, _LARGE_TOWER = ((24, 1024, 4096), [5, 11, 17]), ((27, 1152, 4304), [8, 16, 24])
_SMOLLM2 = {"rope_theta": 1e5, "rms_norm_eps": 1e-5}
CONFIGS = {
    "smollm2_135m": _text("llama", (576, 30, 9, 3, 1536), 49152, True, **_SMOLLM2),
    "smollm2_360m": _text("llama", (960, 32, 15, 5, 2560), 49152, True, **_SMOLLM2),
    "smollm2_1_7b": _text("llama", (2048, 24, 32, 32, 8192), 49152, True, rope_theta=1.3e5, rms_norm_eps=1e-5),
    "qwen2_5_0_5b": _text("qwen2", (896, 24, 14, 2, 4864), 151936, True),
    "qwen2_5_1_5b": _text("qwen2", (1536, 28, 12, 2, 8960), 151936, True),
    "qwen2_5_3b": _text("qwen2", (2048, 36, 16, 2, 11008), 151936, True),
    "qwen2_5_7b": _text("qwen2", (3584, 28, 28, 4, 18944), 152064, False),
    "qwen2_5_14b": _text("qwen2", (5120, 48, 40, 8, 13824), 152064, False),
    "qwen2_5_32b": _text("qwen2", (5120, 64, 40, 8, 27648), 152064, False),
    "qwen3_0_6b": _text("qwen3", (1024, 28, 16, 8, 3072), 151936, True, head_dim=128),
    "qwen3_1_7b": _text("qwen3", (2048, 28, 16, 8, 6144), 151936, True, head_dim=128),
    "qwen3_4b": _text("qwen3", (2560, 36, 32, 8, 9728), 151936, True, head_dim=128),
    "qwen3_8b": _text("qwen3", (4096, 36, 32, 8, 12288), 151936, False, head_dim=128),
    "qwen3_14b": _text("qwen3", (5120, 40, 40, 8, 17408), 151936, False, head_dim=128),
    "qwen3_32b": _text("qwen3", (5120, 64, 64, 8, 25600), 151936, False, head_dim=128),
    "qwen2_5_vl_3b": _qwen2_5_vl((2048, 36, 16, 2, 11008), 151936, True, 3420),
    "qwen2_5_vl_7b": _qwen2_5_vl((3584, 28, 28, 4, 18944), 152064, False, 3420),
    "qwen2_5_vl_32b": _qwen2_5_vl((5120, 64, 40, 8, 27648), 152064, False, 3456),
    "qwen2_5_vl_72b": _qwen2_5_vl((8192, 80, 64, 8, 29568), 152064, False, 3456),
    "qwen3_vl_2b": _qwen3_vl((2048, 28, 16, 8, 6144), True, *_SMALL_TOWER),
    "qwen3_vl_4b": _qwen3_vl((2560, 36, 32, 8, 9728), True, *_SMALL_TOWER),
    "qwen3_vl_8b": _qwen3_vl((4096, 36, 32, 8, 12288), False, *_LARGE_TOWER),
    "qwen3_vl_32b": _qwen3_vl((5120, 64, 64, 8, 25600), False, *_LARGE_TOWER),
}  # fmt: skip

# The shipped policy as a config.json: Qwen3-VL without DeepStack. The fields that begin with dtr1_ are our own:
# they say that boxes are in pixels, and that the frames of a video are pictures without timestamps.
TINY = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": _text(
        "qwen3_vl_text", (192, 4, 6, 2, 512), 1664, True, rope_theta=1e4, head_dim=32,
        rope_scaling={"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True},
        bos_token_id=None, eos_token_id=962,
    ),
    "vision_config": {
        "depth": 4, "hidden_size": 128, "intermediate_size": 384, "num_heads": 4, "in_channels": 3,
        "out_hidden_size": 192, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 1,
        "num_position_embeddings": 144, "deepstack_visual_indexes": [], "hidden_act": "gelu_pytorch_tanh",
    },
    "image_token_id": 965, "video_token_id": 966, "vision_start_token_id": 963, "vision_end_token_id": 964,
    "dtr1_frame": "pixel", "dtr1_videos": "pictures",
}  # fmt: skip
CLASSES = {  # family -> class in transformers
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}


def get_spec(name: str) -> Spec:
    """The spec of the policy with this name. Raises ConfigError for an unknown name, and suggests the nearest one."""
    if name in CONFIGS:
        return spec.from_hf(CONFIGS[name])
    known = [*spec.SPECS, *CONFIGS]
    if name not in spec.SPECS:
        raise config.ConfigError(f"config.policy.name: no policy {name!r}{config.nearest(name, known)}")
    return spec.SPECS[name]


def differences(one: Spec, other: Spec) -> list[str]:
    """Lists the fields by which the weights of two specs differ: ["layers: 28 and 36", ...].

    Fields that fine-tunes of the same sizes change (rotary base and scaling, epsilons) are not compared.
    """
    ignored = {
        "theta",
        "rotary",
        "window",
        "eps",
        "unroll",
        "remat",
        "attention",
        "lora_scale",
        "lora_dropout",
        "vision",
    }
    return _compare(one, other, ignored, "") + _compare_towers(one.vision, other.vision)


def _compare_towers(one, other) -> list[str]:
    if one is None or other is None:
        counts = ["none" if tower is None else "one" for tower in (one, other)]
        return [] if one is other else [f"vision tower: {' and '.join(counts)}"]
    return _compare(one, other, {"theta", "eps", "tokens_per_second"}, "vision.")


def _compare(one, other, ignored, prefix) -> list[str]:
    pairs = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one)]
    return [f"{prefix}{name}: {a} and {b}" for name, a, b in pairs if name not in ignored and a != b]
