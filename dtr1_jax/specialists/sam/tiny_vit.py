"""TinyViT, the picture encoder of MobileSAM (Wu et al., "TinyViT", arXiv 2207.10666).

A stage of convolution blocks is followed by stages of attention in windows, with a depthwise convolution between
attention and MLP. Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.specialists import operations as ops
from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.sam.spec import SamSpec, TinyVitSpec
from dtr1_jax.specialists.sam.vit_encoder import in_windows, neck

_HIGHEST = jax.lax.Precision.HIGHEST
_NAME = "image_encoder"
_EPS = 1e-5  # of batch norms and layer norms


def encode(w: Weights, spec: SamSpec, x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Normalised pictures [B, image, image, 3] -> embeddings [B, grid, grid, D], computed in `dtype`."""
    tiny, gelu = spec.encoder, ops.ACTIVATIONS["gelu"]
    x = x.astype(dtype)
    x = gelu(_conv(w, f"{_NAME}.patch_embed.seq.0", x, 2))
    x = _conv(w, f"{_NAME}.patch_embed.seq.2", x, 2)
    for stage, depth in enumerate(tiny.depths):
        name = f"{_NAME}.layers.{stage}"
        for i in range(depth):
            x = _block(w, f"{name}.blocks.{i}", tiny, stage, x) if stage else _mbconv(w, f"{name}.blocks.{i}", x)
        if stage < len(tiny.strides):
            x = gelu(_conv(w, f"{name}.downsample.conv1", x))
            x = gelu(_conv(w, f"{name}.downsample.conv2", x, tiny.strides[stage]))
            x = _conv(w, f"{name}.downsample.conv3", x)
    return neck(w, [f"{_NAME}.neck.{i}" for i in range(4)], x)


def _mbconv(w: Weights, name: str, x: jax.Array) -> jax.Array:
    gelu = ops.ACTIVATIONS["gelu"]
    y = gelu(_conv(w, f"{name}.conv1", x))
    y = gelu(_conv(w, f"{name}.conv2", y))
    return gelu(_conv(w, f"{name}.conv3", y) + x)


def _block(w: Weights, name: str, tiny: TinyVitSpec, stage: int, x: jax.Array) -> jax.Array:
    heads, window = tiny.heads[stage], tiny.windows[stage]
    x = x + in_windows(x, window, lambda part: _attention(w, f"{name}.attn", heads, part))
    x = _conv(w, f"{name}.local_conv", x)
    y = ops.layer_norm(w, f"{name}.mlp.norm", x, _EPS)
    y = ops.ACTIVATIONS["gelu"](_linear(w, f"{name}.mlp.fc1", y))
    return x + _linear(w, f"{name}.mlp.fc2", y)


def _attention(w: Weights, name: str, heads: int, x: jax.Array) -> jax.Array:
    """Attention in one window [B, s, s, D], with a bias for each distance along rows and columns."""
    b, side, _, d = x.shape
    qkv = _linear(w, f"{name}.qkv", ops.layer_norm(w, f"{name}.norm", x, _EPS))
    qkv = qkv.reshape(b, side * side, heads, 3, d // heads)  # each head has its query, key and value side by side
    bias = w[f"{name}.attention_biases"].astype(jnp.float32)[:, _offsets(side)]
    y = ops.attention(qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :], bias)
    return _linear(w, f"{name}.proj", y.reshape(b, side, side, d))


def _offsets(side: int) -> np.ndarray:
    """int[s * s, s * s]: the number of the distance (|rows|, |columns|) of two cells, in the order of appearance."""
    cells = list(itertools.product(range(side), repeat=2))
    numbers: dict[tuple[int, int], int] = {}
    rows = [[numbers.setdefault((abs(a - c), abs(b - d)), len(numbers)) for c, d in cells] for a, b in cells]
    return np.asarray(rows)


def _conv(w: Weights, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
    """A convolution that keeps the size (or divides it by the stride), and its batch norm."""
    scale = w[f"{name}.bn.weight"] * jax.lax.rsqrt(w[f"{name}.bn.running_var"] + _EPS)
    shift = (w[f"{name}.bn.bias"] - w[f"{name}.bn.running_mean"] * scale).astype(x.dtype)
    kernel = (w[f"{name}.c.weight"] * scale[:, None, None, None]).astype(x.dtype)
    side = kernel.shape[2]
    if kernel.shape[1] == 1:
        return ops.depthwise(kernel, x, stride) + shift
    if side == 1:
        return jnp.einsum("bhwi,oi->bhwo", x, kernel[:, :, 0, 0], precision=_HIGHEST) + shift
    return ops.conv({"c.weight": kernel}, "c", x, stride, padding=side // 2) + shift


def _linear(w: Weights, name: str, x: jax.Array) -> jax.Array:
    return ops.linear({f"y.{part}": w[f"{name}.{part}"].astype(x.dtype) for part in ("weight", "bias")}, "y", x)
