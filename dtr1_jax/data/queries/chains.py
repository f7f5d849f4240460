"""Chains of reasoning over a scene: each step filters the objects, and the texts of the steps are the oracle's thought.

A step reads "filter ids.", for example `time: clock 3.` or `left of 3 is 1 2.`; `none` stands for an empty list of ids.
An id follows the word that is looked up directly, and an id with the blank before it is one token. A small policy
learns to look up ids from such steps several times as fast as from `white: 1,2.` (experiments/cold_start). Where a
person could doubt the result of a filter (two centres closer than GAP, two areas within RATIO), the filter returns None
in place of a draft.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.attributes import COLOUR, MATERIAL, SIZE, SIZES, VALUES
from dtr1_jax.data.queries.chance import Item, pick
from dtr1_jax.types import Instance, Program

GAP = 0.05  # unit frame: along an axis, two centres closer than this have no order
RATIO = 1.3  # two visible boxes whose areas differ by less than this factor have no order
_ATTEMPTS = 14  # drafts that are drawn to find one good query


@dataclasses.dataclass(frozen=True)
class Draft:
    """A query under construction.

    Attributes:
      ids: ids of the objects that pass all filters so far, ascending.
      steps: one sentence of reasoning for each filter.
      text: a noun phrase for the objects, or the whole query if `whole`.
      whole: whether `text` is a whole query.
      selectivity: number of filters that removed objects, minus the number of filters that removed none.
      program: the filters as operations that can be executed on any twin, see twin/programs.py.
    """

    ids: tuple[int, ...]
    steps: tuple[str, ...] = ()
    text: str = ""
    whole: bool = False
    selectivity: int = 0
    program: Program = ("all",)


@dataclasses.dataclass(frozen=True)
class Context:
    """What each kind of query needs in order to draw a query.

    Attributes:
      rng: the source of all random choices.
      split: "train", "heldout" or "validation", which selects the phrases.
      scene: the objects by id.
      answer_count: "none", "one" or "many", the number of objects that the answer should have, if possible.
    """

    rng: np.random.Generator
    split: str
    scene: dict[int, Instance]
    answer_count: str

    def pick(self, items: Sequence[Item]) -> Item:
        """Returns one of `items`, each with the same probability."""
        return pick(self.rng, items)

    def chance(self, probability: float) -> bool:
        """Returns True with this probability."""
        return bool(self.rng.random() < probability)

    def pick_phrase(self, pool: phrases.Phrases, *parts: str) -> str:
        """Returns one of the split's phrases of a pool, with `parts` in place of its braces."""
        return self.pick(getattr(pool, self.split)).format(*parts)


QueryKind = Callable[[Context], Draft | None]  # draws one query; None if the scene allows no such query


def centre(instance: Instance) -> tuple[float, float]:
    """Returns the centre x, y of the visible box, in the unit frame."""
    return (instance.box[0] + instance.box[2]) / 2, (instance.box[1] + instance.box[3]) / 2


def _size_offset(a: Instance, b: Instance) -> float:
    """Log ratio of the visible boxes in units of log RATIO; 0 if occlusion makes a small object look larger."""
    area_a, area_b = ((o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) for o in (a, b))
    offset = float(np.log(area_a / area_b) / np.log(RATIO))
    size_order = SIZES.index(a.attributes[SIZE]) - SIZES.index(b.attributes[SIZE])
    return 0.0 if size_order * offset < 0 else offset


# How far object `a` is in the relation to object `b`: 1 or more is a clear yes, -1 or less a clear no, the rest is
# doubtful.
OFFSETS: dict[str, Callable[[Instance, Instance], float]] = {
    "left of": lambda a, b: (centre(b)[0] - centre(a)[0]) / GAP,
    "right of": lambda a, b: (centre(a)[0] - centre(b)[0]) / GAP,
    "above": lambda a, b: (centre(b)[1] - centre(a)[1]) / GAP,
    "below": lambda a, b: (centre(a)[1] - centre(b)[1]) / GAP,
    "in front of": lambda a, b: b.depth - a.depth,
    "behind": lambda a, b: a.depth - b.depth,
    "larger than": _size_offset,
    "smaller than": lambda a, b: -_size_offset(a, b),
}
# The object that is most "leftmost" is "left of" all others, and so on.
EXTREMES = {
    "leftmost": "left of",
    "rightmost": "right of",
    "highest": "above",
    "lowest": "below",
    "nearest": "in front of",
    "farthest": "behind",
    "largest": "larger than",
    "smallest": "smaller than",
}


def ids_text(ids: Sequence[int]) -> str:
    """Returns ids as a thought writes them after a word, for example " 1 2" or " none"."""
    return "".join(f" {i}" for i in ids) or " none"


def all_objects(context: Context) -> Draft:
    """Returns the draft before its first filter: all objects of the scene."""
    return Draft(tuple(context.scene))


def objects_with_use(context: Context, use: uses.Use) -> Draft:
    """Returns the objects that serve `use`; the step lists them by category."""
    scene = context.scene
    ids_by_label = {label: [i for i, instance in scene.items() if instance.label == label] for label in use.labels}
    parts = [label + ids_text(ids) for label, ids in ids_by_label.items() if ids] or [use.labels[0] + ids_text(())]
    ids = tuple(i for i, instance in scene.items() if instance.label in use.labels)
    return Draft(ids, (f"{use.name}: {', '.join(parts)}.",), program=("label", *use.labels))


def object_named(instance: Instance) -> Draft:
    """Returns the object as the only one of its category, named by its label."""
    return Draft((instance.id,), (f"{instance.label} {instance.id}.",), program=("label", instance.label))


def filter_draft(draft: Draft, name: str, ids: Iterable[int], *steps_before: str, program: Program) -> Draft | None:
    """Keeps the objects of a draft that are in `ids`; None if the draft is empty already.

    Args:
      name: name of the filter, with which its step begins.
      steps_before: steps that come before the filter's own step.
      program: the program of the filtered draft.
    """
    if not draft.ids:
        return None
    ids = tuple(i for i in draft.ids if i in set(ids))
    selectivity = draft.selectivity + (1 if len(ids) < len(draft.ids) else -1)
    steps = (*draft.steps, *steps_before, f"{name}{ids_text(ids)}.")
    return Draft(ids, steps, selectivity=selectivity, program=program)


def ids_with_attribute(context: Context, draft: Draft, place: int, word: str) -> list[int]:
    """Returns the ids of a draft's objects whose attribute at `place` is `word`."""
    return [i for i in draft.ids if context.scene[i].attributes[place] == word]


def filter_by_attribute(
    context: Context, draft: Draft, is_last: bool, places: Sequence[int] = (COLOUR, SIZE, MATERIAL)
) -> tuple[Draft, str]:
    """Keeps the objects that have one attribute word, which is drawn.

    Args:
      draft: must not be empty.
      is_last: whether this is the last filter; only then may no object be left.
      places: the places in `Instance.attributes` from which the word's place is drawn.

    Returns:
      The draft and the word.
    """
    place = context.pick(places)
    present = [context.scene[i].attributes[place] for i in draft.ids]
    absent = [value for value in VALUES[place] if value not in present]
    word = context.pick(absent if is_last and context.answer_count == "none" and absent else present)
    ids = ids_with_attribute(context, draft, place, word)
    return filter_draft(draft, word, ids, program=("word", draft.program, word)), word


def filter_by_relation(context: Context, draft: Draft, name: str, anchor: Draft) -> Draft | None:
    """Keeps the objects in relation `name` (a key of OFFSETS) to the one object of `anchor`; None if one is doubtful.

    The steps of the anchor come before the filter's own step.
    """
    scene, (number,) = context.scene, anchor.ids
    offsets = {i: OFFSETS[name](scene[i], scene[number]) for i in draft.ids if i != number}
    if any(abs(offset) < 1 for offset in offsets.values()):
        return None
    ids, program = [i for i, o in offsets.items() if o > 0], (name, draft.program, anchor.program)
    return filter_draft(draft, f"{name} {number} is", ids, *anchor.steps, program=program)


def filter_by_extreme(context: Context, draft: Draft, name: str) -> Draft | None:
    """Keeps the object that is most `name` (a key of EXTREMES); None for a single object or no clear winner."""
    if len(draft.ids) < 2:
        return None
    offset = OFFSETS[EXTREMES[name]]
    for best in draft.ids:
        if all(offset(context.scene[best], context.scene[i]) >= 1 for i in draft.ids if i != best):
            return filter_draft(draft, name, [best], program=(name, draft.program))
    return None


def pick_unique_object(context: Context) -> Instance | None:
    """Returns a random object that is the only one of its category, to serve as an anchor for others; None if none is.

    Also None if the scene has one object only.
    """
    counts = Counter(instance.label for instance in context.scene.values())
    unique = [instance for instance in context.scene.values() if counts[instance.label] == 1]
    return context.pick(unique) if unique and len(context.scene) > 1 else None


def best_draft(
    context: Context,
    kinds: Sequence[QueryKind],
    prefer: frozenset[int] = frozenset(),
    accept: Callable[[Draft], bool] = lambda draft: True,
) -> Draft | None:
    """Draws drafts of random kinds and returns the best one; None if no draft is accepted.

    In order of weight, a good draft has as many objects as `context.answer_count` says, has one of the objects
    `prefer`, and has filters that remove objects. The first draft that is good in all three ways is returned at once.
    """
    best, best_score = None, -np.inf
    for _ in range(_ATTEMPTS):
        draft = context.pick(kinds)(context)
        if draft is None or not accept(draft):
            continue
        right_count = ("none", "one", "many")[min(2, len(draft.ids))] == context.answer_count
        preferred = not prefer or context.answer_count == "none" or not prefer.isdisjoint(draft.ids)
        score = 4 * right_count + 3 * preferred + min(draft.selectivity, 1)
        if score > best_score:
            best, best_score = draft, score
        if right_count and preferred and draft.selectivity >= 0:
            break
    return best
