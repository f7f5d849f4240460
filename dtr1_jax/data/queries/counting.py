"""Kinds of queries about the number and the size of objects."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from dtr1_jax.data.queries import phrases, spatial
from dtr1_jax.data.queries.attributes import COLOUR, COUNTABLE, MATERIAL, SIZE, VALUES
from dtr1_jax.data.queries.chains import (
    Context,
    Draft,
    all_objects,
    filter_by_attribute,
    filter_by_relation,
    ids_text,
    ids_with_attribute,
    objects_with_use,
)
from dtr1_jax.data.queries.spatial import PLACE_EXTREMES, PLACE_RELATIONS, SIZE_EXTREMES
from dtr1_jax.data.queries.wording import (
    NOUN,
    adjective,
    anchor_by_use,
    noun_phrase,
    pick_use,
    superlative,
    with_noun_phrase,
)

SIZE_RELATIONS = ("larger than", "smaller than")


def by_extreme_size(context: Context) -> Draft | None:
    """Draws a query such as "the largest thing"."""
    return spatial.by_extreme(context, SIZE_EXTREMES)


def _pair(context: Context) -> Draft | None:
    """Returns the two objects of the only category that occurs exactly twice, or an empty draft if no category does.

    None if several categories do, or if the scene has one object only.
    """
    counts = Counter(instance.label for instance in context.scene.values())
    labels = [label for label, count in counts.items() if count == 2]
    if len(labels) > 1 or len(context.scene) < 2:
        return None
    ids = tuple(i for i, instance in context.scene.items() if instance.label in labels)
    name = f"twice: {labels[0]}" if labels else "twice"
    return Draft(ids, (f"{name}{ids_text(ids)}.",), program=("twice",))


def by_pair(context: Context) -> Draft | None:
    """Draws a query such as "every thing of the kind that appears twice"."""
    return with_noun_phrase(context, _pair(context), NOUN, context.pick_phrase(phrases.PAIR))


def by_attribute_of_one(context: Context) -> Draft | None:
    """Draws a query such as "the thing that is the only red one"; None if several objects have the drawn attribute."""
    draft, word = filter_by_attribute(context, all_objects(context), is_last=True)
    if len(draft.ids) > 1:
        return None
    clause = context.pick_phrase(phrases.ONLY_ONE, adjective(word))
    return dataclasses.replace(draft, text=f"the {noun_phrase(context, (NOUN, clause))}")


def _most_common(context: Context) -> tuple[Draft, str, int] | None:
    """Draws the objects of the most common colour or material.

    Returns the draft, the clause for it and the place of the attribute; None if two values are equally common.
    """
    attribute, place = context.pick(tuple(COUNTABLE.items()))
    ranking = Counter(instance.attributes[place] for instance in context.scene.values()).most_common(2)
    if len(ranking) < 2 or ranking[0][1] == ranking[1][1]:
        return None
    word = ranking[0][0]
    ids = tuple(ids_with_attribute(context, all_objects(context), place, word))
    draft = Draft(ids, (f"most {attribute}: {word}{ids_text(ids)}.",), program=("most common", *VALUES[place]))
    return draft, context.pick_phrase(phrases.MOST_COMMON[attribute]), place


def by_most_common(context: Context) -> Draft | None:
    """Draws a query such as "every thing of the most common colour"."""
    common = _most_common(context)
    return common and with_noun_phrase(context, common[0], NOUN, common[1])


def by_unshared_attribute(context: Context) -> Draft | None:
    """Draws a query such as "every thing whose colour no other has"."""
    attribute, place = context.pick(tuple(COUNTABLE.items()))
    counts = Counter(instance.attributes[place] for instance in context.scene.values())
    ids = tuple(i for i, instance in context.scene.items() if counts[instance.attributes[place]] == 1)
    if len(context.scene) < 2:
        return None
    draft = Draft(ids, (f"single {attribute}{ids_text(ids)}.",), program=("unshared", *VALUES[place]))
    return with_noun_phrase(context, draft, NOUN, context.pick_phrase(phrases.UNSHARED[attribute]))


def by_use_and_extreme_size(context: Context) -> Draft | None:
    """Draws a query such as "the largest thing you can wear"."""
    use = pick_use(context)
    draft = objects_with_use(context, use)
    return superlative(context, draft, SIZE_EXTREMES, NOUN, context.pick_phrase(use.clauses))


def by_most_common_and_attribute(context: Context, extremes: Sequence[str] = ()) -> Draft | None:
    """Draws a query such as "every large thing of the most common colour".

    With `extremes` (keys of chains.EXTREMES) it is a query such as "the nearest large thing of the most common colour".
    """
    common = _most_common(context)
    if common is None:
        return None
    draft, clause, place = common
    places = [p for p in (COLOUR, SIZE, MATERIAL) if p != place]
    draft, word = filter_by_attribute(context, draft, not extremes, places)
    parts = (adjective(word), NOUN, clause)
    return superlative(context, draft, extremes, *parts) if extremes else with_noun_phrase(context, draft, *parts)


def by_most_common_attribute_and_extreme(context: Context) -> Draft | None:
    """Draws a query such as "the nearest large thing of the most common colour"."""
    return by_most_common_and_attribute(context, SIZE_EXTREMES + PLACE_EXTREMES)


def by_most_common_and_extreme(context: Context) -> Draft | None:
    """Draws a query such as "the nearest thing of the most common colour"."""
    common = _most_common(context)
    return common and superlative(context, common[0], SIZE_EXTREMES + PLACE_EXTREMES, NOUN, common[1])


def by_size_relation_and_attribute(context: Context) -> Draft | None:
    """Draws a query such as "every red thing larger than the thing that keeps tea hot"."""
    return spatial.by_relation_and_attribute(context, SIZE_RELATIONS)


def by_size_relation_attribute_and_extreme(context: Context) -> Draft | None:
    """Draws a query such as "the nearest red thing larger than the thing that keeps tea hot"."""
    return spatial.by_relation_attribute_and_extreme(context, SIZE_RELATIONS, PLACE_EXTREMES)


def by_pair_and_relation(context: Context) -> Draft | None:
    """Draws a query such as "every thing of the kind that appears twice, left of the thing that keeps tea hot"."""
    pair, anchor_phrase, name = _pair(context), anchor_by_use(context), context.pick(PLACE_RELATIONS + SIZE_RELATIONS)
    if pair is None or anchor_phrase is None:
        return None
    anchor, noun = anchor_phrase
    draft = filter_by_relation(context, pair, name, anchor)
    pair_clause = context.pick_phrase(phrases.PAIR) + ","
    return with_noun_phrase(context, draft, NOUN, pair_clause, context.pick_phrase(phrases.RELATIONS[name], noun))
