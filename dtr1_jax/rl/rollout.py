"""Sampling G completions for each of B prompts, in one jitted loop that reads each prompt once.

A `Session` holds the state of sampling between two calls, so a caller may stop rows at a tag, insert tokens (`insert`)
and go on. All rows write the same slot of the cache at a step; a mask says which slots hold a token of the row, so a
row that stopped early leaves unused slots and costs no more than them.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dtr1_jax import layout
from dtr1_jax.models import policy
from dtr1_jax.models.policy import Spec
from dtr1_jax.rl import compaction, sampling
from dtr1_jax.rl.session import Session, result
from dtr1_jax.types import Prompt, Rollout


def begin(
    params: dict, lora: dict | None, spec: Spec, prompt: Prompt, *, group: int, new_tokens: int, slots: int, pad: int,
    dtype: jnp.dtype, number_b: jax.Array | None = None,
) -> Session:  # fmt: skip
    """Reads the prompts, and allocates completions of up to `new_tokens` tokens and caches of `slots` slots.

    `number_b` (int32[B]) are the numbers of the prompts, from which the random keys come; None = 0, 1, ...
    """
    with jax.named_scope("prefill"):
        prefix = policy.prefill(params, lora, spec, prompt, dtype)
    _, cache = policy.start(params, lora, spec, prefix, group, slots)
    b, d = prefix.last_bd.shape
    return Session(
        prefix=prefix,
        cache=cache,
        occupied_bgt=jnp.zeros((b, group, slots), bool),
        slot=jnp.int32(0),
        state_bgd=jnp.broadcast_to(prefix.last_bd[:, None], (b, group, d)),
        token_bgs=jnp.full((b, group, new_tokens), pad, jnp.int32),
        mask_bgs=jnp.zeros((b, group, new_tokens), bool),
        logp_bgs=jnp.zeros((b, group, new_tokens)),
        length_bg=jnp.zeros((b, group), jnp.int32),
        ended_bg=jnp.zeros((b, group), bool),
        number_bg=(jnp.arange(b) if number_b is None else number_b)[:, None] * group + jnp.arange(group),
    )


def extend(
    params: dict, lora: dict | None, spec: Spec, session: Session, key: jax.Array, *, end: int | tuple[int, ...],
    stop: tuple[int, ...] = (), temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
    banned_v: jax.Array | None = None, most_bg: jax.Array | None = None, closing_vk: jax.Array | None = None,
) -> Session:  # fmt: skip
    """Samples tokens for every row that has not ended; returns the session with them.

    A row halts when it samples a token of `end` (it has then ended for good), when it samples a token of `stop` or
    completes the text of `closing_vk` (a later call continues it), or when its completion has `most_bg` tokens, or as
    many as the session has room for. Halted rows wait for the others. Rows that had ended before the call do not
    change.

    Args:
      key: a row draws token t of its text, twins that were inserted included, with fold_in(key, t) and its own number.
      end: ids of the end tokens, or one id; () or -1 = rows never end.
      stop: ids of tokens after which a row halts.
      temperature, top_k, top_p, banned_v: as in `sampling.sample`.
      most_bg: int32[B, G], tokens that each completion may have after the call; None = all that there is room for.
      closing_vk: int8[V, K], the transitions of a text of K characters: after a token that finds k of them matched,
        closing_vk[token, k] are, and K says that the text is complete (data/closing_tags.py). The match begins with the
        call. None = no text halts a row.
    """
    split, _ = policy.start(params, lora, spec, session.prefix, session.token_bgs.shape[1], 1)
    knobs = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "banned_v": banned_v}
    draw = functools.partial(_draw, params, spec, key, knobs)
    with jax.named_scope("decode"):
        return _decode(params, spec, split, session, draw, end=end, stop=stop, most_bg=most_bg, closing_vk=closing_vk)


def _draw(params, spec, key, knobs, s):
    """The next token of each row, int32[B, G], and its log-probability; `knobs` are those of sampling.sample."""
    z_bgv = layout.place(policy.logits(params, spec, s.state_bgd), "batch", None, "vocab")
    b, g, vocab = z_bgv.shape
    token_r, logp_r = sampling.sample(
        key, layout.place(z_bgv.reshape(b * g, vocab), "batch", "vocab"), **knobs, number_r=s.number_bg.reshape(-1),
        place_r=s.length_bg.reshape(-1),
    )  # fmt: skip
    return layout.place_tree((token_r.reshape(b, g), logp_r.reshape(b, g)))


def _decode(params, spec, split, session, draw, *, end, stop=(), most_bg=None, closing_vk=None, leave=None):
    """`extend` from `split` of policy.start; the loop ends early where `leave(live_bg)` is True."""
    b, g, room = session.token_bgs.shape
    most_bg = jnp.full((b, g), room) if most_bg is None else jnp.minimum(most_bg, room)
    slots = session.occupied_bgt.shape[-1]
    end_n, stop_n = (jnp.array(ids, jnp.int32) for ids in (end, stop))

    def more(carry):
        s, halted_bg, _ = carry
        live_bg = _live(s, most_bg) & ~halted_bg
        go = (s.slot < slots) & live_bg.any()
        return go if leave is None else go & ~leave(live_bg)

    def step(carry):
        s, halted_bg, matched_bg = carry
        live_bg = _live(s, most_bg) & ~halted_bg
        token_bg, logp_bg = draw(s)
        new = _write(params, spec, split, s, live_bg, token_bg, logp_bg)
        new = dataclasses.replace(new, ended_bg=s.ended_bg | (live_bg & jnp.isin(token_bg, end_n)))
        halts_bg = jnp.isin(token_bg, stop_n)
        if closing_vk is not None:
            matched_bg = jnp.where(live_bg, closing_vk[token_bg, matched_bg].astype(jnp.int32), matched_bg)
            halts_bg |= matched_bg == closing_vk.shape[1]
        return new, halted_bg | (live_bg & halts_bg), matched_bg

    matched_bg = None if closing_vk is None else jnp.zeros((b, g), jnp.int32)
    return jax.lax.while_loop(more, step, (session, jnp.zeros((b, g), bool), matched_bg))[0]


def _live(s, most_bg):
    """bool[B, G]: rows that have not ended and may have more tokens."""
    return ~s.ended_bg & (s.length_bg < most_bg)


def _write(params, spec, split, s, live_bg, token_bg, logp_bg):
    """The session with one sampled token more in the rows of `live_bg`; all rows use up a slot."""
    room, slots = s.token_bgs.shape[2], s.occupied_bgt.shape[2]
    write_bgs = live_bg[..., None] & (jnp.arange(room) == s.length_bg[..., None])
    occupied_bgt = s.occupied_bgt | (live_bg[..., None] & (jnp.arange(slots) == s.slot))
    position_bg = s.prefix.next_b[:, None] + s.length_bg
    state_bgd, cache = policy.decode(
        params, spec, split, s.prefix, s.cache, token_bg[..., None], position_bg[..., None], occupied_bgt, s.slot
    )
    return Session(
        prefix=s.prefix,
        cache=cache,
        occupied_bgt=occupied_bgt,
        slot=s.slot + 1,
        state_bgd=jnp.where(live_bg[..., None], state_bgd[:, :, 0], s.state_bgd),
        token_bgs=jnp.where(write_bgs, token_bg[..., None], s.token_bgs),
        mask_bgs=s.mask_bgs | write_bgs,
        logp_bgs=jnp.where(write_bgs, logp_bg[..., None], s.logp_bgs),
        length_bg=s.length_bg + live_bg,
        ended_bg=s.ended_bg,
        number_bg=s.number_bg,
    )


def insert(
    params: dict, lora: dict | None, spec: Spec, session: Session, token_bgn: jax.Array, count_bg: jax.Array
) -> Session:
    """Appends the first `count_bg` of `token_bgn` (int32[B, G, n]) to each row; they are never in the loss.

    Rows that have ended and rows where the tokens do not fit do not change. Where fewer than n slots are free, no row
    changes.
    """
    slots, n = session.occupied_bgt.shape[2], token_bgn.shape[2]
    if n > slots:
        return session

    def append(session):
        return _append(params, lora, spec, session, token_bgn, count_bg)

    # A write past the last slot would be clamped and overwrite earlier slots, so it must not happen at all.
    return jax.lax.cond(session.slot + n <= slots, append, lambda session: session, session)


def _append(params, lora, spec, session, token_bgn, count_bg):
    split, _ = policy.start(params, lora, spec, session.prefix, session.token_bgs.shape[1], 1)
    _, _, n = token_bgn.shape
    room, slots = session.token_bgs.shape[2], session.occupied_bgt.shape[2]
    fits_bg = ~session.ended_bg & (session.length_bg + count_bg <= room)
    count_bg = jnp.where(fits_bg, count_bg, 0)
    inserted_bgn = jnp.arange(n) < count_bg[..., None]
    index_t = jnp.arange(slots) - session.slot
    new_bgt = jnp.take_along_axis(inserted_bgn, jnp.clip(index_t, 0, n - 1)[None, None], 2)
    occupied_bgt = session.occupied_bgt | (new_bgt & (index_t >= 0) & (index_t < n))
    position_bgn = session.prefix.next_b[:, None, None] + session.length_bg[..., None] + jnp.arange(n)
    state_bgnd, cache = policy.decode(
        params, spec, split, session.prefix, session.cache, token_bgn, position_bgn, occupied_bgt, session.slot
    )
    last_bgd = layout.token_at(state_bgnd, jnp.maximum(count_bg - 1, 0))
    offset_bgs = jnp.arange(room) - session.length_bg[..., None]
    moved_bgs = jnp.take_along_axis(token_bgn, jnp.clip(offset_bgs, 0, n - 1), 2)
    insert_bgs = (offset_bgs >= 0) & (offset_bgs < count_bg[..., None])
    return Session(
        prefix=session.prefix,
        cache=cache,
        occupied_bgt=occupied_bgt,
        slot=session.slot + n,
        state_bgd=jnp.where(count_bg[..., None] > 0, last_bgd, session.state_bgd),
        token_bgs=jnp.where(insert_bgs, moved_bgs, session.token_bgs),
        mask_bgs=session.mask_bgs,
        logp_bgs=session.logp_bgs,
        length_bg=session.length_bg + count_bg,
        ended_bg=session.ended_bg,
        number_bg=session.number_bg,
    )


_STATIC = (
    "spec", "group", "new_tokens", "end", "pad", "temperature", "top_k", "top_p", "dtype", "mesh", "shrink"
)  # fmt: skip


@functools.partial(jax.jit, static_argnames=_STATIC)
def sample(
    params: dict, lora: dict | None, prompt: Prompt, key: jax.Array, banned_v: jax.Array | None, *, spec: Spec,
    group: int, new_tokens: int, end: int | tuple[int, ...], pad: int, temperature: float, top_k: int = 0,
    top_p: float = 1.0, dtype: jnp.dtype = jnp.float32, mesh: Mesh | None = None, number_b: jax.Array | None = None,
    shrink: bool = True,
) -> Rollout:  # fmt: skip
    """Samples G completions of up to `new_tokens` tokens for each prompt; compiled once for each shape.

    Decoding begins with a short cache, and completions that have ended leave the batch (compaction.py). Neither changes
    the samples.

    Args:
      params, lora: weights and adapters, cut over `mesh`. Each batch shard should hold whole weights
        (`mesh.shardings` with resident = True), because all weights are read for each token.
      prompt: the B prompts.
      key, temperature, top_k, top_p, banned_v: as in `extend`.
      group: G.
      end: ids of the tokens that end a completion, or one id; () or -1 = none does.
      pad: id that fills up the completions.
      mesh: the devices over which the arrays are cut, or None.
      number_b: int32[B], the numbers of the prompts, from which the random keys come; None = 0, 1, ...
      shrink: False = one loop of one shape decodes all rows to the end. It is compiled faster.
    """
    with layout.use(mesh, resident=True):
        b = prompt.token_bp.shape[0]
        shapes = compaction.shapes(b, group, new_tokens) if shrink else [compaction.Shape(b, group, new_tokens)]
        session = begin(
            params, lora, spec, prompt, group=group, new_tokens=new_tokens, slots=shapes[0].slots, pad=pad, dtype=dtype,
            number_b=number_b,
        )  # fmt: skip
        split, _ = policy.start(params, lora, spec, session.prefix, group, 1)
        knobs = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "banned_v": banned_v}
        draw = functools.partial(_draw, params, spec, key, knobs)
        decode = functools.partial(_decode, params, spec, draw=draw, end=end)
        with jax.named_scope("decode"):
            return layout.place_tree(_decode_in(shapes, decode, split, session))


def _decode_in(shapes, decode, split, session):
    """The completions of a session of the first of `shapes`, decoded to their end in one loop after the other."""
    shape, *later = shapes
    smaller = next((s for s in later if s.completions < shape.completions), None)
    # The rows of a loop that is not the last leave it early, for a larger cache or for fewer rows.
    leave = None if smaller is None else functools.partial(compaction.fits, smaller)
    session = decode(split, session, leave=leave)
    if not later:
        return result(session)
    if later[0].completions == shape.completions:
        return _decode_in(later, decode, split, compaction.with_slots(session, later[0].slots))
    move = compaction.plan(_live(session, session.token_bgs.shape[2]), later[0])
    few = _decode_in(later, decode, *compaction.moved(split, session, move, later[0]))
    return compaction.merged(result(session), few, move)
