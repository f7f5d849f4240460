"""Fixed sine positions of feature maps and of distances in time."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_TEMPERATURE = 10000.0


@functools.lru_cache(maxsize=16)
def of_map(side: int, channels: int) -> np.ndarray:
    """float32[side * side, channels] for a square map, row by row: half the channels for y, then half for x.

    Sine and cosine alternate; positions go from just above 0 to 2 pi (Carion et al., DETR, arXiv 2005.12872).
    """
    half = channels // 2
    at = np.arange(1, side + 1, dtype=np.float32) / np.float32(side + 1e-6) * np.float32(2 * math.pi)
    pairs = np.arange(half, dtype=np.float32) // 2
    angle = at[:, None] / _TEMPERATURE ** (2 * pairs / half)
    axis = np.where(np.arange(half) % 2 == 0, np.sin(angle), np.cos(angle))
    whole = np.concatenate(
        [np.broadcast_to(axis[:, None], (side, side, half)), np.broadcast_to(axis[None], (side, side, half))], axis=-1
    )
    return whole.reshape(side * side, channels).astype(np.float32)


def of_time(distance: jax.Array, channels: int) -> jax.Array:
    """float32[..., channels] of distances float32[...]: the sines, then the cosines."""
    half = channels // 2
    pairs = np.arange(half, dtype=np.float32) // 2
    angle = distance[..., None] / jnp.asarray(_TEMPERATURE ** (2 * pairs / half), jnp.float32)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
