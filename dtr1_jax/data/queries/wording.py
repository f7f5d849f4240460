"""Noun phrases for the objects of a draft, in the words of the split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.chains import Context, Draft, filter_by_extreme, objects_with_use, pick_unique_object

NOUN = "|"  # stands for the noun in the parts of a noun phrase


def noun_phrase(context: Context, parts: Sequence[str]) -> str:
    """Joins the parts of a noun phrase; a random noun of phrases.NOUNS replaces NOUN."""
    return " ".join(context.pick(phrases.NOUNS) if part == NOUN else part for part in parts)


def adjective(word: str) -> str:
    """Returns the adjective of an attribute word, for example "wooden" for "wood"."""
    return phrases.ADJECTIVES.get(word, word)


def with_noun_phrase(context: Context, draft: Draft | None, *parts: str) -> Draft | None:
    """Gives a draft its text: the parts as a noun phrase, with a determiner that fits the number of objects.

    None stays None, so that the result of a filter can be passed on directly.
    """
    if draft is None:
        return None
    definite = context.chance(0.75) if len(draft.ids) == 1 else not draft.ids and context.chance(0.5)
    word = "the" if definite else context.pick_phrase(phrases.DETERMINERS)
    return dataclasses.replace(draft, text=f"{word} {noun_phrase(context, parts)}")


def superlative(context: Context, draft: Draft, names: Sequence[str], *parts: str) -> Draft | None:
    """Keeps the object of a draft that is most one of `names` (keys of phrases.EXTREMES), and gives the draft its text.

    Returns None if there is no clear winner.
    """
    name = context.pick(names)
    draft = filter_by_extreme(context, draft, name)
    return draft and dataclasses.replace(
        draft, text=context.pick_phrase(phrases.EXTREMES[name], noun_phrase(context, parts))
    )


def anchor_by_use(context: Context) -> tuple[Draft, str] | None:
    """Returns a random object, named by its use, and its noun phrase; None if no object can be named so."""
    instance = pick_unique_object(context)
    if instance is None:
        return None
    use = uses.BY_LABEL[instance.label]
    return objects_with_use(context, use), f"the {noun_phrase(context, (NOUN, context.pick_phrase(use.clauses)))}"


def pick_use(context: Context, group_probability: float = 0.3) -> uses.Use:
    """Returns a random use that some object serves.

    With `group_probability` it is a use of several categories, if any such use fits.
    """
    labels = {instance.label for instance in context.scene.values()}
    groups = [group for group in uses.GROUPS if labels & set(group.labels)]
    if groups and context.chance(group_probability):
        return context.pick(groups)
    return uses.BY_LABEL[context.pick(tuple(context.scene.values())).label]
