"""What a scene or video, or some of its objects, is about in one paragraph: reference texts from its annotation.

Most requests are implicit: they mean some objects, as a query that points does, and to find these takes reasoning. All
wordings say the same of the same objects in the same order: what they are and where, or, of a video, what they do. The
first wording is the oracle's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries import motion, temporal
from dtr1_jax.data.queries.chains import Asker, Draft, centre, listed
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import Move
from dtr1_jax.data.queries.phrases import ADJECTIVES, Phrases
from dtr1_jax.data.queries.questions import NUMBERS, Question, meant
from dtr1_jax.types import Instance

ASK = {
    "picture": Phrases(
        (
            "describe the picture.",
            "what can be seen here?",
            "say in a few words what is here.",
            "say what can be seen here.",
            "say what is in the picture.",
            "describe what is here.",
        ),
        ("please describe what is in the picture.", "say what can be seen in the picture."),
    ),
    "video": Phrases(
        (
            "describe the video.",
            "what happens here?",
            "say in a few words what happens.",
            "say what can be seen here.",
            "say what happens in the video.",
            "describe what happens here.",
        ),
        ("please describe what happens in the video.", "say what can be seen in the video."),
    ),
}
ASK_OF = {  # about some objects
    "picture": Phrases(
        (
            "describe {}.",
            "describe {} in a few words.",
            "say how {} looks.",
            "say in a few words how {} looks.",
            "what can be seen of {}?",
        ),
        ("please describe {}.", "say what can be seen of {}."),
    ),
    "video": Phrases(
        (
            "describe {}.",
            "say what {} does.",
            "say in a few words what {} does.",
            "describe what {} does.",
            "what happens to {}?",
        ),
        ("please describe {}.", "say what happens to {}."),
    ),
}
_WHOLE = 0.25  # share of the requests that mean all objects
_MOST = 4  # objects of the others, so that twin, thought and paragraph have room beside each other
_TRIES = 6  # kinds of request drawn before all objects are described
_WISHES = ("none", "one", "one", "one", "many", "many", "many", "many")
_NOTHING = ("there is no such thing.", "we see no such thing.", "no such thing can be seen.")  # one for each wording
_THIRD = 0.4, 0.6  # centres between these, as shares of the width, are in the middle
_PLACES = {  # one phrase for each wording
    "left": ("on the left", "at the left side", "to the left"),
    "middle": ("in the middle", "near the middle", "in the centre"),
    "right": ("on the right", "at the right side", "to the right"),
}
_DEEDS = {  # what a move says: one phrase for each wording
    "still": ("stays where it is", "does not move", "stands still"),
    "left": ("moves to the left", "goes left", "moves left"),
    "right": ("moves to the right", "goes right", "moves right"),
    "up": ("moves up", "goes up", "moves to the top"),
    "down": ("moves down", "goes down", "moves to the bottom"),
    "moves": ("moves", "changes its place", "is moving"),
    "turns": ("moves and turns back", "goes one way and comes back", "moves, turns and comes back"),
    "hidden": ("is hidden for a while", "goes out of sight and comes back", "is out of sight for a while"),
    "enters": ("comes in", "comes into the picture", "enters"),
    "leaves": ("leaves", "goes out of the picture", "is gone at the end"),
}
WORDINGS = 3


def summary(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    *,
    video: bool = False,
    prefer: frozenset[int] = frozenset(),
) -> Question:
    """The request for a summary with WORDINGS references, the oracle's first.

    Args:
      split: "train" or "heldout", whose phrasings of the request are used.
      scene: the objects, at least one; of a `video` with boxes over time, each seen in some frame.
      prefer: ids of which one should be described, if possible.
    """
    ordered = sorted(scene, key=lambda thing: thing.id)
    found = None if rng.random() < _WHOLE else _of_some(rng, split, ordered, video, prefer)
    return found or _of_all(rng, split, ordered, video)


def _of_some(rng, split, ordered, video, prefer) -> Question | None:
    """A request that means some objects; None where the scene allows none."""
    for _ in range(_TRIES):
        want = pick(rng, _WISHES)
        a = (temporal.watcher if video else _asker)(rng, split, ordered, want)
        counted = want != "one"
        draft, category, level = meant(a, video=video, timed=video, counted=counted, prefer=prefer, accept=_describable)
        if draft is not None:
            break
    else:
        return None
    things = [a.scene[i] for i in draft.ids]
    text = a.say(ASK_OF["video" if video else "picture"], draft.text)
    if not things:
        return Question(text, _NOTHING, " ".join(draft.steps), category, level)
    texts, steps = _texts(things, video), draft.steps
    if len(things) > 1 and not video:
        near, far = _ends(things)
        steps = (*steps, f"nearest {near.id}.", f"farthest {far.id}.")
    return Question(text, texts, " ".join(steps), category, level)


def _asker(rng, split, things, want) -> Asker:
    return Asker(rng, split, {thing.id: thing for thing in things}, want)


def _describable(draft: Draft) -> bool:
    return not draft.whole and len(draft.ids) <= _MOST


def _texts(things: Sequence[Instance], video: bool) -> tuple[str, ...]:
    """All wordings of a summary of these."""
    if video:
        found = [motion.move(thing) for thing in things]
        return tuple(_film(things, found, k) for k in range(WORDINGS))
    return tuple(_picture(things, k) for k in range(WORDINGS))


def _of_all(rng, split, ordered, video) -> Question:
    """A request that means all objects."""
    text = pick(rng, getattr(ASK["video" if video else "picture"], split))
    if video:
        found = [motion.move(thing) for thing in ordered]
        steps = [f"in order{listed([thing.id for thing in ordered])}."]
        for state, holds in (
            ("moves", lambda m: m.moves), ("enters", lambda m: m.first > 0),
            ("leaves", lambda m: m.last < len(m.seen) - 1),
        ):  # fmt: skip
            steps.append(f"{state}{listed([t.id for t, m in zip(ordered, found) if holds(m)])}.")
        return Question(text, _texts(ordered, video), " ".join(steps), "temporal", 4)
    near, far = _ends(ordered)
    steps = [f"left to right{listed([thing.id for thing in ordered])}."]
    if len(ordered) > 1:
        steps += [f"nearest {near.id}.", f"farthest {far.id}."]
    return Question(text, _texts(ordered, video), " ".join(steps), "spatial", len(steps))


def _picture(things: Sequence[Instance], k: int) -> str:
    """Wording k of a picture's summary."""
    parts = [f"{_named(thing, k)} {_PLACES[_place(thing)][k]}" for thing in things]
    text = f"{_opening(len(things), k)} {_joined(parts)}."
    if len(things) > 1:
        near, far = (_known(thing, things) for thing in _ends(things))
        text += (
            f" {near} is nearest and {far} is farthest away.",
            f" nearest to us is {near}, farthest from us is {far}.",
            f" {near} is in front of all and {far} is behind all.",
        )[k]
    return text


def _film(things: Sequence[Instance], found: Sequence[Move], k: int) -> str:
    """Wording k of a video's summary."""
    parts = [f"{_named(thing, k)} that {_deeds(move, k)}" for thing, move in zip(things, found)]
    return f"{_opening(len(things), k)} {_joined(parts)}."


def _opening(count: int, k: int) -> str:
    things = f"{NUMBERS[count]} thing{'s' * (count > 1)}"
    return (f"there {'is' if count == 1 else 'are'} {things}:", f"we see {things}:", f"{things} can be seen:")[k]


def _named(thing: Instance, k: int) -> str:
    colour, size, material = thing.attributes
    made = ADJECTIVES.get(material, material)
    article = "an" if thing.label[0] in "aeiou" else "a"
    return (
        f"a {size} {colour} {made} {thing.label}",
        f"a {size} {thing.label}, {colour} and {made},",
        f"{article} {thing.label} that is {size}, {colour} and {made},",
    )[k]


def _ends(things: Sequence[Instance]) -> tuple[Instance, Instance]:
    """The nearest and the farthest."""
    ordered = sorted(things, key=lambda thing: thing.depth)
    return ordered[0], ordered[-1]


def _known(thing: Instance, things: Sequence[Instance]) -> str:
    """The shortest name that means one object alone."""
    same = [other for other in things if other.label == thing.label]
    if len(same) == 1:
        return f"the {thing.label}"
    if sum(other.attributes[0] == thing.attributes[0] for other in same) == 1:
        return f"the {thing.attributes[0]} {thing.label}"
    alone = sum(other.attributes == thing.attributes for other in same) == 1
    return f"{'the' if alone else 'a'} {_named(thing, 0).removeprefix('a ')}"


def _place(thing: Instance) -> str:
    x = centre(thing)[0]
    return "left" if x < _THIRD[0] else "right" if x > _THIRD[1] else "middle"


def _deeds(move: Move, k: int) -> str:
    """What an object does, in the order of time."""
    named = ["enters"] * (move.first > 0)
    named.append(move.way or ("turns" if move.turns else "still" if move.moves is False else "moves"))
    named += ["hidden"] * bool(move.hidden) + ["leaves"] * (move.last < len(move.seen) - 1)
    return _joined([_DEEDS[name][k] for name in named])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def pools():
    """Yields every Phrases of this module, for checks over all of them."""
    yield from ASK.values()
    yield from ASK_OF.values()
