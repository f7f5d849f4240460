"""Pictures become patches of a fixed count: resize, normalise, cut, and say where each patch stands. numpy only."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

from dtr1_jax import types


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How a policy cuts pictures.

    Attributes:
      patch: side of a patch, pixels.
      temporal_patch: frames in a patch; a still picture is repeated.
      merge: merge x merge patches become one token.
      side: the learned position table has side x side rows.
      max_pixels: a picture is shrunk to at most so many pixels.
    """

    patch: int
    temporal_patch: int
    merge: int
    side: int
    max_pixels: int

    @property
    def factor(self) -> int:
        """Pixels along the side of one token."""
        return self.patch * self.merge

    @property
    def patches(self) -> int:
        """Patches of the largest picture: what every picture is padded to."""
        return self.max_pixels // self.factor**2 * self.merge**2

    def __post_init__(self):
        if min(self.patch, self.temporal_patch, self.merge, self.side) < 1:
            raise ValueError(f"expected sizes of at least 1, got {self}")
        if self.max_pixels < self.factor**2:
            raise ValueError(
                f"max_pixels = {self.max_pixels} is less than one token of {self.factor} x {self.factor} pixels"
            )


def resized(width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """(width, height) in pixels to which a picture is resized: multiples of `factor` with at most `max_pixels` pixels.

    Keeps the shape of the picture as nearly as that allows (the `smart_resize` of Qwen2-VL), and at least one token a
    side; a strip so long that this is not possible is squeezed. Small pictures are enlarged to fill `max_pixels`.
    """
    factor, most = geometry.factor, geometry.max_pixels // geometry.factor**2
    scale = math.sqrt(geometry.max_pixels / (width * height))
    columns, rows = max(1, round(width * scale / factor)), max(1, round(height * scale / factor))
    if columns * rows > most:
        columns, rows = max(1, math.floor(width * scale / factor)), max(1, math.floor(height * scale / factor))
    columns, rows = min(columns, most // rows if rows <= most else 1), min(rows, most)
    return columns * factor, rows * factor


def patches(image: np.ndarray, geometry: Geometry) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """Cuts uint8[h, w, 3] into patches in merge-block order, padded to `geometry.patches`.

    Returns:
      (fields of types.Images without the batch axis, (width, height) of the resized picture in pixels). The values of
      a patch are ordered channel, frame, row, column and lie in [-1, 1].
    """
    size = resized(image.shape[1], image.shape[0], geometry)
    if (image.shape[1], image.shape[0]) != size:
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    pixels = image.astype(np.float32) / 127.5 - 1.0
    p, m, n = geometry.patch, geometry.merge, geometry.patches
    rows, columns = size[1] // p, size[0] // p

    def blocks(x):  # [rows, columns, ...] -> [rows * columns, ...], the merge x merge patches of a token together
        x = x.reshape(rows // m, m, columns // m, m, *x.shape[2:])
        return x.swapaxes(1, 2).reshape(rows * columns, *x.shape[4:])

    cut = pixels.reshape(rows, p, columns, p, 3).transpose(0, 2, 4, 1, 3)  # [rows, columns, 3, p, p]
    cut = np.repeat(cut[:, :, :, None], geometry.temporal_patch, 3)
    position = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1)
    corner, weight = _corners(rows, columns, geometry.side)

    def padded(x, dtype):
        x = blocks(x).reshape(rows * columns, -1).astype(dtype)
        return np.pad(x, [(0, n - len(x)), (0, 0)])

    fields = {
        "patch_bnc": padded(cut, np.float32),
        "position_bn2": padded(position, np.int32),
        "corner_bn4": padded(corner, np.int32),
        "corner_weight_bn4": padded(weight, np.float32),
        "segment_bn": (np.arange(n) < rows * columns).astype(np.int32),
    }
    return fields, size


def tokens(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """(rows, columns) of decoder tokens of a picture resized to (width, height)."""
    return size[1] // geometry.factor, size[0] // geometry.factor


def _corners(rows: int, columns: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Stretches the side x side position table over the grid, bilinearly and with the corners kept.

    Returns:
      (int[rows, columns, 4] rows of the table, float[rows, columns, 4] their weights).
    """
    y, x = np.linspace(0, side - 1, rows), np.linspace(0, side - 1, columns)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, side - 1), np.minimum(x0 + 1, side - 1)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    index = np.stack([a[:, None] * side + b[None, :] for a in (y0, y1) for b in (x0, x1)], -1)
    weight = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], -1)
    return index, weight


def stack(pictures: list[dict[str, np.ndarray]]) -> types.Images:
    """One batch from the fields of its pictures."""
    return types.Images(**{name: np.stack([p[name] for p in pictures]) for name in pictures[0]})
