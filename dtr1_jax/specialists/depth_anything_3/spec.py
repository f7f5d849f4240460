"""The sizes of Depth Anything 3 for single pictures, read from the config.json beside its weights.

That file names the model, and may hold its configuration (configs/da3mono-large.yaml of ByteDance-Seed/
Depth-Anything-3): the transformer `net` and the head `head`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dtr1_jax.models import config_fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.depth_anything.spec import DptSpec
from dtr1_jax.specialists.dinov2.spec import Dinov2Spec

MODEL = "da3mono-large"
HIDDEN = 32  # channels before the last convolutions; no field says so
# name of the transformer -> width, layers, heads
ENCODERS = {"vits": (384, 12, 6), "vitb": (768, 12, 12), "vitl": (1024, 24, 16)}
# What makes a model of several views; without these values it is not the model for single pictures.
SINGLE_VIEW = {"alt_start": (None, -1), "qknorm_start": (None, -1), "rope_start": (None, -1), "cat_token": (False,)}
PLAIN_HEAD = {
    "output_dim": (None, 1), "activation": (None, "exp"), "pos_embed": (None, False), "down_ratio": (None, 1),
    "use_sky_head": (None, True), "sky_activation": (None, "relu"), "use_ln_for_heads": (None, False),
    "norm_type": (None, "idt"), "patch_size": (None, 14),
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "net": {"name": "vitl", "out_layers": [4, 11, 17, 23], "cat_token": False},
    "head": {"dim_in": 1024, "features": 256, "out_channels": [256, 512, 1024, 1024]},
}


@dataclasses.dataclass(frozen=True)
class MonoSpec:
    """The sizes of the model.

    Attributes:
      backbone: the transformer.
      taps: the states that the head takes; i = the tokens that leave layer i, counted from 1.
      head: the head.
    """

    backbone: Dinov2Spec
    taps: tuple[int, ...]
    head: DptSpec


def from_config(config: Mapping[str, Any]) -> MonoSpec:
    """Reads config.json. Raises SpecError: another model of the family, or a field that this code cannot run."""
    name = config.get("model_name")
    if name != MODEL:
        raise SpecError(
            f"model_name: expected {MODEL!r}, the Depth Anything 3 for single pictures, got {name!r:.60}; models for"
            " several views and the metric model, which needs the camera's focal length, are not supported"
        )
    sizes = config_fields.section(config, "config") or PUBLISHED
    net, head = config_fields.section(sizes, "net"), config_fields.section(sizes, "head")
    config_fields.refuse(net, "config.net.", SINGLE_VIEW)
    config_fields.refuse(head, "config.head.", PLAIN_HEAD)
    if net.get("name") not in ENCODERS:
        raise SpecError(f"config.net.name: expected one of {', '.join(ENCODERS)}, got {net.get('name')!r:.40}")
    width, layers, heads = ENCODERS[net["name"]]
    taps, channels = net.get("out_layers"), head.get("out_channels", PUBLISHED["head"]["out_channels"])
    whole = isinstance(taps, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in taps)
    if not whole or len(set(taps)) != 4 or sorted(taps) != taps or not 0 <= taps[0] <= taps[-1] < layers:
        raise SpecError(f"config.net.out_layers: expected four rising layers from 0 to {layers - 1}, got {taps!r:.60}")
    if not isinstance(channels, list) or len(channels) != 4:
        raise SpecError(f"config.head.out_channels: expected four numbers, got {channels!r:.60}")
    for value in channels:
        config_fields.size({"out_channels": value}, "out_channels", where="config.head.")
    if head.get("dim_in") != width:
        raise SpecError(
            f"config.head.dim_in: expected the width of the transformer, {width}, got {head.get('dim_in')!r}"
        )
    return MonoSpec(
        backbone=Dinov2Spec(width, layers, heads, 4 * width, final_eps=1e-5, position_offset=0.1),
        taps=tuple(tap + 1 for tap in taps),
        head=DptSpec(
            tuple(channels), (4.0, 2.0, 1.0, 0.5), config_fields.size(head, "features", 256, "config.head."), HIDDEN
        ),
    )
