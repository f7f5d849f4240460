"""Pictures that a user passes to a specialist, checked and brought to one kind, and the resizing of processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

RESAMPLING = {0: "NEAREST", 1: "LANCZOS", 2: "BILINEAR", 3: "BICUBIC", 4: "BOX", 5: "HAMMING"}  # codes of processors


def checked(images: Any) -> list[np.ndarray]:
    """The pictures as a list of uint8[h, w, 3], contiguous.

    Args:
      images: one array [h, w, 3], a batch [B, h, w, 3] or a sequence of arrays; grey [h, w] or [h, w, 1] is copied to
        three channels, and the fourth channel of [h, w, 4] is dropped. uint8, or floats in [0, 1].

    Raises ValueError: another shape or dtype, a float outside [0, 1], or a picture without pixels.
    """
    single = isinstance(images, np.ndarray) and (images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (3, 4)))
    return [_checked(np.asarray(image), i) for i, image in enumerate([images] if single else images)]


def _checked(image: np.ndarray, i: int) -> np.ndarray:
    shape = image.shape
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4) or not image.size:
        raise ValueError(
            f"picture {i}: expected an array [h, w, 3] with pixels, got shape {list(shape)};"
            " data.image_files.load_image reads a file as such an array"
        )
    if image.dtype.kind == "f":
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                f"picture {i}: expected uint8, or floats in [0, 1], got floats from {image.min()} to {image.max()}"
            )
        image = np.rint(image * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"picture {i}: expected uint8, or floats in [0, 1], got {image.dtype}")
    image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    return np.ascontiguousarray(image)


def resized(image: np.ndarray, height: int, width: int, resample: str = "BILINEAR") -> np.ndarray:
    """uint8[h, w, 3] -> uint8[height, width, 3], as Pillow resizes with the named filter (antialiased)."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling[resample]))


def normalised(image: np.ndarray, mean: Sequence[float], std: Sequence[float], scale: float = 1 / 255) -> np.ndarray:
    """float32[h, w, 3]: (image * scale - mean) / std."""
    return ((image.astype(np.float32) * np.float32(scale)) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
