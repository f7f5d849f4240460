"""The decoder: its block, a scan over all layers for prefill and scoring, and an unrolled step for decoding."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dtr1_jax import layout
from dtr1_jax.models import layers
from dtr1_jax.models.layers import KV
from dtr1_jax.models.spec import Spec

CUT_INTO_HEADS = ("q", "k", "v")  # projections whose results are cut into heads
TILE = 8  # rows of the tiles in which TPUs hold arrays
STATES = ("batch", None, "sequence", None)  # places of [B, G, q, D] between the products of a layer (layout.py)


class Block(nn.Module):
    """Pre-norm block of grouped-query attention and SwiGLU, for B queries with G branches (completions) each."""

    spec: Spec

    @nn.compact
    def __call__(
        self,
        x_bgqd: jax.Array,
        angle: jax.Array,
        own_mask: jax.Array,
        prefix: KV | None = None,
        prefix_mask_bp: jax.Array | None = None,
        cache: KV | None = None,
        slot: jax.Array | None = None,
    ) -> tuple[jax.Array, KV]:
        """One layer.

        Args:
          x_bgqd: [B, G, q, D].
          angle: float32, broadcastable to [B, G, q, H / 2], rotary angles.
          own_mask: bool[B or 1, G or 1, q or 1, t], True at keys that may be seen. Without a cache, a query never sees
            keys behind its own place.
          prefix: KV [B, K, P, H] shared by the branches, or None; if there is a cache, with keys as decoding holds them
            (layers.KV).
          prefix_mask_bp: bool[B, P], or None without a prefix.
          cache: KV from `empty_cache`; the new keys and values are written into it from `slot` on. Without a cache,
            the queries attend to the new keys only.
          slot: int32 scalar, first slot of the new keys, or None without a cache.

        Returns:
          ([B, G, q, D], KV of the branches: the new cache, or the new keys and values [B, G, K, q, H]).
        """
        s = self.spec
        b, g, q, _ = x_bgqd.shape

        def linear(name, features, x, bias=False, places=None):
            return layers.Projection(features, bias, s.lora_scale, s.lora_dropout, places, name=name)(x)

        def project(name, heads, x):
            return linear(name, heads * s.head_dim, x, s.qkv_bias).reshape(b, g, q, heads, s.head_dim)

        x_bgqd = layout.place(x_bgqd, *STATES)
        y = layout.gather_tokens(layers.RMSNorm(s.eps, name="attn_norm")(x_bgqd), *STATES)
        query, key, value = project("q", s.heads, y), project("k", s.kv_heads, y), project("v", s.kv_heads, y)
        if s.qk_norm:
            query = layers.RMSNorm(s.eps, name="q_norm")(query)
            key = layers.RMSNorm(s.eps, name="k_norm")(key)
        factor = 1.0 if s.rotary is None else s.rotary.attention
        key, value = _kv_heads(s, layers.rotate(key, angle, factor)), _kv_heads(s, value)
        keys_values = own = KV(key.swapaxes(2, 3), value.swapaxes(2, 3))
        if cache is not None:
            own = _added(cache, own, slot)
            keys_values = KV(*(x.reshape(b, g, key.shape[3], *x.shape[-2:]) for x in own))
        query = layout.place(layers.rotate(query, angle, factor), "batch", None, None, "heads", None)
        y = layers.attend(
            query, keys_values, own_mask, prefix, prefix_mask_bp,
            transposed=cache is not None and layers.transposes_keys(), causal=cache is None, attention=s.attention,
        )  # fmt: skip
        y = layout.place(y, "batch", None, None, ("heads", s.heads))
        x_bgqd = layout.place(x_bgqd + linear("o", s.width, y, s.out_bias, STATES), *STATES)

        y = layout.gather_tokens(layers.RMSNorm(s.eps, name="mlp_norm")(x_bgqd), *STATES)
        gate, up = linear("gate", s.hidden, y, s.mlp_bias), linear("up", s.hidden, y, s.mlp_bias)
        y = layout.place(nn.silu(gate) * up, "batch", None, None, "hidden")
        return layout.place(x_bgqd + linear("down", s.width, y, s.mlp_bias, STATES), *STATES), own


def _kv_heads(spec, x_bgqnh):
    """Keys or values [B, G, q, K, H], each head `layout.kv_copies` times in a row, cut like the query heads."""
    copies = layout.kv_copies(spec.heads, spec.kv_heads)
    x_bgqnh = jnp.repeat(x_bgqnh, copies, 3) if copies > 1 else x_bgqnh
    return layout.place(x_bgqnh, "batch", None, None, "heads", None)


def empty_cache(b: int, g: int, kv_heads: int, slots: int, head_dim: int, dtype: Any) -> KV:
    """A cache of zeros for one layer: KV [B, G, K, slots, H] as decoding holds it (layers.KV), without axes B, G, K of
    size 1.

    XLA on the CPU leaves axes of size 1 out of a matrix product. If the cache had them, the decode loop would hold it
    in two shapes, and would copy and write both at each step: four times the size of the cache.
    """
    of_keys = (head_dim, slots) if layers.transposes_keys() else (slots, head_dim)
    zeros = (jnp.zeros((b, g, kv_heads, *shape), dtype) for shape in (of_keys, (slots, head_dim)))
    return KV(*(squeezed(x) for x in zeros))


def squeezed(cache_bgk: jax.Array) -> jax.Array:
    """Keys or values of a cache, [B, G, K, ...], without those of the axes B, G and K that have size 1."""
    sizes = cache_bgk.shape
    names = tuple(name for name, n in zip(("batch", None, "heads"), sizes) if n > 1)
    return layout.place(cache_bgk.reshape(*(n for n in sizes[:3] if n > 1), *sizes[3:]), *names, None, None)


def grown(cache: KV, more: int) -> KV:
    """The cache of a layer with `more` slots behind its own."""

    def pad(x, axis):
        return jnp.pad(x, [(0, more if i == axis % x.ndim else 0) for i in range(x.ndim)])

    return KV(pad(cache.k, _slots_of_keys()), pad(cache.v, -2))


def _slots_of_keys():
    """The axis of a cache's keys that has the slots."""
    return -1 if layers.transposes_keys() else -2


def _added(cache, new, slot):
    """The cache with the new keys and values [B, G, K, q, H] from `slot` on."""

    def write(cache, new, axis):
        return jax.lax.dynamic_update_slice_in_dim(cache, new.reshape(*cache.shape[:-2], *new.shape[-2:]), slot, axis)

    new_k = new.k.swapaxes(3, 4) if layers.transposes_keys() else new.k
    return KV(write(cache.k, new_k, _slots_of_keys()), write(cache.v, new.v, -2))


def init(key: jax.Array, spec: Spec) -> dict:
    """Random float32 weights of all layers, stacked on the layer axis."""
    block = Block(spec)
    x, angle = jnp.zeros((1, 1, 1, spec.width)), jnp.zeros((1, 1, 1, spec.head_dim // 2))
    mask = jnp.ones((1, 1, 1, 1), bool)
    return jax.vmap(lambda k: block.init(k, x, angle, mask)["params"])(jax.random.split(key, spec.layers))


def _apply(spec, weights, lora, *args, key=None):
    return Block(spec).apply(layers.variables(weights, lora), *args, rngs=layers.rngs(key))


def scan(
    params: dict,
    lora: dict | None,
    spec: Spec,
    x_bgqd: jax.Array,
    angle: jax.Array,
    own_mask: jax.Array,
    prefix: KV | None = None,
    prefix_mask_bp: jax.Array | None = None,
    deep_lbgqd: jax.Array | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, KV]:
    """Runs all layers over whole sequences.

    Args:
      params: weights, stacked on the layer axis.
      lora: adapters, stacked on the layer axis, or None.
      spec: sizes of the policy.
      x_bgqd: [B, G, q, D] embeddings.
      angle, own_mask, prefix_mask_bp: as in `Block`.
      prefix: KV [layers, B, K, P, H] or None.
      deep_lbgqd: [levels, B, G, q, D] DeepStack features, 0 at text. Level i is added after layer i.
      key: random key of the adapters' dropout, or None for no dropout.

    Returns:
      ([B, G, q, D] states after the last layer, with their tokens cut over `tensor`, KV [layers, B, G, K, q, H] of the
      sequences).
    """

    def layer(x, inputs):
        weights, adapters, layer_prefix, key = inputs
        weights = layout.gathered(weights, spec.head_counts, x.dtype)
        return _apply(spec, weights, adapters, x, angle, own_mask, layer_prefix, prefix_mask_bp, key=key)

    step = layout.checkpointed(layer, spec.remat)

    def body(x, inputs):
        x, own = step(x, inputs[:4])
        if deep_lbgqd is not None:
            levels, number = len(deep_lbgqd), inputs[4]
            x = x + jnp.where(number < levels, deep_lbgqd[jnp.minimum(number, levels - 1)], 0)
        return x, own

    keys = None if key is None else jax.random.split(key, spec.layers)
    xs = (params, lora or {}, prefix, keys, np.arange(spec.layers))
    if deep_lbgqd is not None:
        deep_lbgqd = layout.place(deep_lbgqd, None, *STATES)
    return jax.lax.scan(body, layout.place(x_bgqd, *STATES), xs, unroll=min(spec.unroll, spec.layers))


def unstack(tree: dict | KV | None, count: int) -> list:
    """Splits a stacked tree into a list with one tree for each of `count` layers; None gives empty trees.

    This is done once before a decode loop, so that no step has to slice the stack.
    """
    return [jax.tree.map(operator.itemgetter(i), tree or {}) for i in range(count)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InStack:
    """A matrix of one layer, which `step` reads out of the stack of all layers."""

    stack: jax.Array
    layer: int = dataclasses.field(metadata={"static": True})

    def read(self, slot: jax.Array) -> jax.Array:
        """The matrix at a step of the decode loop, which writes into `slot` >= 0 of the caches.

        The index depends on the slot. The compiler would take what is the same at each step out of the loop, and would
        so copy all layers.
        """
        return jax.lax.dynamic_index_in_dim(self.stack, self.layer + jnp.minimum(slot, 0), 0, keepdims=False)


def weights_by_layer(params: dict, count: int, dtype: Any) -> list:
    """The weights of `count` layers as `step` takes them: as from `unstack`, but on TPUs most matrices are `InStack`.

    `dtype` is that of the computation.
    """

    def of_layer(path, x, i):
        return InStack(x, i) if read_in_stack(path, x.dtype, dtype, layout.platform()) else x[i]

    return [jax.tree_util.tree_map_with_path(functools.partial(of_layer, i=i), params) for i in range(count)]


def read_in_stack(path: tuple, held: Any, dtype: Any, platform: str) -> bool:
    """Whether a decode loop reads weights of a layer out of the stack of all layers, and needs no copy by layer.

    The products of a TPU program can, but for those whose results are cut into heads, and for int8, which it would
    write and read again at each step. A CPU would copy the layer at each step. What is held in a larger dtype than that
    of the computation is converted once, so it is copied anyway.

    Args:
      path: of the weights in the tree of a layer.
      held, dtype: their dtype in memory, and that of the computation.
      platform: of the devices (layout.platform).
    """
    reads = path[-1].key == "kernel" and path[-2].key not in CUT_INTO_HEADS and jnp.issubdtype(held, jnp.floating)
    return platform == "tpu" and reads and jnp.dtype(held).itemsize <= jnp.dtype(dtype).itemsize


def _read(weights, slot):
    """The weights of a layer without `InStack`."""

    def is_in_stack(x):
        return isinstance(x, InStack)

    return jax.tree.map(lambda x: x.read(slot) if is_in_stack(x) else x, weights, is_leaf=is_in_stack)


def step(
    params: list[dict],
    lora: list[dict],
    spec: Spec,
    x_bgqd: jax.Array,
    angle: jax.Array,
    own_mask: jax.Array,
    prefix: list[KV],
    prefix_mask_bp: jax.Array,
    cache: list[KV],
    slot: jax.Array,
) -> tuple[jax.Array, list[KV]]:
    """Runs all layers over a few new tokens, and adds these to the caches.

    `params` is from `weights_by_layer`, `lora` and `prefix` are from `unstack`, and `cache` is a list by layer. The
    other arguments are those of `Block`. Returns ([B, G, q, D] states after the last layer, with their tokens cut over
    `mesh.tensor` where it divides q; the new caches).
    """
    caches = []
    for weights, adapters, layer_prefix, layer_cache in zip(params, lora, prefix, cache):
        weights = layout.gathered(_read(weights, slot), spec.head_counts, x_bgqd.dtype)
        x_bgqd, layer_cache = _apply(
            spec, weights, adapters, x_bgqd, angle, own_mask, layer_prefix, prefix_mask_bp, layer_cache, slot
        )
        caches.append(layer_cache)
    return x_bgqd, caches


def tokens_read(length: int, parts: int, platform: str) -> int:
    """How many of the `length` >= 2 tokens of a completion pass the decoder to score them all.

    The last token predicts nothing. It passes all the same where a mesh cuts the tokens into `parts` > 1, and on
    accelerators where `length` is a multiple of TILE. With one token less, the TPU compiler copies the inputs and
    outputs of each product of a layer.

    Args:
      platform: of the devices (layout.platform).
    """
    return length if parts > 1 or (platform != "cpu" and length % TILE == 0) else length - 1
