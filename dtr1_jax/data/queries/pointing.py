"""Implicit queries about a scene, each with its answer and the oracle's reasoning.

Every kind of question is a function that draws one such question from the scene and computes its answer by a chain of
steps (chains.py); it returns None where the scene does not allow the question or a person could doubt the answer.
`ask` draws several and keeps the best.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.attributes import COLOUR, MATERIAL, SIZE
from dtr1_jax.data.queries.chains import (
    GAP,
    Asker,
    Draft,
    alone,
    attribute,
    centre,
    choose,
    everything,
    having,
    keep,
    listed,
    lookup,
    relation,
)
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.wording import NOUN, adjective, anchor_of, most, phrase, said, use_of
from dtr1_jax.types import Instance

_PLACES = ("left of", "right of", "above", "below", "in front of", "behind")
_COMPARISONS = ("larger than", "smaller than")
_PLACED = ("nearest", "farthest", "leftmost", "rightmost", "highest", "lowest")
_SIZED = ("largest", "smallest")
_SHARED = {"colour": COLOUR, "material": MATERIAL}  # attributes that objects are counted by


@dataclasses.dataclass(frozen=True)
class Query:
    """A question with its answer.

    Attributes:
      text: the user's words.
      thought: steps "how ids."; the ids of the last step are the answer.
      ids: the wanted objects, ascending; empty where there is none.
      category, level: as in types.Example.
    """

    text: str
    thought: str
    ids: tuple[int, ...]
    category: str
    level: int


# Semantic: by use or property.


def _use_alone(a: Asker) -> Draft | None:
    use = use_of(a)
    if a.want == "none":
        labels = {thing.label for thing in a.scene.values()}
        use = a.pick([u for u in uses.USES + uses.GROUPS if not labels & set(u.labels)])
    draft = lookup(a, use)
    if a.chance(0.35):
        return dataclasses.replace(draft, text=a.say(use.needs), whole=True)
    return said(a, draft, NOUN, a.say(use.clauses))


def _use_attribute(a: Asker) -> Draft | None:
    use = use_of(a)
    draft, word = attribute(a, lookup(a, use), last=True)
    return said(a, draft, adjective(word), NOUN, a.say(use.clauses))


def _use_without_attribute(a: Asker) -> Draft | None:
    use, place = use_of(a), a.pick((COLOUR, SIZE, MATERIAL))
    found = lookup(a, use)
    word = a.scene[a.pick(found.ids)].attributes[place]
    draft = keep(found, f"not {word}", set(found.ids) - set(having(a, found, place, word)))
    return said(a, draft, NOUN, a.say(use.clauses), a.say(phrases.NEGATIONS, adjective(word)))


def _use_two_attributes(a: Asker) -> Draft | None:
    use = use_of(a, groups=0.5)
    first, second = a.pick(((SIZE, COLOUR), (SIZE, MATERIAL), (COLOUR, MATERIAL)))
    draft, one = attribute(a, lookup(a, use), False, (first,))
    draft, two = attribute(a, draft, True, (second,))
    return said(a, draft, adjective(one), adjective(two), NOUN, a.say(use.clauses))


def _same(a: Asker) -> tuple[Draft, str, int] | None:
    """Other objects of the colour or material of one that is named by use, the words for it, the attribute's place."""
    found = anchor_of(a)
    if found is None:
        return None
    (anchor, noun), (which, place) = found, a.pick(tuple(_SHARED.items()))
    word = a.scene[anchor.ids[0]].attributes[place]
    others = set(having(a, everything(a), place, word)) - set(anchor.ids)
    return keep(everything(a), f"other {word}", others, *anchor.steps), a.say(phrases.SAME[which], noun), place


def _same_alone(a: Asker) -> Draft | None:
    found = _same(a)
    return found and said(a, found[0], "other", NOUN, found[1])


def _same_attribute(a: Asker) -> Draft | None:
    found = _same(a)
    if found is None or not found[0].ids:
        return None
    before, words, place = found
    draft, word = attribute(a, before, True, [p for p in (COLOUR, SIZE, MATERIAL) if p != place])
    return said(a, draft, "other", adjective(word), NOUN, words)


def _same_use(a: Asker) -> Draft | None:
    found = _same(a)
    if found is None:
        return None
    before, words, _ = found
    use = use_of(a, groups=0.6)
    served = lookup(a, use)
    if served.steps[0] == before.steps[0]:  # another one that serves the use of the only one that does
        return None
    return said(a, keep(before, "both", served.ids, *served.steps), "other", NOUN, a.say(use.clauses), words)


# Spatial: place and depth.


def _extreme_alone(a: Asker, names: Sequence[str] = _PLACED) -> Draft | None:
    return most(a, everything(a), names, NOUN)


def _side(a: Asker) -> Draft | None:
    name, (axis, sign, pool) = a.pick(tuple(phrases.SIDES.items()))
    offsets = {i: sign * (centre(thing)[axis] - 0.5) for i, thing in a.scene.items()}
    if any(abs(offset) < GAP for offset in offsets.values()):
        return None
    draft = keep(everything(a), name, [i for i, offset in offsets.items() if offset > 0])
    return said(a, draft, NOUN, a.say(pool))


def _relation_named(a: Asker) -> Draft | None:
    """Beside an anchor that is called by its name."""
    anchor, name = alone(a), a.pick(_PLACES)
    if anchor is None:
        return None
    draft = relation(a, everything(a), name, anchor.id, f"{anchor.label} {anchor.id}.")
    return said(a, draft, NOUN, a.say(phrases.RELATIONS[name], f"the {anchor.label}"))


def _attribute_extreme(a: Asker) -> Draft | None:
    draft, word = attribute(a, everything(a), last=False)
    return most(a, draft, _PLACED, adjective(word), NOUN)


def _related(a: Asker, names: Sequence[str]) -> tuple[Draft, str] | None:
    """Objects in a relation to an object named by use, and the words for it; None where there is no such object."""
    found = anchor_of(a)
    if found is None:
        return None
    (anchor, noun), name = found, a.pick(names)
    draft = relation(a, everything(a), name, anchor.ids[0], *anchor.steps)
    return (draft, a.say(phrases.RELATIONS[name], noun)) if draft and draft.ids else None


def _relation_attribute(a: Asker, names: Sequence[str] = _PLACES) -> Draft | None:
    found = _related(a, names)
    if found is None:
        return None
    draft, word = attribute(a, found[0], last=True)
    return said(a, draft, adjective(word), NOUN, found[1])


def _relation_attribute_extreme(
    a: Asker, names: Sequence[str] = _PLACES, extremes: Sequence[str] = _PLACED + _SIZED
) -> Draft | None:
    found = _related(a, names)
    if found is None:
        return None
    draft, word = attribute(a, found[0], last=False)
    return most(a, draft, extremes, adjective(word), NOUN, found[1])


def _two_relations(a: Asker) -> Draft | None:
    one, two = _related(a, _PLACES), _related(a, _PLACES)
    if one is None or two is None or one[0].steps[0] == two[0].steps[0]:
        return None
    return said(a, keep(one[0], "both", two[0].ids, *two[0].steps), NOUN, one[1], "and", two[1])


# Count: how many, how large.


def _size_extreme(a: Asker) -> Draft | None:
    return _extreme_alone(a, _SIZED)


def _twice(a: Asker) -> Draft | None:
    """The two objects of the only category that comes exactly twice; empty where none does."""
    counts = Counter(thing.label for thing in a.scene.values())
    pairs = [label for label, count in counts.items() if count == 2]
    if len(pairs) > 1 or len(a.scene) < 2:
        return None
    ids = tuple(i for i, thing in a.scene.items() if thing.label in pairs)
    how = f"twice: {pairs[0]}" if pairs else "twice"
    return Draft(ids, (f"{how}{listed(ids)}.",))


def _twice_alone(a: Asker) -> Draft | None:
    return said(a, _twice(a), NOUN, a.say(phrases.TWICE))


def _only(a: Asker) -> Draft | None:
    """The one object with an attribute that no other has."""
    draft, word = attribute(a, everything(a), last=True)
    if len(draft.ids) > 1:
        return None
    return dataclasses.replace(draft, text=f"the {phrase(a, (NOUN, a.say(phrases.ALONE, adjective(word))))}")


def _common(a: Asker) -> tuple[Draft, str, int] | None:
    """Objects of the most common colour or material (a clear winner), the words for it, the attribute's place."""
    which, place = a.pick(tuple(_SHARED.items()))
    ranked = Counter(thing.attributes[place] for thing in a.scene.values()).most_common(2)
    if len(ranked) < 2 or ranked[0][1] == ranked[1][1]:
        return None
    word = ranked[0][0]
    ids = tuple(having(a, everything(a), place, word))
    return Draft(ids, (f"most {which}: {word}{listed(ids)}.",)), a.say(phrases.MOST[which]), place


def _common_alone(a: Asker) -> Draft | None:
    found = _common(a)
    return found and said(a, found[0], NOUN, found[1])


def _single(a: Asker) -> Draft | None:
    """Objects whose colour or material is found once in the scene."""
    which, place = a.pick(tuple(_SHARED.items()))
    counts = Counter(thing.attributes[place] for thing in a.scene.values())
    ids = tuple(i for i, thing in a.scene.items() if counts[thing.attributes[place]] == 1)
    if len(a.scene) < 2:
        return None
    return said(a, Draft(ids, (f"single {which}{listed(ids)}.",)), NOUN, a.say(phrases.SINGLE[which]))


def _use_size_extreme(a: Asker) -> Draft | None:
    use = use_of(a)
    return most(a, lookup(a, use), _SIZED, NOUN, a.say(use.clauses))


def _common_attribute(a: Asker, extremes: Sequence[str] = ()) -> Draft | None:
    found = _common(a)
    if found is None:
        return None
    before, words, place = found
    draft, word = attribute(a, before, not extremes, [p for p in (COLOUR, SIZE, MATERIAL) if p != place])
    parts = (adjective(word), NOUN, words)
    return most(a, draft, extremes, *parts) if extremes else said(a, draft, *parts)


def _common_attribute_extreme(a: Asker) -> Draft | None:
    return _common_attribute(a, _SIZED + _PLACED)


def _common_extreme(a: Asker) -> Draft | None:
    found = _common(a)
    return found and most(a, found[0], _SIZED + _PLACED, NOUN, found[1])


def _compared_attribute(a: Asker) -> Draft | None:
    return _relation_attribute(a, _COMPARISONS)


def _compared_attribute_extreme(a: Asker) -> Draft | None:
    return _relation_attribute_extreme(a, _COMPARISONS, _PLACED)


def _twice_related(a: Asker) -> Draft | None:
    """Of the two of a kind, those in a relation to an object named by use."""
    pair, found, name = _twice(a), anchor_of(a), a.pick(_PLACES + _COMPARISONS)
    if pair is None or found is None:
        return None
    draft = relation(a, pair, name, found[0].ids[0], *found[0].steps)
    return said(a, draft, NOUN, a.say(phrases.TWICE) + ",", a.say(phrases.RELATIONS[name], found[1]))


KINDS: dict[tuple[str, int], tuple[Callable[[Asker], Draft | None], ...]] = {
    ("semantic", 1): (_use_alone,),
    ("semantic", 2): (_use_attribute, _use_attribute, _use_without_attribute),
    ("semantic", 3): (_use_two_attributes, _same_alone),
    ("semantic", 4): (_same_attribute, _same_use),
    ("spatial", 1): (_extreme_alone, _side),
    ("spatial", 2): (_relation_named, _attribute_extreme),
    ("spatial", 3): (_relation_attribute,),
    ("spatial", 4): (_relation_attribute_extreme, _two_relations),
    ("count", 1): (_size_extreme, _twice_alone, _only),
    ("count", 2): (_common_alone, _single, _use_size_extreme),
    ("count", 3): (_common_attribute, _common_extreme, _compared_attribute),
    ("count", 4): (_common_attribute_extreme, _compared_attribute_extreme, _twice_related),
}

# Those whose answer can be no object, one or several, so that it can be counted.
COUNTED: dict[tuple[str, int], tuple[Callable[[Asker], Draft | None], ...]] = KINDS | {
    ("spatial", 1): (_side,),
    ("spatial", 2): (_relation_named,),
    ("spatial", 4): (_two_relations,),
    ("count", 1): (_twice_alone,),
    ("count", 2): (_common_alone, _single),
    ("count", 3): (_common_attribute, _compared_attribute),
    ("count", 4): (_twice_related,),
}


def ask(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    category: str,
    level: int,
    want: str,
    prefer: frozenset[int] = frozenset(),
) -> Query | None:
    """A query of one category and level; None where the scene allows none.

    Args:
      split: "train" or "heldout", whose phrasings are used.
      want: "none", "one" or "many", the number of objects that the answer should have, if possible.
      prefer: ids of which the answer should have one, if possible.
    """
    a = Asker(rng, split, {thing.id: thing for thing in scene}, want)
    best = choose(a, KINDS[category, level], prefer)
    if best is None:
        return None
    text = best.text if best.whole else pick(rng, getattr(phrases.FRAMES, split)).format(best.text)
    return Query(text, " ".join(best.steps), best.ids, category, level)
