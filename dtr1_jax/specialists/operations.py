"""Layers that several specialists share, as functions of a flat dict of weights and the name of a layer.

Pictures and feature maps are [B, h, w, channels]; weights have PyTorch's layouts, as the checkpoints store them.
Products of float32 arrays are computed in full float32 on every kind of device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

Weights = Mapping[str, jax.Array]
_HIGHEST = jax.lax.Precision.HIGHEST  # float32 products in float32; it changes nothing for bfloat16

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
}


def linear(w: Weights, name: str, x: jax.Array) -> jax.Array:
    """x[..., i] @ weight[o, i].T + bias[o]; without a bias where the checkpoint has none."""
    y = jnp.einsum("...i,oi->...o", x, w[f"{name}.weight"], precision=_HIGHEST)
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w: Weights, name: str, x: jax.Array, eps: float) -> jax.Array:
    """(x - mean) / std * weight + bias over the last axis, computed in float32."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + eps)
    return (y * w[f"{name}.weight"] + w[f"{name}.bias"]).astype(x.dtype)


def conv(
    w: Weights, name: str, x: jax.Array, stride: int = 1, padding: int | Sequence[tuple[int, int]] = 0, groups: int = 1
) -> jax.Array:
    """2-D convolution of x[B, h, w, i] by weight[o, i / groups, kh, kw]; `padding` in pixels on all sides, or of
    ((top, bottom), (left, right))."""
    sides = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    y = jax.lax.conv_general_dilated(
        x, w[f"{name}.weight"], (stride, stride), sides, dimension_numbers=("NHWC", "OIHW", "NHWC"),
        feature_group_count=groups, precision=_HIGHEST,
    )  # fmt: skip
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def conv_transpose(w: Weights, name: str, x: jax.Array) -> jax.Array:
    """Transposed convolution with kernel and stride k: [B, h, w, i] by weight[i, o, k, k] -> [B, kh, kw, o]."""
    kernel = w[f"{name}.weight"]
    b, height, width, _ = x.shape
    _, o, k, _ = kernel.shape
    y = jnp.einsum("bhwi,iokl->bhkwlo", x, kernel, precision=_HIGHEST).reshape(b, height * k, width * k, o)
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def depthwise(kernel: jax.Array, x: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution of x[B, h, w, c] by kernel[c, 1, k, k] with padding k // 2.

    It is a sum over the k * k shifted maps, which XLA fuses into one pass. On a CPU that is 4 to 15 times as fast as a
    convolution with as many groups as channels.
    """
    side = kernel.shape[-1]
    height, width = (-(-n // stride) for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    rows = [slice(i, i + (height - 1) * stride + 1, stride) for i in range(side)]
    columns = [slice(i, i + (width - 1) * stride + 1, stride) for i in range(side)]
    return sum(x[:, rows[i], columns[j]] * kernel[:, 0, i, j] for i in range(side) for j in range(side))


def attention(
    q_bqnh: jax.Array, k_bknh: jax.Array, v_bknh: jax.Array, bias: jax.Array | None = None, scale: float | None = None
) -> jax.Array:
    """Softmax attention, [B, q, N, H] over [B, k, N, H] -> [B, q, N, H].

    Args:
      q_bqnh, k_bknh, v_bknh: queries, keys and values of N heads.
      bias: added to the scores, broadcast to [B, N, q, k]; None = nothing.
      scale: factor of the scores; None = H ** -0.5.
    """
    scale = q_bqnh.shape[-1] ** -0.5 if scale is None else scale
    score = jnp.einsum(
        "bqnh,bknh->bnqk", q_bqnh * scale, k_bknh, precision=_HIGHEST, preferred_element_type=jnp.float32
    )
    weight = jax.nn.softmax(score if bias is None else score + bias, axis=-1).astype(v_bknh.dtype)
    return jnp.einsum("bnqk,bknh->bqnh", weight, v_bknh, precision=_HIGHEST)


def resize_bilinear(x: jax.Array, height: int, width: int, align_corners: bool = False) -> jax.Array:
    """Bilinear resizing of [B, h, w, c] without antialiasing, as torch.nn.functional.interpolate computes it."""
    return _along(_along(x, 1, height, align_corners), 2, width, align_corners)


def _along(x: jax.Array, axis: int, size: int, align_corners: bool) -> jax.Array:
    old = x.shape[axis]
    if old == size and not align_corners:
        return x
    if align_corners:
        at = jnp.arange(size) * ((old - 1) / (size - 1) if size > 1 else 0.0)
    else:
        at = jnp.maximum((jnp.arange(size) + 0.5) * (old / size) - 0.5, 0.0)
    low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, old - 1)
    high = jnp.minimum(low + 1, old - 1)
    share = (at - low).astype(jnp.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    a, b = jnp.take(x, low, axis).astype(jnp.float32), jnp.take(x, high, axis).astype(jnp.float32)
    return (a * (1 - share) + b * share).astype(x.dtype)
