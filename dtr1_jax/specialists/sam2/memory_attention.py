"""Attention of a frame to the memories of earlier frames and to the object's pointers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.specialists import long_attention
from dtr1_jax.specialists.operations import ACTIVATIONS, Weights, layer_norm, linear
from dtr1_jax.specialists.sam2 import sine_positions
from dtr1_jax.specialists.sam2.spec import Memory, Sam2Spec
from dtr1_jax.types import pytree

_EPS = 1e-5
_MASKED = -1e9
_SHARE = 0.1  # of the picture's sine positions that is added to it


@pytree
class Remembered:
    """What R objects remember. Slots that hold nothing yet, or nothing that this frame may read, are unused.

    Attributes:
      memory: float[R, S, g * g, channels], memories of frames.
      age: int32[R, S]: row of the temporal embedding, or -1 for an unused slot. Example with 7 rows: a conditioning
        frame has row 6, the frame before this one row 0, an empty slot -1.
      pointer: float[R, P, d], object pointers of frames.
      distance: float32[R, P], frames between the pointer's frame and this one, divided by the largest distance; -1 for
        an unused slot.
    """

    memory: jax.Array
    age: jax.Array
    pointer: jax.Array
    distance: jax.Array


def attend(w: Weights, spec: Sam2Spec, coarse: jax.Array, past: Remembered) -> jax.Array:
    """The frame's coarse map as R objects see it in the light of their memories, float[R, g * g, d].

    Args:
      w: weights by their names in the checkpoint.
      spec: sizes.
      coarse: float[1, g * g, d].
      past: the memories; an object without any gets finite numbers without meaning.
    """
    sizes, rows = spec.memory, past.age.shape[0]
    keys, offsets, bias = _keys(w, spec, past)
    spatial = past.memory.shape[1]
    x = coarse + (_SHARE * sine_positions.of_map(spec.grid, spec.width)).astype(coarse.dtype)
    for i in range(sizes.layers):
        at = f"memory_attention.layers.{i}"
        normed = layer_norm(w, f"{at}.layer_norm1", x, _EPS)
        q, k = (_rotated(w, f"{at}.self_attn.{part}", sizes, spec.grid, normed) for part in ("q_proj", "k_proj"))
        x = x + _attention(w, f"{at}.self_attn", sizes, q, k, normed, None)
        normed = layer_norm(w, f"{at}.layer_norm2", x, _EPS)
        q = _rotated(w, f"{at}.cross_attn_image.q_proj", sizes, spec.grid, normed)
        k = _rotated(w, f"{at}.cross_attn_image.k_proj", sizes, spec.grid, keys + offsets, spatial)
        q = jnp.broadcast_to(q, (rows, *q.shape[1:]))  # the objects differ from the first memory on
        x = x + _attention(w, f"{at}.cross_attn_image", sizes, q, k, keys, bias)
        normed = layer_norm(w, f"{at}.layer_norm3", x, _EPS)
        hidden = ACTIVATIONS[sizes.activation](linear(w, f"{at}.linear1", normed))
        x = x + linear(w, f"{at}.linear2", hidden)
    return layer_norm(w, "memory_attention.layer_norm", x, _EPS)


def _keys(w: Weights, spec: Sam2Spec, past: Remembered) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Memories and pointers as float[R, k, c], their positions [R, k, c], and the bias [R, 1, 1, k] of unused ones."""
    sizes, dtype = spec.memory, w["no_memory_embedding"].dtype
    rows, slots, area, c = past.memory.shape
    ages = w["memory_temporal_positional_encoding"][:, 0, 0][jnp.maximum(past.age, 0)]
    offset = jnp.asarray(sine_positions.of_map(spec.grid, c), dtype) + ages[:, :, None]
    splits = spec.width // c
    pointers = past.pointer.astype(dtype).reshape(rows, -1, c)
    if sizes.timed_pointers:
        times = sine_positions.of_time(past.distance, spec.width).astype(dtype)
        times = linear(w, "temporal_positional_encoding_projection_layer", times)
    else:
        times = jnp.zeros((*past.distance.shape, c), dtype)
    keys = jnp.concatenate([past.memory.astype(dtype).reshape(rows, slots * area, c), pointers], axis=1)
    offsets = jnp.concatenate([offset.reshape(rows, slots * area, c), jnp.repeat(times, splits, axis=1)], axis=1)
    used = [jnp.repeat(past.age >= 0, area, axis=1), jnp.repeat(past.distance >= 0, splits, axis=1)]
    bias = jnp.where(jnp.concatenate(used, axis=1), 0.0, _MASKED)
    return keys, offsets, bias[:, None, None]


def _attention(
    w: Weights, name: str, sizes: Memory, q: jax.Array, k: jax.Array, value: jax.Array, bias: jax.Array | None
) -> jax.Array:
    v = linear(w, f"{name}.v_proj", value)
    v = v.reshape(*v.shape[:2], sizes.heads, -1)
    out = long_attention.attention(q, k, v, bias)
    return linear(w, f"{name}.o_proj", out.reshape(*out.shape[:2], -1))


def _rotated(w: Weights, name: str, sizes: Memory, grid: int, x: jax.Array, maps: int = 1) -> jax.Array:
    """Projects x[R, k, i] to [R, k, N, H] and turns the first maps * g * g positions by their places.

    The reference turns neighbouring channels as pairs. Here the rows of the projection are reordered, so that pairs are
    channel j and channel j + H / 2: queries and keys are reordered alike, which their product does not see.
    """
    heads, area = sizes.heads, grid * grid
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    weight = weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    bias = bias.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
    y = linear({"n.weight": weight, "n.bias": bias}, "n", x)
    rows, count, inner = y.shape
    y = y.reshape(rows, count, heads, inner // heads)
    angle = _angles(grid, inner // heads, sizes.theta)
    cos, sin = (jnp.asarray(f(angle))[None, None, :, None] for f in (np.cos, np.sin))
    placed = y[:, : maps * area].reshape(rows, maps, area, heads, -1).astype(jnp.float32)
    a, b = jnp.split(placed, 2, axis=-1)
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(y.dtype)
    turned = turned.reshape(rows, maps * area, heads, -1)
    return turned if maps * area == count else jnp.concatenate([turned, y[:, maps * area :]], axis=1)


@functools.lru_cache(maxsize=8)
def _angles(grid: int, width: int, theta: float) -> np.ndarray:
    """float32[grid * grid, width / 2]: the first half of the angles grows with x, the second with y."""
    frequencies = (1 / theta ** (np.arange(0, width // 2, 2, dtype=np.float32) / (width // 2))).astype(np.float32)
    y, x = np.divmod(np.arange(grid * grid), grid)
    return np.concatenate([x[:, None] * frequencies, y[:, None] * frequencies], axis=1).astype(np.float32)
