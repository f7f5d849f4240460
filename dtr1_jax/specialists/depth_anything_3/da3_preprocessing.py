"""The picture processor of Depth Anything 3 (`upper_bound_resize`): the longest side becomes 504 pixels, then both
sides are brought to multiples of the patch. OpenCV resizes, by area where the picture shrinks and cubic where it grows.
"""

from __future__ import annotations

import cv2
import numpy as np

from dtr1_jax.specialists.pixel_values import PixelScale

LONGEST = 504  # pixels, of the published model
SCALE = PixelScale(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def sizes(height: int, width: int, longest: int, patch: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (height, width) after the first resizing and after the second.

    A side that would be rounded to 0 patches becomes one patch; the reference fails there.
    """
    scale = longest / max(height, width)
    first = max(1, round(height * scale)), max(1, round(width * scale))
    return first, (_nearest_multiple(first[0], patch), _nearest_multiple(first[1], patch))


def prepared(image: np.ndarray, longest: int, patch: int) -> np.ndarray:
    """uint8[h, w, 3] at the size for the model."""
    first, second = sizes(image.shape[0], image.shape[1], longest, patch)
    if max(image.shape[:2]) != longest:
        grows = max(image.shape[:2]) < longest
        image = cv2.resize(image, first[::-1], interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    if second == image.shape[:2]:
        return image
    grows = second[0] > image.shape[0] or second[1] > image.shape[1]
    return cv2.resize(image, second[::-1], interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


def _nearest_multiple(side: int, patch: int) -> int:
    below = side // patch * patch
    return max(patch, below + patch if side - below >= below + patch - side else below)
