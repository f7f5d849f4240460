"""The last steps of a picture processor, on the device: uint8 pixels become the normalised floats that a model takes.

Pictures travel to the device as uint8, a quarter of the bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models import config_fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.pictures import RESAMPLING


@dataclasses.dataclass(frozen=True)
class PixelScale:
    """(pixels * scale - mean) / std.

    Attributes:
      scale: factor of the uint8 pixels.
      mean, std: for each of the three channels.
    """

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """uint8[..., 3] -> float32[..., 3]."""
        values = pixels.astype(jnp.float32) * np.float32(self.scale)
        return (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


def from_processor(config: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]) -> PixelScale:
    """Reads do_rescale, rescale_factor, do_normalize, image_mean and image_std of a preprocessor_config.json.

    Args:
      config: the fields.
      mean, std: the processor's defaults, where the fields are missing.

    Raises SpecError.
    """
    scale = config_fields.number(config, "rescale_factor", default=1 / 255)
    if not config_fields.switch(config, "do_rescale", True):
        scale = 1.0
    if not config_fields.switch(config, "do_normalize", True):
        return PixelScale(scale, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    channels = {}
    for name, default in (("image_mean", mean), ("image_std", std)):
        values = default if config.get(name) is None else config[name]
        numbers = isinstance(values, list | tuple) and len(values) == 3
        if not numbers or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raise SpecError(f"{name}: expected three numbers, got {values!r:.80}")
        channels[name] = float(values[0]), float(values[1]), float(values[2])
    if not all(value > 0 for value in channels["image_std"]):
        raise SpecError(f"image_std: expected positive numbers, got {channels['image_std']}")
    return PixelScale(scale, channels["image_mean"], channels["image_std"])


def resampling(config: Mapping[str, Any], default: str = "BICUBIC") -> str:
    """The name of Pillow's filter in the field `resample`, a code or a name. Raises SpecError."""
    value = config.get("resample")
    name = (
        default if value is None else RESAMPLING.get(value, str(value).upper()) if not isinstance(value, bool) else ""
    )
    if name not in RESAMPLING.values():
        raise SpecError(f"resample: expected one of {RESAMPLING}, got {value!r:.40}")
    return name
