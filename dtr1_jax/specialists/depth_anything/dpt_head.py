"""The dense head of DPT (arXiv 2103.13413, section 3.2) as Depth Anything has it: tokens of several layers -> a map.

Each stage becomes a feature map at its own scale; from the coarsest on, a map is refined, enlarged to the size of the
next one and added to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dtr1_jax.specialists import operations
from dtr1_jax.specialists.depth_anything.spec import DptSpec
from dtr1_jax.specialists.dinov2.weights import dense
from dtr1_jax.specialists.operations import Weights


def shapes(spec: DptSpec, width: int) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that the head uses, of tokens with `width` channels."""
    result: dict[str, tuple[int, ...]] = {}
    used = len(spec.channels) + spec.index + 1  # of the stages, from the coarsest on
    for i, (channels, factor) in enumerate(zip(spec.channels, spec.factors)):
        if i < len(spec.channels) - used:
            continue
        at, size = f"neck.reassemble_stage.layers.{i}", int(factor)
        result |= dense(f"{at}.projection", channels, width, 1, 1)
        if factor > 1:
            result |= dense(f"{at}.resize", channels, channels, size, size)
        elif factor < 1:
            result |= dense(f"{at}.resize", channels, channels, 3, 3)
        result[f"neck.convs.{i}.weight"] = (spec.fusion, channels, 3, 3)
    for i in range(used):
        at = f"neck.fusion_stage.layers.{i}"
        result |= dense(f"{at}.projection", spec.fusion, spec.fusion, 1, 1)
        for unit in ("residual_layer1", "residual_layer2")[i == 0 :]:
            for part in ("convolution1", "convolution2"):
                result |= dense(f"{at}.{unit}.{part}", spec.fusion, spec.fusion, 3, 3)
    half = spec.fusion // 2
    result |= dense("head.conv1", half, spec.fusion, 3, 3) | dense("head.conv2", spec.hidden, half, 3, 3)
    return result | dense("head.conv3", 1, spec.hidden, 1, 1)


def features(w: Weights, spec: DptSpec, states: Sequence[jax.Array], height: int, width: int, patch: int) -> jax.Array:
    """The map that the last convolutions take.

    Args:
      w: the weights.
      spec: the sizes of the head.
      states: for each stage [B, height * width, D], the tokens of the patches.
      height, width: grid of patches.
      patch: side of a patch, pixels.

    Returns [B, height * patch, width * patch, fusion / 2].
    """
    stages = len(spec.factors)
    x = None
    for i, fusion in zip(range(stages - 1, -spec.index - 2, -1), range(stages)):  # from the coarsest on
        y = states[i].reshape(states[i].shape[0], height, width, -1)
        y = _resized(w, f"neck.reassemble_stage.layers.{i}", y, spec.factors[i])
        y = operations.conv(w, f"neck.convs.{i}", y, padding=1)
        if i:
            new_height, new_width = (_resized_side(side, spec.factors[i - 1]) for side in (height, width))
        else:
            new_height, new_width = 2 * y.shape[1], 2 * y.shape[2]
        x = _fused(w, f"neck.fusion_stage.layers.{fusion}", x, y, new_height, new_width)
    x = operations.conv(w, "head.conv1", x, padding=1)
    return operations.resize_bilinear(x, height * patch, width * patch, align_corners=True)


def last_convolutions(w: Weights, first: str, second: str, x: jax.Array) -> jax.Array:
    """[B, h, w, fusion / 2] -> float32[B, h, w]: convolution, ReLU, 1 x 1 convolution; the last in float32, because
    bfloat16 would leave 8 bits of depth."""
    x = jax.nn.relu(operations.conv(w, first, x, padding=1)).astype(jnp.float32)
    last = {f"{second}.{part}": w[f"{second}.{part}"].astype(jnp.float32) for part in ("weight", "bias")}
    return operations.conv(last, second, x)[..., 0]


def _resized(w: Weights, at: str, x: jax.Array, factor: float) -> jax.Array:
    x = operations.conv(w, f"{at}.projection", x)
    if factor > 1:
        return operations.conv_transpose(w, f"{at}.resize", x)
    return operations.conv(w, f"{at}.resize", x, stride=int(1 / factor), padding=1) if factor < 1 else x


def _resized_side(side: int, factor: float) -> int:
    """The number of rows or columns that `_resized` makes of `side`."""
    return side * int(factor) if factor >= 1 else (side - 1) // int(1 / factor) + 1


def _fused(w: Weights, at: str, coarse: jax.Array | None, x: jax.Array, height: int, width: int) -> jax.Array:
    """Adds a map to what the coarser maps gave (None = there is none yet), and enlarges the sum."""
    if coarse is not None:
        x = coarse + _residual_unit(w, f"{at}.residual_layer1", x)
    x = _residual_unit(w, f"{at}.residual_layer2", x)
    # The 1 x 1 convolution and the resizing, whose shares add up to 1, may change places: the smaller map is convolved,
    # which is 4 times less work.
    x = operations.conv(w, f"{at}.projection", x)
    return operations.resize_bilinear(x, height, width, align_corners=True)


def _residual_unit(w: Weights, at: str, x: jax.Array) -> jax.Array:
    y = operations.conv(w, f"{at}.convolution1", jax.nn.relu(x), padding=1)
    return x + operations.conv(w, f"{at}.convolution2", jax.nn.relu(y), padding=1)
