"""Exact match of short answers, as GQA and CLEVR count it, and a peer's convention for VQAv2.

    exact       the answer is the reference, where case, outer blanks and a last period do not count
    plain       the answer is the reference, where case and all punctuation do not count, as in lmms-eval's GQA task
    normalised  the VQA accuracy where both sides are always normalised, as in lmms-eval; the benchmark's own code does
                so only where the ten people disagree

A failed sample (None) counts 0.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from dtr1_jax.evaluation.benchmarks import vqa

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact(answer: str | None, reference: str) -> float:
    """1.0 if the answer is the reference, else 0.0."""
    return float(answer is not None and _strip(answer) == _strip(reference))


def plain(answer: str | None, reference: str) -> float:
    """1.0 if the answer is the reference without punctuation and case, else 0.0."""
    return float(answer is not None and _plain(answer) == _plain(reference))


def normalised(answer: str | None, people: Sequence[str]) -> float:
    """The VQA accuracy in [0, 1] where both sides are normalised. Raises ZeroDivisionError without people."""
    if answer is None:
        return 0.0
    text = vqa.normalise(answer)
    return vqa.agreement(sum(vqa.normalise(person) == text for person in people), len(people))


def _strip(text: str) -> str:
    return text.strip().removesuffix(".").strip().lower()


def _plain(text: str) -> str:
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())
