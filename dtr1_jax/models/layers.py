"""Leaf blocks: norms, projections with optional LoRA, rotary positions, and attention over a shared prefix."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dtr1_jax import config, layout
from dtr1_jax.models import int8, rotary_scaling
from dtr1_jax.models.rotary_scaling import RotaryScaling

MASKED = -1e30  # a finite number, so that the softmax of a row without keys is uniform and not NaN
SCORES = 2**28  # attention scores that a device holds at once, in values; a larger number only costs memory
# Blocks of queries in causal attention. More blocks skip more, and take longer to compile.
MOST_BLOCKS, LEAST_BLOCK = 8, 64
LEAST_QUERIES = 128  # of a sequence for the kernel of flash.py, whose blocks have at least 128

_log = logging.getLogger(__name__)


class KV(NamedTuple):
    """Keys and values, both [..., K, length, H].

    Attributes:
      k: keys. Where decoding holds them *transposed* (`transposes_keys`), [..., K, H, length].
      v: values.
    """

    k: jax.Array
    v: jax.Array


def transposes_keys() -> bool:
    """Whether decoding holds transposed keys; everywhere but on TPUs.

    The score of one query is then a sum of rows that are contiguous in memory: on the CPU, 3 queries of 32 values
    against 160 keys took 0.4 of the time. A TPU would write a tile of 128 places for each new key.
    """
    return layout.platform() != "tpu"


class SameNumber(NamedTuple):
    """A mask in short: a query sees the own keys that have its number, if that is positive.

    Attributes:
      number_bgq: int[B or 1, G or 1, q], of the queries and of their keys. Example of two pictures and a place of
        padding: [1 1 1 2 2 0].
    """

    number_bgq: jax.Array

    @property
    def mask(self) -> jax.Array:
        """bool[B or 1, G or 1, q, q]."""
        number = self.number_bgq
        return (number[..., :, None] == number[..., None, :]) & (number > 0)[..., None, :]


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, computed in float32 (Zhang & Sennrich 2019)."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        return (y * scale).astype(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / std * scale + bias over the last axis, computed in float32."""

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
    """x[..., i] @ kernel[i, o]: the same as `@`, with a faster formula for the kernel's gradient.

    The rule of `@` computes the transpose of the kernel's gradient. XLA on the CPU then writes a transposed copy of the
    output's gradient, and this copy took a quarter of an MLP's training time.
    """
    return x @ kernel


def _matmul_backward(operands, dy):
    x, kernel = operands
    rows = tuple(range(x.ndim - 1))
    return dy @ kernel.T, jax.lax.dot_general(x, dy, ((rows, rows), ((), ())))


matmul.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _matmul_backward)


class Projection(nn.Module):
    """x @ kernel (+ bias); with adapters a and b in the `lora` collection, + lora_scale * (x @ a) @ b (Hu et al. 2021).

    The kernel holds floats, or int8 numbers with a `kernel_scale` beside it (models/int8.py).
    The adapters may have a copy for each batch shard (layout.spread).
    With a "dropout" rng, only the adapter's input is dropout(x), as in PEFT: each value becomes 0 with probability
    `lora_dropout`, and is divided by 1 - lora_dropout otherwise.
    `places` are the names of the result's axes where its tokens are cut (layout.scatter_tokens), else None.
    """

    features: int
    bias: bool = False
    lora_scale: float = 1.0
    lora_dropout: float = 0.0
    places: tuple[str | None, ...] | None = None

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
                keep_mask = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.lora_dropout, x.shape)
                x = jnp.where(keep_mask, x / (1 - self.lora_dropout), 0).astype(x.dtype)
            product = layout.by_shard if a.ndim == 3 else matmul
            y = y + product(product(x, a), b) * self.lora_scale
        return y if self.places is None else layout.scatter_tokens(y, *self.places)


def variables(weights: dict, adapters: dict | None) -> dict[str, dict]:
    """The variables of a block's or a projection's `apply`: its weights, and its adapters where there are any."""
    return {"params": weights, **({"lora": adapters} if adapters else {})}


def rngs(key: jax.Array | None) -> dict[str, jax.Array]:
    """The `rngs` argument of a block's `apply`: each projection draws its own mask from `key`; None = no dropout."""
    return {} if key is None else {"dropout": key}


def rotary_axes(head_dim: int, sections: tuple[int, int, int] | None, interleaved: bool) -> np.ndarray:
    """int32[head_dim / 2]: the position axis (0 time, 1 row, 2 column) that each rotary frequency follows.

    `sections` counts the frequencies of each axis; None means that all follow time. Qwen2.5-VL has three blocks, one
    for each axis. Qwen3-VL interleaves: frequency 3i+1 follows the row and 3i+2 the column until their sections are
    full, and all other frequencies follow time.
    """
    axes = np.zeros(head_dim // 2, np.int32)
    if sections is None:
        return axes
    if not interleaved:
        return np.repeat(np.arange(3, dtype=np.int32), sections)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes


def rotary_angles(
    position_bl3: jax.Array,
    head_dim: int,
    theta: float,
    axes: np.ndarray,
    scaling: RotaryScaling | None = None,
    length_bl: jax.Array | None = None,
) -> jax.Array:
    """float32[B, L, head_dim / 2]: the rotary angle in radians of each frequency at each position (Su et al. 2021).

    Args:
      position_bl3: positions on the three axes.
      head_dim: values of a head.
      theta: base of the frequencies.
      axes: the result of `rotary_axes`.
      scaling: how the frequencies are scaled, or None.
      length_bl: int32[B, L or 1], positions of the sequence when the token was read; only "dynamic" scaling uses it.
    """
    frequency = rotary_scaling.frequencies(head_dim, theta, scaling)
    if scaling is not None and scaling.kind == "dynamic":
        frequency = frequency * rotary_scaling.dynamic_stretch(length_bl, head_dim, scaling)
    return position_bl3.astype(jnp.float32)[..., axes] * frequency


def rotate(x: jax.Array, angle: jax.Array, factor: float = 1.0) -> jax.Array:
    """Rotates pairs (i, i + H / 2) of x[..., n, H] by angle[..., H / 2] in radians, as Llama and Qwen pair them.

    The result is multiplied by `factor` (YaRN's attention factor).
    """
    cos, sin = jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]
    if factor != 1:
        cos, sin = cos * factor, sin * factor
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(x.dtype)


def attend(
    q_bgqnh: jax.Array,
    own: KV,
    own_mask: jax.Array | SameNumber,
    prefix: KV | None = None,
    prefix_mask_bp: jax.Array | None = None,
    transposed: bool = False,
    causal: bool = False,
    attention: str = "auto",
) -> jax.Array:
    """Attention of G branches over their shared prefix and over their own keys.

    The prefix is never copied for each branch: its scores are one matrix product for each batch row and kv head, over
    the queries of all branches. The scores of prefix and own keys are joined in one softmax through their maxima and
    sums. Prefill (no prefix, G = 1), scoring (many queries) and decoding (one query against a cache) all use this
    function. Where the scores of all queries would need too much memory, it takes `queries_at_once` at a time, and the
    backward pass computes the scores of each piece again. Whole sequences on a TPU go through a kernel that writes no
    scores (flash.py).

    Args:
      q_bgqnh: [B, G, q, N, H] queries, rotated.
      own: keys and values [B, G, K, t, H] of each branch.
      own_mask: bool[B or 1, G or 1, q or 1, t], True if a query may see a key; or in short.
      prefix: keys and values [B, K, P, H], or None.
      prefix_mask_bp: bool[B, P], True at real keys. Example row: [1 1 1 0].
      transposed: all keys have their last two axes swapped (`KV`).
      causal: hides all own keys behind the place of the query (q = t), besides those that `own_mask` hides. Example of
        3 queries: [1 0 0], [1 1 0], [1 1 1]. Blocks of queries then leave out the keys that none of them sees.
      attention: `Spec.attention`.

    Returns:
      [B, G, q, N * H].

    Raises ConfigError where `attention` asks for a kernel that the devices cannot run.
    """
    b, g, q, n, _ = q_bgqnh.shape
    if _has_kernel(own_mask, transposed, causal) and uses_kernel(attention, q, layout.platform()):
        # Imported here, because Pallas takes a second to import, and few machines need it.
        flash = importlib.import_module("dtr1_jax.models.flash")
        log_kernel(layout.platform())
        number = own_mask.number_bgq if isinstance(own_mask, SameNumber) else own_mask[:, :, 0]
        interpret = layout.platform() == "cpu"
        return flash.attend(q_bgqnh, own, number, prefix, prefix_mask_bp, causal=causal, interpret=interpret)
    if isinstance(own_mask, SameNumber):
        own_mask = own_mask.mask
    if causal:
        assert own.v.shape[3] == q and not transposed, (own.v.shape, q)
        own_mask = own_mask & jnp.tril(jnp.ones((q, q), bool))
        if causal_blocks(q) > 1:
            return _attend_in_blocks(q_bgqnh, own, own_mask, prefix, prefix_mask_bp)
    scores = b * g * q * n * (own.v.shape[3] + (0 if prefix is None else prefix.v.shape[2]))
    size = queries_at_once(q, scores, layout.parts("batch", b) * layout.parts("heads", n))
    if size == q:
        return _attend(q_bgqnh, own, own_mask, prefix, prefix_mask_bp, transposed)
    return _attend_in_pieces(q_bgqnh, own, own_mask, prefix, prefix_mask_bp, transposed, size)


def _has_kernel(own_mask, transposed, causal):
    """Whether flash.py has a kernel for this mask: whole sequences, each with one mask for all its queries."""
    if isinstance(own_mask, SameNumber):
        return not causal
    return causal and not transposed and own_mask.shape[2] == 1


def uses_kernel(attention: str, queries: int, platform: str) -> bool:
    """Whether attention of whole sequences runs in the kernel of flash.py.

    Args:
      attention: auto = on TPUs from LEAST_QUERIES on; flash = always; einsum = never.
      queries: queries of a sequence.
      platform: of the devices (layout.platform).

    Raises ConfigError for flash on devices that have no such kernel; CPUs interpret it, slowly.
    """
    if attention == "flash" and platform not in ("tpu", "cpu"):
        raise config.ConfigError(
            f"config.policy.attention = 'flash': expected TPUs (or CPUs, for tests), got {platform}; the kernel is"
            " written for TPUs, so use auto or einsum"
        )
    return attention == "flash" or (attention == "auto" and platform == "tpu" and queries >= LEAST_QUERIES)


@functools.cache  # a run says it once
def log_kernel(platform: str) -> None:
    """Says in the log that the kernel is used."""
    how = "interpreted, which is slow" if platform == "cpu" else f"on {platform}"
    _log.info("attention: prompts and completions attend by a kernel that writes no scores (%s)", how)


def _attend_in_blocks(q_bgqnh, own, own_mask, prefix, prefix_mask_bp):
    """Causal attention: each block of queries with the own keys up to its end."""
    q = q_bgqnh.shape[2]
    size = -(-q // causal_blocks(q))
    rows = []
    for start in range(0, q, size):
        end = min(start + size, q)
        seen = KV(*(x[..., :end, :] for x in own))
        mask = own_mask[:, :, start:end, :end]
        rows.append(attend(q_bgqnh[:, :, start:end], seen, mask, prefix, prefix_mask_bp))
    return jnp.concatenate(rows, 2)


def _attend_in_pieces(q_bgqnh, own, own_mask, prefix, prefix_mask_bp, transposed, size):
    """`size` queries of each row after the other, so that the scores of the others need no memory."""
    b, g, q = q_bgqnh.shape[:3]

    def cut(x):  # [B, G, q, ...] -> [pieces, B, G, size, ...]
        x = jnp.pad(x, [(0, 0), (0, 0), (0, -q % size)] + [(0, 0)] * (x.ndim - 3))
        return jnp.moveaxis(x.reshape(*x.shape[:2], -1, size, *x.shape[3:]), 2, 0)

    masks_differ = own_mask.shape[2] > 1  # else one mask holds for all queries

    def piece(inputs):
        query, mask = inputs
        return jax.checkpoint(_attend, static_argnums=5)(
            query, own, mask if masks_differ else own_mask, prefix, prefix_mask_bp, transposed
        )

    out = jnp.moveaxis(jax.lax.map(piece, (cut(q_bgqnh), cut(own_mask) if masks_differ else None)), 0, 2)
    return out.reshape(b, g, -1, out.shape[-1])[:, :, :q]


def causal_blocks(queries: int) -> int:
    """The number of blocks into which `attend` cuts the queries of causal attention, 1 to MOST_BLOCKS."""
    return min(MOST_BLOCKS, max(queries // LEAST_BLOCK, 1))


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


def _attend(q_bgqnh, own, own_mask, prefix, prefix_mask_bp, transposed):
    b, g, q, n, h = q_bgqnh.shape
    kv = own.v.shape[2]
    key_axes = "ht" if transposed else "th"
    rep = n // kv
    query = (q_bgqnh * h**-0.5).reshape(b, g, q, kv, rep, h)
    # scores and sums are float32 even where queries, keys and values are bfloat16
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    branch_q = query.transpose(0, 1, 3, 4, 2, 5)  # [B, G, K, rep, q, H]
    score = product(f"bgkmh,bgk{key_axes}->bgkmt", branch_q.reshape(b, g, kv, rep * q, h), own.k)
    score = jnp.where(own_mask[:, :, None, None], score.reshape(b, g, kv, rep, q, -1), MASKED)
    top = jax.lax.stop_gradient(score.max(-1))  # [B, G, K, rep, q]

    if prefix is not None:
        shared_q = query.transpose(0, 3, 1, 4, 2, 5)  # [B, K, G, rep, q, H]
        shared = product(f"bkmh,bk{key_axes}->bkmt", shared_q.reshape(b, kv, g * rep * q, h), prefix.k)
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
        prefix_out = product("bkmp,bkph->bkmh", weight.astype(prefix.v.dtype), prefix.v)
        out = out + prefix_out.reshape(b, kv, g, rep, q, h).swapaxes(1, 2)
    out = (out / total[..., None]).astype(q_bgqnh.dtype)
    return out.transpose(0, 1, 4, 2, 3, 5).reshape(b, g, q, n * h)
