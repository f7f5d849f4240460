"""Noun phrases for the objects of a draft, in the words of the split."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.chains import Context, Draft, filter_by_extreme, objects_with_use, pick_unique_object
from dtr1_jax.data.queries.chance import pick

NOUN = "|"  # stands for the noun in the parts of a noun phrase
_DOUBLED = re.compile(r"\b([a-z]+(?: [a-z]+){0,2}),? \1\b")  # up to three words, and the same words again


def sentence_about(rng: np.random.Generator, sentences: Sequence[str], noun: str) -> str | None:
    """Returns a random one of `sentences` with a noun phrase in place of its braces; None if none fits.

    A sentence does not fit if it is about one object and the noun phrase is not, or if words would stand twice in a row
    ("the thing that the mug has has"). A noun phrase with a comma gets a second one where the sentence goes on.
    """
    fitting = []
    for sentence in sentences:
        before, _, after = sentence.partition("{}")
        text = f"{before}{noun}{',' if ',' in noun and after[:1] == ' ' else ''}{after}"
        one_too_many = sentence.startswith(phrases.SINGULAR) and not noun.startswith("the ")
        if not one_too_many and not _DOUBLED.search(text):
            fitting.append(text)
    return pick(rng, fitting) if fitting else None


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
    return draft and dataclasses.replace(draft, text=superlative_text(context, phrases.EXTREMES[name], parts))


def superlative_text(context: Context, pool: phrases.Phrases, parts: Sequence[str]) -> str:
    """Returns a phrase of a pool of superlatives about the noun phrase of `parts`.

    After a clause, "that is nearest" could be about the last noun of the clause ("the thing left of the mug that is
    nearest"); then only "the nearest thing ..." and "the thing ..., the nearest one" are used.
    """
    forms = getattr(pool, context.split)
    if parts[-1] != NOUN:
        forms = tuple(form for form in forms if form.endswith("{}") or "{}," in form)
    noun = noun_phrase(context, parts)
    return context.pick(forms).format(noun)


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
