"""Matrices that resize one axis as torch.nn.functional.interpolate does (align_corners=False): out = matrix @ in."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

_CUBIC = -0.75  # the constant of PyTorch's cubic kernel


@functools.lru_cache(maxsize=64)
def cubic(old: int, new: int) -> np.ndarray:
    """float32[new, old]: bicubic without antialiasing; positions outside repeat the border."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(at).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        distance = np.abs(at - (first + tap))
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
        np.add.at(matrix, (np.arange(new), np.clip(first + tap, 0, old - 1)), np.where(distance <= 1, near, far))
    return matrix.astype(np.float32)


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
