"""Masks between the sizes of the user and of the model, on the host."""

from __future__ import annotations

import cv2
import numpy as np

from dtr1_jax.specialists.resize_matrices import antialiased

GIVEN_SCALE, GIVEN_BIAS = 20.0, -10.0  # a mask of 0 and 1 becomes logits


def at_picture_size(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool[height, width] of float[s, s] logits: bilinear without antialiasing, then above 0."""
    return cv2.resize(logits.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0


def given_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """float32[side, side] of 0 and 1 from bool[h, w]: bilinear with antialiasing, then at least one half."""
    if mask.shape == (side, side):
        return mask.astype(np.float32)
    return (_resized(mask.astype(np.float32), side) >= 0.5).astype(np.float32)


def prompt_logits(mask: np.ndarray, side: int) -> np.ndarray:
    """float32[side, side], a mask prompt of a picture: logits float[h, w], or bool[h, w], which becomes -10 and 10."""
    values = mask * np.float32(GIVEN_SCALE) + np.float32(GIVEN_BIAS) if mask.dtype == bool else mask.astype(np.float32)
    return values if values.shape == (side, side) else _resized(values, side)


def _resized(values: np.ndarray, side: int) -> np.ndarray:
    rows, columns = antialiased(values.shape[0], side), antialiased(values.shape[1], side)
    return rows @ values @ columns.T
