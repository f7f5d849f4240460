"""Holds a frozen base in 8 bits: the kernels of its projections are int8, with a float32 scale for each output.

A weight is kernel * kernel_scale, where kernel_scale is the largest magnitude of an output's weights / 127 (symmetric
"absmax" quantisation, rounded to nearest). The error of a weight is at most half a scale. Only projections are
quantised. Embeddings, norms, biases and the projection of patches keep their dtype, and so does an output projection
that is tied to the embedding.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models.weights import native

SCALE = "kernel_scale"  # name of the leaf that holds the scales of the kernel beside it
LARGEST = 127


def is_quantised(path: str) -> bool:
    """Whether the leaf at `path`, such as "decoder/q/kernel", is held in 8 bits."""
    return path.endswith("/kernel") and path != "vision/patch/kernel"


def quantise(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rounds a kernel [..., inputs, outputs] to (int8[..., inputs, outputs], float32[..., outputs] scales)."""
    kernel = jnp.asarray(kernel, jnp.float32)
    scale = jnp.abs(kernel).max(-2) * np.float32(1 / LARGEST)
    scale = jnp.where(scale == 0, 1, scale)  # an output with nothing but zeros: any scale is right
    whole = jnp.clip(jnp.round(kernel / scale[..., None, :]), -LARGEST, LARGEST)
    return whole.astype(jnp.int8), scale


def template(shapes: dict, dtype: Any) -> dict:
    """Shapes of a quantised base: int8 kernels with their float32 scales beside them, all other leaves of `dtype`.

    `shapes` is the tree of shapes of the weights before they are quantised.
    """
    flat = {}
    for path, x in native.flatten(shapes).items():
        flat[path] = jax.ShapeDtypeStruct(x.shape, jnp.int8 if is_quantised(path) else dtype)
        if is_quantised(path):
            flat[scale_path(path)] = jax.ShapeDtypeStruct((*x.shape[:-2], x.shape[-1]), jnp.float32)
    return native.unflatten(dict(sorted(flat.items())))


def scale_path(path: str) -> str:
    """Path of the scales of the kernel at `path`."""
    return path.removesuffix("kernel") + SCALE


def quantise_params(params: dict, dtype: Any) -> dict:
    """Quantises a tree of weights; the result has the tree, shapes and dtypes of `template`."""
    flat = {}
    for path, x in native.flatten(params).items():
        if is_quantised(path):
            flat[path], flat[scale_path(path)] = quantise(x)
        else:
            flat[path] = x.astype(dtype)
    return native.unflatten(dict(sorted(flat.items())))


def product(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """float32[..., o]: x[..., i] @ (kernel[i, o] * scale[o]).

    The int8 numbers of a kernel are exact in bfloat16. The product is multiplied by the scales afterwards, in float32.
    """
    return jnp.matmul(x, _floats(kernel, x), preferred_element_type=jnp.float32) * scale


def _floats(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """Converts the kernel to the dtype of x, but only once x has been computed.

    Without this dependence on x, the compiler converts all kernels before a decode loop and holds them as floats. An
    optimization barrier prevents that, except on the CPU, where XLA drops barriers early. There a number that depends
    on x is added to the kernel: 0, or 1 where x begins with NaN and the product is NaN anyway. On a mesh of other
    devices this addition would cost a message between devices for each product.
    """

    def with_barrier(kernel, x):
        return jax.lax.optimization_barrier((kernel, x))[0].astype(x.dtype)

    def with_added_zero(kernel, x):
        return (kernel + jnp.isnan(x.reshape(-1)[0]).astype(kernel.dtype)).astype(x.dtype)

    return jax.lax.platform_dependent(kernel, x, cpu=with_added_zero, default=with_barrier)


@jax.custom_vjp
def matmul(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """[..., o] in the dtype of x: x[..., i] @ (kernel[i, o] * scale[o]). Kernel and scale get no gradient."""
    return product(x, kernel, scale).astype(x.dtype)


def _backward(residuals, dy):
    kernel, scale = residuals
    dy = (dy * scale).astype(dy.dtype)
    return dy @ _floats(kernel, dy).T, None, None


# only the int8 kernel is kept for the backward pass
matmul.defvjp(lambda x, kernel, scale: (matmul(x, kernel, scale), (kernel, scale)), _backward)
