"""The stored positions of a vision transformer, resized by bicubic interpolation to the grid of a picture.

torch.nn.functional.interpolate(mode="bicubic", align_corners=False) is a sum over rows and columns, so each axis is
one matrix product. The matrices depend on shapes alone and become constants of a compiled program.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def bicubic(old: int, new: int, antialias: bool = False, scale: float | None = None) -> np.ndarray:
    """float32[new, old]: row i holds the weights with which the old values make the new value i.

    Keys' cubic convolution (1981) with a = -0.75 as PyTorch has it, and a = -0.5 with a kernel widened by the scale
    where antialiasing is on, as in Pillow.

    Args:
      old, new: numbers of values along the axis.
      antialias: whether the kernel is widened when values get fewer.
      scale: old step for each new step; None = old / new.
    """
    scale = old / new if scale is None else scale
    centres = (np.arange(new) + 0.5) * scale
    if antialias:
        widening = max(scale, 1.0)
        taps = np.arange(old)[None]
        weights = _kernel((taps + 0.5 - centres[:, None]) / widening, -0.5)
        support = 2 * widening  # the taps that torch visits: whole pixels around the centre, cut at the edges
        low = np.maximum((centres - support + 0.5).astype(int), 0)[:, None]
        high = np.minimum((centres + support + 0.5).astype(int), old)[:, None]
        weights = np.where((taps >= low) & (taps < high), weights, 0.0)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    at = centres - 0.5
    first = np.floor(at).astype(int)
    matrix = np.zeros((new, old))
    for shift in range(-1, 3):  # values beyond the edge equal those at the edge
        tap = np.clip(first + shift, 0, old - 1)
        np.add.at(matrix, (np.arange(new), tap), _kernel(first + shift - at, -0.75))
    return matrix.astype(np.float32)


def _kernel(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resized_positions(
    positions: jax.Array, height: int, width: int, antialias: bool = False, offset: float = 0.0
) -> jax.Array:
    """Resizes [grid * grid, D], in the order of rows, to float32[height * width, D].

    Args:
      positions: the stored positions of a square grid.
      height, width: grid of the picture, patches.
      antialias: as in `bicubic`.
      offset: added to the new size when the scale is computed.
    """
    grid = round(positions.shape[0] ** 0.5)
    table = positions.astype(jnp.float32).reshape(grid, grid, -1)
    if (height, width) != (grid, grid):
        rows, columns = (bicubic(grid, n, antialias, grid / (n + offset)) for n in (height, width))
        table = jnp.einsum("ij,jkd->ikd", rows, table, precision=jax.lax.Precision.HIGHEST)
        table = jnp.einsum("kj,ijd->ikd", columns, table, precision=jax.lax.Precision.HIGHEST)
    return table.reshape(height * width, -1)
