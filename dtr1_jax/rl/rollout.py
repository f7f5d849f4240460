"""Sampling G completions for each of B prompts, in one jitted loop that reads each prompt once.

A `Session` holds everything between two stretches of sampling, so a caller may stop rows at a tag, put tokens in
(`insert`), and go on. Slots of the cache are global (all rows write the same one at a step); which of them a row has
really used is a mask, so rows that stopped early cost nothing but an unused slot.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from dtr1_jax.models import policy
from dtr1_jax.models.policy import Spec
from dtr1_jax.rl import sampling
from dtr1_jax.types import Prompt, Rollout, pytree


@pytree
class Session:
    """Sampling that can go on.

    Attributes:
      prefix: policy.Prefix of the prompts.
      cache: per layer turned KV [B, G, K, slots, H], without those of B, G and K that are 1.
      seen_bgt: bool[B, G, slots], slots that hold a token of the row.
      slot: int32, slots used so far.
      state_bgd: [B, G, D], hidden state from which the next token is predicted.
      token_bgs: int32[B, G, S], completions so far, without holes. mask_bgs: bool, True at *sampled* tokens of them.
      logp_bgs: float32[B, G, S], 0 where a token was put in or there is none.
      length_bg: int32[B, G], tokens in token_bgs.
      ended_bg: bool[B, G], the end token was sampled.
    """

    prefix: policy.Prefix
    cache: list
    seen_bgt: jax.Array
    slot: jax.Array
    state_bgd: jax.Array
    token_bgs: jax.Array
    mask_bgs: jax.Array
    logp_bgs: jax.Array
    length_bg: jax.Array
    ended_bg: jax.Array


def begin(
    params, lora, spec: Spec, prompt: Prompt, *, group: int, new_tokens: int, slots: int, pad: int, dtype
) -> Session:
    """Reads the prompts and makes room: completions of up to `new_tokens` tokens, caches of `slots`."""
    prefix = policy.prefill(params, lora, spec, prompt, dtype)
    _, cache = policy.start(params, lora, spec, prefix, group, slots)
    b, d = prefix.last_bd.shape
    return Session(
        prefix=prefix,
        cache=cache,
        seen_bgt=jnp.zeros((b, group, slots), bool),
        slot=jnp.int32(0),
        state_bgd=jnp.broadcast_to(prefix.last_bd[:, None], (b, group, d)),
        token_bgs=jnp.full((b, group, new_tokens), pad, jnp.int32),
        mask_bgs=jnp.zeros((b, group, new_tokens), bool),
        logp_bgs=jnp.zeros((b, group, new_tokens)),
        length_bg=jnp.zeros((b, group), jnp.int32),
        ended_bg=jnp.zeros((b, group), bool),
    )


def extend(
    params, lora, spec: Spec, session: Session, key: jax.Array, *, end: int, stop: tuple[int, ...] = (),
    temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, banned_v: jax.Array | None = None,
) -> Session:  # fmt: skip
    """Samples until every row has ended, has just sampled a token of `stop`, or has no room left.

    Returns as soon as all rows are done. Rows that ended in an earlier stretch stay as they are.
    """
    split, _ = policy.start(params, lora, spec, session.prefix, session.token_bgs.shape[1], 1)
    b, g, room = session.token_bgs.shape
    slots = session.seen_bgt.shape[-1]
    place = jnp.arange(room)

    def active(s, halted_bg):
        return ~halted_bg & ~s.ended_bg & (s.length_bg < room)

    def more(carry):
        s, halted_bg = carry
        return (s.slot < slots) & active(s, halted_bg).any()

    def one(carry):
        s, halted_bg = carry
        live_bg = active(s, halted_bg)
        z_bgv = policy.logits(params, spec, s.state_bgd)
        token_r, logp_r = sampling.sample(
            jax.random.fold_in(key, s.slot), z_bgv.reshape(b * g, -1),
            temperature=temperature, top_k=top_k, top_p=top_p, banned_v=banned_v,
        )  # fmt: skip
        token_bg, logp_bg = token_r.reshape(b, g), logp_r.reshape(b, g)
        here_bgs = live_bg[..., None] & (place == s.length_bg[..., None])
        seen_bgt = s.seen_bgt | (live_bg[..., None] & (jnp.arange(slots) == s.slot))
        position_bg = s.prefix.next_b[:, None] + s.length_bg
        state_bgd, cache = policy.decode(
            params, spec, split, s.prefix, s.cache, token_bg[..., None], position_bg[..., None], seen_bgt, s.slot
        )
        new = Session(
            prefix=s.prefix,
            cache=cache,
            seen_bgt=seen_bgt,
            slot=s.slot + 1,
            state_bgd=jnp.where(live_bg[..., None], state_bgd[:, :, 0], s.state_bgd),
            token_bgs=jnp.where(here_bgs, token_bg[..., None], s.token_bgs),
            mask_bgs=s.mask_bgs | here_bgs,
            logp_bgs=jnp.where(here_bgs, logp_bg[..., None], s.logp_bgs),
            length_bg=s.length_bg + live_bg,
            ended_bg=s.ended_bg | (live_bg & (token_bg == end)),
        )
        return new, halted_bg | (live_bg & jnp.isin(token_bg, jnp.array(stop, jnp.int32)))

    return jax.lax.while_loop(more, one, (session, jnp.zeros((b, g), bool)))[0]


def insert(params, lora, spec: Spec, session: Session, token_bgn: jax.Array, count_bg: jax.Array) -> Session:
    """Puts the first `count_bg` of `token_bgn` (int32[B, G, n]) behind each row; they are never in the loss.

    Rows that have ended and rows where the tokens do not fit are left as they are; all are where no n slots are free.
    """
    slots, n = session.seen_bgt.shape[2], token_bgn.shape[2]
    if n > slots:
        return session

    def put(session):
        return _put(params, lora, spec, session, token_bgn, count_bg)

    # a write past the last slot would land on earlier ones, so it must not happen at all
    return jax.lax.cond(session.slot + n <= slots, put, lambda session: session, session)


def _put(params, lora, spec, session, token_bgn, count_bg):
    split, _ = policy.start(params, lora, spec, session.prefix, session.token_bgs.shape[1], 1)
    _, _, n = token_bgn.shape
    room, slots = session.token_bgs.shape[2], session.seen_bgt.shape[2]
    fits_bg = ~session.ended_bg & (session.length_bg + count_bg <= room)
    count_bg = jnp.where(fits_bg, count_bg, 0)
    given_bgn = jnp.arange(n) < count_bg[..., None]
    at = jnp.arange(slots) - session.slot
    filled_bgt = jnp.take_along_axis(given_bgn, jnp.clip(at, 0, n - 1)[None, None], 2) & (at >= 0) & (at < n)
    seen_bgt = session.seen_bgt | filled_bgt
    position_bgn = session.prefix.next_b[:, None, None] + session.length_bg[..., None] + jnp.arange(n)
    state_bgnd, cache = policy.decode(
        params, spec, split, session.prefix, session.cache, token_bgn, position_bgn, seen_bgt, session.slot
    )
    last_bgd = jnp.take_along_axis(state_bgnd, jnp.maximum(count_bg - 1, 0)[..., None, None], 2)[:, :, 0]
    offset_bgs = jnp.arange(room) - session.length_bg[..., None]
    moved_bgs = jnp.take_along_axis(token_bgn, jnp.clip(offset_bgs, 0, n - 1), 2)
    here_bgs = (offset_bgs >= 0) & (offset_bgs < count_bg[..., None])
    return Session(
        prefix=session.prefix,
        cache=cache,
        seen_bgt=seen_bgt,
        slot=session.slot + n,
        state_bgd=jnp.where(count_bg[..., None] > 0, last_bgd, session.state_bgd),
        token_bgs=jnp.where(here_bgs, moved_bgs, session.token_bgs),
        mask_bgs=session.mask_bgs,
        logp_bgs=session.logp_bgs,
        length_bg=session.length_bg + count_bg,
        ended_bg=session.ended_bg,
    )


def result(session: Session) -> Rollout:
    """What was sampled."""
    return Rollout(session.token_bgs, session.mask_bgs, session.logp_bgs, session.ended_bg)


@functools.partial(
    jax.jit,
    static_argnames=("spec", "group", "new_tokens", "end", "pad", "temperature", "top_k", "top_p", "dtype"),
)
def sample(
    params: dict, lora: dict | None, prompt: Prompt, key: jax.Array, banned_v: jax.Array | None, *, spec: Spec,
    group: int, new_tokens: int, end: int, pad: int, temperature: float, top_k: int = 0, top_p: float = 1.0,
    dtype=jnp.float32,
) -> Rollout:  # fmt: skip
    """G completions of up to `new_tokens` tokens for each prompt, from begin to end. One compilation per shape."""
    session = begin(
        params, lora, spec, prompt, group=group, new_tokens=new_tokens, slots=new_tokens, pad=pad, dtype=dtype
    )
    session = extend(
        params, lora, spec, session, key, end=end, temperature=temperature, top_k=top_k, top_p=top_p, banned_v=banned_v
    )
    return result(session)
