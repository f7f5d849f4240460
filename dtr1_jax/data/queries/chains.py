"""Chains of reasoning over a scene: each step cuts the objects down, in the oracle's words.

A step is "how ids", such as `time: clock 3.` or `left of 3 is 1 2.`; `none` stands for no ids. An id follows the word
that is looked up at once, and each is one token with its blank: a small policy learns to look from such steps several
times as fast as from `white: 1,2.` (experiments/cold_start). A step that a person could doubt (two centres closer than
GAP, two sizes closer than RATIO) gives None in place of a draft.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dtr1_jax.data.queries import phrases, uses
from dtr1_jax.data.queries.attributes import COLOUR, MATERIAL, SIZE, SIZES, VALUES
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.types import Instance

GAP = 0.05  # centres nearer than this along an axis are neither left nor right of each other, unit frame
RATIO = 1.3  # areas of visible boxes within this factor are neither larger nor smaller
_DRAWS = 14  # questions drawn for one query


@dataclasses.dataclass(frozen=True)
class Draft:
    """A question under way.

    Attributes:
      ids: the objects it means, ascending.
      steps: the reasoning that found them.
      text: a noun phrase, or the whole query where `whole`.
      narrow: filters that left something out minus those that did not.
    """

    ids: tuple[int, ...]
    steps: tuple[str, ...] = ()
    text: str = ""
    whole: bool = False
    narrow: int = 0


@dataclasses.dataclass(frozen=True)
class Asker:
    """What every question needs: randomness, split of the phrasings, objects by id, wished number of answers."""

    rng: np.random.Generator
    split: str
    scene: dict[int, Instance]
    want: str  # "none", "one" or "many"

    def pick(self, items):
        """One of `items`."""
        return pick(self.rng, items)

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return bool(self.rng.random() < share)

    def say(self, pool: phrases.Phrases, *parts: str) -> str:
        """One of the split's phrases, with `parts` in its places."""
        return self.pick(getattr(pool, self.split)).format(*parts)


def centre(thing: Instance) -> tuple[float, float]:
    """Centre x, y of the visible box, unit frame."""
    return (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2


def _larger(a: Instance, b: Instance) -> float:
    """Offset by visible box; 0 where occlusion makes a small object look larger than a large one."""
    area_a, area_b = ((t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for t in (a, b))
    offset = float(np.log(area_a / area_b) / np.log(RATIO))
    kind = SIZES.index(a.attributes[SIZE]) - SIZES.index(b.attributes[SIZE])
    return 0.0 if kind * offset < 0 else offset


# How far `a` is on the named side of `b`: yes from 1 on, no up to -1, doubtful between.
OFFSETS: dict[str, Callable[[Instance, Instance], float]] = {
    "left of": lambda a, b: (centre(b)[0] - centre(a)[0]) / GAP,
    "right of": lambda a, b: (centre(a)[0] - centre(b)[0]) / GAP,
    "above": lambda a, b: (centre(b)[1] - centre(a)[1]) / GAP,
    "below": lambda a, b: (centre(a)[1] - centre(b)[1]) / GAP,
    "in front of": lambda a, b: b.depth - a.depth,
    "behind": lambda a, b: a.depth - b.depth,
    "larger than": _larger,
    "smaller than": lambda a, b: -_larger(a, b),
}
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


def listed(ids: Sequence[int]) -> str:
    """Ids as a thought writes them after a word."""
    return "".join(f" {i}" for i in ids) or " none"


def everything(a: Asker) -> Draft:
    """All objects, before the first step."""
    return Draft(tuple(a.scene))


def lookup(a: Asker, use: uses.Use) -> Draft:
    """All objects that serve `use`; the step names their categories."""
    found = {label: [i for i, thing in a.scene.items() if thing.label == label] for label in use.labels}
    named = [label + listed(ids) for label, ids in found.items() if ids] or [use.labels[0] + listed(())]
    ids = tuple(i for i, thing in a.scene.items() if thing.label in use.labels)
    return Draft(ids, (f"{use.name}: {', '.join(named)}.",))


def keep(draft: Draft, how: str, ids: Iterable[int], *between: str) -> Draft | None:
    """The draft cut down to `ids` by the filter `how`, after the steps `between`; None where it is empty already."""
    if not draft.ids:
        return None
    ids = tuple(i for i in draft.ids if i in set(ids))
    narrow = draft.narrow + (1 if len(ids) < len(draft.ids) else -1)
    return Draft(ids, (*draft.steps, *between, f"{how}{listed(ids)}."), narrow=narrow)


def attribute(
    a: Asker, draft: Draft, last: bool, places: Sequence[int] = (COLOUR, SIZE, MATERIAL)
) -> tuple[Draft, str]:
    """A draft (not empty) filtered by an attribute at one of `places`, and its word; only a `last` step ends empty."""
    place = a.pick(places)
    present = [a.scene[i].attributes[place] for i in draft.ids]
    absent = [value for value in VALUES[place] if value not in present]
    word = a.pick(absent if last and a.want == "none" and absent else present)
    return keep(draft, word, having(a, draft, place, word)), word


def having(a: Asker, draft: Draft, place: int, word: str) -> list[int]:
    """Ids of the draft whose attribute at `place` is `word`."""
    return [i for i in draft.ids if a.scene[i].attributes[place] == word]


def relation(a: Asker, draft: Draft, name: str, anchor: int, *between: str) -> Draft | None:
    """The draft's objects in a relation to object `anchor`; None where one is too close to call."""
    offsets = {i: OFFSETS[name](a.scene[i], a.scene[anchor]) for i in draft.ids if i != anchor}
    if any(abs(offset) < 1 for offset in offsets.values()):
        return None
    return keep(draft, f"{name} {anchor} is", [i for i, offset in offsets.items() if offset > 0], *between)


def extreme(a: Asker, draft: Draft, name: str) -> Draft | None:
    """The one of at least two objects that is most `name`; None where another comes too close."""
    if len(draft.ids) < 2:
        return None
    offset = OFFSETS[EXTREMES[name]]
    for best in draft.ids:
        if all(offset(a.scene[best], a.scene[i]) >= 1 for i in draft.ids if i != best):
            return keep(draft, name, [best])
    return None


def alone(a: Asker) -> Instance | None:
    """A drawn object that is the only one of its category, to stand as an anchor for others."""
    counts = Counter(thing.label for thing in a.scene.values())
    single = [thing for thing in a.scene.values() if counts[thing.label] == 1]
    return a.pick(single) if single and len(a.scene) > 1 else None


def choose(
    a: Asker,
    kinds: Sequence[Callable[[Asker], Draft | None]],
    prefer: frozenset[int] = frozenset(),
    accept: Callable[[Draft], bool] = lambda draft: True,
) -> Draft | None:
    """The best of some draws of `kinds`: one with as many objects as wanted, with one of `prefer`, and with steps that
    leave something out. None where no draw gives a draft that `accept` takes.
    """
    best, best_score = None, -np.inf
    for _ in range(_DRAWS):
        draft = a.pick(kinds)(a)
        if draft is None or not accept(draft):
            continue
        fits = ("none", "one", "many")[min(2, len(draft.ids))] == a.want
        liked = not prefer or a.want == "none" or not prefer.isdisjoint(draft.ids)
        score = 4 * fits + 3 * liked + min(draft.narrow, 1)
        if score > best_score:
            best, best_score = draft, score
        if fits and liked and draft.narrow >= 0:
            break
    return best
