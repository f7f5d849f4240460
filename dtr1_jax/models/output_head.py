"""The output projection: logits of hidden states, and the log-probabilities of tokens without all logits at once.

Logits are the largest arrays of a policy: 152,000 for each token. So all tokens are scored with a slice of the
vocabulary at a time. Over a mesh, a slice is also what devices gather of the projection at once, and its gradient comes
from one product with all tokens. One CPU device takes a chunk of the tokens at a time instead, with the whole
vocabulary: by LoRA this is 15 to 25 % faster there, because a CPU copies each slice of the projection.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dtr1_jax import layout
from dtr1_jax.models import int8
from dtr1_jax.models.spec import Spec

CHUNK = 2**24  # logits that scoring holds at once on a device, in values; a larger number only costs memory
# Columns of a slice for each unit of the model's width. With fewer, reading the hidden states and adding up their
# gradient would take longer than the logits; with more, a slice would be larger than the weights of a layer.
LEAST, MOST = 2, 8
_TILE = 128  # columns that matrix units take at once


def in_slices(shards: int, platform: str) -> bool:
    """Whether tokens are scored by slices of the vocabulary, and not by chunks of the tokens.

    Args:
      shards: parts into which the mesh cuts the rows.
      platform: of the devices.
    """
    return shards > 1 or platform != "cpu"


def logits(params: dict, spec: Spec, x: jax.Array) -> jax.Array:
    """Logits float32[..., V] of normed hidden states [..., D]."""
    return _logits(_used(_stored(params, spec), spec, x.dtype), x)


def token_logprobs(
    params: dict, spec: Spec, x_bgsd: jax.Array, token_bgs: jax.Array,
    temper: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:  # fmt: skip
    """float32[B, G, S]: log-probability of tokens under softmax(temper(logits)).

    The backward pass computes the logits of each slice again, so those of the whole vocabulary are never held at once.

    Args:
      params: weights.
      spec: sizes of the policy.
      x_bgsd: [B, G, S, D], normed hidden states in the compute dtype.
      token_bgs: int32[B, G, S].
      temper: gives the tempered logits [..., n] of logits [..., n] and of int32[n], the tokens that they belong to.
    """
    b, g, s, _ = x_bgsd.shape
    shards = layout.parts("batch", b)
    if in_slices(shards, layout.platform()):
        columns = slice_columns(b * g * s // shards, _part(spec), spec.width, layout.gathers())
        return _by_slices(_stored(params, spec), spec, columns, x_bgsd, token_bgs, temper)
    head = _used(_stored(params, spec), spec, x_bgsd.dtype)
    return _by_chunks(head, chunk_length(b * g, s, _part(spec)), x_bgsd, token_bgs, temper)


def _part(spec):
    """Columns of the output projection on a device."""
    return spec.vocab // layout.parts("vocab", spec.vocab)


def slice_columns(tokens: int, vocab: int, width: int, gathers: bool = False) -> int:
    """How many columns of the output projection `token_logprobs` uses at once: a multiple of 128, or all.

    Args:
      tokens: that a device scores together.
      vocab: logits of a token on a device.
      width: of the model.
      gathers: whether the projection is cut over devices, which gather a slice when they use it.
    """
    most = max(CHUNK // tokens, LEAST * width)
    if gathers:
        most = min(most, MOST * width)
    slices = -(-vocab // most)
    return min(-(-vocab // (slices * _TILE)) * _TILE, vocab)


def chunk_length(rows: int, length: int, vocab: int) -> int:
    """How many tokens of each completion `token_logprobs` takes at once, so that a device holds about CHUNK logits.

    Args:
      rows: completions that are scored together.
      length: tokens of each completion, at least 1.
      vocab: logits of a token on a device.

    Returns:
      A number from 1 to `length`; the logits of a chunk are rows * chunk_length * vocab values on a device.
    """
    chunks = -(-rows * length * vocab // CHUNK)
    return -(-length // min(max(chunks, 1), length))


def _stored(params, spec):
    """The output projection as it is stored: {"kernel": [D, V], or [V, D] if it is tied}, in int8 with its scales."""
    return {"kernel": params["embed"]["table"]} if spec.tied else params["head"]


def _used(head, spec, dtype):
    """The output projection, or a slice of it, as devices use it (layout.py): {"kernel": [D, n]}."""
    kernel = head["kernel"].T if spec.tied else head["kernel"]
    head = head | {"kernel": kernel if int8.SCALE in head else kernel.astype(dtype)}
    return layout.gathered({"head": head}, spec.head_counts)["head"]


def _logits(head, x):
    """`logits` by a projection of `_used`."""
    if int8.SCALE in head:
        return int8.product(x, head["kernel"], head[int8.SCALE])
    # The product stays float32: near 16, bfloat16 has steps of 1/8, which would be errors of the log-probabilities.
    return jnp.matmul(x, head["kernel"], preferred_element_type=jnp.float32)


def _tempered(head, x_bgsd, token_v, temper):
    """Tempered logits float32[B, G, S, n] by a projection of `_used`, or a slice of it with the tokens int32[n]."""
    z = temper(_logits(head, layout.place(x_bgsd, "batch", None, None, None)), token_v)
    return layout.place(z, "batch", None, None, "vocab")


def _logprobs(head, x_bgsd, token_bgs, temper):
    """`token_logprobs` with all logits at once, by a projection of `_used`."""
    every = jnp.arange(head["kernel"].shape[-1])
    z = _tempered(head, x_bgsd, every, temper)
    return _chosen(z, token_bgs, every) - jax.nn.logsumexp(z, -1)


def _chosen(z, token_bgs, token_v):
    """float32[B, G, S]: the logits z[B, G, S, n] of the tokens; 0 for a token that is not in int32[n] token_v."""
    if layout.parts("vocab", z.shape[-1]) > 1:
        # A choice by place would gather all logits. Each device sums up those that it holds, of which one counts.
        return jnp.where(token_v == token_bgs[..., None], z, 0).sum(-1)
    place_bgs = token_bgs - token_v[-1] + z.shape[-1] - 1  # its tokens follow each other
    held_bgs = (place_bgs >= 0) & (place_bgs < z.shape[-1])
    place_bgs = jnp.clip(place_bgs, 0, z.shape[-1] - 1)
    held_bgs &= token_v[place_bgs] == token_bgs  # it may be among the columns that do not count
    return jnp.where(held_bgs, jnp.take_along_axis(z, place_bgs[..., None], -1)[..., 0], 0)


def _by_chunks(head, size, x_bgsd, token_bgs, temper):
    """`token_logprobs` by chunks of `size` tokens, with a projection of `_used`."""
    score = functools.partial(_logprobs, head, temper=temper)
    b, g, s = token_bgs.shape
    if size == s:
        return score(x_bgsd, token_bgs)
    pad = -s % size

    def split(x):  # [B, G, S, ...] -> [chunks, B, G, size, ...]
        x = jnp.pad(x, [(0, 0), (0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 3))
        return jnp.moveaxis(x.reshape(b, g, (s + pad) // size, size, *x.shape[3:]), 2, 0)

    logp = jax.lax.map(lambda chunk: jax.checkpoint(score)(*chunk), (split(x_bgsd), split(token_bgs)))
    return jnp.moveaxis(logp, 0, 2).reshape(b, g, s + pad)[..., :s]


def _by_slices(head, spec, columns, x_bgsd, token_bgs, temper):
    """`token_logprobs` by slices of `columns` columns, with a projection of `_stored`."""
    part = _part(spec)
    if columns == part:
        return _logprobs(_used(head, spec, x_bgsd.dtype), x_bgsd, token_bgs, temper)
    slices = _Slices(spec.tied, spec.vocab // part, part, columns)

    def tempered(x, piece, n):
        used = _used({name: slices.join(a) for name, a in piece.items()}, spec, x.dtype)
        z = _tempered(used, x, slices.tokens(n), temper)
        return jnp.where(slices.tokens(n) >= 0, z, -jnp.inf)

    trained, fixed = ({}, head) if int8.SCALE in head else (head, {})
    return _score(tempered, slices, x_bgsd, trained, fixed, token_bgs)


@dataclasses.dataclass(frozen=True)
class _Slices:
    """Slices of an output projection [D, V], [V, D] if it is tied, or of its scales [V].

    The vocabulary has `tensor` parts, which devices hold, of `part` columns each. A slice has `columns` columns of each
    part. The last slice begins with columns that the one before it has too.
    """

    tied: bool
    tensor: int
    part: int
    columns: int

    @property
    def count(self) -> int:
        return -(-self.part // self.columns)

    def tokens(self, n: jax.Array) -> jax.Array:
        """int32[tensor * columns]: the tokens of slice n; negative at columns that the slice before it has too."""
        column_c = self._first(n) + jnp.arange(self.columns)
        token_tc = self.part * jnp.arange(self.tensor)[:, None] + column_c
        return jnp.where(column_c >= n * self.columns, token_tc, -1).reshape(-1)

    def cut(self, x: jax.Array, n: jax.Array) -> jax.Array:
        """Slice n: [D, tensor, columns], or [tensor, columns, D], or [tensor, columns]."""
        axis = self._axis(x.ndim)
        parts = x.reshape(*x.shape[:axis], self.tensor, self.part, *x.shape[axis + 1 :])
        return jax.lax.dynamic_slice_in_dim(parts, self._first(n), self.columns, axis + 1)

    def join(self, piece: jax.Array) -> jax.Array:
        """A slice of `cut` as a projection of its own, without the axis of the parts."""
        axis = self._axis(piece.ndim - 1)
        return piece.reshape(*piece.shape[:axis], self.tensor * self.columns, *piece.shape[axis + 2 :])

    def whole(self, pieces: jax.Array) -> jax.Array:
        """All columns from slices [count, ...]; of columns that two slices have, those of the first count."""
        axis = self._axis(pieces.ndim - 2)
        *full, last = [jax.lax.index_in_dim(pieces, n, keepdims=False) for n in range(self.count)]
        start = self.count * self.columns - self.part
        parts = jnp.concatenate([*full, jax.lax.slice_in_dim(last, start, self.columns, axis=axis + 1)], axis + 1)
        return parts.reshape(*parts.shape[:axis], self.tensor * self.part, *parts.shape[axis + 2 :])

    def _first(self, n):
        return jnp.minimum(n * self.columns, self.part - self.columns)

    def _axis(self, dimensions):
        """The axis of the vocabulary in arrays of so many dimensions."""
        return 0 if self.tied else dimensions - 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _score(tempered, slices, x, head, fixed, token):
    """The log-probabilities of tokens, from tempered(x, slice of the projection, n) of each slice n.

    The projection is `head`, or `fixed` where it gets no gradient. The gradient of `x` is summed up in float32. That of
    a slice of the projection comes from one product with all tokens.
    """
    return _forward(tempered, slices, x, head, fixed, token)[0]


def _forward(tempered, slices, x, head, fixed, token):
    def one(n):
        z = tempered(x, {name: slices.cut(a, n) for name, a in (head | fixed).items()}, n)
        return _chosen(z, token, slices.tokens(n)), jax.nn.logsumexp(z, -1)

    chosen_nbgs, total_nbgs = jax.lax.map(one, jnp.arange(slices.count))
    total = jax.nn.logsumexp(total_nbgs, 0)
    return chosen_nbgs.sum(0) - total, (x, head, fixed, token, total)


def _backward(tempered, slices, residuals, dy):
    x, head, fixed, token, total = residuals

    def add(dx, n):
        piece, held = ({name: slices.cut(a, n) for name, a in arrays.items()} for arrays in (head, fixed))
        z, pull = jax.vjp(lambda x, piece: tempered(x, piece | held, n), x, piece)
        probability = jnp.exp(z - total[..., None])
        d, d_piece = pull(dy[..., None] * ((slices.tokens(n) == token[..., None]) - probability))
        return dx + d.astype(jnp.float32), d_piece

    zero = layout.place(jnp.zeros(x.shape, jnp.float32), "batch", None, None, None)
    dx, pieces = jax.lax.scan(add, zero, jnp.arange(slices.count))
    return dx.astype(x.dtype), jax.tree.map(slices.whole, pieces), None, None


_score.defvjp(_forward, _backward)
