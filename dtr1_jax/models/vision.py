"""Vision tower and mergers of Qwen2.5-VL and Qwen3-VL: they turn patches of pictures into tokens of the decoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dtr1_jax import layout
from dtr1_jax.models import layers
from dtr1_jax.models.spec import VisionSpec
from dtr1_jax.types import Images

STATES = ("batch", "sequence", None)  # places of [B, n, D] between the products of a layer (layout.py)


def _norm(spec, name):
    return (layers.RMSNorm if spec.norm == "rms" else layers.LayerNorm)(spec.eps, name=name)


class TowerBlock(nn.Module):
    """Pre-norm transformer block, in which a patch attends to the patches of its own frame or its own window."""

    spec: VisionSpec
    lora_scale: float = 1.0
    lora_dropout: float = 0.0
    attention: str = "auto"

    @nn.compact
    def __call__(
        self, x_bnd: jax.Array, angle_bna: jax.Array, segment_bn: jax.Array, window_bn: jax.Array | None = None,
        full: jax.Array | None = None,
    ) -> jax.Array:  # fmt: skip
        """One layer.

        Args:
          x_bnd: [B, n, D].
          angle_bna: float32[B, n, H / 2], rotary angles.
          segment_bn, window_bn: as in types.Images.
          full: bool scalar, True if this layer attends within segments and not within windows; None in a tower
            without windows.

        Returns:
          [B, n, D].
        """
        s = self.spec
        b, n, d = x_bnd.shape

        def linear(name, features, x, places=None):
            return layers.Projection(features, True, self.lora_scale, self.lora_dropout, places, name=name)(x)

        x_bnd = layout.place(x_bnd, *STATES)
        y = layout.gather_tokens(_norm(s, "norm1")(x_bnd), *STATES)
        qkv = linear("qkv", 3 * d, y).reshape(b, n, 3, s.heads, d // s.heads)
        q, k, v = (layout.place(qkv[:, :, i], "batch", None, "heads", None) for i in range(3))
        q, k = layers.rotate(q, angle_bna), layers.rotate(k, angle_bna)
        if full is None:
            y = attend_same(q, k, v, segment_bn, self.attention)
        else:
            longest = (s.window * s.merge) ** 2
            y = jax.lax.cond(
                full,
                lambda q, k, v: attend_same(q, k, v, segment_bn, self.attention),
                lambda q, k, v: attend_runs(q, k, v, window_bn, longest, self.attention),
                q, k, v,
            )  # fmt: skip
        y = layout.place(y, "batch", None, ("heads", s.heads))
        x_bnd = layout.place(x_bnd + linear("out", d, y, STATES), *STATES)
        y = layout.gather_tokens(_norm(s, "norm2")(x_bnd), *STATES)
        up = linear("up", s.hidden, y)
        y = nn.silu(linear("gate", s.hidden, y)) * up if s.gated else nn.gelu(up, approximate=True)
        y = layout.place(y, "batch", None, "hidden")
        return layout.place(x_bnd + linear("down", d, y, STATES), *STATES)


def attend_same(q: jax.Array, k: jax.Array, v: jax.Array, number_bn: jax.Array, attention: str = "auto") -> jax.Array:
    """Attention between places that have the same positive number: [B, n, N * H].

    q, k and v are [B, n, N, H] with N heads. `number_bn` is int[B, n], 0 at padding. Example row of two pictures:
    [1 1 1 2 2 0]. `attention` is `Spec.attention`.
    """
    own = layers.KV(k.swapaxes(1, 2)[:, None], v.swapaxes(1, 2)[:, None])
    return layers.attend(q[:, None], own, layers.SameNumber(number_bn[:, None]), attention=attention)[:, 0]


def attend_runs(
    q: jax.Array, k: jax.Array, v: jax.Array, number_bn: jax.Array, longest: int, attention: str = "auto"
) -> jax.Array:
    """`attend_same` at less cost, where equal numbers form runs of at most `longest` places.

    Each row is cut into pieces of `longest` places, so a run lies in at most two neighbouring pieces. Each piece
    attends to itself and its two neighbours. The cost then grows with n and not with n squared, and runs need no
    padding.
    """
    b, n, heads, h = q.shape
    if n <= 3 * longest:
        return attend_same(q, k, v, number_bn, attention)
    q, k, v, number = (_cut(x, longest) for x in (q, k, v, number_bn))  # [B, pieces, longest, ...]

    def neighbours(x):
        edge = jnp.zeros_like(x[:, :1])
        return jnp.concatenate([jnp.concatenate([edge, x[:, :-1]], 1), x, jnp.concatenate([x[:, 1:], edge], 1)], 2)

    key_number = neighbours(number)
    mask = (number[..., :, None] == key_number[..., None, :]) & (key_number > 0)[..., None, :]
    out = layers.attend(q, layers.KV(neighbours(k).swapaxes(2, 3), neighbours(v).swapaxes(2, 3)), mask)
    return out.reshape(b, -1, heads * h)[:, :n]


def _cut(x, size):
    """[B, n, ...] -> [B, pieces, size, ...], the last piece filled up with zeros."""
    x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % size)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, size, *x.shape[2:])


class Merger(nn.Module):
    """Turns merge x merge neighbouring patches, which are consecutive in the input, into one token of the decoder.

    The norm is over the values of each patch or, with `norm_after`, over the values of all patches of a token (the
    DeepStack mergers of Qwen3-VL).
    """

    spec: VisionSpec
    width: int
    lora_scale: float = 1.0
    norm_after: bool = False
    lora_dropout: float = 0.0

    @nn.compact
    def __call__(self, x_bnd: jax.Array) -> jax.Array:
        b, n, d = x_bnd.shape
        block, norm = self.spec.merge**2, _norm(self.spec, "norm")
        tokens = (b, n // block, block * d)
        y = norm(x_bnd.reshape(tokens)) if self.norm_after else norm(x_bnd).reshape(tokens)

        def linear(name, features, x):
            return layers.Projection(features, True, self.lora_scale, self.lora_dropout, name=name)(x)

        y = layout.place(nn.gelu(linear("fc1", block * d, y), approximate=False), "batch", None, "hidden")
        return layout.place(linear("fc2", self.width, y), "batch", None, None)


def init(key: jax.Array, spec: VisionSpec, width: int) -> dict:
    """Random float32 weights of a tower and its mergers, with blocks stacked on the layer axis.

    `width` is the width of the decoder, and so of the tokens that the mergers return.
    """
    k_patch, k_table, k_blocks, k_merger = jax.random.split(key, 4)
    x = jnp.zeros((1, spec.merge**2, spec.width))
    angle, ones = jnp.zeros((1, spec.merge**2, spec.width // spec.heads // 2)), jnp.ones((1, spec.merge**2), int)
    block = TowerBlock(spec)
    params = {
        "patch": layers.Projection(spec.width, spec.patch_bias).init(k_patch, jnp.zeros((1, spec.values)))["params"],
        "blocks": jax.vmap(lambda k: block.init(k, x, angle, ones)["params"])(jax.random.split(k_blocks, spec.layers)),
        "merger": Merger(spec, width).init(k_merger, x)["params"],
    }
    if spec.side:
        params["position"] = {"table": 0.02 * jax.random.normal(k_table, (spec.side**2, spec.width))}
    if spec.deepstack:
        merger = Merger(spec, width, norm_after=True)
        keys = jax.random.split(jax.random.fold_in(k_merger, 1), len(spec.deepstack))
        params["deepstack"] = jax.vmap(lambda k: merger.init(k, x)["params"])(keys)
    return params


def encode(
    params: dict, spec: VisionSpec, width: int, images: Images, *, lora: dict | None, lora_scale: float,
    dtype: jnp.dtype, remat: bool, unroll: int, lora_dropout: float = 0.0, key: jax.Array | None = None,
    attention: str = "auto",
) -> jax.Array:  # fmt: skip
    """Vision tokens of each query's pictures: dtype[B, n / merge**2, width * (1 + levels)].

    The tokens have the order of their patches. Each token's `width` values are followed by its DeepStack features,
    level by level.

    Args:
      params: weights of the tower.
      spec: sizes of the tower.
      width: width of the decoder.
      images: patches of the pictures of B queries.
      lora: adapters of the tower, or None.
      lora_scale, remat, unroll, lora_dropout, attention: as in `Spec`.
      dtype: compute dtype.
      key: random key of the adapters' dropout, or None for no dropout.

    Raises ValueError if the pictures were laid out for another tower.
    """
    lora = lora or {}
    _check(spec, images)
    k_patch, k_blocks, k_merger, k_deep = [None] * 4 if key is None else jax.random.split(key, 4)

    def merger(norm_after):
        module = Merger(spec, width, lora_scale, norm_after, lora_dropout)

        def merge(x_bnd, weights, adapters, key):
            variables = layers.variables(layout.gathered(weights, spec.head_counts, dtype), adapters)
            return module.apply(variables, layout.gather_tokens(x_bnd, *STATES), rngs=layers.rngs(key))

        return layout.checkpointed(merge, remat)

    patch = layers.Projection(spec.width, spec.patch_bias, lora_scale, lora_dropout)
    weights = layout.gathered({"patch": params["patch"]}, spec.head_counts, dtype)["patch"]
    variables = layers.variables(weights, lora.get("patch"))
    x_bnd = patch.apply(variables, images.patch_bnc.astype(dtype), rngs=layers.rngs(k_patch))
    if spec.side:
        table = layout.gathered({"position": params["position"]}, spec.head_counts)["position"]["table"]
        corners = table[images.corner_bn4]  # [B, n, 4, D]
        x_bnd = x_bnd + (corners * images.corner_weight_bn4[..., None]).sum(2).astype(dtype)

    x_bnd = layout.place(x_bnd, *STATES)
    block = TowerBlock(spec, lora_scale, lora_dropout, attention)
    x_bnd, states = _scan(
        block, params["blocks"], lora.get("blocks", {}), images, x_bnd, dtype, remat, unroll, k_blocks
    )
    token_bmd = merger(norm_after=False)(x_bnd, params["merger"], lora.get("merger"), k_merger)
    if states is None:
        return token_bmd
    keys = None if key is None else jax.random.split(k_deep, len(states))
    levels = states, params["deepstack"], lora.get("deepstack"), keys
    deep = jax.lax.map(lambda level: merger(norm_after=True)(*level), levels)  # devices gather one at a time
    return jnp.concatenate([token_bmd, *deep], -1)


def _scan(block, params, lora, images, x_bnd, dtype, remat, unroll, key):
    """All blocks over the patches: ([B, n, D], states [levels, B, n, D] for DeepStack or None)."""
    spec = block.spec
    half = (
        spec.width // spec.heads // 2
    )  # rotary frequencies of a head; the first half follows rows, the second columns
    position = images.position_bn2
    axes = np.zeros(half // 2, np.int32)
    angle_bna = jnp.concatenate(
        [layers.rotary_angles(position[..., i : i + 1], half, spec.theta, axes) for i in (0, 1)], -1
    )

    def layer(x_bnd, weights, full):
        p, l, k = weights
        p = layout.gathered(p, spec.head_counts, x_bnd.dtype)
        variables = layers.variables(p, l)
        return block.apply(variables, x_bnd, angle_bna, images.segment_bn, images.window_bn, full, rngs=layers.rngs(k))

    number = np.arange(spec.layers)
    full = np.isin(number, spec.full_layers) if spec.window else None
    # The DeepStack level that a layer's state is written to. All other layers write past the end, which has no effect.
    level = np.where(np.isin(number, spec.deepstack), np.searchsorted(spec.deepstack, number), len(spec.deepstack))
    states = None
    if spec.deepstack:
        zeros = jnp.zeros((len(spec.deepstack), *x_bnd.shape), dtype)
        states = layout.place(zeros, None, *STATES)
    checkpointed = layout.checkpointed(layer, remat)

    def body(carry, inputs):
        x_bnd, states = carry
        weights, full, level = inputs
        x_bnd = checkpointed(x_bnd, weights, full)
        if states is not None:
            states = states.at[level].set(x_bnd, mode="drop")
        return (x_bnd, states), None

    keys = None if key is None else jax.random.split(key, spec.layers)
    xs = ((params, lora, keys), full, level)
    (x_bnd, states), _ = jax.lax.scan(body, (x_bnd, states), xs, unroll=min(unroll, spec.layers))
    return x_bnd, states


def _check(spec, images):
    for name, needed in (("corner_bn4", spec.side), ("window_bn", spec.window)):
        if bool(needed) != (getattr(images, name) is not None):
            state = "is missing" if needed else "is there"
            raise ValueError(
                f"images.{name} {state}, but the tower has side = {spec.side} and window = {spec.window}; lay the "
                "pictures out with the geometry of this tower"
            )
