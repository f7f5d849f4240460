"""The square that SAM's encoder sees: pictures into it, prompts into its pixels, and masks out of it."""

from __future__ import annotations

import cv2
import numpy as np

from dtr1_jax.specialists import pictures

_CERTAIN = 10.0  # logit of a pixel of a mask that a user gives as True and False


def resized_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of a picture whose longest side becomes `side`, as SAM rounds them, at least one each."""
    scale = side * 1.0 / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def squared(image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8[h, w, 3] -> (uint8[side, side, 3] with the resized picture at the top left, int32[2] its rows, columns)."""
    height, width = resized_size(image.shape[0], image.shape[1], side)
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = pictures.resized(image, height, width)
    return square, np.asarray([height, width], np.int32)


def to_pixels(unit: np.ndarray, height: int, width: int, side: int) -> np.ndarray:
    """Places [..., 2] = x, y in the unit frame of a picture of height x width -> float32 pixels of the square."""
    rows, columns = resized_size(height, width, side)
    return (np.asarray(unit, np.float64) * (columns, rows)).astype(np.float32)


def to_masks(logit_nhw: np.ndarray, height: int, width: int, side: int) -> np.ndarray:
    """Logits float32[n, low, low] of the square -> bool[n, height, width] of the picture.

    The logits are resized to the square, cut to the picture and resized to its size, both bilinearly without
    antialiasing; the mask is where they are above 0.
    """
    rows, columns = resized_size(height, width, side)
    masks = np.zeros((len(logit_nhw), height, width), bool)
    for i, logits in enumerate(logit_nhw):
        large = cv2.resize(np.ascontiguousarray(logits, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        own = np.ascontiguousarray(large[:rows, :columns])
        masks[i] = cv2.resize(own, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    return masks


def to_logits(mask_nhw: np.ndarray, side: int, low: int) -> np.ndarray:
    """Masks bool[n, h, w] of a picture -> float32[n, low, low] logits of the square, as a prompt takes them."""
    height, width = mask_nhw.shape[1:]
    rows, columns = (max(round(n * low / side), 1) for n in resized_size(height, width, side))
    logits = np.full((len(mask_nhw), low, low), -_CERTAIN, np.float32)
    for i, mask in enumerate(mask_nhw):
        share = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        logits[i, :rows, :columns] = _CERTAIN * (2 * share - 1)
    return logits
