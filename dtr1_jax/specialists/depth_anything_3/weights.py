"""The weights of Depth Anything 3 for single pictures: the names in the file, and how they are read.

The model functions are those of DINOv2 and Depth Anything V2, so each weight gets the name that it has there.
"""

from __future__ import annotations

import re
from typing import Any

import jax

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import tensors
from dtr1_jax.specialists.depth_anything import dpt_head
from dtr1_jax.specialists.depth_anything_3.spec import MonoSpec
from dtr1_jax.specialists.dinov2 import weights as dinov2_weights

BACKBONE = "backbone."
SKY = ("head.sky1", "head.sky2")  # our names of the convolutions that find the sky
# Expression for a name of ours -> the name in the file, in the order in which they are tried.
_IN_FILE = (
    (r"backbone\.embeddings\.position_embeddings", "backbone.pretrained.pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection", "backbone.pretrained.patch_embed.proj"),
    (r"backbone\.embeddings\.", "backbone.pretrained."),
    (r"backbone\.encoder\.layer\.", "backbone.pretrained.blocks."),
    (r"backbone\.layernorm", "backbone.pretrained.norm"),
    (r"\.attention\.qkv", ".attn.qkv"),
    (r"\.attention\.output\.dense", ".attn.proj"),
    (r"\.layer_scale(\d)\.lambda1", r".ls\1.gamma"),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection", r"head.projects.\1"),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize", r"head.resize_layers.\1"),
    (r"neck\.convs\.(\d)", lambda m: f"head.scratch.layer{int(m[1]) + 1}_rn"),
    (r"neck\.fusion_stage\.layers\.(\d)", lambda m: f"head.scratch.refinenet{4 - int(m[1])}"),
    (r"(refinenet\d)\.projection", r"\1.out_conv"),
    (r"\.residual_layer(\d)\.convolution(\d)", r".resConfUnit\1.conv\2"),
    (r"head\.conv1", "head.scratch.output_conv1"),
    (r"head\.conv([23])", lambda m: f"head.scratch.output_conv2.{2 * int(m[1]) - 4}"),
    (r"head\.sky([12])", lambda m: f"head.scratch.sky_output_conv2.{2 * int(m[1]) - 2}"),
)


def name_in_file(name: str) -> str:
    """The name in the file of a weight that the model functions call `name`."""
    for pattern, new in _IN_FILE:
        name = re.sub(pattern, new, name)
    return f"model.{name}"


def shapes(spec: MonoSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that an output depends on, by our names."""
    result = dinov2_weights.shapes(spec.backbone, BACKBONE, max(spec.taps))
    for name in [name for name in result if ".attention.attention." in name]:  # the file has them in one piece
        shape = result.pop(name)
        if ".query." in name:
            name = name.replace(".attention.attention.query.", ".attention.qkv.")
            result[name] = (3 * shape[0], *shape[1:])
    result |= dpt_head.shapes(spec.head, spec.backbone.width)
    half, hidden = spec.head.fusion // 2, spec.head.hidden
    return result | dinov2_weights.dense(SKY[0], hidden, half, 3, 3) | dinov2_weights.dense(SKY[1], 1, hidden, 1, 1)


def load(checkpoint: HfCheckpoint, spec: MonoSpec, place: jax.sharding.Sharding, dtype: Any) -> tensors.Params:
    """Reads the weights. Raises WeightsError as `tensors.load_params` does, with the names in the file."""
    ours = {name_in_file(name): name for name in shapes(spec)}
    expected = {name: shapes(spec)[our] for name, our in ours.items()}
    layers = "|".join(str(i) for i in range(max(spec.taps), spec.backbone.layers)) or "-"
    ignored = (
        rf"model\.backbone\.pretrained\.(mask_token|blocks\.({layers})\..*)"
        r"|model\.head\.scratch\.refinenet4\.resConfUnit1\..*"
    )
    params = tensors.load_params(checkpoint, expected, place, dtype, ignored=ignored)
    return {ours[name]: array for name, array in params.items()}
