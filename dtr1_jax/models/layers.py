"""Leaf blocks: norms, projections with optional LoRA, rotary positions, and the attention that shares its prefix."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dtr1_jax.models import int8

MASKED = -1e30  # finite, so that a row without any key gives a uniform softmax and no NaN
SCORES = 2**28  # attention scores that a device holds at once, in values; more only costs memory


class KV(NamedTuple):
    """Keys and values, both [..., K, length, H]; or *turned*, with keys [..., K, H, length], as decoding holds them.

    The scores of a single query are then sums over rows that lie next to each other: on the CPU, for 3 queries of
    32 values against 160 keys, 0.4 of the time.
    """

    k: jax.Array
    v: jax.Array


class RMSNorm(nn.Module):
    """x / rms(x) * scale, computed in float32 (Zhang & Sennrich 2019)."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        return (y * scale).astype(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / std * scale + bias, computed in float32."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        return (y * scale + bias).astype(x.dtype)


@jax.custom_vjp
def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x[..., i] @ kernel[i, o].

    With a gradient rule of its own. That of `@` asks for the kernel's gradient transposed, for which XLA on the CPU
    writes a transposed copy of the output's gradient: a quarter of the time that an MLP takes to train.
    """
    return x @ kernel


def _matmul_backward(operands, dy):
    x, kernel = operands
    rows = tuple(range(x.ndim - 1))
    return dy @ kernel.T, jax.lax.dot_general(x, dy, ((rows, rows), ((), ())))


matmul.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _matmul_backward)


class Projection(nn.Module):
    """x @ kernel (+ bias); where the `lora` collection has this layer, + scale * (x @ a) @ b (Hu et al. 2021).

    The kernel is one of floats, or of int8 with a `kernel_scale` beside it (models/int8.py).
    With a "dropout" rng, what goes into the branch (and only that) is dropout(x), as in PEFT: each value is 0 with
    probability `lora_dropout`, and else divided by 1 - lora_dropout.
    """

    features: int
    bias: bool = False
    lora_scale: float = 1.0
    lora_dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(x.shape[-1] ** -0.5), (x.shape[-1], self.features))
        if self.has_variable("params", int8.SCALE):
            y = int8.matmul(x, kernel, self.get_variable("params", int8.SCALE))
        else:
            y = matmul(x, kernel.astype(x.dtype))
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        if self.has_variable("lora", "a"):
            a, b = (self.get_variable("lora", n).astype(x.dtype) for n in ("a", "b"))
            if self.lora_dropout and self.has_rng("dropout"):
                kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.lora_dropout, x.shape)
                x = jnp.where(kept, x / (1 - self.lora_dropout), 0).astype(x.dtype)
            y = y + matmul(matmul(x, a), b) * self.lora_scale
        return y


def rngs(key: jax.Array | None) -> dict[str, jax.Array]:
    """The `rngs` of a block's apply: every projection in it draws its own mask from `key`; None = no dropout."""
    return {} if key is None else {"dropout": key}


def rotary_axes(head_dim: int, sections: tuple[int, int, int] | None, interleaved: bool) -> np.ndarray:
    """int32[head_dim / 2]: the position axis (0 time, 1 row, 2 column) that each rotary frequency follows.

    Blocks: Qwen2.5-VL's `mrope_section`. Interleaved: Qwen3-VL, where frequency 3i+1 follows the row and 3i+2 the
    column for as many frequencies as their sections say, and all others follow time.
    """
    axes = np.zeros(head_dim // 2, np.int32)
    if sections is None:
        return axes
    if not interleaved:
        return np.repeat(np.arange(3, dtype=np.int32), sections)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes


def rotary_angles(position_bl3: jax.Array, head_dim: int, theta: float, axes: np.ndarray) -> jax.Array:
    """float32[B, L, head_dim / 2], the angle by which each frequency turns at each position (Su et al. 2021)."""
    frequency = theta ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    return position_bl3.astype(jnp.float32)[..., axes] * frequency


def rotate(x: jax.Array, angle: jax.Array) -> jax.Array:
    """Turns x[..., n, H] by angle[..., H / 2], in the half-split layout of Llama and Qwen."""
    cos, sin = jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(x.dtype)


def attend(
    q_bgqnh: jax.Array,
    own: KV,
    own_mask: jax.Array,
    prefix: KV | None = None,
    prefix_mask_bp: jax.Array | None = None,
    turned: bool = False,
) -> jax.Array:
    """Attention of G branches over a prefix that they share and over what is their own.

    The prefix is never copied per branch: its scores are one matrix product per query and kv head over the rows of all
    branches. Both parts meet in one softmax through their maxima and sums. Prefill (no prefix, G = 1), scoring (many
    own queries) and decoding (one own query against a cache) are this one function. Where the scores of all queries
    would be many, it takes the queries in pieces, and makes the scores of each again in the backward pass.

    Args:
      q_bgqnh: [B, G, q, N, H] queries, rotated.
      own: k and v [B, G, K, t, H].
      own_mask: bool[B or 1, G or 1, q or 1, t]; True where a query may see a key.
      prefix: k and v [B, K, P, H], or None.
      prefix_mask_bp: bool[B, P], True at real keys.
      turned: the keys, own and prefix's, have their last two axes swapped.

    Returns:
      [B, G, q, N * H].
    """
    b, g, q, n, _ = q_bgqnh.shape
    scores = b * g * q * n * (own.v.shape[3] + (0 if prefix is None else prefix.v.shape[2]))
    size = queries_at_once(q, scores, jax.device_count())
    if size == q:
        return _attend(q_bgqnh, own, own_mask, prefix, prefix_mask_bp, turned)

    def cut(x):  # [B, G, q, ...] -> [pieces, B, G, size, ...]
        x = jnp.pad(x, [(0, 0), (0, 0), (0, -q % size)] + [(0, 0)] * (x.ndim - 3))
        return jnp.moveaxis(x.reshape(*x.shape[:2], -1, size, *x.shape[3:]), 2, 0)

    each = own_mask.shape[2] > 1

    def piece(inputs):
        query, mask = inputs
        return jax.checkpoint(_attend, static_argnums=5)(
            query, own, mask if each else own_mask, prefix, prefix_mask_bp, turned
        )

    out = jnp.moveaxis(jax.lax.map(piece, (cut(q_bgqnh), cut(own_mask) if each else None)), 0, 2)
    return out.reshape(b, g, -1, out.shape[-1])[:, :, :q]


def queries_at_once(queries: int, scores: int, devices: int = 1) -> int:
    """How many of a row's queries `attend` takes at once, so that each device holds about SCORES attention scores.

    Args:
      queries: queries in each row.
      scores: attention scores of all queries of all rows and heads, over all devices.
      devices: devices that share the scores evenly.

    Returns:
      A number from min(queries, 16) to `queries`; fewer than 16 at once would be slow.
    """
    pieces = max(-(-scores // (SCORES * devices)), 1)
    return min(queries, max(-(-queries // pieces), 16))


def _attend(q_bgqnh, own, own_mask, prefix, prefix_mask_bp, turned):
    b, g, q, n, h = q_bgqnh.shape
    kv = own.v.shape[2]
    keys = "ht" if turned else "th"
    rep = n // kv
    query = (q_bgqnh * h**-0.5).reshape(b, g, q, kv, rep, h)
    # scores and sums stay in float32 also where the factors are bfloat16
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    branch_q = query.transpose(0, 1, 3, 4, 2, 5)  # [B, G, K, rep, q, H]
    score = product(f"bgkmh,bgk{keys}->bgkmt", branch_q.reshape(b, g, kv, rep * q, h), own.k)
    score = jnp.where(own_mask[:, :, None, None], score.reshape(b, g, kv, rep, q, -1), MASKED)
    top = jax.lax.stop_gradient(score.max(-1))  # [B, G, K, rep, q]

    if prefix is not None:
        shared_q = query.transpose(0, 3, 1, 4, 2, 5)  # [B, K, G, rep, q, H]
        shared = product(f"bkmh,bk{keys}->bkmt", shared_q.reshape(b, kv, g * rep * q, h), prefix.k)
        shared = jnp.where(prefix_mask_bp[:, None, None], shared, MASKED)
        shared_top = jax.lax.stop_gradient(shared.max(-1)).reshape(b, kv, g, rep, q).swapaxes(1, 2)
        top = jnp.maximum(top, shared_top)

    weight = jnp.exp(score - top[..., None])
    total = weight.sum(-1)
    out = product("bgkmt,bgkth->bgkmh", weight.reshape(b, g, kv, rep * q, -1).astype(own.v.dtype), own.v)
    out = out.reshape(b, g, kv, rep, q, h)
    if prefix is not None:
        weight = jnp.exp(shared - top.swapaxes(1, 2).reshape(b, kv, g * rep * q)[..., None])
        total = total + weight.sum(-1).reshape(b, kv, g, rep, q).swapaxes(1, 2)
        more = product("bkmp,bkph->bkmh", weight.astype(prefix.v.dtype), prefix.v)
        out = out + more.reshape(b, kv, g, rep, q, h).swapaxes(1, 2)
    out = (out / total[..., None]).astype(q_bgqnh.dtype)
    return out.transpose(0, 1, 4, 2, 3, 5).reshape(b, g, q, n * h)
