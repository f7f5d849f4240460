"""Log-probabilities of completions by the scorer, which reads each completion at once, without a gradient."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dtr1_jax import layout
from dtr1_jax.models import policy
from dtr1_jax.models.policy import Spec
from dtr1_jax.rl import sampling
from dtr1_jax.rl.accumulate import join_parts, scan_parts
from dtr1_jax.rl.accumulate import micro_group as group_size
from dtr1_jax.rl.stretches import over_shortest_stretch
from dtr1_jax.types import Prompt


@functools.partial(jax.jit, static_argnames=("spec", "temperature", "micro", "micro_group", "mesh", "dtype"))
def score(
    params: dict, lora: dict | None, prompt: Prompt, token_bgs: jax.Array, mask_bgs: jax.Array,
    banned_v: jax.Array | None, *, spec: Spec, temperature: float, micro: int = 0, micro_group: int = 0,
    mesh: Mesh | None = None, dtype: jnp.dtype = jnp.float32,
) -> jax.Array:  # fmt: skip
    """float32[B, G, S]: log-probability of each completion token, as the update computes it; 0 where the mask is False.

    Args:
      params: weights of the policy.
      lora: its adapters, or None. Nothing is dropped.
      prompt: the prompts of B queries.
      token_bgs: int32[B, G, S], the completions.
      mask_bgs: bool[B, G, S], True at their tokens. Example row: [1 1 1 0 0].
      banned_v: bool[V] or None, as in `sampling.sample`.
      spec: sizes of the policy.
      temperature: that of the sampling.
      micro, micro_group: queries, and completions of each query, that are scored at once, as in `update.update`.
      mesh: the mesh over which the arrays are cut, or None.
      dtype: compute dtype.
    """
    temper = functools.partial(sampling.temper, temperature=temperature, banned_v=banned_v)
    b, group, tokens = token_bgs.shape
    groups, batches = group // group_size(group, micro_group), b // micro if micro else 1

    def score_queries(_, part):
        (prompt, *rows), _ = part
        prompt, rows = layout.place_tree((prompt, rows))
        prefix = policy.prefill(params, lora, spec, prompt, dtype)

        def score_completions(_, part):
            rows, _ = part

            def logprobs(rows):
                token_bgs, mask_bgs = layout.place_tree(rows)
                logp_bgs = policy.logprobs(params, lora, spec, prefix, token_bgs, temper)
                missing = tokens - token_bgs.shape[-1]
                return jnp.pad(jnp.where(mask_bgs, logp_bgs, 0.0), ((0, 0), (0, 0), (0, missing)))

            return None, over_shortest_stretch(logprobs, rows, rows[1])

        _, logp_bgs = scan_parts(score_completions, None, rows, groups, axis=1, key=None)
        return None, join_parts(logp_bgs, groups, axis=1)

    with layout.use(mesh):
        _, logp_bgs = scan_parts(score_queries, None, (prompt, token_bgs, mask_bgs), batches, axis=0, key=None)
        return layout.place_tree(join_parts(logp_bgs, batches, axis=0))
