"""Queries about time, each with its answer and the oracle's reasoning.

As in queries.py, a kind of question is a function that draws one such question and answers it by a chain of steps, or
says None where the video does not allow it or a person could doubt the answer. What moves and when is read from boxes
(data/queries/motion.py), so that the same questions can be asked of any annotated video.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dtr1_jax.data.queries import motion, phrases, uses
from dtr1_jax.data.queries import temporal_phrases as words
from dtr1_jax.data.queries.chains import Asker, Draft, alone, attribute, choose, everything, keep
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import Move
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.queries.wording import NOUN, adjective, anchor_of, phrase, said
from dtr1_jax.types import Instance

RATIO = 1.4  # of speeds: within this factor neither is faster
_PRESENT = ("enters", "leaves", "hidden", "stays")
_RELATIONS = tuple(words.RELATIONS)
NEARER = 0.1  # by so much of the picture's side a distance shrinks or grows, or the answer is doubtful


@dataclasses.dataclass(frozen=True)
class Watcher(Asker):
    """An Asker of a video: `moves` has the motion of each object, by id."""

    moves: dict[int, Move] = dataclasses.field(default_factory=dict)


def watcher(rng: np.random.Generator, split: str, scene: Sequence[Instance], want: str) -> Watcher:
    """What every question needs; objects that are never seen are left out. `want`: as in chains.Asker."""
    found = {item.id: motion.move(item) for item in scene}
    there = {item.id: item for item in scene if found[item.id] is not None}
    return Watcher(rng, split, there, want, {i: found[i] for i in there})


# What an object does: True, False, or None where it is doubtful.


def _does(move: Move, state: str) -> bool | None:
    end = len(move.seen) - 1
    if state == "still":
        return None if move.moves is None else not move.moves
    if state == "moves":
        return move.moves
    if state == "enters":
        return move.first > 0
    if state == "leaves":
        return move.last < end
    if state == "stays":
        return move.first == 0 and move.last == end and not move.hidden
    if state == "hidden":
        return bool(move.hidden)
    if state == "turns":
        return None if move.turns is None else move.turns > 0
    return None if move.way is None else move.way == state.removeprefix("moves ")


def state(a: Watcher, draft: Draft | None, name: str) -> Draft | None:
    """The draft's objects that do what `name`, one of temporal_phrases.STATES, says."""
    if draft is None:
        return None
    does = {i: _does(a.moves[i], name) for i in draft.ids}
    if any(value is None for value in does.values()):
        return None
    return keep(draft, name, [i for i, value in does.items() if value])


def fastest(a: Watcher, draft: Draft | None, name: str) -> Draft | None:
    """The "fastest" or "slowest" of at least two objects that move; None where one comes too close or turns back."""
    draft = state(a, draft, "moves")
    if draft is None or len(draft.ids) < 2 or any(a.moves[i].turns != 0 for i in draft.ids):
        return None
    ranked = sorted(draft.ids, key=lambda i: a.moves[i].speed, reverse=name == "fastest")
    one, two = (a.moves[i].speed for i in ranked[:2])
    if max(one, two) < RATIO * min(one, two):
        return None
    return keep(draft, name, ranked[:1])


def order(a: Watcher, draft: Draft | None, name: str) -> Draft | None:
    """The one that is `name`, as "first to leave", of at least two that do; None where two do at once."""
    which, _, verb = name.partition(" to ")
    event = {"enter": "enters", "leave": "leaves"}[verb]
    draft = state(a, draft, event)
    if draft is None or len(draft.ids) < 2:
        return None
    ranked = sorted(draft.ids, key=lambda i: _time(a.moves[i], event), reverse=which == "last")
    if _time(a.moves[ranked[0]], event) == _time(a.moves[ranked[1]], event):
        return None
    return keep(draft, name, ranked[:1])


def _time(move: Move, event: str) -> int:
    """The first frame after the event: what enters is in it, what leaves is not. It happens just before."""
    return move.first if event == "enters" else move.last + 1


def related(a: Watcher, draft: Draft | None, name: str, anchor: int, *between: str) -> Draft | None:
    """The draft's objects in a relation of temporal_phrases.RELATIONS to object `anchor`, which moves, or, for
    "towards" and "away from", stands still in sight; None where one is too close to call.
    """
    if draft is None:
        return None
    does = {i: _relates(a.moves[i], a.moves[anchor], name) for i in draft.ids if i != anchor}
    if any(value is None for value in does.values()):
        return None
    return keep(draft, f"{name} {anchor} is", [i for i, value in does.items() if value], *between)


def _relates(move: Move, to: Move, name: str) -> bool | None:
    if name in ("towards", "away from"):
        if to.moves is not False:
            return None
        if move.moves is False:
            return False
        far = np.hypot(*(move.centre - to.centre[to.first]).T)[move.first : move.last + 1]
        grows = float(far[-1] - far[0])
        if move.moves is None or abs(grows) < NEARER or move.turns != 0:
            return None
        nearest = far[-1] if grows < 0 else far[0]
        if nearest > far.min() + motion.STILL:  # it came nearer first, and went away then
            return None
        return (grows < 0) == (name == "towards")
    if not to.moves or move.moves is None:
        return None
    if name == "same way as":
        return None if None in (move.way, to.way) else move.way == to.way
    if to.turns != 0 or (move.moves and move.turns != 0):
        return None
    if move.moves and max(move.speed, to.speed) < RATIO * min(move.speed, to.speed):
        return None
    return bool(move.moves) and (move.speed > to.speed) == (name == "faster than")


def timed(a: Watcher, draft: Draft | None, event: str, when: str, anchor: int, of: str, *between: str) -> Draft | None:
    """The draft's objects that do `event` before or after object `anchor` does `of`; None where it does not, or where
    one does at the same time.
    """
    if not _does(a.moves[anchor], of):
        return None
    draft = state(a, draft, event)
    if draft is None:
        return None
    at = _time(a.moves[anchor], of)
    times = {i: _time(a.moves[i], event) for i in draft.ids if i != anchor}
    if any(abs(time - at) < 1 for time in times.values()):
        return None
    ids = [i for i, time in times.items() if (time < at) == (when == "before")]
    return keep(draft, f"{when} {anchor} {of}", ids, *between)


# Questions.


def _drawn_state(a: Watcher) -> str:
    """A state that some object is in, or, where nothing is wanted, perhaps none is."""
    names = tuple(words.STATES)
    if a.want != "none" or a.chance(0.3):
        held = [n for n in names if any(_does(move, n) for move in a.moves.values())]
        names = tuple(held) or names
    else:
        names = tuple(n for n in names if not any(_does(move, n) for move in a.moves.values())) or names
    return a.pick(names)


def _state_alone(a: Watcher) -> Draft | None:
    name = _drawn_state(a)
    return said(a, state(a, everything(a), name), NOUN, a.say(words.STATES[name]))


def _state_attribute(a: Watcher) -> Draft | None:
    name = _drawn_state(a)
    before = state(a, everything(a), name)
    if before is None or not before.ids:
        return None
    draft, word = attribute(a, before, last=True)
    return said(a, draft, adjective(word), NOUN, a.say(words.STATES[name]))


def _two_states(a: Watcher) -> Draft | None:
    one, two = _drawn_state(a), _drawn_state(a)
    draft = state(a, everything(a), one)
    # one about being there and one about moving, so that they neither repeat nor contradict one another
    if (one in _PRESENT) == (two in _PRESENT) or draft is None or not draft.ids:
        return None
    return said(a, state(a, draft, two), NOUN, a.say(words.STATES[one]), "and", a.say(words.STATES[two]))


def _most(a: Watcher, draft: Draft | None, names: Iterable[str], *parts: str) -> Draft | None:
    """The object of the draft that is most something in time, with its noun phrase."""
    name = a.pick(tuple(names))
    draft = (order if " to " in name else fastest)(a, draft, name)
    return draft and dataclasses.replace(draft, text=a.say(words.EXTREMES[name], phrase(a, parts)))


def _extreme_alone(a: Watcher) -> Draft | None:
    return _most(a, everything(a), words.EXTREMES, NOUN)


def _attribute_extreme(a: Watcher) -> Draft | None:
    draft, word = attribute(a, everything(a), last=False)
    return _most(a, draft, words.EXTREMES, adjective(word), NOUN)


def _anchor(a: Watcher) -> tuple[Draft, str] | None:
    """An object to stand as an anchor, named by its use, or by its name where no use is known of it."""
    if all(thing.label in uses.BY_LABEL for thing in a.scene.values()):
        return anchor_of(a)
    thing = alone(a)
    return thing and (Draft((thing.id,), (f"{thing.label} {thing.id}.",)), f"the {thing.label}")


def _related(a: Watcher, names: Sequence[str]) -> tuple[Draft, str] | None:
    """Objects in a relation of time to an anchor, and the words for it."""
    found = _anchor(a)
    if found is None:
        return None
    (anchor, noun), name = found, a.pick(names)
    if name in words.TIMES:
        event, of = a.pick(tuple(words.EVENTS)), a.pick(tuple(words.EVENTS))
        draft = timed(a, everything(a), event, name, anchor.ids[0], of, *anchor.steps)
        clause = a.say(words.EVENTS[event][0], name, a.say(words.EVENTS[of][1], noun))
    else:
        draft = related(a, everything(a), name, anchor.ids[0], *anchor.steps)
        clause = a.say(words.RELATIONS[name], noun)
    return draft and (draft, clause)


def _related_alone(a: Watcher, names: Sequence[str] = _RELATIONS) -> Draft | None:
    found = _related(a, names)
    return found and said(a, found[0], NOUN, found[1])


def _timed_alone(a: Watcher) -> Draft | None:
    return _related_alone(a, words.TIMES)


def _related_attribute(a: Watcher, names: Sequence[str] = _RELATIONS) -> Draft | None:
    found = _related(a, names)
    if found is None or not found[0].ids:
        return None
    draft, word = attribute(a, found[0], last=True)
    return said(a, draft, adjective(word), NOUN, found[1])


def _timed_attribute(a: Watcher) -> Draft | None:
    return _related_attribute(a, words.TIMES)


def _related_state(a: Watcher, names: Sequence[str] = _RELATIONS) -> Draft | None:
    found, name = _related(a, names), _drawn_state(a)
    if found is None or not found[0].ids or name in ("moves", "still"):
        return None
    return said(a, state(a, found[0], name), NOUN, found[1], "and", a.say(words.STATES[name]))


def _timed_state(a: Watcher) -> Draft | None:
    return _related_state(a, words.TIMES)


def _related_extreme(a: Watcher) -> Draft | None:
    found = _related(a, (*_RELATIONS, *words.TIMES))
    return found and _most(a, found[0], words.EXTREMES, NOUN, found[1])


def _state_attribute_extreme(a: Watcher) -> Draft | None:
    """As "the fastest red thing that leaves the picture"."""
    name = _drawn_state(a)
    draft = state(a, everything(a), name)
    if draft is None or not draft.ids or name in ("moves", "still"):
        return None
    draft, word = attribute(a, draft, last=False)
    return _most(a, draft, words.EXTREMES, adjective(word), NOUN, a.say(words.STATES[name]))


KINDS: dict[int, tuple[Callable[[Watcher], Draft | None], ...]] = {
    1: (_state_alone,),
    2: (_state_attribute, _extreme_alone, _related_alone),
    3: (_attribute_extreme, _related_attribute, _timed_alone),
    4: (_timed_attribute, _related_extreme, _state_attribute_extreme),
}
COUNTED = {  # those whose answer can be no object, one or several
    1: (_state_alone,),
    2: (_state_attribute, _related_alone),
    3: (_related_attribute, _timed_alone),
    4: (_timed_attribute,),
}
BARE = {  # of objects without known attributes
    1: (_state_alone,),
    2: (_extreme_alone, _two_states, _related_alone),
    3: (_related_state, _timed_alone),
    4: (_related_extreme, _timed_state),
}


def ask(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    level: int,
    want: str,
    prefer: frozenset[int] = frozenset(),
    *,
    bare: bool = False,
) -> Query | None:
    """A query about time of one level; None where the video allows none.

    Args:
      split, want, prefer: as of queries.ask.
      scene: objects with `boxes` for each frame.
      bare: whether attributes are not known: questions that need none.
    """
    a = watcher(rng, split, scene, want)
    best = choose(a, (BARE if bare else KINDS)[level], prefer) if a.scene else None
    if best is None:
        return None
    text = pick(rng, getattr(phrases.FRAMES, split)).format(best.text)
    return Query(text, " ".join(best.steps), best.ids, "temporal", level)
