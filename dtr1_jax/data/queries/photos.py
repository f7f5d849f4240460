"""Implicit queries about an annotated picture, with oracle answers.

The things of a query are named by what they are good for (coco_uses.py); labels that the table does not know are named
as they are. A query is only asked where the annotation settles its answer: not about labels some of whose objects were
left out of the scene, and with a margin where sizes or places are compared. What is there and what is not are asked for
in the same sentences, so that their form does not give the answer "nothing" away.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from dtr1_jax.data.queries.coco_uses import FAMILIES, SINGLES, STUFF
from dtr1_jax.types import Instance

MARGIN = 0.03  # of the picture's side: centres nearer than this are not compared
RATIO = 1.3  # of areas: sizes nearer than this are not compared

FIND = ("Find every {}.", "Show me any {}.", "Mark each {}.", "Where in the picture is the {}?", "Which is the {}?")
MOST = ("Mark everything of the kind that is here most often.", "Of which kind are there the most? Show them all.")
SIZE = {
    "largest": ("Which {} takes up the most of the picture?", "Judging by the picture alone, find the largest {}."),
    "smallest": ("Which {} takes up the least of the picture?", "Judging by the picture alone, find the smallest {}."),
}
# name: (axis of the picture, sign of "farther that way", sentences)
END = {
    "leftmost": (0, -1, ("Find the left-most {}.", "Which {} is farthest to the left?")),
    "rightmost": (0, 1, ("Find the right-most {}.", "Which {} is farthest to the right?")),
    "topmost": (1, -1, ("Find the top-most {}.", "Which {} is highest up in the picture?")),
    "bottommost": (1, 1, ("Find the bottom-most {}.", "Which {} is lowest in the picture?")),
}
# The anchor stands first: a clause that follows the thing ("the glass with a stem below ...") could belong to either.
SIDE = {
    "left of": (0, -1, ("To the left of the {}, find every {}.", "Left of the {}, is there any {}?")),
    "right of": (0, 1, ("To the right of the {}, find every {}.", "Right of the {}, is there any {}?")),
    "above": (1, -1, ("Above the {}, find every {}.", "Higher up than the {}, is there any {}?")),
    "below": (1, 1, ("Below the {}, find every {}.", "Lower than the {}, is there any {}?")),
}


@dataclasses.dataclass(frozen=True)
class Query:
    """A query and its oracle.

    Attributes:
      text: the user's words.
      labels: what the query is about; pixels of crowds of these count neither way.
      ids: the wanted objects of the scene, ascending; empty where nothing fits.
      thought, level, category: as in types.Example; thoughts are steps `how: ids.`, much as TwinWorld's.
    """

    text: str
    labels: frozenset[str]
    ids: tuple[int, ...]
    thought: str
    level: int
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the annotation of one picture says.

    Attributes:
      scene: the objects, as the oracle twin lists them; of those annotated, the ones with the largest masks.
      vocabulary: every label the data set annotates; only these can be known to be absent.
      counts: label -> objects, with those left out of the scene; a label with crowds alone has 0.
      crowds: labels with crowd regions, whose single objects are not all known.
      stuff: labels of regions without a place of their own (sky, grass); places and sizes of these are not compared.
    """

    scene: Sequence[Instance]
    vocabulary: Collection[str]
    counts: Mapping[str, int]
    crowds: Collection[str] = frozenset()
    stuff: Collection[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Labels that share a use, one phrase for it, its objects in the scene, and whether these are all."""

    labels: tuple[str, ...]
    phrase: str
    objects: tuple[Instance, ...]
    complete: bool


def ask(facts: Facts, *, seed: int, picture: int | str, k: int) -> Query:
    """Query number k about a picture: a pure function of its arguments.

    k = 0, 4, ... asks for a use, 1, 5, ... for a place, 2, 6, ... for a comparison, 3, 7, ... for a place or for what
    is not there. A picture with no query of that sort gets one of another.

    Raises:
      ValueError: `facts.vocabulary` is empty.
    """
    if not facts.vocabulary:
        raise ValueError("expected at least one label in Facts.vocabulary, got none")
    last = ("none", "spatial")[_rng(seed, picture, k).integers(2)]
    first = ("semantic", "spatial", "count", last)[k % 4]
    for sort in (first, "semantic", "count", "none"):
        # All queries of a picture see one pool in one order, so that different k seldom meet the same query.
        rng = _rng(seed, picture, sort)
        pool = list(_POOLS[sort](facts, rng))
        if pool:
            # There are far more long chains than short ones: draw the level first.
            levels = rng.permutation(sorted({query.level for query in pool}))
            pool = [query for query in pool if query.level == levels[k % len(levels)]]
            query = pool[rng.permutation(len(pool))[k % len(pool)]]
            return dataclasses.replace(query, category="semantic" if sort == "none" else sort)
    return dataclasses.replace(_forced(facts), category="count")


def _rng(*key) -> np.random.Generator:
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def _kind(labels: tuple[str, ...], phrase: str, facts: Facts) -> _Kind:
    objects = tuple(o for o in facts.scene if o.label in labels)
    return _Kind(labels, phrase, objects, len(objects) == sum(facts.counts.get(label, 0) for label in labels))


def _kinds(facts: Facts, rng: np.random.Generator) -> list[_Kind]:
    """The uses whose labels are all annotated, each in one random phrasing.

    A family is only asked for where all labels are COCO's: a category of the user's own might belong to it as well.
    """
    vocabulary = set(facts.vocabulary)
    ours = vocabulary <= set(SINGLES) | set(STUFF.values())
    families = {labels: phrases for labels, phrases in FAMILIES.items() if ours and vocabulary.issuperset(labels)}
    covered = {label for labels in families for label in labels}
    named = sorted(label for label in vocabulary if label in SINGLES or label not in covered)
    singles = {(label,): SINGLES.get(label, (label,)) for label in named}
    return [_kind(labels, _pick(phrases, rng), facts) for labels, phrases in (singles | families).items()]


def _comparable(facts: Facts, rng: np.random.Generator) -> list[_Kind]:
    """Kinds with objects that have a place of their own, no crowds among them."""
    vague = {*facts.crowds, *facts.stuff}
    return [kind for kind in _kinds(facts, rng) if kind.objects and not vague & set(kind.labels)]


def _semantic(facts: Facts, rng: np.random.Generator) -> Iterator[Query]:
    for kind in _kinds(facts, rng):
        if kind.objects and kind.complete:
            yield _query(_pick(FIND, rng).format(kind.phrase), kind, kind.objects, [_found(kind)], 1)


def _none(facts: Facts, rng: np.random.Generator) -> Iterator[Query]:
    for kind in _kinds(facts, rng):
        if facts.counts.keys().isdisjoint(kind.labels):
            yield _query(_pick(FIND, rng).format(kind.phrase), kind, (), [_found(kind)], 1)


def _spatial(facts: Facts, rng: np.random.Generator) -> Iterator[Query]:
    kinds = [kind for kind in _comparable(facts, rng) if kind.complete]
    for kind in kinds:
        for end, (axis, sign, texts) in END.items():
            best = _farthest(kind.objects, axis, sign)
            if best:
                text = _pick(texts, rng).format(kind.phrase)
                yield _query(text, kind, [best], [_found(kind), f"{end}: {best.id}"], 2)
    for anchor in kinds:
        if len(anchor.objects) == 1:
            for kind in kinds:
                if not set(kind.labels) & set(anchor.labels):
                    yield from _beside(kind, anchor, rng)


def _beside(kind: _Kind, anchor: _Kind, rng: np.random.Generator) -> Iterator[Query]:
    there = anchor.objects[0]
    for side, (axis, sign, texts) in SIDE.items():
        gaps = [sign * (_centre(o, axis) - _centre(there, axis)) for o in kind.objects]
        if max(gaps) < MARGIN or min(map(abs, gaps)) < MARGIN:
            continue
        chosen = [o for o, gap in zip(kind.objects, gaps) if gap > 0]
        steps = [_found(anchor), _found(kind), f"{side} {there.id}: {_ids(chosen)}"]
        text = _pick(texts, rng).format(anchor.phrase, kind.phrase)
        yield _query(text, kind, chosen, steps, 3)
        best = _extreme(chosen, "largest")
        if best:
            text = f"Of all that is {side} the {anchor.phrase}, which is the largest {kind.phrase}?"
            yield _query(text, kind, [best], [*steps, f"largest: {best.id}"], 4)


def _count(facts: Facts, rng: np.random.Generator) -> Iterator[Query]:
    for kind in _comparable(facts, rng):
        for size, texts in SIZE.items():
            # The scene keeps the largest objects: it always knows the largest of a kind, the smallest only when whole.
            best = _extreme(kind.objects, size) if kind.complete or size == "largest" else None
            if best:
                text = _pick(texts, rng).format(kind.phrase)
                yield _query(text, kind, [best], [_found(kind), f"{size}: {best.id}"], 2)
    yield from _most(facts, rng)


def _most(facts: Facts, rng: np.random.Generator) -> Iterator[Query]:
    """The label with the most objects, where there is no crowd and no second label with as many."""
    counts = {label: n for label, n in facts.counts.items() if label not in facts.stuff}
    ranked = sorted(counts, key=counts.get, reverse=True)
    if facts.crowds or len(ranked) < 2 or counts[ranked[0]] == counts[ranked[1]]:
        return
    kind = _kind((ranked[0],), ranked[0], facts)
    if kind.complete:
        yield _query(_pick(MOST, rng), kind, kind.objects, [f"most kind: {ranked[0]} {_ids(kind.objects)}"], 2)


def _forced(facts: Facts) -> Query:
    """Every label is here and none can be asked for as above: the largest object of the scene's first label."""
    label = facts.scene[0].label if facts.scene else sorted(facts.vocabulary)[0]
    kind = _kind((label,), label, facts)
    best = sorted(kind.objects, key=_area)[-1:]
    return _query(SIZE["largest"][0].format(label), kind, best, [_found(kind), f"largest: {_ids(best)}"], 2)


_POOLS = {"semantic": _semantic, "spatial": _spatial, "count": _count, "none": _none}


def _query(text: str, kind: _Kind, chosen: Iterable[Instance], steps: Sequence[str], level: int) -> Query:
    thought = ". ".join(steps) + "."
    return Query(text, frozenset(kind.labels), tuple(sorted(o.id for o in chosen)), thought, level)


def _found(kind: _Kind) -> str:
    """The step from a use to objects, such as `piece of cutlery: fork 2,3, knife 1`."""
    by_label = {label: [o for o in kind.objects if o.label == label] for label in kind.labels}
    named = [f"{label} {_ids(objects)}" for label, objects in by_label.items() if objects]
    return f"{kind.phrase}: {', '.join(named) or kind.labels[0] + ' none'}"


def _ids(objects: Iterable[Instance]) -> str:
    return ",".join(str(i) for i in sorted(o.id for o in objects)) or "none"


def _area(item: Instance) -> int:
    return int(item.mask.sum())


def _centre(item: Instance, axis: int) -> float:
    return (item.box[axis] + item.box[axis + 2]) / 2


def _farthest(objects: Sequence[Instance], axis: int, sign: int) -> Instance | None:
    """The object with the extreme centre, or None where a second one is within MARGIN."""
    ranked = sorted(objects, key=lambda o: -sign * _centre(o, axis))
    clear = len(ranked) > 1 and abs(_centre(ranked[0], axis) - _centre(ranked[1], axis)) >= MARGIN
    return ranked[0] if clear else None


def _extreme(objects: Sequence[Instance], size: str) -> Instance | None:
    """The object with the most or the fewest visible pixels, or None where a second one is within RATIO."""
    ranked = sorted(objects, key=_area, reverse=size == "largest")
    if len(ranked) < 2:
        return None
    low, high = sorted(map(_area, ranked[:2]))
    return ranked[0] if high >= RATIO * low else None
