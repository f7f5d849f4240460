"""Drills: many looks into a twin in few tokens, in the form of a thought.

A query's thought looks two or three times into the twin, and a small policy that sees one such thought after each twin
learns the words and not the looking: after 80,000 of them its first ids were still a guess (38 % right with 6 objects),
while the words around them were right (98 %). Drills say nothing else.
"""

from __future__ import annotations

import numpy as np

from dtr1_jax.data.queries import chains, temporal
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.queries.temporal_phrases import EXTREMES, STATES
from dtr1_jax.types import Instance

TEXT = "list everything."
_LENGTH = 44  # of the thought and the answer, in words and ids


def drill(rng: np.random.Generator, things: tuple[Instance, ...], video: bool = False) -> Query:
    """Steps "how ids." over all objects, each by itself: a category or attribute, a relation, an extreme.

    Of a `video`: a category or attribute, what an object does, an extreme in time.
    What is looked up is drawn, so that only the ids can be learnt from it. The answer is all objects.
    """
    if video:
        asker = temporal.watcher(rng, "train", things, "many")
    else:
        asker = chains.Asker(rng, "train", {thing.id: thing for thing in things}, "many")
    steps: list[str] = []
    length = len(things)
    while True:
        step = (_step_in_time if video else _step)(asker)
        length += len(step.split()) + 2
        if length > _LENGTH:
            return Query(TEXT, " ".join(steps), tuple(asker.scene), "semantic", 1)
        steps.append(step)


def _step(asker: chains.Asker) -> str:
    everything = chains.everything(asker)
    kind = asker.rng.random()
    if kind < 0.2:
        anchor, name = asker.pick(everything.ids), asker.pick(tuple(chains.OFFSETS))
        draft = chains.relation(asker, everything, name, anchor)
    elif kind < 0.35:
        draft = chains.extreme(asker, everything, asker.pick(tuple(chains.EXTREMES)))
    else:
        draft = None
    return (draft or _looked_up(asker)).steps[-1]


def _step_in_time(asker: temporal.Watcher) -> str:
    everything, draft, kind = chains.everything(asker), None, asker.rng.random()
    if kind < 0.5:
        draft = temporal.state(asker, everything, asker.pick(tuple(STATES)))
    elif kind < 0.65:
        name = asker.pick(tuple(EXTREMES))
        draft = (temporal.order if " to " in name else temporal.fastest)(asker, everything, name)
    return (draft or _looked_up(asker)).steps[-1]


def _looked_up(asker: chains.Asker) -> chains.Draft:
    """The objects with a drawn category or attribute."""
    thing = pick(asker.rng, tuple(asker.scene.values()))
    word = thing.label if asker.chance(0.5) else pick(asker.rng, thing.attributes)
    ids = [i for i, other in asker.scene.items() if word == other.label or word in other.attributes]
    return chains.keep(chains.everything(asker), word, ids)
