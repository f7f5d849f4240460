"""Completions are scored over the tokens that they have, not over the S tokens that they are padded to.

Shapes are static on the device, so the number of tokens cannot follow the data. Instead a program has one branch for
each of a few lengths, the *stretches*; each micro-group runs the branch with the shortest stretch that holds all its
tokens. Completions of like length are sorted into the same micro-group, so that one long completion does not make its
short siblings as expensive as itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

STRETCHES = 5  # at most so many stretches, because each is a branch that must be compiled
MULTIPLE = 32  # tokens; every stretch but the last is a multiple of it


def stretches(tokens: int) -> list[int]:
    """The stretches of completions that are padded to `tokens` tokens, in rising order; the last is `tokens` itself.

    At most STRETCHES, in the smallest equal steps that allow it. The shortest is a quarter of `tokens` or more: below,
    little time is left to save.
    """
    fits = (step for step in itertools.count(MULTIPLE, MULTIPLE) if len(_shorter(step, tokens)) < STRETCHES)
    return [*_shorter(next(fits), tokens), tokens]


def sort_by_length(rows: Any, mask_bgs: jax.Array, count: int) -> Any:
    """Reorders the completions of each query, so that each of `count` micro-groups has completions of like length.

    `accumulate.scan_parts` along axis 1 then yields the longest completions first. It takes every `count`-th completion
    into a part, so the sorted completions are laid out with that stride.

    Args:
      rows: tree of arrays [B, G, ...].
      mask_bgs: bool[B, G, S], True at tokens that count.
      count: number of micro-groups, a divisor of G.
    """
    order_bg = jnp.argsort(-_length(mask_bgs), axis=1)
    order_bg = order_bg.reshape(len(order_bg), count, -1).swapaxes(1, 2).reshape(order_bg.shape)

    def reorder(x):
        return jnp.take_along_axis(x, order_bg.reshape(*order_bg.shape, *(1,) * (x.ndim - 2)), 1)

    return jax.tree.map(reorder, rows)


def over_shortest_stretch(function: Callable[[Any], Any], rows: Any, mask_bgs: jax.Array) -> Any:
    """`function(rows)`, where the arrays [B, G, S] of `rows` are cut to the shortest stretch with all their tokens.

    `function` must not depend on the tokens after the last that counts, and its outputs must have the same shapes for
    every stretch.

    Args:
      function: takes a tree like `rows`.
      rows: tree of arrays [B, G, S], which are cut, and [B, G], which are not.
      mask_bgs: bool[B, G, S], True at tokens that count.
    """
    lengths = stretches(mask_bgs.shape[-1])

    def branch(length):
        return lambda rows: function(jax.tree.map(lambda x: x[..., :length] if x.ndim == mask_bgs.ndim else x, rows))

    # All stretches are branches of one program. One loop for each stretch would need a copy of the gradient for each.
    too_short = _length(mask_bgs).max() > jnp.array(lengths[:-1], int)
    return jax.lax.switch(too_short.sum(), [branch(length) for length in lengths], rows)


def _length(mask_bgs):
    """int[B, G]: tokens of each completion up to the last that counts."""
    return (mask_bgs * jnp.arange(1, mask_bgs.shape[-1] + 1)).max(-1)


def _shorter(step, tokens):
    """The multiples of `step` from a quarter of `tokens` on that are below `tokens`."""
    return [t for t in range(step, tokens, step) if 4 * t >= tokens]
