"""The sizes of a DINOv2 model, read from its config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dtr1_jax.models import config_fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists import operations

MOST_LAYERS = 1000
MODEL_TYPES = ("dinov2", "dinov2_with_registers")


@dataclasses.dataclass(frozen=True)
class Dinov2Spec:
    """The sizes of the transformer.

    Attributes:
      width: channels of a token.
      layers, heads: of the transformer; each head has width / heads channels.
      hidden: channels inside an MLP.
      patch: side of a patch, pixels.
      grid: side of the square grid of stored positions, patches.
      channels: channels of a picture.
      registers: tokens between the class token and the patches that hold no position.
      qkv_bias: whether queries, keys and values have a bias.
      gated: SwiGLU in place of a plain MLP.
      activation: name in `operations.ACTIVATIONS`, of a plain MLP.
      eps: of the layer norms in the layers.
      final_eps: of the layer norm after the last layer.
      antialias: whether stored positions are resized with antialiasing, as models with registers do.
      position_offset: added to the number of patches when the scale of the positions is computed: 0 in transformers;
        0.1 in the code of the authors, from which Depth Anything 3 comes.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch: int = 14
    grid: int = 37
    channels: int = 3
    registers: int = 0
    qkv_bias: bool = True
    gated: bool = False
    activation: str = "gelu"
    eps: float = 1e-6
    final_eps: float = 1e-6
    antialias: bool = False
    position_offset: float = 0.0

    def tokens(self, height: int, width: int) -> int:
        """Number of tokens of a picture with `height` x `width` pixels."""
        return 1 + self.registers + (height // self.patch) * (width // self.patch)


def from_config(config: Mapping[str, Any], where: str = "") -> Dinov2Spec:
    """Reads the fields of a config.json of transformers (its defaults where a field is missing).

    Args:
      config: the fields.
      where: goes before the name of a field in messages, such as "backbone_config.".

    Raises SpecError: a field that describes no DINOv2, or a size that does not fit another one.
    """
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise SpecError(f"{where}model_type: expected one of {', '.join(MODEL_TYPES)}, got {kind!r}")
    width = config_fields.size(config, "hidden_size", 768, where)
    heads = config_fields.size(config, "num_attention_heads", 12, where)
    if width % heads:
        raise SpecError(f"{where}hidden_size: expected a multiple of num_attention_heads = {heads}, got {width}")
    activation = config.get("hidden_act", "gelu")
    if activation not in operations.ACTIVATIONS:
        known = ", ".join(operations.ACTIVATIONS)
        raise SpecError(f"{where}hidden_act: expected one of {known}, got {activation!r}")
    patch, image = _side(config, "patch_size", 14, where), _side(config, "image_size", 224, where)
    if image < patch:
        raise SpecError(f"{where}image_size: expected at least patch_size = {patch}, got {image}")
    gated = config_fields.switch(config, "use_swiglu_ffn", False, where)
    hidden = math.floor(width * config_fields.number(config, "mlp_ratio", where, 4))
    registers = config_fields.size(config, "num_register_tokens", 4, where) if kind == MODEL_TYPES[1] else 0
    eps = config_fields.number(config, "layer_norm_eps", where, 1e-6)
    return Dinov2Spec(
        width=width,
        layers=config_fields.size(config, "num_hidden_layers", 12, where, MOST_LAYERS),
        heads=heads,
        hidden=(int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden,
        patch=patch,
        grid=image // patch,
        channels=config_fields.size(config, "num_channels", 3, where),
        registers=registers,
        qkv_bias=config_fields.switch(config, "qkv_bias", True, where),
        gated=gated,
        activation=activation,
        eps=eps,
        final_eps=eps,
        antialias=registers > 0,
    )


def _side(config: Mapping[str, Any], name: str, default: int, where: str) -> int:
    value = config.get(name)
    if isinstance(value, list | tuple):
        if len(value) != 2 or value[0] != value[1]:
            raise SpecError(f"{where}{name}: expected a square, got {value!r:.40}")
        config = {name: value[0]}
    return config_fields.size(config, name, default, where)
