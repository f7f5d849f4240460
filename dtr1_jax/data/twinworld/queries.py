"""Implicit queries about a scene, each with its answer and the oracle's reasoning.

A query is built forward: every function below draws one kind of question from the scene, computes its answer step by
step from the annotations, and returns None where the scene does not allow it or where a person could doubt the answer
(two centres closer than GAP, two sizes closer than RATIO). `ask` draws several and keeps the best.

A thought is a list of steps "how: ids", such as `time: clock 3. left of 3: 1,2. red: 2.`; the ids of the last step are
the answer, `none` stands for no ids.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.data.twinworld import phrases
from dtr1_jax.data.twinworld.categories import COLOURS, MATERIALS, SIZES
from dtr1_jax.data.twinworld.scenes import pick
from dtr1_jax.types import Instance

GAP = 0.05  # centres nearer than this along an axis are neither left nor right of each other, unit frame
RATIO = 1.3  # areas of boxes within this factor are neither larger nor smaller
_DRAWS = 14  # questions drawn for one query
_ATTRIBUTES = {"colour": 0, "size": 1, "material": 2}  # place in Instance.attributes
_VALUES = (COLOURS, SIZES, MATERIALS)


@dataclasses.dataclass(frozen=True)
class Query:
    """A question with its answer.

    Attributes:
      text: the user's words.
      thought: the oracle's reasoning.
      ids: the wanted objects, ascending; empty where there is none.
      category, level: as in types.Example.
    """

    text: str
    thought: str
    ids: tuple[int, ...]
    category: str
    level: int


@dataclasses.dataclass(frozen=True)
class _Draft:
    """A question under way: a noun phrase or a whole text, the objects it means, the steps that found them.

    `narrow` counts the filters that made a difference minus those that did not.
    """

    ids: tuple[int, ...]
    steps: tuple[str, ...]
    text: str = ""
    whole: bool = False
    narrow: int = 0


@dataclasses.dataclass(frozen=True)
class _Asker:
    """What every kind of question needs: randomness, split, scene by id, and the wished number of answers."""

    rng: np.random.Generator
    split: str
    scene: dict[int, Instance]
    want: str  # "none", "one" or "many"

    def say(self, pool: phrases.Phrases, *parts: str) -> str:
        return pick(self.rng, getattr(pool, self.split)).format(*parts)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)


def _list(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids)) if ids else "none"


def _centre(thing: Instance) -> tuple[float, float]:
    return (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2


def _area(thing: Instance) -> float:
    return (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])


# How far `a` is on the named side of `b`: certain where >= 1 or <= -1, thin between.
_OFFSETS: dict[str, Callable[[Instance, Instance], float]] = {
    "left of": lambda a, b: (_centre(b)[0] - _centre(a)[0]) / GAP,
    "right of": lambda a, b: (_centre(a)[0] - _centre(b)[0]) / GAP,
    "above": lambda a, b: (_centre(b)[1] - _centre(a)[1]) / GAP,
    "below": lambda a, b: (_centre(a)[1] - _centre(b)[1]) / GAP,
    "in front of": lambda a, b: b.depth - a.depth,
    "behind": lambda a, b: a.depth - b.depth,
    "larger than": lambda a, b: np.log(_area(a) / _area(b)) / np.log(RATIO),
    "smaller than": lambda a, b: np.log(_area(b) / _area(a)) / np.log(RATIO),
}
_PLACES = ("left of", "right of", "above", "below", "in front of", "behind")
_COMPARISONS = ("larger than", "smaller than")
_EXTREMES = {
    "leftmost": "left of", "rightmost": "right of", "highest": "above", "lowest": "below",
    "nearest": "in front of", "farthest": "behind", "largest": "larger than", "smallest": "smaller than",
}
_PLACED = ("nearest", "farthest", "leftmost", "rightmost", "highest", "lowest")
_SIZED = ("largest", "smallest")


# Steps: each takes a draft's ids to fewer ids and says so.


def _lookup(a: _Asker, use: phrases.Use) -> _Draft:
    """All objects that serve `use`, by category."""
    found = {label: [i for i, t in a.scene.items() if t.label == label] for label in use.labels}
    named = [f"{label} {_list(ids)}" for label, ids in found.items() if ids]
    ids = tuple(sorted(i for ids in found.values() for i in ids))
    return _Draft(ids, (f"{use.name}: {', '.join(named) or use.labels[0] + ' none'}.",))


def _keep(draft: _Draft, how: str, ids: Sequence[int]) -> _Draft | None:
    """The draft cut down to `ids` by the filter `how`; None where there was nothing left to cut."""
    if not draft.ids:
        return None
    narrow = draft.narrow + (1 if len(ids) < len(draft.ids) else -1)
    return _Draft(tuple(ids), (*draft.steps, f"{how}: {_list(ids)}."), narrow=narrow)


def _everything(a: _Asker) -> _Draft:
    return _Draft(tuple(a.scene), ())


def _attribute(a: _Asker, draft: _Draft, last: bool, avoid: int = -1) -> tuple[_Draft | None, str, int]:
    """Filters by a drawn attribute: the draft, the word and the attribute's place. Empty only as the `last` step."""
    if not draft.ids:
        return None, "", 0
    place = pick(a.rng, [p for p in range(3) if p != avoid])
    present = [a.scene[i].attributes[place] for i in draft.ids]
    absent = [v for v in _VALUES[place] if v not in present]
    word = pick(a.rng, absent if last and a.want == "none" and absent else present)
    return _keep(draft, word, [i for i in draft.ids if a.scene[i].attributes[place] == word]), word, place


def _relation(a: _Asker, draft: _Draft, name: str, anchor: int) -> _Draft | None:
    """Filters by relation to an object; None where one of the objects is too close to call."""
    kept = []
    for i in draft.ids:
        if i != anchor:
            offset = _OFFSETS[name](a.scene[i], a.scene[anchor])
            if abs(offset) < 1:
                return None
            if offset > 0:
                kept.append(i)
    return _keep(draft, f"{name} {anchor}", kept)


def _extreme(a: _Asker, draft: _Draft | None, name: str) -> _Draft | None:
    """The one of at least two objects that is most `name`; None where another comes too close."""
    if draft is None or len(draft.ids) < 2:
        return None
    offset = _OFFSETS[_EXTREMES[name]]
    best = draft.ids[0]
    for i in draft.ids[1:]:
        if offset(a.scene[i], a.scene[best]) > 0:
            best = i
    if any(offset(a.scene[best], a.scene[i]) < 1 for i in draft.ids if i != best):
        return None
    return _keep(draft, name, [best])


def _anchor(a: _Asker, named: bool = False) -> tuple[_Draft, str] | None:
    """An object that is the only one of its category: the step that finds it and a noun phrase for it."""
    counts = Counter(t.label for t in a.scene.values())
    alone = [t for t in a.scene.values() if counts[t.label] == 1]
    if not alone or len(a.scene) < 2:
        return None
    thing = pick(a.rng, alone)
    if named:
        return _Draft((thing.id,), (f"{thing.label}: {thing.id}.",)), f"the {thing.label}"
    use = phrases.BY_LABEL[thing.label]
    return _lookup(a, use), f"the {pick(a.rng, phrases.NOUNS)} {a.say(use.clauses)}"


# Words.


def _adjective(word: str) -> str:
    return phrases.ADJECTIVES.get(word, word)


def _noun(*parts: str, rng: np.random.Generator) -> str:
    """adjectives..., "|", clauses... -> "small red thing that swims"."""
    return " ".join(p if p != "|" else pick(rng, phrases.NOUNS) for p in parts if p)


def _said(a: _Asker, draft: _Draft | None, *parts: str) -> _Draft | None:
    """The draft with a noun phrase that fits the number of its objects."""
    if draft is None:
        return None
    definite = a.chance(0.75) if len(draft.ids) == 1 else not draft.ids and a.chance(0.5)
    word = "the" if definite else a.say(phrases.DETERMINERS)
    return dataclasses.replace(draft, text=f"{word} {_noun(*parts, rng=a.rng)}")


def _most(a: _Asker, draft: _Draft | None, name: str, *parts: str) -> _Draft | None:
    """The draft with a noun phrase for its extreme `name`."""
    if draft is None:
        return None
    return dataclasses.replace(draft, text=a.say(phrases.EXTREMES[name], _noun(*parts, rng=a.rng)))


def _then(first: _Draft, second: _Draft) -> _Draft:
    """`second` with the steps of `first` before its own."""
    return dataclasses.replace(second, steps=first.steps + second.steps)


# Semantic: by use or property.


def _draw_use(a: _Asker, absent: bool = False, groups: float = 0.3) -> phrases.Use:
    """A use that some object serves, or that none does."""
    labels = {t.label for t in a.scene.values()}
    if absent:
        return pick(a.rng, [u for u in phrases.USES + phrases.GROUPS if not labels & set(u.labels)])
    if a.chance(groups):
        fitting = [u for u in phrases.GROUPS if labels & set(u.labels)]
        if fitting:
            return pick(a.rng, fitting)
    return phrases.BY_LABEL[pick(a.rng, tuple(a.scene.values())).label]


def _use_alone(a: _Asker) -> _Draft | None:
    use = _draw_use(a, absent=a.want == "none")
    draft = _lookup(a, use)
    if a.chance(0.35):
        return dataclasses.replace(draft, text=a.say(use.needs), whole=True)
    return _said(a, draft, "|", a.say(use.clauses))


def _use_attribute(a: _Asker) -> _Draft | None:
    use = _draw_use(a)
    draft, word, place = _attribute(a, _lookup(a, use), last=True)
    if draft is None:
        return None
    if a.chance(0.2):  # the same attribute the other way round
        before = _lookup(a, use)
        draft = _keep(before, f"not {word}", [i for i in before.ids if a.scene[i].attributes[place] != word])
        return _said(a, draft, "|", a.say(use.clauses), a.say(phrases.NEGATIONS, _adjective(word)))
    return _said(a, draft, _adjective(word), "|", a.say(use.clauses))


def _use_two_attributes(a: _Asker) -> _Draft | None:
    use = _draw_use(a, groups=0.5)
    draft, first, place = _attribute(a, _lookup(a, use), last=False)
    draft, second, _ = _attribute(a, draft, last=True, avoid=place)
    return _said(a, draft, _adjective(second), _adjective(first), "|", a.say(use.clauses))


def _same(a: _Asker) -> tuple[_Draft, str, str] | None:
    """The other objects that share the colour or material of an object given by use; the words for it; which."""
    found = _anchor(a)
    if found is None:
        return None
    (anchor, name), which = found, pick(a.rng, ("colour", "material"))
    place, mine = _ATTRIBUTES[which], anchor.ids[0]
    word = a.scene[mine].attributes[place]
    others = [i for i, t in a.scene.items() if i != mine and t.attributes[place] == word]
    draft = _keep(_everything(a), f"other {word}", others)
    return _then(anchor, draft), a.say(phrases.SAME[which], name), which


def _same_as(a: _Asker) -> _Draft | None:
    found = _same(a)
    return found and _said(a, found[0], "other", "|", found[1])


def _same_as_and_attribute(a: _Asker) -> _Draft | None:
    found = _same(a)
    if found is None:
        return None
    draft, word, _ = _attribute(a, found[0], last=True, avoid=_ATTRIBUTES[found[2]])
    return _said(a, draft, "other", _adjective(word), "|", found[1])


def _same_as_and_use(a: _Asker) -> _Draft | None:
    found = _same(a)
    if found is None or not found[0].ids:
        return None
    before, words, _ = found
    use = _draw_use(a, groups=0.6)
    looked = _lookup(a, use)
    draft = _then(_then(before, looked), _keep(before, "both", [i for i in before.ids if i in looked.ids]))
    draft = dataclasses.replace(draft, steps=before.steps + looked.steps + draft.steps[-1:])
    return _said(a, draft, "other", "|", a.say(use.clauses), words)


# Spatial: place and depth.


def _extreme_alone(a: _Asker) -> _Draft | None:
    name = pick(a.rng, _PLACED)
    return _most(a, _extreme(a, _everything(a), name), name, "|")


def _side(a: _Asker) -> _Draft | None:
    name = pick(a.rng, tuple(phrases.SIDES))
    axis, sign = (0 if name in ("left half", "right half") else 1), (-1 if name in ("left half", "upper half") else 1)
    offsets = {i: sign * (_centre(t)[axis] - 0.5) for i, t in a.scene.items()}
    if any(abs(offset) < GAP for offset in offsets.values()):
        return None
    draft = _keep(_everything(a), name, [i for i, offset in offsets.items() if offset > 0])
    return _said(a, draft, "|", a.say(phrases.SIDES[name]))


def _related(a: _Asker, names: Sequence[str], named: bool = False) -> tuple[_Draft, str] | None:
    """Objects in a drawn relation to a drawn anchor, and the words for the relation."""
    found = _anchor(a, named)
    if found is None:
        return None
    anchor, noun = found
    name = pick(a.rng, names)
    draft = _relation(a, _everything(a), name, anchor.ids[0])
    return draft and (_then(anchor, draft), a.say(phrases.RELATIONS[name], noun))


def _relation_alone(a: _Asker) -> _Draft | None:
    found = _related(a, _PLACES, named=True)
    return found and _said(a, found[0], "|", found[1])


def _attribute_extreme(a: _Asker, names: Sequence[str] = _PLACED) -> _Draft | None:
    draft, word, _ = _attribute(a, _everything(a), last=False)
    name = pick(a.rng, names)
    return _most(a, _extreme(a, draft, name), name, _adjective(word), "|")


def _relation_attribute(a: _Asker, names: Sequence[str] = _PLACES) -> _Draft | None:
    found = _related(a, names)
    if found is None:
        return None
    draft, word, _ = _attribute(a, found[0], last=True)
    return _said(a, draft, _adjective(word), "|", found[1])


def _relation_attribute_extreme(
    a: _Asker, names: Sequence[str] = _PLACES, extremes: Sequence[str] = _PLACED + _SIZED
) -> _Draft | None:
    found = _related(a, names)
    if found is None:
        return None
    draft, word, _ = _attribute(a, found[0], last=False)
    name = pick(a.rng, extremes)
    return _most(a, _extreme(a, draft, name), name, _adjective(word), "|", found[1])


def _two_relations(a: _Asker) -> _Draft | None:
    first, second = _related(a, _PLACES), _related(a, _PLACES)
    if first is None or second is None or first[0].steps[0] == second[0].steps[0] or not first[0].ids:
        return None
    ids = [i for i in first[0].ids if i in second[0].ids]
    draft = _keep(first[0], "both", ids)
    draft = dataclasses.replace(draft, steps=first[0].steps + second[0].steps + draft.steps[-1:])
    return _said(a, draft, "|", first[1], "and", second[1])


# Count: how many, how large.


def _size_extreme(a: _Asker) -> _Draft | None:
    name = pick(a.rng, _SIZED)
    return _most(a, _extreme(a, _everything(a), name), name, "|")


def _twice(a: _Asker) -> tuple[_Draft, str] | None:
    """The two objects of the only category that comes exactly twice, and the words for them."""
    counts = Counter(t.label for t in a.scene.values())
    pairs = [label for label, count in counts.items() if count == 2]
    if len(pairs) > 1 or len(a.scene) < 2:
        return None
    ids = tuple(i for i, t in a.scene.items() if t.label in pairs)
    return _Draft(ids, (f"twice: {pairs[0]} {_list(ids)}." if pairs else "twice: none.",)), a.say(phrases.TWICE)


def _twice_alone(a: _Asker) -> _Draft | None:
    found = _twice(a)
    return found and _said(a, found[0], "|", found[1])


def _only(a: _Asker) -> _Draft | None:
    """The one object with an attribute value that no other has."""
    draft, word, _ = _attribute(a, _everything(a), last=True)
    if draft is None or len(draft.ids) > 1:
        return None
    return dataclasses.replace(draft, text=f"the {_noun('|', a.say(phrases.ALONE, _adjective(word)), rng=a.rng)}")


def _common(a: _Asker) -> tuple[_Draft, str, str] | None:
    """Objects with the most common colour or material (a clear winner), the words for them, and which."""
    which = pick(a.rng, ("colour", "material"))
    place = _ATTRIBUTES[which]
    ranked = Counter(t.attributes[place] for t in a.scene.values()).most_common(2)
    if ranked[0][1] < 2 or len(ranked) < 2 or ranked[0][1] == ranked[1][1]:
        return None
    word = ranked[0][0]
    ids = tuple(i for i, t in a.scene.items() if t.attributes[place] == word)
    return _Draft(ids, (f"most {which}: {word} {_list(ids)}.",)), a.say(phrases.MOST[which]), which


def _common_alone(a: _Asker) -> _Draft | None:
    found = _common(a)
    return found and _said(a, found[0], "|", found[1])


def _single(a: _Asker) -> _Draft | None:
    """Objects whose colour or material is found once in the scene."""
    which = pick(a.rng, ("colour", "material"))
    place = _ATTRIBUTES[which]
    counts = Counter(t.attributes[place] for t in a.scene.values())
    ids = tuple(i for i, t in a.scene.items() if counts[t.attributes[place]] == 1)
    if len(a.scene) < 2:
        return None
    draft = _Draft(ids, (f"single {which}: {_list(ids)}.",))
    return _said(a, draft, "|", a.say(phrases.SINGLE[which]))


def _use_size_extreme(a: _Asker) -> _Draft | None:
    use = _draw_use(a)
    name = pick(a.rng, _SIZED)
    return _most(a, _extreme(a, _lookup(a, use), name), name, "|", a.say(use.clauses))


def _common_attribute(a: _Asker) -> _Draft | None:
    found = _common(a)
    if found is None:
        return None
    draft, word, _ = _attribute(a, found[0], last=True, avoid=_ATTRIBUTES[found[2]])
    return _said(a, draft, _adjective(word), "|", found[1])


def _common_extreme(a: _Asker) -> _Draft | None:
    found = _common(a)
    name = pick(a.rng, _SIZED + _PLACED)
    return found and _most(a, _extreme(a, found[0], name), name, "|", found[1])


def _compared_attribute(a: _Asker) -> _Draft | None:
    return _relation_attribute(a, _COMPARISONS)


def _common_attribute_extreme(a: _Asker) -> _Draft | None:
    found = _common(a)
    if found is None:
        return None
    draft, word, _ = _attribute(a, found[0], last=False, avoid=_ATTRIBUTES[found[2]])
    name = pick(a.rng, _SIZED + _PLACED)
    return _most(a, _extreme(a, draft, name), name, _adjective(word), "|", found[1])


def _compared_attribute_extreme(a: _Asker) -> _Draft | None:
    return _relation_attribute_extreme(a, _COMPARISONS, _PLACED)


def _twice_related(a: _Asker) -> _Draft | None:
    """Of the two of a kind, those in a relation to an object given by use."""
    pair, found = _twice(a), _anchor(a)
    if pair is None or found is None or not pair[0].ids:
        return None
    anchor, noun = found
    name = pick(a.rng, _PLACES + _COMPARISONS)
    draft = _relation(a, pair[0], name, anchor.ids[0])
    if draft is None:
        return None
    draft = dataclasses.replace(draft, steps=pair[0].steps + anchor.steps + draft.steps[-1:])
    return _said(a, draft, "|", pair[1], a.say(phrases.RELATIONS[name], noun))


KINDS: dict[tuple[str, int], tuple[Callable[[_Asker], _Draft | None], ...]] = {
    ("semantic", 1): (_use_alone,),
    ("semantic", 2): (_use_attribute,),
    ("semantic", 3): (_use_two_attributes, _same_as),
    ("semantic", 4): (_same_as_and_attribute, _same_as_and_use),
    ("spatial", 1): (_extreme_alone, _side),
    ("spatial", 2): (_relation_alone, _attribute_extreme),
    ("spatial", 3): (_relation_attribute,),
    ("spatial", 4): (_relation_attribute_extreme, _two_relations),
    ("count", 1): (_size_extreme, _twice_alone, _only),
    ("count", 2): (_common_alone, _single, _use_size_extreme),
    ("count", 3): (_common_attribute, _common_extreme, _compared_attribute),
    ("count", 4): (_common_attribute_extreme, _compared_attribute_extreme, _twice_related),
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
    a = _Asker(rng, split, {thing.id: thing for thing in scene}, want)
    best, best_score = None, -np.inf
    for _ in range(_DRAWS):
        draft = pick(rng, KINDS[category, level])(a)
        if draft is None:
            continue
        size = ("none", "one")[len(draft.ids)] if len(draft.ids) < 2 else "many"
        liked = not prefer or want == "none" or bool(prefer & set(draft.ids))
        score = 4 * (size == want) + 3 * liked + min(draft.narrow, 1)
        if score > best_score:
            best, best_score = draft, score
        if score >= 7 and draft.narrow >= 0:
            break
    if best is None:
        return None
    text = best.text if best.whole else pick(rng, getattr(phrases.FRAMES, split)).format(best.text)
    return Query(text, " ".join(best.steps), best.ids, category, level)
