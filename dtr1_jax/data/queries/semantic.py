"""Kinds of queries about the use and the attributes of objects."""

from __future__ import annotations

import dataclasses

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.attributes import COLOUR, COUNTABLE, MATERIAL, SIZE, VALUES
from dtr1_jax.data.queries.chains import (
    Context,
    Draft,
    all_objects,
    filter_by_attribute,
    filter_draft,
    ids_with_attribute,
    objects_with_use,
)
from dtr1_jax.data.queries.wording import NOUN, adjective, anchor_by_use, pick_use, with_noun_phrase


def by_use(context: Context) -> Draft | None:
    """Draws a query such as "every thing that keeps tea hot", or a whole query such as "where is my hot tea?"."""
    use = pick_use(context)
    if context.answer_count == "none":
        labels = {instance.label for instance in context.scene.values()}
        use = context.pick([u for u in uses.USES + uses.GROUPS if not labels & set(u.labels)])
    draft = objects_with_use(context, use)
    if context.chance(0.35):
        return dataclasses.replace(draft, text=context.pick_phrase(use.needs), whole=True)
    return with_noun_phrase(context, draft, NOUN, context.pick_phrase(use.clauses))


def by_use_and_attribute(context: Context) -> Draft | None:
    """Draws a query such as "every red thing you can wear"."""
    use = pick_use(context)
    draft, word = filter_by_attribute(context, objects_with_use(context, use), is_last=True)
    return with_noun_phrase(context, draft, adjective(word), NOUN, context.pick_phrase(use.clauses))


def by_use_without_attribute(context: Context) -> Draft | None:
    """Draws a query such as "every thing you can wear that is not red"."""
    use, place = pick_use(context), context.pick((COLOUR, SIZE, MATERIAL))
    served = objects_with_use(context, use)
    word = context.scene[context.pick(served.ids)].attributes[place]
    ids = set(served.ids) - set(ids_with_attribute(context, served, place, word))
    draft = filter_draft(served, f"not {word}", ids, program=("without", served.program, word))
    clause, negation = context.pick_phrase(use.clauses), context.pick_phrase(phrases.NEGATIONS, adjective(word))
    return with_noun_phrase(context, draft, NOUN, clause, negation)


def by_use_and_two_attributes(context: Context) -> Draft | None:
    """Draws a query such as "every large red thing you can wear"."""
    use = pick_use(context, group_probability=0.5)
    first, second = context.pick(((SIZE, COLOUR), (SIZE, MATERIAL), (COLOUR, MATERIAL)))
    draft, first_word = filter_by_attribute(context, objects_with_use(context, use), False, (first,))
    draft, second_word = filter_by_attribute(context, draft, True, (second,))
    clause = context.pick_phrase(use.clauses)
    return with_noun_phrase(context, draft, adjective(first_word), adjective(second_word), NOUN, clause)


def _sharing_with_anchor(context: Context) -> tuple[Draft, str, int] | None:
    """Draws the other objects that share the colour or material of an anchor, which is named by its use.

    Returns the draft, the clause for it and the place of the attribute; None if the scene has no anchor.
    """
    anchor_phrase = anchor_by_use(context)
    if anchor_phrase is None:
        return None
    (anchor, noun), (attribute, place) = anchor_phrase, context.pick(tuple(COUNTABLE.items()))
    word = context.scene[anchor.ids[0]].attributes[place]
    others = set(ids_with_attribute(context, all_objects(context), place, word)) - set(anchor.ids)
    program = ("sharing", anchor.program, *VALUES[place])
    draft = filter_draft(all_objects(context), f"other {word}", others, *anchor.steps, program=program)
    return draft, context.pick_phrase(phrases.SAME[attribute], noun), place


def by_shared_attribute(context: Context) -> Draft | None:
    """Draws a query such as "every other thing of the same colour as the thing that keeps tea hot"."""
    sharing = _sharing_with_anchor(context)
    return sharing and with_noun_phrase(context, sharing[0], "other", NOUN, sharing[1])


def by_shared_and_own_attribute(context: Context) -> Draft | None:
    """Draws a query such as "every other large thing of the same colour as the thing that keeps tea hot"."""
    sharing = _sharing_with_anchor(context)
    if sharing is None or not sharing[0].ids:
        return None
    others, clause, place = sharing
    draft, word = filter_by_attribute(context, others, True, [p for p in (COLOUR, SIZE, MATERIAL) if p != place])
    return with_noun_phrase(context, draft, "other", adjective(word), NOUN, clause)


def by_shared_attribute_and_use(context: Context) -> Draft | None:
    """Draws a query such as "every other thing you can wear of the same colour as the thing that keeps tea hot"."""
    sharing = _sharing_with_anchor(context)
    if sharing is None:
        return None
    others, clause, _ = sharing
    use = pick_use(context, group_probability=0.6)
    served = objects_with_use(context, use)
    if served.steps[0] == others.steps[0]:  # the anchor is the only object of this use: no other one can serve it
        return None
    program = ("both", others.program, served.program)
    draft = filter_draft(others, "both", served.ids, *served.steps, program=program)
    return with_noun_phrase(context, draft, "other", NOUN, context.pick_phrase(use.clauses), clause)
