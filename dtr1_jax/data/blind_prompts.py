"""Prompts that show a policy its own twin as text, without the picture, and ask the same query again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import rotary_positions
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.chat import apply_template
from dtr1_jax.data.instructions import instruction
from dtr1_jax.data.prompts import Style, prompt_fields
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.schema import Twin

_END = "</twin>\n"
# A prompt ends with the start of the answer: a policy that has only ever begun with a twin would write another one.
START = "<think>"


def blind_prompts(
    batch: Batch, twins: Sequence[Sequence[Twin | None]], style: Style, length: int
) -> tuple[types.Prompt, np.ndarray]:
    """The prompts of B x G completions, row b * G + g, in one fixed shape: [B * G, length] tokens and no pictures.

    The words are those of a prompt with a given twin, and then START, with which the answer begins. A completion
    without a twin, and one whose prompt has more than `length` tokens, gets the prompt of an empty twin, so that the
    shape stays the same.

    Args:
      batch: the B queries.
      twins: B groups of G twins that the policy wrote, None where it wrote no sound one.
      style: of the policy's prompts.
      length: tokens to which the prompts are padded.

    Returns:
      The prompts, and bool[B, G], True where the prompt shows the completion's twin.
    """
    style = dataclasses.replace(style, length=length)
    rows, asked_bg = [], np.zeros((len(twins), len(twins[0])), bool)
    for b, (group, example, canvas) in enumerate(zip(twins, batch.examples, batch.canvases, strict=True)):
        empty = _ids(Twin(canvas.size, (), frames=canvas.frames), example, canvas, style)
        for g, twin in enumerate(group):
            ids = None if twin is None else _ids(twin, example, canvas, style)
            asked_bg[b, g] = ids is not None and len(ids) <= length
            rows.append(_fields(ids if asked_bg[b, g] else empty[:length], style))
    return types.Prompt(**{name: np.stack([row[name] for row in rows]) for name in rows[0]}, images=None), asked_bg


def _ids(twin: Twin, example: types.Example, canvas: Canvas, style: Style) -> list[int]:
    """The tokens of one prompt. Those of a brief prompt are as in the practice of the cold start: no token reaches
    across the end of the twin.
    """
    chat = apply_template(instruction(example.query, example.task, canvas, style.words, twin), (), style.tokenizer)
    chat += START
    cut = chat.rindex(_END) + len(_END) if style.words == "brief" else 0
    return [*style.tokenizer.encode(chat[:cut]), *style.tokenizer.encode(chat[cut:])]


def _fields(ids: list[int], style: Style) -> dict:
    position, following = rotary_positions.positions([len(ids)])
    return prompt_fields(ids, position, np.full(len(ids), -1, np.int32), following, style)
