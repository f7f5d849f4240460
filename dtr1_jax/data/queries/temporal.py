"""Queries about time, each with its answer and the oracle's reasoning.

As in pointing.py, each kind of query is a function that draws one query and answers it by a chain of filters
(temporal_chains.py). It returns None if the video allows no such query or if a person could doubt the answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.chains import (
    Draft,
    all_objects,
    best_draft,
    filter_by_attribute,
    object_named,
    pick_unique_object,
)
from dtr1_jax.data.queries.motion import Motion
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.queries.temporal_chains import (
    VideoContext,
    filter_by_event_time,
    filter_by_motion_relation,
    filter_by_order,
    filter_by_speed,
    filter_by_state,
    is_in_state,
    video_context,
)
from dtr1_jax.data.queries.temporal_phrases import EVENTS, EXTREMES, RELATIONS, STATES, TIMES
from dtr1_jax.data.queries.wording import (
    NOUN,
    adjective,
    anchor_by_use,
    sentence_about,
    superlative_text,
    with_noun_phrase,
)
from dtr1_jax.types import Instance

_PRESENCE = ("enters", "leaves", "hidden", "stays")  # states about being visible; the others are about moving
_RELATIONS = tuple(RELATIONS)


def _pick_state(context: VideoContext) -> str:
    """Draws a state that some object is in, or, for a query that should have no answer, mostly one that none is in."""
    names = tuple(STATES)
    if context.answer_count != "none" or context.chance(0.3):
        present = [n for n in names if any(is_in_state(motion, n) for motion in context.motions.values())]
        names = tuple(present) or names
    else:
        names = tuple(n for n in names if not any(is_in_state(m, n) for m in context.motions.values())) or names
    return context.pick(names)


def by_state(context: VideoContext) -> Draft | None:
    """Draws a query such as "every thing that moves to the left"."""
    name = _pick_state(context)
    draft = filter_by_state(context, all_objects(context), name)
    return with_noun_phrase(context, draft, NOUN, context.pick_phrase(STATES[name]))


def by_state_and_attribute(context: VideoContext) -> Draft | None:
    """Draws a query such as "every red thing that moves to the left"."""
    name = _pick_state(context)
    in_state = filter_by_state(context, all_objects(context), name)
    if in_state is None or not in_state.ids:
        return None
    draft, word = filter_by_attribute(context, in_state, is_last=True)
    return with_noun_phrase(context, draft, adjective(word), NOUN, context.pick_phrase(STATES[name]))


def by_two_states(context: VideoContext) -> Draft | None:
    """Draws a query such as "every thing that moves to the left and that leaves the picture"."""
    one, two = _pick_state(context), _pick_state(context)
    draft = filter_by_state(context, all_objects(context), one)
    # One state is about being visible and one about moving, so that they neither repeat nor contradict one another.
    if (one in _PRESENCE) == (two in _PRESENCE) or draft is None or not draft.ids:
        return None
    draft = filter_by_state(context, draft, two)
    clauses = context.pick_phrase(STATES[one]), "and", context.pick_phrase(STATES[two])
    return with_noun_phrase(context, draft, NOUN, *clauses)


def _temporal_superlative(
    context: VideoContext, draft: Draft | None, names: Iterable[str], *parts: str
) -> Draft | None:
    """Keeps the object that is most one of `names` (keys of temporal_phrases.EXTREMES) and gives the draft its text."""
    name = context.pick(tuple(names))
    draft = (filter_by_order if " to " in name else filter_by_speed)(context, draft, name)
    return draft and dataclasses.replace(draft, text=superlative_text(context, EXTREMES[name], parts))


def by_extreme(context: VideoContext) -> Draft | None:
    """Draws a query such as "the fastest thing"."""
    return _temporal_superlative(context, all_objects(context), EXTREMES, NOUN)


def by_attribute_and_extreme(context: VideoContext) -> Draft | None:
    """Draws a query such as "the fastest red thing"."""
    draft, word = filter_by_attribute(context, all_objects(context), is_last=False)
    return _temporal_superlative(context, draft, EXTREMES, adjective(word), NOUN)


def _pick_anchor(context: VideoContext) -> tuple[Draft, str] | None:
    """Draws an anchor and its noun phrase: by its use, or by its label if the scene has labels without a known use."""
    if all(instance.label in uses.BY_LABEL for instance in context.scene.values()):
        return anchor_by_use(context)
    anchor = pick_unique_object(context)
    return anchor and (object_named(anchor), f"the {anchor.label}")


def _related_to_anchor(context: VideoContext, names: Sequence[str]) -> tuple[Draft, str] | None:
    """Draws objects in a temporal relation to an anchor, and the clause for them.

    `names` are keys of temporal_phrases.RELATIONS, or of temporal_phrases.TIMES for a comparison of two events.
    """
    anchor_phrase = _pick_anchor(context)
    if anchor_phrase is None:
        return None
    (anchor, noun), name = anchor_phrase, context.pick(names)
    if name in TIMES:
        event, anchor_event = context.pick(tuple(EVENTS)), context.pick(tuple(EVENTS))
        draft = filter_by_event_time(context, all_objects(context), event, name, anchor, anchor_event)
        anchor_clause = context.pick_phrase(EVENTS[anchor_event][1], noun)
        clause = context.pick_phrase(EVENTS[event][0], name, anchor_clause)
    else:
        draft = filter_by_motion_relation(context, all_objects(context), name, anchor)
        clause = context.pick_phrase(RELATIONS[name], noun)
    return draft and (draft, clause)


def by_relation(context: VideoContext, names: Sequence[str] = _RELATIONS) -> Draft | None:
    """Draws a query such as "every thing that moves towards the thing that keeps tea hot"."""
    related = _related_to_anchor(context, names)
    return related and with_noun_phrase(context, related[0], NOUN, related[1])


def by_event(context: VideoContext) -> Draft | None:
    """Draws a query such as "every thing that leaves before the thing that keeps tea hot comes in"."""
    return by_relation(context, TIMES)


def by_relation_and_attribute(context: VideoContext, names: Sequence[str] = _RELATIONS) -> Draft | None:
    """Draws a query such as "every red thing that moves towards the thing that keeps tea hot"."""
    related = _related_to_anchor(context, names)
    if related is None or not related[0].ids:
        return None
    draft, word = filter_by_attribute(context, related[0], is_last=True)
    return with_noun_phrase(context, draft, adjective(word), NOUN, related[1])


def by_event_and_attribute(context: VideoContext) -> Draft | None:
    """Draws a query such as "every red thing that leaves before the thing that keeps tea hot comes in"."""
    return by_relation_and_attribute(context, TIMES)


def by_relation_and_state(context: VideoContext, names: Sequence[str] = _RELATIONS) -> Draft | None:
    """Draws a query such as "every thing that moves towards the dog and that leaves the picture"."""
    related, name = _related_to_anchor(context, names), _pick_state(context)
    if related is None or not related[0].ids or name in ("moves", "still"):
        return None
    draft = filter_by_state(context, related[0], name)
    return with_noun_phrase(context, draft, NOUN, related[1], "and", context.pick_phrase(STATES[name]))


def by_event_and_state(context: VideoContext) -> Draft | None:
    """Draws a query such as "every thing that leaves before the dog comes in and that moves to the left"."""
    return by_relation_and_state(context, TIMES)


def by_relation_or_event_and_extreme(context: VideoContext) -> Draft | None:
    """Draws a query such as "the fastest thing that moves towards the thing that keeps tea hot"."""
    related = _related_to_anchor(context, (*_RELATIONS, *TIMES))
    return related and _temporal_superlative(context, related[0], EXTREMES, NOUN, related[1])


def by_state_attribute_and_extreme(context: VideoContext) -> Draft | None:
    """Draws a query such as "the fastest red thing that leaves the picture"."""
    name = _pick_state(context)
    draft = filter_by_state(context, all_objects(context), name)
    if draft is None or not draft.ids or name in ("moves", "still"):
        return None
    draft, word = filter_by_attribute(context, draft, is_last=False)
    clause = context.pick_phrase(STATES[name])
    return _temporal_superlative(context, draft, EXTREMES, adjective(word), NOUN, clause)


VideoQueryKind = Callable[[VideoContext], Draft | None]  # as chains.QueryKind
KINDS: dict[int, tuple[VideoQueryKind, ...]] = {  # by level
    1: (by_state,),
    2: (by_state_and_attribute, by_extreme, by_relation),
    3: (by_attribute_and_extreme, by_relation_and_attribute, by_event),
    4: (by_event_and_attribute, by_relation_or_event_and_extreme, by_state_attribute_and_extreme),
}
# The kinds whose answer can be no object, one object or several objects, so that a question can ask for their number.
COUNTED_KINDS: dict[int, tuple[VideoQueryKind, ...]] = {
    1: (by_state,),
    2: (by_state_and_attribute, by_relation),
    3: (by_relation_and_attribute, by_event),
    4: (by_event_and_attribute,),
}
# The kinds that need no attributes.
BARE_KINDS: dict[int, tuple[VideoQueryKind, ...]] = {
    1: (by_state,),
    2: (by_extreme, by_two_states, by_relation),
    3: (by_relation_and_state, by_event),
    4: (by_relation_or_event_and_extreme, by_event_and_state),
}


def sample_temporal_query(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    level: int,
    answer_count: str,
    prefer: frozenset[int] = frozenset(),
    *,
    bare: bool = False,
    motions: Mapping[int, Motion] | None = None,
) -> Query | None:
    """Draws a query about time of one level; None if the video allows none.

    Args:
      split, answer_count, prefer: as in pointing.sample_query.
      scene: objects with `boxes` for each frame.
      level: a key of KINDS.
      bare: whether the attributes of the objects are unknown, so that only queries without attributes are drawn.
      motions: as in temporal_chains.video_context.
    """
    context = video_context(rng, split, scene, answer_count, motions)
    draft = best_draft(context, (BARE_KINDS if bare else KINDS)[level], prefer) if context.scene else None
    if draft is None:
        return None
    text = sentence_about(rng, getattr(phrases.SENTENCES, split), draft.text)
    return text and Query(text, " ".join(draft.steps), draft.ids, "temporal", level, draft.program)
