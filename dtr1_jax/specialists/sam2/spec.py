"""The sizes of a SAM 2 model, read from config.json and checked."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from dtr1_jax.models.config_fields import SpecError, number, refuse, section, size, switch
from dtr1_jax.specialists.operations import ACTIVATIONS

MOST_LAYERS = 256
PATCH = 16  # pixels on a side of one position of the coarsest feature map that the mask decoder reads
LEVELS = 4  # stages of the backbone; their maps have one position for 4, 8, 16 and 32 pixels


@dataclasses.dataclass(frozen=True)
class Hiera:
    """The backbone. Tuples have one entry for each stage.

    Attributes:
      kernel, padding: of the convolution that makes the first map, which has stride 4.
      background: height and width of the stored position embedding that is stretched over the picture.
      blocks, widths, heads, windows: number of blocks, channels, attention heads, side of the attention windows.
      global_blocks: indices, over all stages, of the blocks that attend over the whole map.
      mlp_ratio: hidden channels of a block's MLP, as a multiple of its channels.
    """

    kernel: int
    padding: int
    background: tuple[int, int]
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]
    mlp_ratio: float
    activation: str
    eps: float


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The mask decoder. `stable_delta` and `stable_share` say when the single mask counts as stable: the area above
    +delta is at least that share of the area above -delta; `dynamic` says whether an unstable one is replaced."""

    mlp: int
    layers: int
    heads: int
    downsample: int
    candidates: int
    iou_depth: int
    iou_hidden: int
    dynamic: bool
    stable_delta: float
    stable_share: float


@dataclasses.dataclass(frozen=True)
class Memory:
    """The parts that only tracking uses.

    Attributes:
      frames: num_maskmem; a frame attends to its conditioning frames and the `frames - 1` frames before it.
      scale, bias: of the mask before the memory encoder reads it.
      occlusion: whether memories of hidden objects are marked by an embedding.
      multimask: whether the best of several masks is taken, on conditioning frames; `multimask_tracking` on others.
      least_points, most_points: numbers of points with which several masks are predicted.
      pointers: most frames whose object pointers are read.
      most_conditions: most conditioning frames that are read; None = all.
      timed_pointers: whether object pointers carry their distance in time.
      channels: of a memory.
      mask_kernel, mask_stride, mask_padding: of the convolutions that shrink a mask; `mask_layers` of them.
      fuser_layers, fuser_hidden, fuser_kernel: of the convolutions that join mask and picture.
    """

    frames: int
    scale: float
    bias: float
    occlusion: bool
    multimask: bool
    multimask_tracking: bool
    least_points: int
    most_points: int
    pointers: int
    most_conditions: int | None
    timed_pointers: bool
    layers: int
    heads: int
    downsample: int
    mlp: int
    activation: str
    theta: float
    channels: int
    mask_layers: int
    mask_kernel: int
    mask_stride: int
    mask_padding: int
    mask_activation: str
    fuser_layers: int
    fuser_hidden: int
    fuser_kernel: int
    fuser_activation: str


@dataclasses.dataclass(frozen=True)
class Sam2Spec:
    """All sizes.

    Attributes:
      image_size: side of the square picture that the model reads, pixels.
      width: channels of the feature maps, tokens and pointers.
      top_down: stages (0 = finest) that receive the next coarser map.
      mask_channels, prompt_activation, prompt_eps: of the convolutions that embed a mask prompt.
      memory: None for a model of pictures only.
    """

    image_size: int
    width: int
    top_down: tuple[int, ...]
    mask_channels: int
    prompt_activation: str
    prompt_eps: float
    hiera: Hiera
    decoder: Decoder
    memory: Memory | None

    @property
    def grid(self) -> int:
        """Side of the coarsest feature map that the mask decoder reads."""
        return self.image_size // PATCH

    @property
    def mask_size(self) -> int:
        """Side of the mask logits that the decoder returns."""
        return 4 * self.grid


def from_config(config: Mapping[str, Any]) -> Sam2Spec:
    """Reads config.json of a `sam2` or `sam2_video` checkpoint.

    Raises SpecError, which names the field.
    """
    vision, prompt = section(config, "vision_config"), section(config, "prompt_encoder_config")
    width = size(vision, "fpn_hidden_size", 256, "vision_config.")
    hiera, image_size = _hiera(section(vision, "backbone_config"))
    where = "vision_config."
    refuse(vision, where, {"fpn_kernel_size": (None, 1), "fpn_stride": (None, 1), "fpn_padding": (None, 0),
                           "num_feature_levels": (None, 3)})  # fmt: skip
    channels = _sizes(vision, "backbone_channel_list", (768, 384, 192, 96), where)
    _equal(where + "backbone_channel_list", channels, hiera.widths[::-1])
    maps = vision.get("backbone_feature_sizes") or [[256, 256], [128, 128], [64, 64]]
    _equal(where + "backbone_feature_sizes", maps, [[image_size // s] * 2 for s in (4, 8, 16)])
    levels = vision.get("fpn_top_down_levels")
    levels = [2, 3] if levels is None else levels
    if not isinstance(levels, list | tuple) or not set(levels) <= set(range(LEVELS)):
        raise SpecError(f"{where}fpn_top_down_levels: expected a list of stages from 0 to 3, got {levels!r}")
    where = "prompt_encoder_config."
    refuse(prompt, where, {"patch_size": (None, PATCH, [PATCH] * 2), "num_point_embeddings": (None, 4)})
    _equal(where + "image_size", _side(prompt, "image_size", 1024, where), image_size)
    _equal(where + "hidden_size", size(prompt, "hidden_size", 256, where), width)
    mask_channels = size(prompt, "mask_input_channels", 16, where)
    if mask_channels % 4 or width % 8:
        raise SpecError("mask_input_channels must be a multiple of 4, and hidden_size of 8")
    return Sam2Spec(
        image_size=image_size, width=width, top_down=tuple(levels), mask_channels=mask_channels,
        prompt_activation=_activation(prompt, "hidden_act", "gelu", where),
        prompt_eps=number(prompt, "layer_norm_eps", where, 1e-6), hiera=hiera,
        decoder=_decoder(section(config, "mask_decoder_config"), width),
        memory=_memory(config, width, image_size) if config.get("model_type") == "sam2_video" else None,
    )  # fmt: skip


def _hiera(config: Mapping[str, Any]) -> tuple[Hiera, int]:
    where = "vision_config.backbone_config."
    image_size = _side(config, "image_size", 1024, where)
    refuse(config, where, {"patch_stride": (None, 4, [4, 4]), "query_stride": (None, 2, [2, 2]),
                           "num_query_pool_stages": (None, 3), "num_channels": (None, 3)})  # fmt: skip
    kernel = _side(config, "patch_kernel_size", 7, where)
    padding = _side(config, "patch_padding", 3, where)
    blocks = _sizes(config, "blocks_per_stage", (1, 2, 7, 2), where)
    widths = _sizes(config, "embed_dim_per_stage", (96, 192, 384, 768), where)
    heads = _sizes(config, "num_attention_heads_per_stage", (1, 2, 4, 8), where)
    windows = _sizes(config, "window_size_per_stage", (8, 4, 14, 7), where)
    background = config.get("window_positional_embedding_background_size") or [7, 7]
    if not isinstance(background, list | tuple) or len(background) != 2 or not all(_whole(n) for n in background):
        raise SpecError(f"{where}window_positional_embedding_background_size: expected two sizes, got {background!r}")
    if sum(blocks) > MOST_LAYERS:
        raise SpecError(f"{where}blocks_per_stage: expected at most {MOST_LAYERS} blocks, got {sum(blocks)}")
    _equal(where + "hidden_size", size(config, "hidden_size", 96, where), widths[0])
    if any(width % count for width, count in zip(widths, heads)):
        raise SpecError(f"{where}embed_dim_per_stage {widths} cannot be split into heads {heads}")
    if any(a == b for a, b in itertools.pairwise(widths)):
        raise SpecError(f"{where}embed_dim_per_stage: each stage needs another width, got {list(widths)}")
    if any(window % 2 for window in windows[:-1]):
        raise SpecError(f"{where}window_size_per_stage: expected even windows before the last stage, got {windows}")
    if image_size % 32 or (image_size // 4) % windows[0]:
        raise SpecError(
            f"{where}image_size: expected a multiple of 32 and of 4 times the first window ({windows[0]}), "
            f"got {image_size}"
        )
    if (image_size + 2 * padding - kernel) // 4 + 1 != image_size // 4:
        raise SpecError(f"{where}patch_kernel_size {kernel} and patch_padding {padding} do not give image_size / 4")
    return Hiera(
        kernel=kernel, padding=padding, background=tuple(background), blocks=blocks, widths=widths, heads=heads,
        windows=windows, global_blocks=_global_blocks(config, blocks, where),
        mlp_ratio=number(config, "mlp_ratio", where, 4.0), activation=_activation(config, "hidden_act", "gelu", where),
        eps=number(config, "layer_norm_eps", where, 1e-6),
    ), image_size  # fmt: skip


def _global_blocks(config: Mapping[str, Any], blocks: tuple[int, ...], where: str) -> tuple[int, ...]:
    """The blocks that attend over the whole map. The first block of a later stage cannot: it halves its windows."""
    indices = config.get("global_attention_blocks")
    indices = [5, 7, 9] if indices is None else indices
    firsts = set(itertools.accumulate(blocks[:-1]))
    if not isinstance(indices, list | tuple) or not set(indices) <= set(range(sum(blocks))) - firsts:
        raise SpecError(
            f"{where}global_attention_blocks: expected indices below {sum(blocks)} of blocks that are not the first of"
            f" a stage ({sorted(firsts)}), got {indices!r}"
        )
    return tuple(indices)


def _decoder(config: Mapping[str, Any], width: int) -> Decoder:
    where = "mask_decoder_config."
    _equal(where + "hidden_size", size(config, "hidden_size", 256, where), width)
    heads = size(config, "num_attention_heads", 8, where)
    downsample = size(config, "attention_downsample_rate", 2, where)
    if width % (heads * downsample):
        raise SpecError(f"{where}hidden_size {width} cannot be split into {heads} heads after division by {downsample}")
    layers = size(config, "num_hidden_layers", 2, where, MOST_LAYERS)
    if layers < 2:
        raise SpecError(f"{where}num_hidden_layers: expected at least 2, got {layers}")
    return Decoder(
        mlp=size(config, "mlp_dim", 2048, where), layers=layers, heads=heads, downsample=downsample,
        candidates=size(config, "num_multimask_outputs", 3, where),
        iou_depth=max(2, size(config, "iou_head_depth", 3, where, MOST_LAYERS)),
        iou_hidden=size(config, "iou_head_hidden_dim", 256, where),
        dynamic=switch(config, "dynamic_multimask_via_stability", True, where),
        stable_delta=number(config, "dynamic_multimask_stability_delta", where, 0.05),
        stable_share=number(config, "dynamic_multimask_stability_thresh", where, 0.98),
    )  # fmt: skip


def _memory(config: Mapping[str, Any], width: int, image_size: int) -> Memory:
    grid = image_size // PATCH
    _equal("image_size", _side(config, "image_size", 1024, ""), image_size)
    _equal("memory_attention_rope_feat_sizes", config.get("memory_attention_rope_feat_sizes") or [64, 64], [grid] * 2)
    for name in ("memory_attention_hidden_size", "memory_encoder_hidden_size", "mask_downsampler_embed_dim",
                 "memory_fuser_embed_dim"):  # fmt: skip
        _equal(name, size(config, name, 256), width)
    channels = size(config, "memory_encoder_output_channels", 64)
    if width % channels or channels % 4:
        raise SpecError(f"memory_encoder_output_channels: expected a divisor of {width} and 4 | it, got {channels}")
    rope = section(config, "rope_parameters")
    refuse(rope, "rope_parameters.", {"rope_type": (None, "axial")})
    heads, downsample = (size(config, f"memory_attention_{n}", 1) for n in ("num_attention_heads", "downsample_rate"))
    if width % (4 * heads * downsample):
        raise SpecError(f"memory_attention_hidden_size {width}: a head needs a multiple of 4 channels")
    stride, total = size(config, "mask_downsampler_stride", 2), size(config, "mask_downsampler_total_stride", 16)
    layers = next((n for n in range(1, 6) if stride > 1 and stride**n == total), None)
    if layers is None or total != PATCH:
        raise SpecError(f"mask_downsampler_total_stride: expected {PATCH}, a power of the stride {stride}, got {total}")
    frames = size(config, "num_maskmem", 7)
    if frames < 2:
        raise SpecError(f"num_maskmem: expected at least 2, got {frames}")
    most = config.get("max_cond_frame_num", -1)
    theta = rope.get("rope_theta", config.get("memory_attention_rope_theta"))
    return Memory(
        frames=frames, scale=_float(config, "sigmoid_scale_for_mem_enc", 20.0),
        bias=_float(config, "sigmoid_bias_for_mem_enc", -10.0),
        occlusion=switch(config, "enable_occlusion_spatial_embedding", True),
        multimask=switch(config, "multimask_output_in_sam", True),
        multimask_tracking=switch(config, "multimask_output_for_tracking", True),
        least_points=_count(config, "multimask_min_pt_num", 0), most_points=_count(config, "multimask_max_pt_num", 1),
        pointers=size(config, "max_object_pointers_in_encoder", 16),
        most_conditions=None if most == -1 else size(config, "max_cond_frame_num"),
        timed_pointers=switch(config, "enable_temporal_pos_encoding_for_object_pointers", True),
        layers=size(config, "memory_attention_num_layers", 4, most=MOST_LAYERS), heads=heads, downsample=downsample,
        mlp=size(config, "memory_attention_feed_forward_hidden_size", 2048),
        activation=_activation(config, "memory_attention_feed_forward_hidden_act", "relu"),
        theta=number({"rope_theta": theta}, "rope_theta", "rope_parameters.", 1e4), channels=channels,
        mask_layers=layers, mask_kernel=size(config, "mask_downsampler_kernel_size", 3), mask_stride=stride,
        mask_padding=_count(config, "mask_downsampler_padding", 1),
        mask_activation=_activation(config, "mask_downsampler_hidden_act", "gelu"),
        fuser_layers=size(config, "memory_fuser_num_layers", 2, most=MOST_LAYERS),
        fuser_hidden=size(config, "memory_fuser_intermediate_dim", 1024),
        fuser_kernel=_fuser_kernel(config),
        fuser_activation=_activation(config, "memory_fuser_hidden_act", "gelu"),
    )  # fmt: skip


def _fuser_kernel(config: Mapping[str, Any]) -> int:
    kernel, padding = size(config, "memory_fuser_kernel_size", 7), _count(config, "memory_fuser_padding", 3)
    if kernel != 2 * padding + 1:
        raise SpecError(f"memory_fuser_padding: expected half of memory_fuser_kernel_size {kernel}, got {padding}")
    return kernel


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _side(config: Mapping[str, Any], name: str, default: int, where: str) -> int:
    """A size that may be written once or for both axes."""
    value = config.get(name)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return size({name: value}, name, default, where)


def _sizes(config: Mapping[str, Any], name: str, default: tuple[int, ...], where: str) -> tuple[int, ...]:
    values = config.get(name)
    values = default if values is None else values
    if not isinstance(values, list | tuple) or len(values) != LEVELS or not all(_whole(value) for value in values):
        raise SpecError(f"{where}{name}: expected {LEVELS} positive integers, got {values!r}")
    return tuple(values)


def _count(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    return 0 if value == 0 and not isinstance(value, bool) else size(config, name, default)


def _float(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    sign = -1.0 if isinstance(value, int | float) and value < 0 else 1.0
    return 0.0 if value == 0 else sign * number({name: value if sign > 0 else -value}, name)


def _activation(config: Mapping[str, Any], name: str, default: str, where: str = "") -> str:
    value = config.get(name)
    value = default if value is None else value
    if value not in ACTIVATIONS:
        raise SpecError(f"{where}{name} = {value!r} is not supported; expected one of {', '.join(ACTIVATIONS)}")
    return value


def _equal(name: str, value: Any, expected: Any) -> None:
    def plain(x: Any) -> Any:
        return [plain(item) for item in x] if isinstance(x, list | tuple) else x

    if plain(value) != plain(expected):
        raise SpecError(f"{name}: expected {plain(expected)!r}, as the other sizes require, got {value!r}")
