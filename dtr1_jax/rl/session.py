"""The state of sampling between two calls."""

from __future__ import annotations

import jax

from dtr1_jax.models import policy
from dtr1_jax.types import Rollout, pytree


@pytree
class Session:
    """The state of sampling, from which it can continue.

    Attributes:
      prefix: policy.Prefix of the prompts.
      cache: for each layer KV [B, G, K, slots, H] as decoding holds it (layers.KV), without the axes among B, G and K
        that have size 1.
      occupied_bgt: bool[B, G, slots], True at slots that hold a token of the row.
      slot: int32, the next free slot.
      state_bgd: [B, G, D], hidden state from which the next token is predicted.
      token_bgs: int32[B, G, S], the completions so far, without holes.
      mask_bgs: bool[B, G, S], True at their *sampled* tokens, False at inserted ones. Example: [1 1 0 0 1 1 0 0].
      logp_bgs: float32[B, G, S], log-probability of each sampled token, 0 elsewhere.
      length_bg: int32[B, G], tokens in token_bgs.
      ended_bg: bool[B, G], True if an end token was sampled.
      number_bg: int32[B, G], the number of each row, from which its random keys come.
    """

    prefix: policy.Prefix
    cache: list
    occupied_bgt: jax.Array
    slot: jax.Array
    state_bgd: jax.Array
    token_bgs: jax.Array
    mask_bgs: jax.Array
    logp_bgs: jax.Array
    length_bg: jax.Array
    ended_bg: jax.Array
    number_bg: jax.Array


def result(session: Session) -> Rollout:
    """The completions so far, as a Rollout."""
    return Rollout(session.token_bgs, session.mask_bgs, session.logp_bgs, session.ended_bg)
