"""A frozen base in 8 bits: the projections' kernels as whole numbers, with a scale for each output.

A weight is kernel * kernel_scale, where kernel_scale is the largest magnitude of an output's weights / 127 (symmetric,
"absmax", rounded to nearest): an error of at most half a scale. Only projections are rounded: embeddings, norms, biases
and the projection of patches stay as they are, and so does a head that is the embedding.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models.weights import native

SCALE = "kernel_scale"  # name of the leaf beside a kernel
LARGEST = 127


def rounds(path: str) -> bool:
    """Whether the leaf at `path`, as "decoder/q/kernel", is held in 8 bits."""
    return path.endswith("/kernel") and path != "vision/patch/kernel"


def quantise(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(int8[..., inputs, outputs], float32[..., outputs]) of a kernel [..., inputs, outputs]."""
    kernel = jnp.asarray(kernel, jnp.float32)
    scale = jnp.abs(kernel).max(-2) * np.float32(1 / LARGEST)
    scale = jnp.where(scale == 0, 1, scale)  # nothing but zeros: any scale is right
    whole = jnp.clip(jnp.round(kernel / scale[..., None, :]), -LARGEST, LARGEST)
    return whole.astype(jnp.int8), scale


def dequantise(kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """float32[..., inputs, outputs], the weights that a kernel and its scales stand for."""
    return kernel.astype(jnp.float32) * scale[..., None, :]


def template(shapes: dict, dtype: Any) -> dict:
    """Shapes of a rounded base, from those of the weights: int8 kernels with scales beside them, all else `dtype`."""
    flat = {}
    for path, x in native.flatten(shapes).items():
        flat[path] = jax.ShapeDtypeStruct(x.shape, jnp.int8 if rounds(path) else dtype)
        if rounds(path):
            flat[beside(path)] = jax.ShapeDtypeStruct((*x.shape[:-2], x.shape[-1]), jnp.float32)
    return native.unflatten(dict(sorted(flat.items())))


def beside(path: str) -> str:
    """Path of the scales of the kernel at `path`."""
    return path.removesuffix("kernel") + SCALE


def rounded(params: dict, dtype: Any) -> dict:
    """The weights in the form of `template`."""
    flat = {}
    for path, x in native.flatten(params).items():
        if rounds(path):
            flat[path], flat[beside(path)] = quantise(x)
        else:
            flat[path] = x.astype(dtype)
    return native.unflatten(dict(sorted(flat.items())))


def product(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """float32[..., o]: x[..., i] @ (kernel[i, o] * scale[o]).

    The numbers of a kernel are exact in bfloat16, and the scales are multiplied in afterwards, in float32.
    """
    return jnp.matmul(x, _floats(kernel, x), preferred_element_type=jnp.float32) * scale


def _floats(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """The kernel in the dtype of x, not before x is there.

    In a decode loop the compiler would else turn all kernels into floats before the loop, and hold them as such. A
    barrier keeps it from that, but XLA's CPU compiler drops barriers early. There a 0 that hangs on x is added (1 where
    x begins with NaN, and then so is what it is multiplied with); over a mesh of other devices that would cost a
    message for each product.
    """

    def barred(kernel, x):
        return jax.lax.optimization_barrier((kernel, x))[0].astype(x.dtype)

    def hung(kernel, x):
        return (kernel + jnp.isnan(x.reshape(-1)[0]).astype(kernel.dtype)).astype(x.dtype)

    return jax.lax.platform_dependent(kernel, x, cpu=hung, default=barred)


@jax.custom_vjp
def matmul(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """`product` in the dtype of x. Kernel and scale are frozen: they have no gradient."""
    return product(x, kernel, scale).astype(x.dtype)


def _backward(held, dy):
    kernel, scale = held
    dy = (dy * scale).astype(dy.dtype)
    return dy @ _floats(kernel, dy).T, None, None


# only the small kernel is kept for the way back
matmul.defvjp(lambda x, kernel, scale: (matmul(x, kernel, scale), (kernel, scale)), _backward)
