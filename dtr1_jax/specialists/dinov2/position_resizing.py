"""The stored positions of a vision transformer, resized by bicubic interpolation to the grid of a picture.

torch.nn.functional.interpolate(mode="bicubic", align_corners=False) is a sum over rows and columns, so each axis is
one matrix product. The matrices depend on shapes alone and become constants of a compiled program.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.resize_matrices import bicubic


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
