"""Vision tower and merger in the Qwen3-VL shape: patches of pictures become tokens of the decoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dtr1_jax.models import layers
from dtr1_jax.models.spec import VisionSpec
from dtr1_jax.types import Images


class TowerBlock(nn.Module):
    """Pre-norm transformer block; a patch sees the patches of its own picture."""

    spec: VisionSpec
    lora_scale: float = 1.0

    @nn.compact
    def __call__(self, x_bnd: jax.Array, angle_bna: jax.Array, mask_bnn: jax.Array) -> jax.Array:
        s = self.spec
        b, n, d = x_bnd.shape
        y = layers.LayerNorm(s.eps, name="norm1")(x_bnd)
        qkv = layers.Projection(3 * d, True, self.lora_scale, name="qkv")(y).reshape(b, n, 3, s.heads, d // s.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        q, k = layers.rotate(q, angle_bna), layers.rotate(k, angle_bna)
        own = layers.KV(k.swapaxes(1, 2)[:, None], v.swapaxes(1, 2)[:, None])
        y = layers.attend(q[:, None], own, mask_bnn[:, None])[:, 0]
        x_bnd = x_bnd + layers.Projection(d, True, self.lora_scale, name="out")(y)
        y = layers.LayerNorm(s.eps, name="norm2")(x_bnd)
        y = nn.gelu(layers.Projection(s.hidden, True, self.lora_scale, name="up")(y), approximate=True)
        return x_bnd + layers.Projection(d, True, self.lora_scale, name="down")(y)


class Merger(nn.Module):
    """merge x merge neighbouring patches, which stand together in the input, become one token of the decoder."""

    spec: VisionSpec
    width: int
    lora_scale: float = 1.0

    @nn.compact
    def __call__(self, x_bnd: jax.Array) -> jax.Array:
        b, n, d = x_bnd.shape
        block = self.spec.merge**2
        y = layers.LayerNorm(self.spec.eps, name="norm")(x_bnd).reshape(b, n // block, block * d)
        y = nn.gelu(layers.Projection(block * d, True, self.lora_scale, name="fc1")(y), approximate=False)
        return layers.Projection(self.width, True, self.lora_scale, name="fc2")(y)


def init(key: jax.Array, spec: VisionSpec, width: int) -> dict:
    """Random weights of the tower, its merger giving tokens of `width`; blocks are stacked on the layer axis."""
    k_patch, k_table, k_blocks, k_merger = jax.random.split(key, 4)
    x = jnp.zeros((1, spec.merge**2, spec.width))
    angle, mask = jnp.zeros((1, spec.merge**2, spec.width // spec.heads // 2)), jnp.ones((1, 1, 1), bool)
    block = TowerBlock(spec)
    return {
        "patch": layers.Projection(spec.width, True).init(k_patch, jnp.zeros((1, spec.values)))["params"],
        "position": {"table": 0.02 * jax.random.normal(k_table, (spec.side**2, spec.width))},
        "blocks": jax.vmap(lambda k: block.init(k, x, angle, mask)["params"])(jax.random.split(k_blocks, spec.layers)),
        "merger": Merger(spec, width).init(k_merger, x)["params"],
    }


def encode(
    params: dict, spec: VisionSpec, width: int, images: Images, *, lora: dict | None, lora_scale: float,
    dtype: jnp.dtype, remat: bool, unroll: int,
) -> jax.Array:  # fmt: skip
    """[B, n / merge**2, width]: the vision tokens of each query's pictures, in the order of their patches."""
    lora = lora or {}

    def variables(name):
        return {"params": params[name], **({"lora": lora[name]} if name in lora else {})}

    patch = layers.Projection(spec.width, True, lora_scale)
    x_bnd = patch.apply(variables("patch"), images.patch_bnc.astype(dtype))
    corners = params["position"]["table"][images.corner_bn4]  # [B, n, 4, D]
    x_bnd = x_bnd + (corners * images.corner_weight_bn4[..., None]).sum(2).astype(dtype)

    half = spec.width // spec.heads // 2  # rotary frequencies of a head: the first half follow rows, the others columns
    position = images.position_bn2
    axes = np.zeros(half // 2, np.int32)
    angle_bna = jnp.concatenate(
        [layers.rotary_angles(position[..., i : i + 1], half, spec.theta, axes) for i in (0, 1)], -1
    )
    segment = images.segment_bn
    mask_bnn = (segment[:, :, None] == segment[:, None, :]) & (segment > 0)[:, None, :]
    block = TowerBlock(spec, lora_scale)

    def layer(x_bnd, weights):
        p, l = weights
        return block.apply({"params": p, **({"lora": l} if l else {})}, x_bnd, angle_bna, mask_bnn), None

    body = jax.checkpoint(layer) if remat else layer
    x_bnd, _ = jax.lax.scan(body, x_bnd, (params["blocks"], lora.get("blocks", {})), unroll=min(unroll, spec.layers))
    return Merger(spec, width, lora_scale).apply(variables("merger"), x_bnd)
