"""The memory of one frame: its picture and an object's mask on it, joined into a small map."""

from __future__ import annotations

import jax

from dtr1_jax.specialists.operations import ACTIVATIONS, Weights, conv, depthwise, layer_norm, linear
from dtr1_jax.specialists.sam2.spec import Memory, Sam2Spec

_ROOT = "memory_encoder"
_EPS = 1e-6


def encode(w: Weights, spec: Sam2Spec, coarse: jax.Array, masks: jax.Array, present: jax.Array) -> jax.Array:
    """float[R, g * g, channels] for R objects of one frame.

    Args:
      w: weights by their names in the checkpoint.
      spec: sizes.
      coarse: float[1, g, g, d], the frame's coarse map.
      masks: float[R, S, S], scaled as Memory.scale and Memory.bias say.
      present: bool[R], False where the object is hidden; its memory is marked by an embedding.
    """
    memory = spec.memory
    projected = conv(w, f"{_ROOT}.feature_projection", coarse)
    x = projected + _shrunk(w, memory, masks.astype(coarse.dtype))
    for i in range(memory.fuser_layers):
        x = _fused(w, f"{_ROOT}.memory_fuser.layers.{i}", memory, x)
    x = conv(w, f"{_ROOT}.projection", x)
    if memory.occlusion:
        hidden = (~present)[:, None, None, None].astype(x.dtype)
        x = x + hidden * w["occlusion_spatial_embedding_parameter"][0]
    return x.reshape(len(x), -1, memory.channels)


def _shrunk(w: Weights, memory: Memory, masks: jax.Array) -> jax.Array:
    """[R, S, S] -> [R, g, g, d]."""
    x, root = masks[..., None], f"{_ROOT}.mask_downsampler"
    for i in range(memory.mask_layers):
        x = conv(w, f"{root}.layers.{i}.conv", x, memory.mask_stride, memory.mask_padding)
        x = ACTIVATIONS[memory.mask_activation](layer_norm(w, f"{root}.layers.{i}.layer_norm", x, _EPS))
    return conv(w, f"{root}.final_conv", x)


def _fused(w: Weights, name: str, memory: Memory, x: jax.Array) -> jax.Array:
    """A block of ConvNeXt (Liu et al., arXiv 2201.03545)."""
    y = depthwise(w[f"{name}.depthwise_conv.weight"], x) + w[f"{name}.depthwise_conv.bias"]
    y = linear(w, f"{name}.pointwise_conv1", layer_norm(w, f"{name}.layer_norm", y, _EPS))
    y = linear(w, f"{name}.pointwise_conv2", ACTIVATIONS[memory.fuser_activation](y))
    return x + w[f"{name}.scale"] * y
