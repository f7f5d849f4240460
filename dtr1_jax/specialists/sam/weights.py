"""Names and shapes of the weights of SAM (as transformers saves them) and MobileSAM (as mobile_sam.pt has them).

MobileSAM's prompt encoder and mask decoder are renamed to SAM's names, so that both run through the same functions; its
picture encoder keeps its own names.
"""

from __future__ import annotations

import re
from typing import Any

import jax

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import tensors
from dtr1_jax.specialists.sam.spec import LAYER_DOWNSAMPLE, SamSpec, TinyVitSpec, VitSpec

Shapes = dict[str, tuple[int, ...]]
_SHARED = "prompt_encoder.shared_embedding.positional_embedding"  # the same matrix under its second name
_POSITIONS = "shared_image_embedding.positional_embedding"
# Parts of a classifier that MobileSAM never runs, and counters of training steps.
_UNUSED = r"image_encoder\.(norm_head|head)\.(weight|bias)|.*\.num_batches_tracked"
# Positions are angles, and batch norms are folded in float32: both lose too much in bfloat16.
_PRECISE = r".*positional_embedding|image_encoder\..*\.(bn\.\w+|c\.weight)"
# Names of MobileSAM -> names of SAM.
_RENAMED = (
    (r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix", _POSITIONS),
    (r"prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.proj_in."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.1\.", r"\1.layers.0."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.2\.", r"\1.proj_out."),
)


def mobile_name(name: str) -> str:
    """A name in mobile_sam.pt -> the name that the model functions use."""
    for old, new in _RENAMED:
        renamed, count = re.subn(f"^{old}", new, name)
        if count:
            return renamed
    return name


def load(checkpoint: HfCheckpoint, spec: SamSpec, place: jax.sharding.Sharding, dtype: Any) -> tensors.Params:
    """Reads all weights of the checkpoint onto the devices. Raises WeightsError as `tensors.load_params` does."""
    if isinstance(spec.encoder, TinyVitSpec):
        return tensors.load_params(
            checkpoint, shapes(spec), place, dtype, rename=mobile_name, ignored=_UNUSED, precise=_PRECISE
        )
    second = {} if _POSITIONS in checkpoint.tensors else {_SHARED: _POSITIONS}
    return tensors.load_params(
        checkpoint, shapes(spec), place, dtype,
        rename=lambda name: second.get(name, name), ignored=re.escape(_SHARED), precise=_PRECISE,
    )  # fmt: skip


def shapes(spec: SamSpec) -> Shapes:
    """The shape of every weight, by its name in the model functions."""
    encoder = _tiny_vit(spec) if isinstance(spec.encoder, TinyVitSpec) else _vit(spec, spec.encoder)
    return encoder | _prompt_encoder(spec) | _mask_decoder(spec)


def _linear(name: str, i: int, o: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (o, i)} | ({f"{name}.bias": (o,)} if bias else {})


def _conv(name: str, i: int, o: int, side: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (o, i, side, side)} | ({f"{name}.bias": (o,)} if bias else {})


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _joined(*parts: Shapes) -> Shapes:
    return {name: shape for part in parts for name, shape in part.items()}


def _neck(names: list[str], width: int, out: int) -> Shapes:
    conv1, norm1, conv2, norm2 = names
    return _joined(
        _conv(conv1, width, out, 1, bias=False), _norm(norm1, out), _conv(conv2, out, out, 3, bias=False),
        _norm(norm2, out),
    )  # fmt: skip


def _vit(spec: SamSpec, vit: VitSpec) -> Shapes:
    d, name = vit.width, "vision_encoder"
    parts = [_conv(f"{name}.patch_embed.projection", 3, d, vit.patch)]
    if vit.absolute:
        parts.append({f"{name}.pos_embed": (1, spec.grid, spec.grid, d)})
    for i in range(vit.layers):
        layer = f"{name}.layers.{i}"
        side = spec.grid if i in vit.global_layers or not vit.window else vit.window
        parts += [_norm(f"{layer}.layer_norm{j}", d) for j in (1, 2)]
        parts += [_linear(f"{layer}.attn.qkv", d, 3 * d, vit.qkv_bias), _linear(f"{layer}.attn.proj", d, d)]
        if vit.relative:
            parts.append({f"{layer}.attn.rel_pos_{axis}": (2 * side - 1, d // vit.heads) for axis in "hw"})
        parts += [_linear(f"{layer}.mlp.lin1", d, vit.mlp), _linear(f"{layer}.mlp.lin2", vit.mlp, d)]
    neck = [f"{name}.neck.{part}" for part in ("conv1", "layer_norm1", "conv2", "layer_norm2")]
    return _joined(*parts, _neck(neck, d, spec.width))


def _tiny_conv(name: str, i: int, o: int, side: int) -> Shapes:
    norms = {f"{name}.bn.{part}": (o,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.c.weight": (o, i, side, side)} | norms


def _tiny_vit(spec: SamSpec) -> Shapes:
    tiny, name = spec.encoder, "image_encoder"
    assert isinstance(tiny, TinyVitSpec)
    first = tiny.dims[0]
    parts = [
        _tiny_conv(f"{name}.patch_embed.seq.0", 3, first // 2, 3),
        _tiny_conv(f"{name}.patch_embed.seq.2", first // 2, first, 3),
    ]
    for stage, (d, depth) in enumerate(zip(tiny.dims, tiny.depths)):
        for i in range(depth):
            block, hidden = f"{name}.layers.{stage}.blocks.{i}", d * tiny.expansion
            if stage == 0:
                parts += [_tiny_conv(f"{block}.conv1", d, hidden, 1), _tiny_conv(f"{block}.conv2", 1, hidden, 3)]
                parts.append(_tiny_conv(f"{block}.conv3", hidden, d, 1))
                continue
            parts.append({f"{block}.attn.attention_biases": (tiny.heads[stage], tiny.windows[stage] ** 2)})
            parts += [_norm(f"{block}.attn.norm", d), _linear(f"{block}.attn.qkv", d, 3 * d)]
            parts += [_linear(f"{block}.attn.proj", d, d), _tiny_conv(f"{block}.local_conv", 1, d, 3)]
            parts += [_norm(f"{block}.mlp.norm", d), _linear(f"{block}.mlp.fc1", d, hidden)]
            parts.append(_linear(f"{block}.mlp.fc2", hidden, d))
        if stage < len(tiny.strides):
            reduction, wide = f"{name}.layers.{stage}.downsample", tiny.dims[stage + 1]
            parts += [_tiny_conv(f"{reduction}.conv1", d, wide, 1), _tiny_conv(f"{reduction}.conv2", 1, wide, 3)]
            parts.append(_tiny_conv(f"{reduction}.conv3", wide, wide, 1))
    return _joined(*parts, _neck([f"{name}.neck.{i}" for i in range(4)], tiny.dims[-1], spec.width))


def _prompt_encoder(spec: SamSpec) -> Shapes:
    d, few, name = spec.width, spec.mask_channels // 4, "prompt_encoder"
    single = [f"{name}.point_embed.{i}" for i in range(4)] + [f"{name}.not_a_point_embed", f"{name}.no_mask_embed"]
    return _joined(
        {_POSITIONS: (2, d // 2)}, {f"{part}.weight": (1, d) for part in single},
        _conv(f"{name}.mask_embed.conv1", 1, few, 2), _norm(f"{name}.mask_embed.layer_norm1", few),
        _conv(f"{name}.mask_embed.conv2", few, spec.mask_channels, 2),
        _norm(f"{name}.mask_embed.layer_norm2", spec.mask_channels),
        _conv(f"{name}.mask_embed.conv3", spec.mask_channels, d, 1),
    )  # fmt: skip


def _mask_decoder(spec: SamSpec) -> Shapes:
    d, name = spec.width, "mask_decoder"
    parts = [{f"{name}.iou_token.weight": (1, d), f"{name}.mask_tokens.weight": (spec.masks + 1, d)}]
    for i in range(spec.layers):
        layer = f"{name}.transformer.layers.{i}"
        parts.append(_attention(f"{layer}.self_attn", d, d))
        parts += [_attention(f"{layer}.cross_attn_{way}", d, d // LAYER_DOWNSAMPLE) for way in _WAYS]
        parts += [_norm(f"{layer}.layer_norm{j}", d) for j in range(1, 5)]
        parts += [_linear(f"{layer}.mlp.lin1", d, spec.mlp), _linear(f"{layer}.mlp.lin2", spec.mlp, d)]
    parts.append(_attention(f"{name}.transformer.final_attn_token_to_image", d, d // spec.downsample))
    parts.append(_norm(f"{name}.transformer.layer_norm_final_attn", d))
    for conv, i, o in (("upscale_conv1", d, d // 4), ("upscale_conv2", d // 4, d // 8)):
        transposed: Shapes = {f"{name}.{conv}.weight": (i, o, 2, 2), f"{name}.{conv}.bias": (o,)}
        parts.append(transposed)
    parts.append(_norm(f"{name}.upscale_layer_norm", d // 4))
    parts += [_mlp(f"{name}.output_hypernetworks_mlps.{i}", d, d, d // 8, 3) for i in range(spec.masks + 1)]
    parts.append(_mlp(f"{name}.iou_prediction_head", d, spec.iou_width, spec.masks + 1, spec.iou_layers))
    return _joined(*parts)


_WAYS = ("token_to_image", "image_to_token")


def _attention(name: str, width: int, inner: int) -> Shapes:
    return _joined(*(_linear(f"{name}.{part}_proj", width, inner) for part in "qkv"),
                   _linear(f"{name}.out_proj", inner, width))  # fmt: skip


def _mlp(name: str, i: int, hidden: int, o: int, layers: int) -> Shapes:
    middle = (_linear(f"{name}.layers.{j}", hidden, hidden) for j in range(layers - 2))
    return _joined(_linear(f"{name}.proj_in", i, hidden), *middle, _linear(f"{name}.proj_out", hidden, o))
