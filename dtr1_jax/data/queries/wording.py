"""How the objects of a draft are spoken of: noun phrases, in the words of the split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.chains import Asker, Draft, alone, extreme, lookup

NOUN = "|"  # its place in a noun phrase


def phrase(a: Asker, parts: Sequence[str]) -> str:
    """Words before and after a noun, which is drawn, as one phrase."""
    return " ".join(a.pick(phrases.NOUNS) if part == NOUN else part for part in parts)


def adjective(word: str) -> str:
    """The adjective of an attribute, such as "wooden" of "wood"."""
    return phrases.ADJECTIVES.get(word, word)


def said(a: Asker, draft: Draft | None, *parts: str) -> Draft | None:
    """The draft with a noun phrase that fits the number of its objects."""
    if draft is None:
        return None
    definite = a.chance(0.75) if len(draft.ids) == 1 else not draft.ids and a.chance(0.5)
    word = "the" if definite else a.say(phrases.DETERMINERS)
    return dataclasses.replace(draft, text=f"{word} {phrase(a, parts)}")


def most(a: Asker, draft: Draft, names: Sequence[str], *parts: str) -> Draft | None:
    """The object of the draft that is most something, with its noun phrase."""
    name = a.pick(names)
    draft = extreme(a, draft, name)
    return draft and dataclasses.replace(draft, text=a.say(phrases.EXTREMES[name], phrase(a, parts)))


def anchor_of(a: Asker) -> tuple[Draft, str] | None:
    """An object named by its use alone: the step that finds it and its noun phrase."""
    thing = alone(a)
    if thing is None:
        return None
    use = uses.BY_LABEL[thing.label]
    return lookup(a, use), f"the {phrase(a, (NOUN, a.say(use.clauses)))}"


def use_of(a: Asker, groups: float = 0.3) -> uses.Use:
    """A use that some object serves; a group of categories with probability `groups`, where one fits."""
    labels = {thing.label for thing in a.scene.values()}
    fitting = [group for group in uses.GROUPS if labels & set(group.labels)]
    if fitting and a.chance(groups):
        return a.pick(fitting)
    return uses.BY_LABEL[a.pick(tuple(a.scene.values())).label]
