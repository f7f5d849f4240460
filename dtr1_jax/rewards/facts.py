"""The reward column `facts`: are the facts of a summary right? They are read by data/queries/summary_facts.py.

    facts = 2 * (facts that answer and reference share) / (facts of the answer + facts of the reference)

An object that is described is one fact, the stated number of objects COUNT facts, and the nearest and the farthest
object EXTREME facts each. Objects are paired so that they share most. Two objects share nothing if they have different
labels or colours, since label and colour say which object it is; else they share (1 + equal details) / (1 + the larger
number of details). A nearest or farthest object is shared only if the answer also describes that object rightly: the
names of these clauses are often a label alone, which would be right by chance. The formula is our own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.data.queries.summary_facts import Mention, SummaryFacts, read_facts
from dtr1_jax.rewards.label_names import canonical

COUNT, EXTREME = 0.2, 0.5
MAX_MENTIONS = 32  # of a text; later ones count as false


def known(references: Sequence[str]) -> bool:
    """Whether a query has the column: some reference states a fact in the grammar of generated summaries."""
    return _reference(tuple(references)) is not None


def fact_score(answer: str | None, references: Sequence[str]) -> float:
    """F1 of the facts of an answer and of the first reference that states any, in [0, 1]; 0 if there is no answer.

    All references of a query state the same facts, so the first one serves. Without facts in any reference it is 0.
    """
    right = _reference(tuple(references))
    if answer is None or right is None:
        return 0.0
    stated = read_facts(answer)
    total = _size(stated) + _size(right)
    return 2 * _shared(stated, right) / total


@functools.lru_cache(maxsize=1 << 10)
def _reference(references: tuple[str, ...]) -> SummaryFacts | None:
    return next((facts for facts in map(read_facts, references) if _size(facts)), None)


def _size(facts: SummaryFacts) -> float:
    extremes = sum(x is not None for x in (facts.nearest, facts.farthest))
    return len(facts.mentions) + COUNT * (facts.count is not None) + EXTREME * extremes


def _shared(stated: SummaryFacts, right: SummaryFacts) -> float:
    mentions = stated.mentions[:MAX_MENTIONS]
    worth = np.array([[_agreement(a, b) for b in right.mentions] for a in mentions])
    worth = worth.reshape(len(mentions), len(right.mentions))
    rows, columns = linear_sum_assignment(-worth)
    described = [right.mentions[j] for i, j in zip(rows, columns) if worth[i, j] > 0]
    count = COUNT * (stated.count is not None and stated.count == right.count)
    extremes = sum(
        a is not None and b is not None and _same_name(a, b) and any(_same_name(b, mention) for mention in described)
        for a, b in ((stated.nearest, right.nearest), (stated.farthest, right.farthest))
    )
    return float(worth[rows, columns].sum()) + count + EXTREME * extremes


def _agreement(a: Mention, b: Mention) -> float:
    """What two descriptions share, in [0, 1]."""
    if canonical(a.label) != canonical(b.label) or a.colour != b.colour:
        return 0.0
    return (1 + len(a.details & b.details)) / (1 + max(len(a.details), len(b.details)))


def _same_name(a: Mention, b: Mention) -> bool:
    """Whether two names can mean one object: equal labels, and no different colours."""
    return canonical(a.label) == canonical(b.label) and (not a.colour or not b.colour or a.colour == b.colour)
