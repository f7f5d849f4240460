"""Kinds of queries about the place and the depth of objects."""

from __future__ import annotations

from collections.abc import Sequence

from dtr1_jax.data.queries import phrases
from dtr1_jax.data.queries.chains import (
    GAP,
    Context,
    Draft,
    all_objects,
    centre,
    filter_by_attribute,
    filter_by_relation,
    filter_draft,
    object_named,
    pick_unique_object,
)
from dtr1_jax.data.queries.wording import NOUN, adjective, anchor_by_use, superlative, with_noun_phrase

PLACE_RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")
PLACE_EXTREMES = ("nearest", "farthest", "leftmost", "rightmost", "highest", "lowest")
SIZE_EXTREMES = ("largest", "smallest")


def by_extreme(context: Context, names: Sequence[str] = PLACE_EXTREMES) -> Draft | None:
    """Draws a query such as "the nearest thing"; `names` are keys of chains.EXTREMES."""
    return superlative(context, all_objects(context), names, NOUN)


def by_half(context: Context) -> Draft | None:
    """Draws a query such as "every thing in the left half"; None if an object is close to the middle."""
    name, (axis, sign, pool) = context.pick(tuple(phrases.HALVES.items()))
    offsets = {i: sign * (centre(instance)[axis] - 0.5) for i, instance in context.scene.items()}
    if any(abs(offset) < GAP for offset in offsets.values()):
        return None
    everything, ids = all_objects(context), [i for i, offset in offsets.items() if offset > 0]
    draft = filter_draft(everything, name, ids, program=(name, everything.program))
    return with_noun_phrase(context, draft, NOUN, context.pick_phrase(pool))


def by_relation_to_label(context: Context) -> Draft | None:
    """Draws a query such as "every thing left of the mug", whose anchor is named by its category."""
    anchor, name = pick_unique_object(context), context.pick(PLACE_RELATIONS)
    if anchor is None:
        return None
    draft = filter_by_relation(context, all_objects(context), name, object_named(anchor))
    clause = context.pick_phrase(phrases.RELATIONS[name], f"the {anchor.label}")
    return with_noun_phrase(context, draft, NOUN, clause)


def by_attribute_and_extreme(context: Context) -> Draft | None:
    """Draws a query such as "the nearest red thing"."""
    draft, word = filter_by_attribute(context, all_objects(context), is_last=False)
    return superlative(context, draft, PLACE_EXTREMES, adjective(word), NOUN)


def _related_to_anchor(context: Context, names: Sequence[str]) -> tuple[Draft, str] | None:
    """Draws objects in a relation to an anchor, which is named by its use.

    Returns the draft and the clause for it; None if there are no such objects.
    """
    anchor_phrase = anchor_by_use(context)
    if anchor_phrase is None:
        return None
    (anchor, noun), name = anchor_phrase, context.pick(names)
    draft = filter_by_relation(context, all_objects(context), name, anchor)
    return (draft, context.pick_phrase(phrases.RELATIONS[name], noun)) if draft and draft.ids else None


def by_relation_and_attribute(context: Context, names: Sequence[str] = PLACE_RELATIONS) -> Draft | None:
    """Draws a query such as "every red thing left of the thing that keeps tea hot"; `names` are keys of OFFSETS."""
    related = _related_to_anchor(context, names)
    if related is None:
        return None
    draft, word = filter_by_attribute(context, related[0], is_last=True)
    return with_noun_phrase(context, draft, adjective(word), NOUN, related[1])


def by_relation_attribute_and_extreme(
    context: Context, names: Sequence[str] = PLACE_RELATIONS, extremes: Sequence[str] = PLACE_EXTREMES + SIZE_EXTREMES
) -> Draft | None:
    """Draws a query such as "the nearest red thing left of the thing that keeps tea hot".

    `names` are keys of chains.OFFSETS, `extremes` keys of chains.EXTREMES.
    """
    related = _related_to_anchor(context, names)
    if related is None:
        return None
    draft, word = filter_by_attribute(context, related[0], is_last=False)
    return superlative(context, draft, extremes, adjective(word), NOUN, related[1])


def by_two_relations(context: Context) -> Draft | None:
    """Draws a query such as "every thing left of the thing that keeps tea hot and above the thing you can wear"."""
    one, two = _related_to_anchor(context, PLACE_RELATIONS), _related_to_anchor(context, PLACE_RELATIONS)
    if one is None or two is None or one[0].steps[0] == two[0].steps[0]:
        return None
    program = ("both", one[0].program, two[0].program)
    draft = filter_draft(one[0], "both", two[0].ids, *two[0].steps, program=program)
    return with_noun_phrase(context, draft, NOUN, one[1], "and", two[1])
