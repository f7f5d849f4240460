"""Sizes of SAM and MobileSAM: from config.json, or fixed for mobile_sam.pt."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dtr1_jax.models import config_fields as fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.operations import ACTIVATIONS

_MOST_LAYERS = 200
LAYER_DOWNSAMPLE = 2  # the cross-attentions inside the layers are half as wide in every SAM, whatever the config says


@dataclasses.dataclass(frozen=True)
class VitSpec:
    """SAM's picture encoder, a ViT with windows.

    Attributes:
      width, layers, heads, mlp: of the transformer.
      patch: side of a patch, pixels.
      window: side of the windows, patches; 0 = every layer is global.
      global_layers: layers whose attention goes over all patches.
      relative, absolute: whether there are relative and absolute positions.
      qkv_bias: whether queries, keys and values have a bias.
      act, eps: activation and epsilon of the layer norms.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    window: int = 14
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    relative: bool = True
    absolute: bool = True
    qkv_bias: bool = True
    act: str = "gelu"
    eps: float = 1e-6


@dataclasses.dataclass(frozen=True)
class TinyVitSpec:
    """MobileSAM's picture encoder, a TinyViT: a stage of convolutions, then stages of attention in windows.

    Attributes:
      dims: width of each stage.
      depths: blocks of each stage.
      heads: attention heads of each stage; the first stage has none.
      windows: side of the windows of each stage.
      strides: of the reduction behind each stage but the last.
      expansion: hidden width of the convolution blocks and of the MLPs, in widths.
    """

    dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)
    strides: tuple[int, ...] = (2, 2, 1)
    expansion: int = 4


@dataclasses.dataclass(frozen=True)
class SamSpec:
    """A SAM model.

    Attributes:
      encoder: the picture encoder.
      image: side of the square that the encoder takes, pixels.
      grid: side of the picture's embedding, cells.
      width: channels of the embedding and of the prompts.
      mask_channels: hidden channels of the encoder of mask prompts.
      mask_act: its activation.
      prompt_eps: epsilon of its layer norms.
      layers, heads, mlp, act: of the decoder's transformer.
      downsample: by which its last attention is narrower than `width`; those inside the layers are half as wide.
      masks: candidates that the decoder gives besides the single mask.
      iou_layers, iou_width: layers and hidden width of the head that predicts the IoU.
      eps: epsilon of the decoder's layer norms.
      mean, std: of the pixels' colours, in units of 255.
    """

    encoder: VitSpec | TinyVitSpec
    image: int = 1024
    grid: int = 64
    width: int = 256
    mask_channels: int = 16
    mask_act: str = "gelu"
    prompt_eps: float = 1e-6
    layers: int = 2
    heads: int = 8
    mlp: int = 2048
    act: str = "relu"
    downsample: int = 2
    masks: int = 3
    iou_layers: int = 3
    iou_width: int = 256
    eps: float = 1e-6
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @property
    def low(self) -> int:
        """Side of the decoder's masks, and of the logits that a prompt may give."""
        return 4 * self.grid


# build_sam_vit_t of MobileSAM's repository; its decoder has PyTorch's default epsilon.
MOBILE_SAM = SamSpec(
    TinyVitSpec(), eps=1e-5,
    mean=(123.675 / 255, 116.28 / 255, 103.53 / 255), std=(58.395 / 255, 57.12 / 255, 57.375 / 255),
)  # fmt: skip


def from_config(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> SamSpec:
    """The sizes in the config.json of model_type "sam", with the colours of preprocessor_config.json (may be empty).

    Raises SpecError: a field has a value that no SAM has, or the parts do not fit.
    """
    vision, prompt, decoder = (
        fields.section(config, name) for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    )
    encoder, image, width = _vit(vision)
    grid = image // encoder.patch
    own = "prompt_encoder_config."
    size = lambda name, default: fields.size(prompt, name, default, own)  # noqa: E731
    patch = "patch_size" if prompt.get("patch_size") is not None else "image_embedding_size"
    told = size(patch, encoder.patch if patch == "patch_size" else grid)
    if size("image_size", image) != image or told != (encoder.patch if patch == "patch_size" else grid):
        raise SpecError(f"{own}image_size, {patch}: expected those of vision_config, {image} and {encoder.patch}")
    if size("num_point_embeddings", 4) != 4:
        raise SpecError(f"{own}num_point_embeddings: expected 4, got {prompt['num_point_embeddings']}")
    mask_channels = size("mask_input_channels", 16)
    if mask_channels % 4:
        raise SpecError(f"{own}mask_input_channels: expected a multiple of 4, got {mask_channels}")
    for where, values in ((own, prompt), ("mask_decoder_config.", decoder)):
        if fields.size(values, "hidden_size", 256, where) != width:
            raise SpecError(f"{where}hidden_size: expected vision_config.output_channels = {width}")
    if fields.size(vision, "num_pos_feats", width // 2, "vision_config.") * 2 != width:
        raise SpecError(f"vision_config.num_pos_feats: expected half of output_channels, {width // 2}")
    spec = SamSpec(
        encoder, image, grid, width, mask_channels, _act(prompt, own, "gelu"),
        fields.number(prompt, "layer_norm_eps", own, 1e-6), **_decoder(decoder), **_colours(preprocessor, image),
    )  # fmt: skip
    divisors = (8, LAYER_DOWNSAMPLE * spec.heads, spec.downsample * spec.heads)
    if any(width % divisor for divisor in divisors):
        raise SpecError(
            f"mask_decoder_config.hidden_size: expected a multiple of 8, of 2 x num_attention_heads and of"
            f" attention_downsample_rate x num_attention_heads, {divisors}, got {width}"
        )
    return spec


def _vit(vision: dict[str, Any]) -> tuple[VitSpec, int, int]:
    """The encoder, the side of its square, and its output channels."""
    own = "vision_config."
    size = lambda name, default, most=None: fields.size(vision, name, default, own, most)  # noqa: E731
    fields.refuse(vision, own, {"num_channels": (3, None)})
    width, layers, image = (
        size("hidden_size", 768),
        size("num_hidden_layers", 12, _MOST_LAYERS),
        size("image_size", 1024),
    )
    heads, patch = size("num_attention_heads", 12), size("patch_size", 16)
    if width % heads or image % patch:
        raise SpecError(f"{own}hidden_size, image_size: expected multiples of the heads {heads} and the patch {patch}")
    ratio = fields.number(vision, "mlp_ratio", own, 4.0)
    default_layers = [2, 5, 8, 11]
    chosen = vision.get("global_attn_indexes", default_layers)
    if not isinstance(chosen, list | tuple) or not all(type(x) is int and 0 <= x for x in chosen):
        raise SpecError(f"{own}global_attn_indexes: expected a list of layers, got {chosen!r:.60}")
    window = vision.get("window_size", 14)
    if type(window) is not int or window < 0:
        raise SpecError(f"{own}window_size: expected a whole number of at least 0, got {window!r:.40}")
    spec = VitSpec(
        width, layers, heads, size("mlp_dim", int(width * ratio)), patch, window, tuple(chosen),
        fields.switch(vision, "use_rel_pos", True, own), fields.switch(vision, "use_abs_pos", True, own),
        fields.switch(vision, "qkv_bias", True, own), _act(vision, own, "gelu"),
        fields.number(vision, "layer_norm_eps", own, 1e-6),
    )  # fmt: skip
    return spec, image, size("output_channels", 256)


def _decoder(decoder: dict[str, Any]) -> dict[str, Any]:
    own = "mask_decoder_config."
    size = lambda name, default, most=None: fields.size(decoder, name, default, own, most)  # noqa: E731
    depth = size("iou_head_depth", 3, _MOST_LAYERS)
    if depth < 2:
        raise SpecError(f"{own}iou_head_depth: expected at least 2, got {depth}")
    return {
        "layers": size("num_hidden_layers", 2, _MOST_LAYERS), "heads": size("num_attention_heads", 8),
        "mlp": size("mlp_dim", 2048), "act": _act(decoder, own, "relu"),
        "downsample": size("attention_downsample_rate", 2), "masks": size("num_multimask_outputs", 3),
        "iou_layers": depth, "iou_width": size("iou_head_hidden_dim", 256),
        "eps": fields.number(decoder, "layer_norm_eps", own, 1e-6),
    }  # fmt: skip


def _colours(preprocessor: Mapping[str, Any], image: int) -> dict[str, Any]:
    where = "preprocessor_config.json: "
    side = fields.section(preprocessor, "size").get("longest_edge", image)
    if side != image:
        raise SpecError(f"{where}size.longest_edge: expected vision_config.image_size = {image}, got {side!r:.40}")
    fields.refuse(preprocessor, where, {"resample": (2, None), "do_normalize": (True, None), "do_pad": (True, None)})
    colours = {}
    for key, name in (("mean", "image_mean"), ("std", "image_std")):
        values = preprocessor.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(x, float | int) for x in values):
            raise SpecError(f"{where}{name}: expected three numbers, got {values!r:.60}")
        colours[key] = tuple(float(x) for x in values)
    if not all(x > 0 for x in colours.get("std", ())):
        raise SpecError(f"{where}image_std: expected numbers above 0")
    return colours


def _act(config: Mapping[str, Any], where: str, default: str) -> str:
    name = config.get("hidden_act") or default
    if name not in ACTIVATIONS:
        raise SpecError(f"{where}hidden_act = {name!r:.40}: expected one of {', '.join(ACTIVATIONS)}")
    return name
