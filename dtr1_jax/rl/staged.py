"""Sampling in stages: each row writes its request, the host puts a twin into it, and the row goes on to its answer.

    session = write_requests(...)                        # each row halts behind the closing tag of its request
    session = insert_twins(session, tokens, counts)      # chunk by chunk, on the kept cache
    rollout = local_rollout(write_answers(session, ...))

These are three programs, whatever the rows write, and all processes run each of them equally often.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dtr1_jax import layout
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.models.policy import Spec
from dtr1_jax.rl import compaction
from dtr1_jax.rl import rollout as rollouts
from dtr1_jax.rl.session import Session, result
from dtr1_jax.types import Prompt, Rollout

CHUNK = 32  # tokens that are inserted at once: one shape for twins of any length; more take more memory

_SAMPLING = ("temperature", "top_k", "top_p")


def chunk(twin_tokens: int) -> int:
    """Tokens of one insertion, for twins of at most `twin_tokens` tokens."""
    return min(CHUNK, twin_tokens)


def slots(new_tokens: int, twin_tokens: int) -> int:
    """Slots of the cache that a completion needs: for its sampled tokens, and for whole chunks of the twin."""
    return new_tokens + -(-twin_tokens // chunk(twin_tokens)) * chunk(twin_tokens)


@functools.partial(
    jax.jit,
    static_argnames=(
        "spec", "group", "request_tokens", "new_tokens", "twin_tokens", "end", "pad", "dtype", "mesh", *_SAMPLING,
    ),
)  # fmt: skip
def write_requests(
    params: dict, lora: dict | None, prompt: Prompt, key: jax.Array, banned_v: jax.Array | None, closing_vk: jax.Array,
    *, spec: Spec, group: int, request_tokens: int, new_tokens: int, twin_tokens: int, end: int | tuple[int, ...],
    pad: int, temperature: float, top_k: int = 0, top_p: float = 1.0, dtype: jnp.dtype = jnp.float32,
    mesh: Mesh | None = None, number_b: jax.Array | None = None,
) -> Session:  # fmt: skip
    """Samples the first `request_tokens` tokens of G completions for each prompt, at most up to the closing text.

    Args:
      closing_vk: int8[V, K], the text behind which a row halts, as in `rollout.extend`.
      request_tokens: most tokens of a request.
      new_tokens, twin_tokens: tokens of a completion that are sampled and that are inserted, at most.
      The others are those of `rollout.sample`.
    """
    with layout.use(mesh, resident=True):
        session = rollouts.begin(
            params, lora, spec, prompt, group=group, new_tokens=new_tokens + twin_tokens,
            slots=request_tokens, pad=pad, dtype=dtype, number_b=number_b,
        )  # fmt: skip
        session = rollouts.extend(
            params, lora, spec, session, key, end=end, temperature=temperature, top_k=top_k, top_p=top_p,
            banned_v=banned_v, most_bg=jnp.full(session.length_bg.shape, request_tokens), closing_vk=closing_vk,
        )  # fmt: skip
        # Each token attends over all slots of the cache, so it gets those of the twin and of the answer only now.
        return compaction.with_slots(session, slots(new_tokens, twin_tokens))


@functools.partial(jax.jit, static_argnames=("spec", "mesh"), donate_argnames="session")
def insert_twins(
    params: dict, lora: dict | None, session: Session, token_bgn: jax.Array, count_bg: jax.Array, *, spec: Spec,
    mesh: Mesh | None = None,
) -> Session:  # fmt: skip
    """Appends the first `count_bg` of `token_bgn`, int32[B, G, chunk], to the rows. The session is donated."""
    with layout.use(mesh, resident=True):
        return rollouts.insert(params, lora, spec, session, token_bgn, count_bg)


@functools.partial(
    jax.jit, static_argnames=("spec", "answer_tokens", "end", "mesh", *_SAMPLING), donate_argnames="session"
)  # fmt: skip
def write_answers(
    params: dict, lora: dict | None, session: Session, key: jax.Array, banned_v: jax.Array | None, *, spec: Spec,
    answer_tokens: int, end: int | tuple[int, ...], temperature: float, top_k: int = 0, top_p: float = 1.0,
    mesh: Mesh | None = None,
) -> Session:  # fmt: skip
    """Samples up to `answer_tokens` further tokens of each row that has not ended. The session is donated."""
    with layout.use(mesh, resident=True):
        return rollouts.extend(
            params, lora, spec, session, key, end=end, temperature=temperature, top_k=top_k, top_p=top_p,
            banned_v=banned_v, most_bg=session.length_bg + answer_tokens,
        )  # fmt: skip


def local_rollout(session: Session, mesh: Mesh | None = None) -> Rollout:
    """The completions as numpy, with the rows of this process by `mesh`; None = the mesh of the session."""
    local, length_bg = mesh_lib.local((result(session), session.length_bg), mesh)
    in_text_bgs = np.arange(local.token_bgs.shape[-1]) < length_bg[..., None]
    return dataclasses.replace(local, inserted_bgs=in_text_bgs & ~local.mask_bgs)
