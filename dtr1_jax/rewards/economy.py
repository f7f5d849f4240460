"""The reward column `economy`: a request to specialists that asks for no needless work.

The formula is our own. The work of a request is counted in units: each phrase, and each operation besides detect, is
one. Needless are

- an operation that the query cannot use (twin/useful_ops.py), such as depth for "which is the largest cup?";
- a phrase of which no object was found and of which the query has no word.

    economy = 1 - needless units / all units

It is 0 where the transcript is unsound, so a policy gains nothing by asking for nothing.
"""

from __future__ import annotations

import re

from dtr1_jax.rewards.label_names import canonical
from dtr1_jax.twin.construct import DETECT, Request
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.twin.useful_ops import useful_ops
from dtr1_jax.types import Example


def economy(transcript: Transcript, example: Example) -> float:
    """The share of a request's work that is not needless, in [0, 1]; 0 if the transcript is unsound."""
    request, twin = transcript.request, transcript.twin
    if not transcript.sound or request is None or twin is None:
        return 0.0
    needless, weighed = units(request, twin, example)
    return 1 - needless / weighed


def units(request: Request, twin: Twin | None, example: Example) -> tuple[int, int]:
    """(the needless units of a request, all its units).

    Args:
      request: what was asked for.
      twin: what was found; None = nothing.
      example: the query.
    """
    needless = len({*request.ops} - useful_ops(example))
    found = [canonical(item.label) for item in twin.objects] if twin is not None else []
    asked = _words(example.query)
    for phrase in request.phrases:
        seen = any(canonical(phrase) == label or _words(label) & _words(phrase) for label in found)
        needless += not seen and not _words(phrase) & asked
    return needless, len(request.phrases) + len([op for op in request.ops if op != DETECT])


def _words(text: str) -> set[str]:
    """The lower-case words of a text, without a plural's s."""
    return {word if len(word) < 4 else word.removesuffix("s") for word in re.findall(r"\w+", text.lower())}
