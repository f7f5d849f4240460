"""The decoder's block, and the two ways to run a stack of them: scanned to score, unrolled to decode."""

from __future__ import annotations

import operator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dtr1_jax.models import layers
from dtr1_jax.models.layers import KV
from dtr1_jax.models.spec import Spec


class Block(nn.Module):
    """Pre-norm block: grouped-query attention and SwiGLU. G branches of a query run side by side."""

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
          own_mask: bool[B or 1, G or 1, q or 1, t].
          prefix: KV [B, K, P, H] shared by the branches, or None; turned where there is a cache.
          prefix_mask_bp: bool[B, P], or None without a prefix.
          cache: turned KV [B, G, K, t, H] without those of B, G and K that are 1 (`empty_cache`), into which the new
            keys go from `slot` on; None = the new keys are all there are.
          slot: int32 scalar, or None without a cache.

        Returns:
          ([B, G, q, D], the own keys and values that were attended to, in the cache's shape where there is one).
        """
        s = self.spec
        b, g, q, _ = x_bgqd.shape

        def linear(name, features, x, bias=False):
            return layers.Projection(features, bias, s.lora_scale, s.lora_dropout, name=name)(x)

        def project(name, heads, x):
            return linear(name, heads * s.head_dim, x, s.qkv_bias).reshape(b, g, q, heads, s.head_dim)

        y = layers.RMSNorm(s.eps, name="attn_norm")(x_bgqd)
        query, key, value = project("q", s.heads, y), project("k", s.kv_heads, y), project("v", s.kv_heads, y)
        if s.qk_norm:
            query = layers.RMSNorm(s.eps, name="q_norm")(query)
            key = layers.RMSNorm(s.eps, name="k_norm")(key)
        own = KV(layers.rotate(key, angle).swapaxes(2, 3), value.swapaxes(2, 3))
        seen = own
        if cache is not None:
            own = KV(_put(cache.k, own.k.swapaxes(3, 4), -1, slot), _put(cache.v, own.v, -2, slot))
            seen = KV(*(x.reshape(b, g, s.kv_heads, *x.shape[-2:]) for x in own))
        y = layers.attend(layers.rotate(query, angle), seen, own_mask, prefix, prefix_mask_bp, turned=cache is not None)
        x_bgqd = x_bgqd + linear("o", s.width, y)

        y = layers.RMSNorm(s.eps, name="mlp_norm")(x_bgqd)
        gate, up = linear("gate", s.hidden, y), linear("up", s.hidden, y)
        return x_bgqd + linear("down", s.width, nn.silu(gate) * up), own


def empty_cache(b: int, g: int, kv_heads: int, slots: int, head_dim: int, dtype) -> KV:
    """Turned KV [B, G, K, slots, H] without those of B, G and K that are 1.

    XLA on the CPU leaves such axes out of a matrix product. A cache that has them would go on in two shapes, the loop's
    and the product's, and be written, and for that copied, for each of them: four times its size at each step.
    """
    rows = tuple(n for n in (b, g, kv_heads) if n > 1)
    return KV(jnp.zeros((*rows, head_dim, slots), dtype), jnp.zeros((*rows, slots, head_dim), dtype))


def _put(held, new, axis, slot):
    """`held` with `new`, of which B, G and K are apart, in it from `slot` of an axis on."""
    return jax.lax.dynamic_update_slice_in_dim(held, new.reshape(*held.shape[:-2], *new.shape[-2:]), slot, axis)


def init(key: jax.Array, spec: Spec) -> dict:
    """Random weights, stacked on the layer axis."""
    block = Block(spec)
    x, angle = jnp.zeros((1, 1, 1, spec.width)), jnp.zeros((1, 1, 1, spec.head_dim // 2))
    mask = jnp.ones((1, 1, 1, 1), bool)
    return jax.vmap(lambda k: block.init(k, x, angle, mask)["params"])(jax.random.split(key, spec.layers))


def _apply(spec, weights, lora, *args, key=None):
    return Block(spec).apply({"params": weights, **({"lora": lora} if lora else {})}, *args, rngs=layers.rngs(key))


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
    """All layers over whole sequences: ([B, G, q, D], KV [layers, B, G, K, q, H]).

    `prefix` is a KV [layers, B, K, P, H] or None; `deep_lbgqd` [levels, B, G, q, D] is added after the first layers, a
    level each (DeepStack, 0 where there is no vision token); `key` is that of the adapters' dropout, None = none; the
    other arguments are those of `Block`.
    """

    def layer(x, inputs):
        weights, adapters, before, key = inputs
        return _apply(spec, weights, adapters, x, angle, own_mask, before, prefix_mask_bp, key=key)

    step = jax.checkpoint(layer) if spec.remat else layer

    def body(x, inputs):
        x, own = step(x, inputs[:4])
        if deep_lbgqd is not None:
            levels, number = len(deep_lbgqd), inputs[4]
            x = x + jnp.where(number < levels, deep_lbgqd[jnp.minimum(number, levels - 1)], 0)
        return x, own

    keys = None if key is None else jax.random.split(key, spec.layers)
    xs = (params, lora or {}, prefix, keys, np.arange(spec.layers))
    return jax.lax.scan(body, x_bgqd, xs, unroll=min(spec.unroll, spec.layers))


def unstack(tree: dict | KV | None, count: int) -> list:
    """One tree for each of `count` layers: done once before a decode loop, so that no step slices the stack."""
    return [jax.tree.map(operator.itemgetter(i), tree or {}) for i in range(count)]


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
    """All layers over a few new tokens against per-layer caches: ([B, G, q, D], the caches with the tokens in).

    `params`, `lora` and `prefix` are lists by layer from `unstack`; the other arguments are those of `Block`.
    """
    new = []
    for weights, adapters, before, held in zip(params, lora, prefix, cache):
        x_bgqd, own = _apply(spec, weights, adapters, x_bgqd, angle, own_mask, before, prefix_mask_bp, held, slot)
        new.append(own)
    return x_bgqd, new
