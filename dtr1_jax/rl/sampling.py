"""The next token of each row is drawn from its logits, with banned tokens, temperature, top-k and top-p."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from dtr1_jax import layout

_LARGEST_LOGIT = 1e30


def temper(
    logits: jax.Array, token_n: jax.Array | None = None, *, temperature: float, banned_v: jax.Array | None
) -> jax.Array:
    """Logits of the distribution that we sample from and train: float32[..., n], logits / temperature, -inf at bans.

    Sampler and scorer both call this, so that a token has the same log-probability in both. At temperature 0 (greedy)
    the logits are not divided: log-probabilities are then those at temperature 1.

    Args:
      logits: float[..., n].
      token_n: int32[n], the tokens that they belong to; None = all V.
      temperature: 0 or more.
      banned_v: bool[V], True at tokens that must never be sampled (image placeholders), or None. At least one is
        False.
    """
    logits = logits.astype(jnp.float32)
    logits = logits / temperature if temperature else logits
    if banned_v is None:
        return logits
    return jnp.where(banned_v if token_n is None else banned_v[token_n], -jnp.inf, logits)


def sample(
    key: jax.Array,
    logits_rv: jax.Array,
    *,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    banned_v: jax.Array | None = None,
    number_r: jax.Array | None = None,
    place_r: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Draws one token for each row.

    Row r draws with `fold_in(fold_in(key, place_r[r]), number_r[r])`, so its token depends neither on the number of
    rows nor on the device or the process. Each row draws two random numbers, and without top-k and top-p nothing is
    sorted. Top-k keeps the k most likely tokens (ties: the lower id). Top-p renormalises them and keeps the fewest most
    likely tokens whose probabilities reach top_p, at least one (arXiv:1904.09751).

    No logits make a NaN: tokens at +inf share all the probability, and a NaN counts as -inf, which is drawn only where
    no other token is allowed.

    Args:
      key: each row derives its own from it.
      logits_rv: float[R, V].
      temperature: of the softmax; 0 = greedy, the most likely token (ties: the lower id).
      top_k: 0 = off; more than V is V.
      top_p: in (0, 1]; 1 = off.
      banned_v: bool[V] or None, see `temper`.
      number_r: int32[R], the numbers of the rows; None = 0, 1, ...
      place_r: int32[R], the place of the token in the text of its row, a new one for each draw; None = the rows draw
        with `fold_in(key, number_r[r])`.

    Returns:
      token_r int32[R], and logp_r float32[R], its log-probability under softmax(temper(logits)): with bans and
      temperature, before top-k and top-p.

    Raises:
      ValueError: temperature, top_k or top_p out of range.
    """
    if not (temperature >= 0 and top_k >= 0 and 0 < top_p <= 1):
        raise ValueError(f"expected temperature >= 0, top_k >= 0, 0 < top_p <= 1, got {temperature}, {top_k}, {top_p}")
    logp_rv = jax.nn.log_softmax(temper(_finite(logits_rv, temperature), temperature=temperature, banned_v=banned_v))
    logp_rv = layout.place(logp_rv, "batch", "vocab")
    keys_r = _keys(key, jnp.arange(logits_rv.shape[0]) if number_r is None else number_r, place_r)
    if layout.parts("vocab", logp_rv.shape[1]) > 1:
        return _sample_cut(keys_r, logp_rv, temperature, top_k, top_p)
    token_r = _choose(keys_r, logp_rv, temperature, top_k, top_p)
    return token_r, jnp.take_along_axis(logp_rv, token_r[:, None], axis=-1)[:, 0]


def _choose(keys_r, logp_rv, temperature, top_k, top_p):
    """int32[R] tokens."""
    if temperature == 0:
        token_r = jnp.argmax(logp_rv, axis=-1)
    elif top_k or top_p < 1:
        size = logp_rv.shape[1]
        token_r = _choose_top(keys_r, *jax.lax.top_k(logp_rv, min(top_k or size, size)), top_p)
    else:
        token_r = _draw(keys_r, logp_rv)
    return token_r.astype(jnp.int32)


def _choose_top(keys_r, top_rk, id_rk, top_p):
    """The ids of one of the most likely tokens of each row, which are sorted."""
    top_rk = _nucleus(top_rk, top_p) if top_p < 1 else top_rk
    return jnp.take_along_axis(id_rk, _draw(keys_r, top_rk)[:, None], 1)[:, 0]


def _sample_cut(keys_r, logp_rv, temperature, top_k, top_p):
    """`sample` where the mesh cuts the vocabulary: the devices exchange sums over blocks, not log-probabilities.

    The tokens are those of `sample` on one device, but for the rounding of sums over blocks that the cut divides. Top-p
    without top-k sorts the whole vocabulary, so it does send all log-probabilities.
    """
    size = logp_rv.shape[1]
    id_v = jnp.arange(size)
    if temperature == 0:
        # the first of the most likely tokens, as argmax finds it
        token_r = jnp.where(logp_rv == logp_rv.max(-1, keepdims=True), id_v, size - 1).min(-1)
    elif top_k and top_k <= size // layout.parts("vocab", size):
        token_r = _choose_top(keys_r, *layout.by_vocab(functools.partial(_top, count=top_k), logp_rv, id_v), top_p)
    elif top_k or top_p < 1:
        token_r = _choose(keys_r, layout.place(logp_rv, "rows", None), temperature, top_k, top_p)
    else:
        width = _width(size)
        draw = functools.partial(_draw_cut, width=width, blocks=-(-size // width))
        token_r = layout.by_vocab(draw, jnp.exp(logp_rv), id_v, _uniform(keys_r))
    token_r = layout.place(token_r.astype(jnp.int32), "batch")
    return token_r, jnp.where(id_v == token_r[:, None], logp_rv, 0).sum(-1)


def _top(join, gather, logp_rv, id_v, count):
    """The `count` most likely tokens of a vocabulary of which each device has a part; ties: the lower id."""
    top_rk, index_rk = jax.lax.top_k(logp_rv, count)
    top_rk, id_rk = gather(top_rk), gather(id_v[index_rk])
    top_rk, index_rk = jax.lax.top_k(top_rk, count)
    return top_rk, jnp.take_along_axis(id_rk, index_rk, 1)


def _draw_cut(join, gather, p_rv, id_v, u_r2, width, blocks):
    """`_draw` where each device has a part of the vocabulary, whose ends may lie inside a block."""
    rows, size = p_rv.shape
    first, local = id_v[0] // width, -(-(size + width - 1) // width)  # blocks that a part of this size may touch
    p_rbw = jnp.zeros((rows, local * width), p_rv.dtype)
    p_rbw = jax.lax.dynamic_update_slice(p_rbw, p_rv, (0, id_v[0] % width)).reshape(rows, local, width)
    sum_rb = jnp.zeros((rows, blocks + local), p_rv.dtype)
    sum_rb = join(jax.lax.dynamic_update_slice(sum_rb, p_rbw.sum(-1), (0, first)))[:, :blocks]
    block_r = _invert(sum_rb, u_r2[:, 0])
    own_r = block_r - first
    p_rw = jnp.take_along_axis(p_rbw, jnp.clip(own_r, 0, local - 1)[:, None, None], 1)[:, 0]
    p_rw = join(jnp.where(((own_r >= 0) & (own_r < local))[:, None], p_rw, 0))
    return block_r * width + _invert(p_rw, u_r2[:, 1])


def _finite(logits_rv, temperature):
    """Logits without NaN, and small enough to stay finite when divided by the temperature."""
    bound = _LARGEST_LOGIT * min(temperature or 1.0, 1.0)
    return jnp.clip(jnp.nan_to_num(logits_rv.astype(jnp.float32), nan=-jnp.inf), -bound, bound)


def _nucleus(logp_rk, top_p):
    """logp_rk, sorted with the most likely first, with -inf after the first entries that together reach top_p."""
    p_rk = jax.nn.softmax(logp_rk)
    before_rk = jnp.cumsum(p_rk, axis=-1) - p_rk
    # The first entry has exactly 0 before it, so at least one stays.
    return jnp.where(before_rk < top_p, logp_rk, -jnp.inf)


def _draw(keys_r, logp_rn):
    """int32[rows], each an index drawn in proportion to exp(logp_rn), by inverting the distribution function.

    First a block of about sqrt(n) neighbours is drawn in proportion to its sum, then an index inside the block. So no
    long running sum loses small probabilities, and no random number is needed for each index, as in the Gumbel trick.
    On one core, a decode step for 128 rows of 1664 tokens takes 13.6 ms; with the Gumbel trick it took 18.6 ms.
    """
    rows, size = logp_rn.shape
    width = _width(size)
    p_rbw = jnp.pad(jnp.exp(logp_rn), ((0, 0), (0, -size % width))).reshape(rows, -1, width)
    u_r2 = _uniform(keys_r)
    block_r = _invert(p_rbw.sum(-1), u_r2[:, 0])
    p_rw = jnp.take_along_axis(p_rbw, block_r[:, None, None], 1)[:, 0]
    return block_r * width + _invert(p_rw, u_r2[:, 1])


def _width(size):
    """Tokens in a block of `_draw`."""
    return math.isqrt(size - 1) + 1


def _keys(key, number_r, place_r=None):
    """A key for each row."""
    if place_r is None:
        return jax.vmap(lambda number: jax.random.fold_in(key, number))(number_r)
    return jax.vmap(lambda place, number: jax.random.fold_in(jax.random.fold_in(key, place), number))(place_r, number_r)


def _uniform(keys_r):
    """float32[rows, 2] in [0, 1), each row from its own key."""
    return layout.place(jax.vmap(lambda row_key: jax.random.uniform(row_key, (2,)))(keys_r), "batch", None)


def _invert(p_rn, u_r):
    """The first index where the running sum of p exceeds the share u in [0, 1) of its total; p is above 0 there."""
    sum_rn = jnp.cumsum(p_rn, -1)
    # Each running sum is rounded on its own, so it may grow at an index where p is 0, and for u next to 1 no sum may
    # exceed the share. The argmax then falls back on the largest p.
    reached_rn = (sum_rn > u_r[:, None] * sum_rn[:, -1:]) & (p_rn > 0)
    return jnp.argmax(jnp.where(reached_rn, jnp.inf, p_rn), -1)
