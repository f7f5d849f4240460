"""The sizes of a Depth Anything model, read from its config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dtr1_jax.models import config_fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.dinov2 import spec as dinov2_spec
from dtr1_jax.specialists.dinov2.spec import Dinov2Spec

TYPES = ("relative", "metric")


@dataclasses.dataclass(frozen=True)
class DptSpec:
    """The sizes of the head that turns the states of a transformer into a map.

    Attributes:
      channels: of each stage, the finest stage first.
      factors: how much each stage is enlarged (above 1) or reduced (1 / whole number).
      fusion: channels in which the stages are fused.
      hidden: channels before the last convolution.
      index: which fused stage the output is made from; -1 = the finest.
    """

    channels: tuple[int, ...]
    factors: tuple[float, ...]
    fusion: int
    hidden: int
    index: int = -1


@dataclasses.dataclass(frozen=True)
class DepthSpec:
    """The sizes of the model.

    Attributes:
      backbone: the transformer.
      taps: the states that the head takes; i = the tokens that leave layer i.
      normed: whether these pass the final layer norm first.
      head: the head.
      metric: True: the output is in metres; False: disparity without a unit.
      most: factor of the output; the largest distance in metres of a metric model.
    """

    backbone: Dinov2Spec
    taps: tuple[int, ...]
    normed: bool
    head: DptSpec
    metric: bool
    most: float


def from_config(config: Mapping[str, Any]) -> DepthSpec:
    """Reads config.json. Raises SpecError: a field that this code cannot run, with its name."""
    section = config_fields.section(config, "backbone_config")
    if not section:
        raise SpecError("backbone_config: expected the sizes of a DINOv2, found none")
    backbone = dinov2_spec.from_config(section, "backbone_config.")
    if backbone.registers:
        raise SpecError("backbone_config.model_type: expected dinov2; a backbone with registers is not supported")
    if backbone.channels != 3:
        raise SpecError(f"backbone_config.num_channels: expected 3, got {backbone.channels}")
    patch = config_fields.size(config, "patch_size", 14)
    if patch != backbone.patch:
        raise SpecError(f"patch_size: expected that of the backbone, {backbone.patch}, got {patch}")
    width = config_fields.size(config, "reassemble_hidden_size", 384)
    if width != backbone.width:
        raise SpecError(f"reassemble_hidden_size: expected the width of the backbone, {backbone.width}, got {width}")
    taps = _taps(section, backbone.layers)
    kind = config.get("depth_estimation_type", TYPES[0])
    if kind not in TYPES:
        raise SpecError(f"depth_estimation_type: expected one of {', '.join(TYPES)}, got {kind!r}")
    return DepthSpec(
        backbone=backbone,
        taps=taps,
        normed=config_fields.switch(section, "apply_layernorm", True, "backbone_config."),
        head=_head(config, len(taps)),
        metric=kind == "metric",
        most=config_fields.number(config, "max_depth", default=1.0),
    )


def _taps(section: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    name, values = "out_indices", section.get("out_indices")
    if values is None:
        name, names = "out_features", config_fields.names(section, "out_features")
        values = [0 if n == "stem" else int(n[5:]) if n[:5] == "stage" and n[5:].isdigit() else None for n in names]
    whole = isinstance(values, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    taps = sorted({v + layers + 1 if v < 0 else v for v in values}) if whole else []
    if not taps or len(taps) != len(values) or not 0 <= taps[0] <= taps[-1] <= layers:
        raise SpecError(
            f"backbone_config.{name}: expected different layers from 0 to {layers}, got {section.get(name)!r:.80}"
        )
    return tuple(taps)


def _head(config: Mapping[str, Any], stages: int) -> DptSpec:
    channels = config.get("neck_hidden_sizes") or [48, 96, 192, 384]
    factors = config.get("reassemble_factors") or [4, 2, 1, 0.5]
    for name, values in (("neck_hidden_sizes", channels), ("reassemble_factors", factors)):
        if not isinstance(values, list | tuple) or len(values) != stages:
            raise SpecError(
                f"{name}: expected {stages} values, one for each output of the backbone, got {values!r:.80}"
            )
        for value in values:
            config_fields.number({name: value}, name)
    for value in channels:
        config_fields.size({"neck_hidden_sizes": value}, "neck_hidden_sizes")
    for value in factors:
        if (value if value >= 1 else 1 / value) % 1:
            raise SpecError(f"reassemble_factors: expected whole numbers or 1 / whole numbers, got {factors!r:.80}")
    fusion = config_fields.size(config, "fusion_hidden_size", 64)
    if fusion < 2:
        raise SpecError(f"fusion_hidden_size: expected at least 2, got {fusion}")
    index = config.get("head_in_index", -1)
    if isinstance(index, bool) or not isinstance(index, int) or not -stages <= index < stages:
        raise SpecError(f"head_in_index: expected a whole number from {-stages} to {stages - 1}, got {index!r:.40}")
    return DptSpec(
        channels=tuple(channels),
        factors=tuple(float(value) for value in factors),
        fusion=fusion,
        hidden=config_fields.size(config, "head_hidden_size", 32),
        index=index % stages - stages,
    )
