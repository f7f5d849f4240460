"""Implicit queries about an annotated photo, with the oracle's answers.

A query names objects by their use (coco_uses.py), or by their label if the table has no use for it. It is only asked if
the annotation settles its answer: not about labels with objects that were left out of the scene, or with a crowd whose
single objects are not known, or with an object so small that a person might overlook it and annotators have overlooked
others of its kind; and with a margin where sizes or places are compared. No query compares the numbers of kinds, since
a data set annotates only some of the kinds of things that a photo shows. An object is to the side of another only if
the two are apart along that axis: a tie is not left of its wearer, and a dog on a couch is not right of it. Queries
without an answer use the sentences of those with an answer, so that a sentence does not reveal that its answer is
empty.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.coco_uses import FAMILIES, SINGLES, STUFF
from dtr1_jax.data.queries.label_phrases import phrase
from dtr1_jax.types import Instance, Program

MARGIN = 0.03  # unit frame: two centres closer than this have no order
RATIO = 1.3  # two areas that differ by less than this factor have no order

TINY = 0.002  # share of the picture: labels with an object below this are not asked about (17 x 17 of 384 x 384 pixels)
TOUCH = 0.01  # unit frame: objects that overlap by at most this along an axis are apart

FIND = ("Find every {}.", "Show me each {}.", "Mark every {}.")  # for any number of objects
FIND_ONE = (*FIND, "Where in the picture is the {}?", "Which is the {}?")  # for at most one
SIZES = {
    "largest": ("Which {} takes up the most of the picture?", "Judging by the picture alone, find the largest {}."),
    "smallest": ("Which {} takes up the least of the picture?", "Judging by the picture alone, find the smallest {}."),
}
# name -> (axis, sign of the direction along the axis, sentences)
EXTREMES = {
    "leftmost": (0, -1, ("Find the left-most {}.", "Which {} is farthest to the left?")),
    "rightmost": (0, 1, ("Find the right-most {}.", "Which {} is farthest to the right?")),
    "topmost": (1, -1, ("Find the top-most {}.", "Which {} is highest up in the picture?")),
    "bottommost": (1, 1, ("Find the bottom-most {}.", "Which {} is lowest in the picture?")),
}
_PLACES = {"topmost": "highest", "bottommost": "lowest"}  # names in programs that differ from those of EXTREMES
# The anchor stands first: a clause at the end ("the glass with a stem below ...") could belong to either object.
RELATIONS = {
    "left of": (0, -1, ("To the left of the {}, find every {}.", "Left of the {}, mark each {}.")),
    "right of": (0, 1, ("To the right of the {}, find every {}.", "Right of the {}, mark each {}.")),
    "above": (1, -1, ("Above the {}, find every {}.", "Higher up than the {}, mark each {}.")),
    "below": (1, 1, ("Below the {}, find every {}.", "Lower than the {}, mark each {}.")),
}


@dataclasses.dataclass(frozen=True)
class PhotoQuery:
    """A query with its answer.

    Attributes:
      text: the user's words.
      labels: the labels that the query is about; pixels of crowds with these labels are ignored in a comparison.
      ids: ids of the target objects of the scene, ascending; empty if no object fits.
      thought, level, category: as in types.Example; a thought has steps `filter: ids.`, similar to those of chains.py.
      program: as in types.Example.
    """

    text: str
    labels: frozenset[str]
    ids: tuple[int, ...]
    thought: str
    level: int
    category: str = ""
    program: Program = ()


@dataclasses.dataclass(frozen=True)
class Facts:
    """The annotation of one photo.

    Attributes:
      scene: the objects that the oracle twin lists: the annotated objects with the largest masks.
      vocabulary: all labels that the data set annotates; only these can be known to be absent.
      counts: label -> number of objects, including those left out of the scene; 0 if the label has crowds only.
      crowds: labels with crowd regions, whose single objects are not all known.
      stuff: labels of regions without a definite place (sky, grass); their places and sizes are not compared.
      partial: labels of which the photo may have objects that are not annotated; they are not asked about.
      phrases: phrases for the use of labels, in place of COCO's: None = COCO's own are meant; a label that is not among
        them is asked for by its name.
      unsized: labels with objects of which only the box is known; their sizes are not compared.
    """

    scene: Sequence[Instance]
    vocabulary: Collection[str]
    counts: Mapping[str, int]
    crowds: Collection[str] = frozenset()
    stuff: Collection[str] = frozenset()
    partial: Collection[str] = frozenset()
    unsized: Collection[str] = frozenset()
    phrases: Mapping[str, Sequence[str]] | None = None


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Labels that share a use.

    Attributes:
      labels: the labels.
      phrase: one phrase for the use.
      objects: the objects of the scene with these labels.
      complete: whether these are all objects of the photo with these labels.
      sized: whether the sizes of the objects are known.
    """

    labels: tuple[str, ...]
    phrase: str
    objects: tuple[Instance, ...]
    complete: bool
    sized: bool

    @property
    def program(self) -> Program:
        """The program of the objects with these labels."""
        return ("label", *self.labels)


def photo_query(facts: Facts, *, seed: int, picture: int | str, k: int) -> PhotoQuery:
    """Returns query number `k` about a photo: a pure function of its arguments.

    Queries 0, 4, ... are about a use, 1, 5, ... about a place, 2, 6, ... about a comparison, and 3, 7, ... about a
    place or about something that is absent. A photo that allows no query of this sort gets one of another sort.

    Args:
      picture: a name of the photo that is unique in its data set.

    Raises:
      ValueError: `facts.vocabulary` is empty, or the annotation settles no query about this photo.
    """
    if not facts.vocabulary:
        raise ValueError("expected at least one label in Facts.vocabulary, got none")
    last = ("none", "spatial")[_rng(seed, picture, k).integers(2)]
    first = ("semantic", "spatial", "count", last)[k % 4]
    for sort in (first, "semantic", "count", "none"):
        # All queries of a photo are taken from one list in one order, so that different k seldom give the same query.
        rng = _rng(seed, picture, sort)
        candidates = list(_GENERATORS[sort](facts, rng))
        if candidates:
            # Long chains are far more numerous than short ones, so the level is drawn first.
            levels = rng.permutation(sorted({query.level for query in candidates}))
            candidates = [query for query in candidates if query.level == levels[k % len(levels)]]
            query = candidates[rng.permutation(len(candidates))[k % len(candidates)]]
            return dataclasses.replace(query, category="semantic" if sort == "none" else sort)
    return dataclasses.replace(_fallback_query(facts), category="count")


def _rng(*key: int | str) -> np.random.Generator:
    digest = hashlib.blake2b("/".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _kind(labels: tuple[str, ...], phrase: str, facts: Facts) -> _Kind:
    objects = tuple(o for o in facts.scene if o.label in labels)
    complete = len(objects) == sum(facts.counts.get(label, 0) for label in labels)
    return _Kind(labels, phrase, objects, complete, not set(facts.unsized) & set(labels))


def _kinds(facts: Facts, rng: np.random.Generator) -> list[_Kind]:
    """Returns the uses whose labels are all annotated, not `partial`, and have no TINY object, each in one phrase.

    COCO's phrases are true of COCO's labels alone: in a data set with other labels, a "mouse" may be an animal, and
    labels are asked for by phrases of the user's or by their names.
    """
    vocabulary = set(facts.vocabulary)
    only_coco = facts.phrases is None and vocabulary <= set(SINGLES) | set(STUFF.values())
    families = {labels: pool for labels, pool in FAMILIES.items() if only_coco and vocabulary.issuperset(labels)}
    covered = {label for labels in families for label in labels}
    single_labels = sorted(label for label in vocabulary if label in SINGLES or label not in covered)
    own = facts.phrases or {}
    known = SINGLES if only_coco else {}
    singles = {(label,): own.get(label) or known.get(label) or (phrase(label),) for label in single_labels}
    kinds = [_kind(labels, pick(rng, pool), facts) for labels, pool in (singles | families).items()]
    tiny = {o.label for o in facts.scene if o.mask.mean() < TINY}
    return [kind for kind in kinds if not (tiny | set(facts.partial)) & set(kind.labels)]


def _comparable_kinds(facts: Facts, rng: np.random.Generator) -> list[_Kind]:
    """Returns the kinds with objects that have a definite place: neither crowds nor stuff."""
    vague = {*facts.crowds, *facts.stuff}
    return [kind for kind in _kinds(facts, rng) if kind.objects and not vague & set(kind.labels)]


def _semantic(facts: Facts, rng: np.random.Generator) -> Iterator[PhotoQuery]:
    for kind in _kinds(facts, rng):
        if kind.objects and kind.complete and not set(facts.crowds) & set(kind.labels):
            texts = FIND_ONE if len(kind.objects) == 1 else FIND
            yield _query(pick(rng, texts).format(kind.phrase), kind, kind.objects, [_use_step(kind)], 1, kind.program)


def _none(facts: Facts, rng: np.random.Generator) -> Iterator[PhotoQuery]:
    for kind in _kinds(facts, rng):
        if facts.counts.keys().isdisjoint(kind.labels):
            yield _query(pick(rng, FIND_ONE).format(kind.phrase), kind, (), [_use_step(kind)], 1, kind.program)


def _spatial(facts: Facts, rng: np.random.Generator) -> Iterator[PhotoQuery]:
    kinds = [kind for kind in _comparable_kinds(facts, rng) if kind.complete]
    for kind in kinds:
        for name, (axis, sign, texts) in EXTREMES.items():
            best = _farthest_along(kind.objects, axis, sign)
            if best:
                text = pick(rng, texts).format(kind.phrase)
                program = (_PLACES.get(name, name), kind.program)
                yield _query(text, kind, [best], [_use_step(kind), f"{name}: {best.id}"], 2, program)
    for anchor in kinds:
        if len(anchor.objects) == 1:
            for kind in kinds:
                if not set(kind.labels) & set(anchor.labels):
                    yield from _related_to_anchor(kind, anchor, rng)


def _related_to_anchor(kind: _Kind, anchor: _Kind, rng: np.random.Generator) -> Iterator[PhotoQuery]:
    anchor_object = anchor.objects[0]
    for name, (axis, sign, texts) in RELATIONS.items():
        gaps = [sign * (_centre(o, axis) - _centre(anchor_object, axis)) for o in kind.objects]
        if max(gaps) < MARGIN or min(map(abs, gaps)) < MARGIN:
            continue
        if not all(_are_apart(o, anchor_object, axis) for o in kind.objects):
            continue
        related = [o for o, gap in zip(kind.objects, gaps) if gap > 0]
        steps = [_use_step(anchor), _use_step(kind), f"{name} {anchor_object.id}: {_ids_text(related)}"]
        text = pick(rng, texts).format(anchor.phrase, kind.phrase)
        program = (name, kind.program, anchor.program)
        yield _query(text, kind, related, steps, 3, program)
        best = _extreme_in_size(related, "largest") if kind.sized else None
        if best:
            text = f"Of all that is {name} the {anchor.phrase}, which is the largest {kind.phrase}?"
            yield _query(text, kind, [best], [*steps, f"largest: {best.id}"], 4, ("most pixels", program))


def _count(facts: Facts, rng: np.random.Generator) -> Iterator[PhotoQuery]:
    for kind in _comparable_kinds(facts, rng):
        for size, texts in SIZES.items():
            # The scene keeps the largest objects: the largest of a kind is always known, the smallest only if the scene
            # has all objects of the kind.
            known = kind.sized and (kind.complete or size == "largest")
            best = _extreme_in_size(kind.objects, size) if known else None
            if best:
                text = pick(rng, texts).format(kind.phrase)
                program = ("most pixels" if size == "largest" else "fewest pixels", kind.program)
                yield _query(text, kind, [best], [_use_step(kind), f"{size}: {best.id}"], 2, program)


def _fallback_query(facts: Facts) -> PhotoQuery:
    """Asks for the largest object of the first label that is known, for a photo that allows none of the other queries.

    Raises ValueError if each label of the vocabulary may have objects that are not in the scene.
    """
    unknown = {*facts.partial, *facts.unsized}
    present = [o.label for o in facts.scene if o.label in facts.vocabulary and o.label not in unknown]
    absent = sorted(set(facts.vocabulary) - set(facts.counts) - unknown)
    if not present and not absent:
        raise ValueError("its annotation settles no query; annotate all objects of some label, or remove the picture")
    label = (present or absent)[0]
    kind = _kind((label,), phrase(label), facts)
    best = sorted(kind.objects, key=_area)[-1:]
    steps = [_use_step(kind), f"largest: {_ids_text(best)}"]
    return _query(SIZES["largest"][0].format(kind.phrase), kind, best, steps, 2, ("most pixels", kind.program))


_GENERATORS: dict[str, Callable[[Facts, np.random.Generator], Iterator[PhotoQuery]]] = {
    "semantic": _semantic,
    "spatial": _spatial,
    "count": _count,
    "none": _none,
}


def _query(
    text: str, kind: _Kind, targets: Iterable[Instance], steps: Sequence[str], level: int, program: Program
) -> PhotoQuery:
    ids, thought = tuple(sorted(o.id for o in targets)), ". ".join(steps) + "."
    return PhotoQuery(text, frozenset(kind.labels), ids, thought, level, program=program)


def _use_step(kind: _Kind) -> str:
    """Returns the step from a use to its objects, for example `piece of cutlery: fork 2,3, knife 1`."""
    by_label = {label: [o for o in kind.objects if o.label == label] for label in kind.labels}
    parts = [f"{label} {_ids_text(objects)}" for label, objects in by_label.items() if objects]
    return f"{kind.phrase}: {', '.join(parts) or kind.labels[0] + ' none'}"


def _ids_text(objects: Iterable[Instance]) -> str:
    return ",".join(str(i) for i in sorted(o.id for o in objects)) or "none"


def _area(instance: Instance) -> int:
    return int(instance.mask.sum())


def _centre(instance: Instance, axis: int) -> float:
    return (instance.box[axis] + instance.box[axis + 2]) / 2


def _are_apart(one: Instance, other: Instance, axis: int) -> bool:
    """Whether the visible parts of two objects share no place along the axis, up to TOUCH."""
    return min(one.box[axis + 2], other.box[axis + 2]) - max(one.box[axis], other.box[axis]) <= TOUCH


def _farthest_along(objects: Sequence[Instance], axis: int, sign: int) -> Instance | None:
    """Returns the object that is farthest in a direction, by its centre and by its outer edge.

    None if the centre or the outer edge of a second one is within MARGIN.
    """
    ranking = sorted(objects, key=lambda o: -sign * _centre(o, axis))
    if len(ranking) < 2 or abs(_centre(ranking[0], axis) - _centre(ranking[1], axis)) < MARGIN:
        return None
    reach = [sign * o.box[axis + 2 * (sign > 0)] for o in ranking]
    return ranking[0] if reach[0] >= max(reach[1:]) + MARGIN else None


def _extreme_in_size(objects: Sequence[Instance], size: str) -> Instance | None:
    """Returns the object with the most or the fewest visible pixels; None if a second one is within RATIO."""
    ranking = sorted(objects, key=_area, reverse=size == "largest")
    if len(ranking) < 2:
        return None
    low, high = sorted(map(_area, ranking[:2]))
    return ranking[0] if high >= RATIO * low else None
