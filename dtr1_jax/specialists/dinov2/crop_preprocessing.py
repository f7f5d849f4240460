"""The picture processor of DINOv2 (BitImageProcessor): the shortest side is resized, and the centre is cut out.

The results equal those of transformers' BitImageProcessorPil.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtr1_jax.models import config_fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists import pictures, pixel_values
from dtr1_jax.specialists.pixel_values import PixelScale

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # where the file has none
LONGEST = 32_000  # pixels of a side after resizing


@dataclasses.dataclass(frozen=True)
class CropPreprocessing:
    """What a preprocessor_config.json says.

    Attributes:
      shortest: that the shortest side is resized to, pixels; the aspect ratio stays.
      height, width: of the part that is cut out of the centre.
      resample: name of Pillow's filter.
      scale: how pixels become floats.
    """

    shortest: int
    height: int
    width: int
    resample: str
    scale: PixelScale

    def __call__(self, image: np.ndarray, i: int) -> np.ndarray:
        """uint8[h, w, 3] -> uint8[height, width, 3]. `i` is the picture's number for messages.

        Raises ValueError: a picture so long that its resized side has more than 32,000 pixels.
        """
        sides = image.shape[:2]
        resized = [self.shortest if side == min(sides) else self.shortest * side // min(sides) for side in sides]
        if max(resized) > LONGEST:
            raise ValueError(
                f"picture {i} of {sides[1]} x {sides[0]} pixels: resized, its longest side has {max(resized):,} pixels,"
                f" and at most {LONGEST:,} are supported; cut the long picture into parts"
            )
        top, left = (resized[0] - self.height) // 2, (resized[1] - self.width) // 2
        image = pictures.resized(image, resized[0], resized[1], self.resample)
        return image[top : top + self.height, left : left + self.width]


def from_config(config: Mapping[str, Any], patch: int) -> CropPreprocessing:
    """Reads a preprocessor_config.json for a model with this patch. Raises SpecError with the name of a field."""
    kind = config.get("image_processor_type")
    if kind is not None and not str(kind).startswith("BitImageProcessor"):
        raise SpecError(f"image_processor_type: expected BitImageProcessor, got {kind!r:.60}")
    for name in ("do_resize", "do_center_crop"):
        if not config_fields.switch(config, name, True):
            raise SpecError(f"{name}: expected true; pictures of other sizes are not supported")
    size, crop = config.get("size", {"shortest_edge": 224}), config.get("crop_size", 224)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    size = {"shortest_edge": size} if isinstance(size, int) else size
    for name, value in (("size", size), ("crop_size", crop)):
        if not isinstance(value, dict):
            raise SpecError(f"{name}: expected an object, got {value!r:.60}")
    result = CropPreprocessing(
        shortest=config_fields.size(size, "shortest_edge", where="size."),
        height=config_fields.size(crop, "height", where="crop_size."),
        width=config_fields.size(crop, "width", where="crop_size."),
        resample=pixel_values.resampling(config),
        scale=pixel_values.from_processor(config, MEAN, STD),
    )
    if not patch <= min(result.height, result.width) <= max(result.height, result.width) <= result.shortest:
        raise SpecError(
            f"crop_size: expected sides from the patch of {patch} pixels to size.shortest_edge = {result.shortest},"
            f" got {result.height} x {result.width}"
        )
    return result
