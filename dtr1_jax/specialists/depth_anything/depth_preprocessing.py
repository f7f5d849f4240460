"""The picture processor of Depth Anything (DPTImageProcessor): the size that a picture is resized to, and the way back.

The results equal those of transformers' DPTImageProcessorPil.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from dtr1_jax.models import config_fields
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists import pictures, pixel_values
from dtr1_jax.specialists.pixel_values import PixelScale

MEAN = STD = (0.5, 0.5, 0.5)  # where the file has none
MOST_PATCHES = 16_384  # of a picture; the arithmetic grows with the square
LONGEST = 32_000  # pixels of a side, of pictures that OpenCV resizes


@dataclasses.dataclass(frozen=True)
class DepthPreprocessing:
    """What a preprocessor_config.json says.

    Attributes:
      height, width: that a picture is brought to.
      keep_ratio: both sides get one factor, the one that is nearer to 1; a side is then at least or at most its size.
      multiple: of which the new sides are multiples.
      resize: False = pictures must have a size that the model takes.
      resample: name of Pillow's filter.
      scale: how pixels become floats.
    """

    height: int
    width: int
    keep_ratio: bool
    multiple: int
    resize: bool
    resample: str
    scale: PixelScale

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that a picture of this height and width is resized to.

        A side that would be rounded to 0 becomes one multiple; the reference fails there.
        """
        if not self.resize:
            return height, width
        tall, wide = self.height / height, self.width / width
        if self.keep_ratio:
            tall = wide = wide if abs(1 - wide) < abs(1 - tall) else tall
        sides = (
            round(factor * side / self.multiple) * self.multiple for factor, side in ((tall, height), (wide, width))
        )
        new_height, new_width = (max(side, self.multiple) for side in sides)
        return new_height, new_width


def from_config(config: Mapping[str, Any], patch: int) -> DepthPreprocessing:
    """Reads a preprocessor_config.json for a model with this patch. Raises SpecError with the name of a field."""
    kind = config.get("image_processor_type")
    if kind is not None and not str(kind).startswith("DPTImageProcessor"):
        raise SpecError(f"image_processor_type: expected DPTImageProcessor, got {kind!r:.60}")
    if config_fields.switch(config, "do_pad", False) and config.get("size_divisor") is not None:
        raise SpecError("do_pad: expected false; padded pictures are not supported")
    size = config.get("size", {"height": 384, "width": 384})
    size = {"height": size, "width": size} if isinstance(size, int) else size
    if not isinstance(size, dict):
        raise SpecError(f"size: expected height and width, got {size!r:.60}")
    resize = config_fields.switch(config, "do_resize", True)
    keep = config_fields.switch(config, "keep_aspect_ratio", False)
    multiple = config_fields.size(config, "ensure_multiple_of", 1)
    result = DepthPreprocessing(
        height=config_fields.size(size, "height", where="size."),
        width=config_fields.size(size, "width", where="size."),
        keep_ratio=keep,
        multiple=multiple,
        resize=resize,
        resample=pixel_values.resampling(config),
        scale=pixel_values.from_processor(config, MEAN, STD),
    )
    if resize and multiple % patch and (keep or result.size(1, 1)[0] % patch or result.size(1, 1)[1] % patch):
        raise SpecError(f"ensure_multiple_of: expected a multiple of the patch of {patch} pixels, got {multiple}")
    return result


def checked_size(size: tuple[int, int], picture: np.ndarray, patch: int, i: int) -> tuple[int, int]:
    """The size that picture `i` is resized to, if the model can take it; raises ValueError otherwise."""
    height, width = size
    was = f"picture {i} of {picture.shape[1]} x {picture.shape[0]} pixels"
    if height % patch or width % patch:
        raise ValueError(f"{was}: this model does not resize, so expected multiples of {patch}; resize the picture")
    if height * width > MOST_PATCHES * patch**2:
        raise ValueError(
            f"{was}: the model would get {width} x {height} pixels, {height * width // patch**2:,} patches, and takes"
            f" at most {MOST_PATCHES:,}; cut the long picture into parts"
        )
    check_length(picture, i)
    return size


def check_length(picture: np.ndarray, i: int) -> None:
    """Raises ValueError if picture `i` has a side that OpenCV cannot resize."""
    if max(picture.shape[:2]) > LONGEST:
        raise ValueError(
            f"picture {i} of {picture.shape[1]} x {picture.shape[0]} pixels: a side has more than {LONGEST:,} pixels;"
            " cut the picture into parts"
        )


def at_own_size(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32[h, w] -> float32[height, width] by bicubic interpolation without antialiasing, as
    post_process_depth_estimation of transformers resizes: cubic convolution with a = -0.75, the edges continued.

    Values may exceed those of `depth` a little beside sharp edges.
    """
    if depth.shape == (height, width):
        return depth
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_CUBIC)


def prepared(image: np.ndarray, size: tuple[int, int], resample: str) -> np.ndarray:
    """uint8[h, w, 3] at the size for the model."""
    return pictures.resized(image, *size, resample)
