"""Turns sampled tokens into transcripts; the inverse step of data/prompts.py."""

from __future__ import annotations

import functools

import numpy as np

from dtr1_jax.data import prompts
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.prompts import Style
from dtr1_jax.data.tokenizer import Tokenizer
from dtr1_jax.twin import transcript
from dtr1_jax.types import Rollout


def read_completions(rollout: Rollout, batch: Batch, style: Style) -> list[list[transcript.Transcript]]:
    """The transcripts of a rollout's completions: B lists of G.

    A completion may hold any text. A faulty one becomes a transcript with faults; nothing is raised.

    Args:
      rollout: token_bgs and mask_bgs of the completions of the batch's B queries.
      batch: the queries, with the canvas on which each one's boxes are written.
      style: the tokenizer, and the constructor: where it is "given", the twin is the example's own.
    """
    transcripts = []
    for example, canvas, token_gs, mask_gs in zip(
        batch.examples, batch.canvases, np.asarray(rollout.token_bgs), np.asarray(rollout.mask_bgs)
    ):
        twin = prompts.given_twin(example, canvas, style.named) if style.constructor == "given" else None
        parse = functools.partial(
            transcript.parse, task=example.task, canvas=canvas, constructor=style.constructor, given_twin=twin
        )
        transcripts.append(
            [parse(style.tokenizer.decode(token_s[mask_s])) for token_s, mask_s in zip(token_gs, mask_gs)]
        )
    return transcripts


def twin_tokens(rollout: Rollout, tokenizer: Tokenizer) -> np.ndarray:
    """bool[B, G, S]: the tokens of each completion that belong to its twin.

    These are the tokens up to and including "</twin>", or all of the completion's tokens where that tag is missing. A
    completion that does not begin with "<twin>" has none: its twin was in the prompt.
    """
    in_twin_bgs = np.zeros(rollout.mask_bgs.shape, bool)
    for b, g in np.ndindex(in_twin_bgs.shape[:2]):
        ids = rollout.token_bgs[b, g][rollout.mask_bgs[b, g]].tolist()
        if tokenizer.decode(ids).lstrip().startswith("<twin>"):
            in_twin_bgs[b, g, : tokenizer.until(ids, "</twin>")] = True
    return in_twin_bgs
