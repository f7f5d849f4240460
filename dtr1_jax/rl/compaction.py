"""Completions that have ended leave the batch, so that the others decode in a smaller one.

A decode loop has one shape, so a rollout runs a few loops one after the other (`shapes`). A smaller loop begins when
the rows that are live, those that have not ended, fit into it. They keep their numbers, from which their random keys
come, so the samples do not depend on the shapes.

A batch is a grid: G rows of each query share its prompt. In the smaller grid, too, each query has the keys and values
of one prompt, but two of its queries may have the same one. So 3 live completions of a query fit into a grid
with G = 2: they take two of its queries, and one row stays free. Rows never leave their batch shard, and the shard that
needs most room decides.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dtr1_jax import layout
from dtr1_jax.models import decoder
from dtr1_jax.models.policy import Decoding
from dtr1_jax.rl.session import Session
from dtr1_jax.types import Rollout

FEWER = 4  # the smaller grid has about so many times fewer rows
LEAST_ROWS = 8  # rows of a batch shard below which all stay to the end
LEAST_SLOTS = 64  # slots of a cache below which it does not grow, and no row leaves


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of a decode loop.

    Attributes:
      queries: B, over all batch shards.
      group: G, rows of each query.
      slots: of each row's cache.
    """

    queries: int
    group: int
    slots: int

    @property
    def completions(self) -> int:
        """B * G."""
        return self.queries * self.group


class Move(NamedTuple):
    """Which rows go where, on each batch shard. Its rows are numbered from 0.

    Attributes:
      place_sr: int32[shards, old rows], the new row of each old one; -1 = it has none.
      row_sn: int32[shards, new rows], the old row of each new one.
      taken_sn: bool[shards, new rows], False at new rows that stay free. Their row in row_sn is 0.
    """

    place_sr: jax.Array
    row_sn: jax.Array
    taken_sn: jax.Array


def shapes(queries: int, group: int, slots: int) -> list[Shape]:
    """The shapes of the decode loops for B queries with G completions of up to `slots` tokens.

    Each loop is compiled, and decoding is unrolled over the layers, so there are three at most.
    """
    shards = layout.parts("batch", queries)
    local = queries // shards
    found = [Shape(queries, group, slots)]
    if slots < LEAST_SLOTS:
        return found
    found.insert(0, Shape(queries, group, -(-slots // 2)))
    if local * group >= LEAST_ROWS:
        fewer = local if group >= FEWER else math.ceil(local * group / FEWER)
        found.append(Shape(shards * fewer, math.ceil(group / FEWER), slots))
    return found


def fits(shape: Shape, live_bg: jax.Array) -> jax.Array:
    """bool: whether the rows of `live_bg`, bool[B, G], fit into a grid of this shape."""
    return _queries(_by_shard(live_bg), shape.group).sum(1).max() <= shape.queries // layout.parts(
        "batch", len(live_bg)
    )


def plan(live_bg: jax.Array, shape: Shape) -> Move:
    """Places the rows of `live_bg`, bool[B, G], in a grid of this shape; those that do not fit have no new row."""
    live_sbg = _by_shard(live_bg)
    queries_sb = _queries(live_sbg, shape.group)
    first_sb = jnp.cumsum(queries_sb, 1) - queries_sb
    place_sbg = first_sb[..., None] * shape.group + jnp.cumsum(live_sbg, 2) - 1
    size = shape.completions // len(live_sbg)
    place_sr = jnp.where(live_sbg & (place_sbg < size), place_sbg, -1).reshape(len(live_sbg), -1)
    match_srn = place_sr[..., None] == jnp.arange(size)
    return Move(place_sr, match_srn.argmax(1), match_srn.any(1))


def moved(split: Decoding, session: Session, move: Move, shape: Shape) -> tuple[Decoding, Session]:
    """The session with the rows of `move` alone, and with the prompts of its queries."""
    b, g = session.length_bg.shape
    query_sm = move.row_sn[:, :: shape.group] // g
    grid = (shape.queries, shape.group)

    def rows(x):
        return layout.place(_take(x, 2, move.row_sn).reshape(*grid, *x.shape[2:]), "batch", *(None,) * (x.ndim - 1))

    def queries(x, *names):
        return layout.place(_take(x, 1, query_sm), "batch", *names, *(None,) * (x.ndim - 1 - len(names)))

    def cached(x):
        x = _take(x.reshape(b, g, -1, *x.shape[-2:]), 2, move.row_sn)
        return decoder.squeezed(x.reshape(*grid, *x.shape[1:]))

    prefix = session.prefix
    prefix = prefix._replace(
        kv=jax.tree.map(lambda x: x[:, :0], prefix.kv),  # the loop reads those of `split`
        mask_bp=queries(prefix.mask_bp), last_bd=queries(prefix.last_bd), next_b=queries(prefix.next_b),
    )  # fmt: skip
    names = ("occupied_bgt", "state_bgd", "token_bgs", "mask_bgs", "logp_bgs", "length_bg", "number_bg")
    session = dataclasses.replace(
        session,
        prefix=prefix,
        cache=jax.tree.map(cached, session.cache),
        ended_bg=rows(session.ended_bg) | ~layout.place(move.taken_sn.reshape(grid), "batch", None),
        **{name: rows(getattr(session, name)) for name in names},
    )
    split = split._replace(prefix=jax.tree.map(lambda x: queries(x, "heads"), split.prefix))
    return split, with_slots(session, shape.slots)


def with_slots(session: Session, slots: int) -> Session:
    """The session with caches of so many slots, no fewer than it has."""
    more = slots - session.occupied_bgt.shape[2]
    if not more:
        return session

    return dataclasses.replace(
        session,
        cache=[decoder.grown(kv, more) for kv in session.cache],
        occupied_bgt=jnp.pad(session.occupied_bgt, [(0, 0), (0, 0), (0, more)]),
    )


def merged(rollout: Rollout, few: Rollout, move: Move) -> Rollout:
    """`rollout` with the completions of `few` in the rows that had moved."""

    def merge(old, new):
        moves = (move.place_sr >= 0).reshape(*old.shape[:2], *(1,) * (old.ndim - 2))
        new = _take(new, 2, jnp.maximum(move.place_sr, 0)).reshape(old.shape)
        return layout.place(jnp.where(moves, new, old), "batch", *(None,) * (old.ndim - 1))

    return jax.tree.map(merge, rollout, few)


def _by_shard(x_bg):
    """[B, G] -> [shards, B / shards, G]."""
    return x_bg.reshape(layout.parts("batch", len(x_bg)), -1, x_bg.shape[1])


def _queries(live_sbg, group):
    """int32[shards, B]: the queries of the new grid that the live rows of each query take."""
    return -(-live_sbg.sum(-1) // group)


def _take(x, axes, index_sn):
    """Rows of each shard: x [B, ...] or, with axes = 2, [B, G, ...] -> [shards * n, ...]."""
    rest = x.shape[axes:]
    x = x.reshape(len(index_sn), -1, *rest)
    return jax.vmap(lambda x, index: x.at[index].get(mode="promise_in_bounds"))(x, index_sn).reshape(-1, *rest)
