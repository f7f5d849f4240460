"""Optional columns about the style of a completion, not its content: length and repetition, each in [0, 1]."""

from __future__ import annotations

import re

from dtr1_jax.rewards.text_metrics import clean

WORDS = 1000  # the most words of a text; later ones do not count


def length(count: int, most: int, slack: int) -> float:
    """1 for a completion of up to most - slack tokens, falling in a straight line to 0 at `most` tokens and beyond.

    One plus the soft overlong punishment of DAPO (Yu et al. 2025, eq. 13). Raises ValueError if slack is not within
    [1, most].
    """
    if not 1 <= slack <= most:
        raise ValueError(f"expected 1 <= slack <= most tokens, got slack {slack} and most {most}")
    return min(max((most - count) / slack, 0.0), 1.0)


def repetition(text: str | None, n: int = 4) -> float:
    """distinct-n (Li et al. 2016): different n-grams of a text / all its n-grams, in [0, 1]; 1 = no n-gram comes twice.

    A text with fewer than n words scores 1. None (there is no text) scores 0.
    """
    if text is None:
        return 0.0
    words = re.findall(r"\w+", clean(text.lower()))[:WORDS]
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0
