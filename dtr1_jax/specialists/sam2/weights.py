"""The names and shapes of a SAM 2 checkpoint's weights, and their reading."""

from __future__ import annotations

from typing import Any

import jax

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import tensors
from dtr1_jax.specialists.sam2.spec import LEVELS, Memory, Sam2Spec

Shapes = dict[str, tuple[int, ...]]
# Parameters and stored positions that no output depends on.
IGNORED = r"no_memory_positional_encoding|memory_attention\.(position_ids|rotary_emb\..+)"
# What a video checkpoint has besides, where config.json calls it a model of pictures.
VIDEO_ONLY = (
    r"|memory_.+|mask_downsample\..+|object_pointer_proj\..+|temporal_positional_encoding_projection_layer\..+"
    r"|no_object_pointer|occlusion_spatial_embedding_parameter"
)
# The positions of prompts and of the picture use one random matrix, which some files hold once.
PROMPT_WAVES = "prompt_encoder.shared_embedding.positional_embedding"
PICTURE_WAVES = "shared_image_embedding.positional_embedding"


def shapes(spec: Sam2Spec) -> Shapes:
    """{name in the checkpoint: shape}, in the order of the parts."""
    d = spec.width
    named = {PICTURE_WAVES: (2, d // 2), "no_memory_embedding": (1, 1, d)}
    named |= _backbone(spec) | _prompt_encoder(spec) | _decoder(spec)
    return named if spec.memory is None else named | _video(spec, spec.memory)


def load(checkpoint: HfCheckpoint, spec: Sam2Spec, place: jax.sharding.Sharding, dtype: Any) -> tensors.Params:
    """Reads the weights onto the devices; arguments and errors as tensors.load_params documents them."""
    wanted = shapes(spec)
    twins = {PROMPT_WAVES: PICTURE_WAVES, PICTURE_WAVES: PROMPT_WAVES}
    absent = next((a for a, b in twins.items() if a not in checkpoint.tensors and b in checkpoint.tensors), None)
    named = {name: shape for name, shape in wanted.items() if name != absent}
    ignored = IGNORED + ("" if spec.memory else VIDEO_ONLY)
    precise = f"{PROMPT_WAVES}|{PICTURE_WAVES}"
    params = tensors.load_params(checkpoint, named, place, dtype, ignored=ignored, precise=precise)
    return params if absent is None else params | {absent: params[twins[absent]]}


def _affine(name: str, o: int, *i: int) -> Shapes:
    """Weight [o, *i] and bias [o] of a linear layer, a convolution or (without i) a normalisation."""
    return {f"{name}.weight": (o, *i), f"{name}.bias": (o,)}


def _transposed(name: str, i: int, o: int) -> Shapes:
    """A transposed convolution with kernel 2, whose weight starts with the channels that it reads."""
    return {f"{name}.weight": (i, o, 2, 2), f"{name}.bias": (o,)}


def _mlp(name: str, i: int, hidden: int, o: int, depth: int) -> Shapes:
    named = _affine(f"{name}.proj_in", hidden, i) | _affine(f"{name}.proj_out", o, hidden)
    for n in range(depth - 2):
        named |= _affine(f"{name}.layers.{n}", hidden, hidden)
    return named


def _attention(name: str, width: int, inner: int, keys: int) -> Shapes:
    return (
        _affine(f"{name}.q_proj", inner, width) | _affine(f"{name}.k_proj", inner, keys)
        | _affine(f"{name}.v_proj", inner, keys) | _affine(f"{name}.o_proj", width, inner)
    )  # fmt: skip


def _backbone(spec: Sam2Spec) -> Shapes:
    hiera, root = spec.hiera, "vision_encoder.backbone"
    first = hiera.widths[0]
    named = {
        f"{root}.pos_embed": (1, first, *hiera.background),
        f"{root}.pos_embed_window": (1, first, hiera.windows[0], hiera.windows[0]),
    } | _affine(f"{root}.patch_embed.projection", first, 3, hiera.kernel, hiera.kernel)
    block, i = 0, first
    for width, count in zip(hiera.widths, hiera.blocks):
        for _ in range(count):
            at = f"{root}.blocks.{block}"
            named |= _affine(f"{at}.layer_norm1", i) | _affine(f"{at}.attn.qkv", 3 * width, i)
            named |= _affine(f"{at}.attn.proj", width, width) | _affine(f"{at}.layer_norm2", width)
            named |= _mlp(f"{at}.mlp", width, int(width * hiera.mlp_ratio), width, 2)
            if i != width:
                named |= _affine(f"{at}.proj", width, i)
            block, i = block + 1, width
    for n in range(LEVELS):
        named |= _affine(f"vision_encoder.neck.convs.{n}", spec.width, hiera.widths[LEVELS - 1 - n], 1, 1)
    return named


def _prompt_encoder(spec: Sam2Spec) -> Shapes:
    root, d, c = "prompt_encoder", spec.width, spec.mask_channels
    return {
        PROMPT_WAVES: (2, d // 2),
        f"{root}.no_mask_embed.weight": (1, d),
        f"{root}.point_embed.weight": (4, d),
        f"{root}.not_a_point_embed.weight": (1, d),
        **_affine(f"{root}.mask_embed.conv1", c // 4, 1, 2, 2),
        **_affine(f"{root}.mask_embed.conv2", c, c // 4, 2, 2),
        **_affine(f"{root}.mask_embed.conv3", d, c, 1, 1),
        **_affine(f"{root}.mask_embed.layer_norm1", c // 4),
        **_affine(f"{root}.mask_embed.layer_norm2", c),
    }


def _decoder(spec: Sam2Spec) -> Shapes:
    root, d, sizes = "mask_decoder", spec.width, spec.decoder
    inner, tokens = d // sizes.downsample, sizes.candidates + 1
    named = {
        f"{root}.iou_token.weight": (1, d),
        f"{root}.mask_tokens.weight": (tokens, d),
        f"{root}.obj_score_token.weight": (1, d),
    }
    for n in range(sizes.layers):
        at = f"{root}.transformer.layers.{n}"
        named |= _attention(f"{at}.self_attn", d, d, d) | _mlp(f"{at}.mlp", d, sizes.mlp, d, sizes.layers)
        named |= _attention(f"{at}.cross_attn_token_to_image", d, inner, d)
        named |= _attention(f"{at}.cross_attn_image_to_token", d, inner, d)
        for norm in range(1, 5):
            named |= _affine(f"{at}.layer_norm{norm}", d)
    named |= _attention(f"{root}.transformer.final_attn_token_to_image", d, inner, d)
    named |= _affine(f"{root}.transformer.layer_norm_final_attn", d)
    named |= _transposed(f"{root}.upscale_conv1", d, d // 4) | _transposed(f"{root}.upscale_conv2", d // 4, d // 8)
    named |= _affine(f"{root}.upscale_layer_norm", d // 4)
    for n in range(tokens):
        named |= _mlp(f"{root}.output_hypernetworks_mlps.{n}", d, d, d // 8, 3)
    named |= _mlp(f"{root}.iou_prediction_head", d, sizes.iou_hidden, tokens, sizes.iou_depth)
    named |= _mlp(f"{root}.pred_obj_score_head", d, d, 1, 3)
    return named | _affine(f"{root}.conv_s0", d // 8, d, 1, 1) | _affine(f"{root}.conv_s1", d // 4, d, 1, 1)


def _video(spec: Sam2Spec, memory: Memory) -> Shapes:
    d, c = spec.width, memory.channels
    named = {"memory_temporal_positional_encoding": (memory.frames, 1, 1, c), "no_object_pointer": (1, d)}
    named |= _affine("mask_downsample", 1, 1, 4, 4) | _mlp("object_pointer_proj", d, d, d, 3)
    if memory.timed_pointers:
        named |= _affine("temporal_positional_encoding_projection_layer", c, d)
    if memory.occlusion:
        named["occlusion_spatial_embedding_parameter"] = (1, c)
    for n in range(memory.layers):
        at = f"memory_attention.layers.{n}"
        named |= _attention(f"{at}.self_attn", d, d // memory.downsample, d)
        named |= _attention(f"{at}.cross_attn_image", d, d // memory.downsample, c)
        named |= _affine(f"{at}.linear1", memory.mlp, d) | _affine(f"{at}.linear2", d, memory.mlp)
        for norm in range(1, 4):
            named |= _affine(f"{at}.layer_norm{norm}", d)
    named |= _affine("memory_attention.layer_norm", d)
    i, root = 1, "memory_encoder.mask_downsampler"
    for n in range(memory.mask_layers):
        o = i * memory.mask_stride**2
        named |= _affine(f"{root}.layers.{n}.conv", o, i, memory.mask_kernel, memory.mask_kernel)
        named |= _affine(f"{root}.layers.{n}.layer_norm", o)
        i = o
    named |= _affine(f"{root}.final_conv", d, i, 1, 1)
    named |= _affine("memory_encoder.feature_projection", d, d, 1, 1)
    for n in range(memory.fuser_layers):
        at = f"memory_encoder.memory_fuser.layers.{n}"
        named |= _affine(f"{at}.depthwise_conv", d, 1, memory.fuser_kernel, memory.fuser_kernel)
        named |= _affine(f"{at}.layer_norm", d) | {f"{at}.scale": (d,)}
        named |= _affine(f"{at}.pointwise_conv1", memory.fuser_hidden, d)
        named |= _affine(f"{at}.pointwise_conv2", d, memory.fuser_hidden)
    return named | _affine("memory_encoder.projection", c, d, 1, 1)
