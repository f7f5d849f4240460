"""SSDLite-MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381): pictures -> boxes and scores, as its graph does.

Feature maps are [B, h, w, channels]. Sums and scales after a convolution are computed in float32, also where the
convolution computes in bfloat16.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.ssd import weights as names
from dtr1_jax.specialists.ssd.spec import ANCHORS, BODY, FIRST_MAP, HEAD, STRIDES, SsdSpec, block_name, extra_names

_EPSILON = 1e-3
_HIGHEST = jax.lax.Precision.HIGHEST


def predict(w: Weights, spec: SsdSpec, image_bhw3: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Boxes and scores of all anchors.

    Args:
      w: weights (weights.shapes); the kernels' dtype is that of the convolutions.
      spec: sizes.
      image_bhw3: float32[B, side, side, 3], resized pictures with values 0 to 255.

    Returns (float32[B, anchors, 4] with y1,x1,y2,x2 in the unit frame, not clipped; float32[B, anchors, classes] in
    [0, 1], without the background).
    """
    maps = features(w, spec, image_bhw3 * w[names.SCALE] - w[names.SHIFT])
    codes, logits = [], []
    for i, x in enumerate(maps):
        codes.append(_predictor(w, f"{HEAD}{i}/BoxEncodingPredictor", x, 4))
        logits.append(_predictor(w, f"{HEAD}{i}/ClassPredictor", x, spec.classes + 1))
    scores = jax.nn.sigmoid(jnp.concatenate(logits, 1))[..., 1:]
    return decode(w, jnp.concatenate(codes, 1)), scores


def features(w: Weights, spec: SsdSpec, x: jax.Array) -> list[jax.Array]:
    """The 6 feature maps of pictures float32[B, side, side, 3] with values -1 to 1."""
    maps = []
    x = jax.nn.relu6(_conv(w, f"{BODY}/Conv", x, stride=2))
    for i, step in enumerate(STRIDES):
        name, before = block_name(i), x
        if i:
            x = jax.nn.relu6(_conv(w, f"{name}/expand", x))
        if i == FIRST_MAP:
            maps.append(x)
        x = _conv(w, f"{name}/project", jax.nn.relu6(_depthwise(w, f"{name}/depthwise", x, step)))
        if i and step == 1 and x.shape == before.shape:
            x = x + before
    x = jax.nn.relu6(_conv(w, f"{BODY}/Conv_1", x))
    maps.append(x)
    for i in range(len(spec.extras)):
        first, second = extra_names(i, spec)
        x = jax.nn.relu6(_conv(w, first, x))
        x = jax.nn.relu6(_depthwise(w, f"{second}_depthwise", x, 2))
        x = jax.nn.relu6(_conv(w, second, x))
        maps.append(x)
    return maps


def decode(w: Weights, code_ba4: jax.Array) -> jax.Array:
    """Codes of boxes -> boxes y1,x1,y2,x2 in the unit frame, float32[B, anchors, 4].

    A code is (ty, tx, th, tw): the centre is moved by ty / 10 heights and tx / 10 widths of the anchor, and its sides
    are multiplied by exp(th / 5) and exp(tw / 5). Source: Ren et al. 2015, arXiv 1506.01497, equation 2, with the
    scales of the Object Detection API.
    """
    anchor = w[ANCHORS]
    size = anchor[..., 2:] - anchor[..., :2]
    centre = anchor[..., :2] + size * w[names.HALF] + code_ba4[..., :2] * w[names.CENTRE] * size
    half = jnp.exp(code_ba4[..., 2:] * w[names.SIZE]) * (size * w[names.HALF])
    return jnp.concatenate([centre - half, centre + half], -1)


def _predictor(w: Weights, name: str, x: jax.Array, numbers: int) -> jax.Array:
    """float32[B, cells * boxes, numbers] of a feature map: `numbers` for each box of each cell."""
    norm = f"{name}_depthwise/BatchNorm"
    y = depthwise(x, w[f"{name}_depthwise/depthwise_weights"], 1).astype(jnp.float32)
    scale = w[f"{norm}/gamma"] * jax.lax.rsqrt(w[f"{norm}/moving_variance"] + _EPSILON)
    y = jax.nn.relu6((y - w[f"{norm}/moving_mean"]) * scale + w[f"{norm}/beta"])
    y = _pointwise(y, w[f"{name}/weights"]) + w[f"{name}/biases"]
    return y.reshape(len(y), -1, numbers)


def _conv(w: Weights, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
    """A convolution and its shift, float32."""
    kernel = w[f"{name}/Conv2D/merged_input"]
    if kernel.shape[:2] == (1, 1):
        y = _pointwise(x, kernel)
    else:
        y = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype), kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=_HIGHEST, preferred_element_type=jnp.float32,
        )  # fmt: skip
    return y + w[f"{name}/BatchNorm/batchnorm/sub"]


def _depthwise(w: Weights, name: str, x: jax.Array, stride: int) -> jax.Array:
    """A depthwise convolution, its scale and its shift, float32."""
    y = depthwise(x, w[f"{name}/depthwise_weights"], stride)
    return y * w[f"{name}/BatchNorm/batchnorm/mul"] + w[f"{name}/BatchNorm/batchnorm/sub"]


def _pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.einsum(
        "bhwi,io->bhwo", x.astype(kernel.dtype), kernel[0, 0], precision=_HIGHEST, preferred_element_type=jnp.float32
    )


def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Depthwise convolution of [B, h, w, c] by [k, k, c, 1] with the padding SAME of TensorFlow, which puts the odd
    pixel below and to the right. float32.

    It is a sum over the shifted map, because XLA's grouped convolution on CPUs is many times slower.
    """
    k = len(kernel)
    rows, columns = (-(-side // stride) for side in x.shape[1:3])
    down, right = (max((n - 1) * stride + k - old, 0) for n, old in zip((rows, columns), x.shape[1:3]))
    x = jnp.pad(x, ((0, 0), (down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0)))
    x, kernel = x.astype(kernel.dtype).astype(jnp.float32), kernel.astype(jnp.float32)
    total = jnp.zeros((), jnp.float32)
    for i in range(k):
        for j in range(k):
            end = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
            total = total + x[:, i : end[0] : stride, j : end[1] : stride] * kernel[i, j, :, 0]
    return total
