"""Matrices that resize one axis as torch.nn.functional.interpolate does (align_corners=False): out = matrix @ in."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np


@functools.lru_cache(maxsize=64)
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


@functools.lru_cache(maxsize=64)
def antialiased(old: int, new: int) -> np.ndarray:
    """float32[new, old]: bilinear with antialiasing: a triangle as wide as the step, cut at the border."""
    step = max(old / new, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * old / new
    weight = np.maximum(0, 1 - np.abs(np.arange(old)[None] + 0.5 - centre) / step)
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def resize_antialiased(x: jax.Array, height: int, width: int) -> jax.Array:
    """float[..., h, w] -> float32[..., height, width], bilinear with antialiasing."""
    if x.shape[-2:] == (height, width):
        return x.astype(jnp.float32)
    rows, columns = antialiased(x.shape[-2], height), antialiased(x.shape[-1], width)
    return jnp.einsum("ah,...hw,bw->...ab", rows, x.astype(jnp.float32), columns, precision=jax.lax.Precision.HIGHEST)
