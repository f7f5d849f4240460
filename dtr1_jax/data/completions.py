"""Turns sampled tokens into transcripts; the inverse step of data/prompts.py."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from dtr1_jax.data import prompts
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.prompts import Style
from dtr1_jax.data.tokenizer import Tokenizer
from dtr1_jax.twin import transcript
from dtr1_jax.twin.schema import Twin
from dtr1_jax.types import Rollout


def read_completions(
    rollout: Rollout, batch: Batch, style: Style, inserted: Sequence[Sequence[Twin | None]] | None = None
) -> list[list[transcript.Transcript]]:
    """The transcripts of a rollout's completions: B lists of G.

    A completion may hold any text. A faulty one becomes a transcript with faults; nothing is raised.

    Args:
      rollout: the tokens and masks of the completions of the batch's B queries.
      batch: the queries, with the canvas on which each one's boxes are written.
      style: the tokenizer, and the constructor: where it is "given", the twin is the example's own.
      inserted: B lists of G twins that the host put into the completions, None where it put none in; needed where the
        constructor is "specialists".
    """
    transcripts = []
    token_bgs, text_bgs = np.asarray(rollout.token_bgs), np.asarray(rollout.text_bgs)
    for b, (example, canvas) in enumerate(zip(batch.examples, batch.canvases)):
        given = None
        if style.constructor == "given":
            given = prompts.given_twin(example, canvas, style.named, style.relations)
        twins = [given] * len(token_bgs[b]) if inserted is None else inserted[b]
        parse = functools.partial(transcript.parse, task=example.task, canvas=canvas, constructor=style.constructor)
        transcripts.append(
            [
                parse(style.tokenizer.decode(token_s[text_s]), given_twin=twin)
                for token_s, text_s, twin in zip(token_bgs[b], text_bgs[b], twins)
            ]
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
