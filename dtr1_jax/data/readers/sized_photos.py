"""The photos of a data set in COCO's format, upright or as they are stored, as their annotations have them."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import numpy as np

from dtr1_jax.data import image_files

log = logging.getLogger(__name__)


def load_sized(
    file: Path, size: tuple[int, int], annotations: str, max_pixels: int = image_files.MAX_PIXELS
) -> np.ndarray:
    """The image in a file, upright or as it is stored, whichever has `size`, that of the annotation file.

    It is shrunk to at most `max_pixels`; `size` is that before. Raises ImageError if neither has.
    """
    *stored, orientation = image_files.stored_size(file)
    upright = tuple(stored[::-1] if orientation >= 5 else stored)  # 5 to 8 swap the sides
    if size in (upright, tuple(stored)):
        if orientation > 1 and stored == list(upright):
            _warn_of_rotation(annotations)
        return image_files.load_image(file, max_pixels=max_pixels, upright=size == upright)
    turned = f" (its EXIF rotation {orientation} is applied)" if orientation > 1 else ""
    raise image_files.ImageError(
        f"{file}: expected {size[0]} x {size[1]} pixels, the size in {annotations}, got {upright[0]} x {upright[1]}"
        f"{turned}; take the file that was annotated"
    )


@functools.cache  # once for each annotation file
def _warn_of_rotation(annotations: str) -> None:
    log.warning(
        "%s: some photos have an EXIF rotation that their size does not show (square, or turned by half), and are read "
        "upright; if their annotations do not fit, save the photos again without the rotation",
        annotations,
    )
