"""config.json of a SAM 2 checkpoint: published sizes, older spellings, and clear errors."""

import copy

import pytest

from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.sam2.spec import from_config
from dtr1_jax.specialists.sam2.weights import shapes


def parameters(**config):
    return sum(_product(shape) for shape in shapes(from_config({"model_type": "sam2_video", **config})).values())


def _product(shape):
    total = 1
    for n in shape:
        total *= n
    return total


def hiera(width, heads, blocks, windows, global_blocks, background=(7, 7)):
    widths = [width, 2 * width, 4 * width, 8 * width]
    backbone = {
        "hidden_size": width, "embed_dim_per_stage": widths, "blocks_per_stage": blocks,
        "num_attention_heads_per_stage": [heads, 2 * heads, 4 * heads, 8 * heads], "window_size_per_stage": windows,
        "global_attention_blocks": global_blocks, "window_positional_embedding_background_size": list(background),
    }  # fmt: skip
    return {"vision_config": {"backbone_config": backbone, "backbone_channel_list": widths[::-1]}}


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ({}, 38.9),
        (hiera(96, 1, [1, 2, 11, 2], [8, 4, 14, 7], [7, 10, 13]), 46.0),
        (hiera(112, 2, [2, 3, 16, 3], [8, 4, 14, 7], [12, 16, 20], (14, 14)), 80.8),
        (hiera(144, 2, [2, 6, 36, 4], [8, 4, 16, 8], [23, 33, 43]), 224.4),
    ],
)
def test_published_sizes(config, millions):
    """Tiny, small, base plus and large; the numbers of parameters are those that SAM 2's authors give."""
    assert parameters(**config) / 1e6 == pytest.approx(millions, abs=0.1)


def test_older_spellings_and_both_kinds():
    assert from_config({"model_type": "sam2"}).memory is None
    spec = from_config({"model_type": "sam2_video", "memory_attention_rope_theta": 5000.0})
    assert spec.memory.theta == 5000 and spec.grid == 64 and spec.mask_size == 256
    assert from_config({"model_type": "sam2_video", "rope_parameters": {"rope_theta": 7.0}}).memory.theta == 7
    assert spec.memory.most_conditions is None and spec.memory.pointers == 16 and spec.memory.frames == 7
    assert from_config({"model_type": "sam2_video", "max_cond_frame_num": 4}).memory.most_conditions == 4


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("vision_config.backbone_config.global_attention_blocks", [3], "not the first of a stage"),
        ("vision_config.backbone_config.global_attention_blocks", [12], "indices below 12"),
        ("vision_config.backbone_config.window_size_per_stage", [8, 4, 7, 7], "even windows"),
        ("vision_config.backbone_config.blocks_per_stage", [1, 2, 7], "expected 4 positive integers"),
        ("vision_config.backbone_config.query_stride", [4, 4], "query_stride"),
        ("vision_config.backbone_config.image_size", [1024, 512], "image_size"),
        ("vision_config.backbone_config.image_size", 1000, "multiple of 32"),
        ("vision_config.backbone_config.patch_kernel_size", 12, "do not give image_size / 4"),
        ("vision_config.backbone_config.hidden_act", "swish7", "hidden_act"),
        ("vision_config.backbone_feature_sizes", [[1, 1]], "backbone_feature_sizes"),
        ("vision_config.backbone_channel_list", [1, 2, 3, 4], "backbone_channel_list"),
        ("vision_config.fpn_kernel_size", 3, "fpn_kernel_size"),
        ("vision_config.fpn_top_down_levels", [9], "fpn_top_down_levels"),
        ("prompt_encoder_config.patch_size", 14, "patch_size"),
        ("prompt_encoder_config.image_size", 512, "image_size"),
        ("mask_decoder_config.hidden_size", 128, "hidden_size"),
        ("mask_decoder_config.num_attention_heads", 7, "7 heads"),
        ("mask_decoder_config.num_hidden_layers", 1, "at least 2"),
        ("memory_attention_rope_feat_sizes", [32, 32], "memory_attention_rope_feat_sizes"),
        ("memory_attention_hidden_size", 128, "memory_attention_hidden_size"),
        ("memory_encoder_output_channels", 60, "memory_encoder_output_channels"),
        ("mask_downsampler_total_stride", 32, "mask_downsampler_total_stride"),
        ("memory_fuser_padding", 1, "memory_fuser_padding"),
        ("num_maskmem", 1, "num_maskmem"),
        ("rope_parameters", {"rope_type": "yarn"}, "rope_type"),
    ],
)
def test_wrong_fields_are_named(path, value, message):
    config = copy.deepcopy({"model_type": "sam2_video"})
    inner = config
    *sections, name = path.split(".")
    for part in sections:
        inner = inner.setdefault(part, {})
    inner[name] = value
    with pytest.raises(SpecError, match=message):
        from_config(config)
