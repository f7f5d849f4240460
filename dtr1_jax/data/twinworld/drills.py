"""Drills: thoughts that look up many objects of a twin in few tokens.

The thought of a query looks up objects two or three times. A small policy that sees one such thought after each twin
learns the words but not the look-up: after 80,000 of them its first ids were still a guess (38 % right with 6 objects),
while the words around the ids were right (98 %). A drill consists of look-ups only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries import chains, temporal_chains
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.queries.temporal_phrases import EXTREMES, STATES
from dtr1_jax.types import Instance

TEXT = "list everything."
_LENGTH = 44  # words and ids in thought and answer together, at most


def sample_drill(rng: np.random.Generator, scene: Sequence[Instance], video: bool = False) -> Query:
    """Draws a drill: independent steps "filter ids." over all objects of the scene, with all objects as the answer.

    The steps of a picture are a category or attribute, a relation, or an extreme; those of a `video` are a category or
    attribute, a state, or an extreme in time. All names of steps are drawn at random, so that only the ids can be
    learnt.
    """
    if video:
        context = temporal_chains.video_context(rng, "train", scene, "many")
    else:
        context = chains.Context(rng, "train", {instance.id: instance for instance in scene}, "many")
    steps: list[str] = []
    length = len(scene)
    while True:
        step = (_video_step if video else _picture_step)(context)
        length += len(step.split()) + 2
        if length > _LENGTH:
            return Query(TEXT, " ".join(steps), tuple(context.scene), "semantic", 1)
        steps.append(step)


def _picture_step(context: chains.Context) -> str:
    everything = chains.all_objects(context)
    kind = context.rng.random()
    if kind < 0.2:
        anchor, name = context.pick(everything.ids), context.pick(tuple(chains.OFFSETS))
        draft = chains.filter_by_relation(context, everything, name, chains.Draft((anchor,)))
    elif kind < 0.35:
        draft = chains.filter_by_extreme(context, everything, context.pick(tuple(chains.EXTREMES)))
    else:
        draft = None
    return (draft or _filter_by_word(context)).steps[-1]


def _video_step(context: temporal_chains.VideoContext) -> str:
    everything, draft, kind = chains.all_objects(context), None, context.rng.random()
    if kind < 0.5:
        draft = temporal_chains.filter_by_state(context, everything, context.pick(tuple(STATES)))
    elif kind < 0.65:
        name = context.pick(tuple(EXTREMES))
        extreme = temporal_chains.filter_by_order if " to " in name else temporal_chains.filter_by_speed
        draft = extreme(context, everything, name)
    return (draft or _filter_by_word(context)).steps[-1]


def _filter_by_word(context: chains.Context) -> chains.Draft:
    """Keeps the objects that have the category or an attribute of a random object."""
    instance = pick(context.rng, tuple(context.scene.values()))
    word = instance.label if context.chance(0.5) else pick(context.rng, instance.attributes)
    ids = [i for i, other in context.scene.items() if word == other.label or word in other.attributes]
    return chains.filter_draft(chains.all_objects(context), word, ids, program=())
