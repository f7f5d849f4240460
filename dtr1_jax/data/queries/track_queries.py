"""Queries about what happens to tracked objects of real videos, where the tracks settle the answer by a margin.

In a generated video an object that is not visible has left or is hidden, and the scene says which. In a real video it
may also be behind something, and a specialist may have missed it. So each fact of an object is True, False or None =
doubtful, and a query is asked only if no object that it could mean is doubtful:

    enters    not visible in the first frames, then visible in SEEN frames in a row or more, first at the picture's edge
    leaves    the same, backwards in time
    stays     visible in each frame
    hidden    not visible for a while between two frames in which it is not at the edge
    grows     its mask becomes larger by GROWN and both sides of its box by WIDER, almost steadily, and it is not cut by
              the edge at the beginning and at the end; it does not grow if its size changes by less than SAME
    shrinks   the same, backwards in time
    nearer    it grows, and both sides of its box by NEARER, in the picture and relative to the background; a thing that
              turns becomes wider, but not higher
    farther   the same, backwards in time

Whether it moves, and where to, is measured by motion.py (`measure_track`), on boxes without the motion of the camera,
and is doubtful where fewer than three frames show the object.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from dtr1_jax.data.queries.chains import ids_text
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import Motion, measure_track
from dtr1_jax.data.queries.phrases import DETERMINERS, Phrases
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.queries.temporal_chains import is_in_state
from dtr1_jax.data.queries.temporal_phrases import EXTREMES, STATES
from dtr1_jax.types import Instance, Program

EDGE = 0.03  # unit frame: a box that comes as near to the edge of the picture may be cut by it
SEEN = 2  # frames
GROWN, WIDER, NEARER = 1.4, 1.2, 1.6  # factors of the square root of a mask's pixels, and of a box's sides
SAME = 1.15
STEADY = 0.9  # of its size before: something that grows never shrinks by more from one frame to the next

SENTENCES = Phrases(  # that ask for objects, of any number
    ("find {}.", "show me {}.", "point to {}.", "select {}.", "look at {}."),
    ("please point at {}.", "mark {}.", "look for {}."),
    ("spot {}.", "please show {}."),
)
GROWTH = {
    "grows": Phrases(
        ("that becomes larger in the picture", "that looks larger and larger", "that takes up more and more room"),
        ("that becomes bigger in the picture",),
        ("which looks bigger and bigger",),
    ),
    "shrinks": Phrases(
        ("that becomes smaller in the picture", "that looks smaller and smaller", "that takes up less and less room"),
        ("that becomes tinier in the picture",),
        ("which looks tinier and tinier",),
    ),
    "nearer": Phrases(
        ("that comes nearer to the camera", "that comes closer to us"),
        ("that is coming nearer to us",),
        ("which comes closer to the camera",),
    ),
    "farther": Phrases(
        ("that goes away from the camera", "that goes farther away from us"),
        ("that is going away from us",),
        ("which goes farther from the camera",),
    ),
}
PRESENCE = ("enters", "leaves", "stays", "hidden")
MOTION = ("moves left", "moves right", "moves up", "moves down", "moves", "still", "turns")
ORDERS = ("first to enter", "last to enter", "first to leave", "last to leave")

Facts = dict[str, bool | None]
Factors = tuple[np.ndarray, np.ndarray, np.ndarray]  # square root of the pixels, width and height, by frame


@dataclasses.dataclass(frozen=True)
class Tracked:
    """The objects of a video with what is known of them.

    Attributes:
      scene: the objects that are visible in some frame, by id.
      facts: id -> name -> True, False or None.
      motions: id -> its motion without that of the camera, of the objects of which that is known; {} if the camera's
        motion is not known.
      is_still: whether the camera stands still, so that a program measures motion in the picture rightly.
    """

    scene: dict[int, Instance]
    facts: dict[int, Facts]
    motions: dict[int, Motion]
    is_still: bool


def tracked(
    scene: Sequence[Instance], world: Sequence[Instance] | None, is_still: bool, exact: bool, absent: int = 1
) -> Tracked:
    """Measures the facts of all objects.

    Args:
      scene: the objects, with boxes and masks in each frame.
      world: the same objects with boxes without the motion of the camera, but for those of which it is not known;
        None = it is known of none.
      is_still: whether the camera stands still.
      exact: whether each frame in which an object is visible shows it in its mask, as people annotate; a specialist
        misses some, so that a gap between two sightings says nothing.
      absent: frames without an object before it enters, or after it leaves, at least.
    """
    seen = {one.id: one for one in scene if _visible(one).any()}
    placed = {one.id: one for one in world or ()}
    measured = {i: measure_track(one, np.asarray(seen[i].boxes)) for i, one in placed.items() if i in seen}
    motions = {i: motion for i, motion in measured.items() if motion is not None}
    facts = {}
    for i, one in seen.items():
        known = presence(one, exact, absent) | growth(one, placed.get(i))
        known |= {name: is_in_state(motions[i], name) if i in motions else None for name in MOTION}
        facts[i] = known
    return Tracked(seen, facts, motions, is_still)


def settles(program: Program, objects: Tracked) -> bool:
    """Whether no object is doubtful in a state of being visible that the program reads, such as "enters"."""
    words = _words(program)
    verbs = {"enters": ("enter", "enters"), "leaves": ("leave", "leaves"), "stays": ("stays",), "hidden": ("hidden",)}
    read = [name for name, ends in verbs.items() if any(word.split()[-1] in ends for word in words)]
    return all(facts[name] is not None for facts in objects.facts.values() for name in read)


def sample(
    rng: np.random.Generator, split: str, objects: Tracked, names: Sequence[str] = (),
    nouns: Mapping[str, str] | None = None,
) -> Query | None:  # fmt: skip
    """Draws a query such as "find the dog that becomes larger in the picture."; None if the tracks settle none.

    A query that leaves out objects of its label is preferred, because it needs the fact.

    Args:
      split: whose words are used.
      objects: the video.
      names: facts to ask for, keys of GROWTH, PRESENCE, MOTION or ORDERS; () = all.
      nouns: label -> noun of queries, where it is not the label itself.
    """
    groups: dict[str, list[int]] = {}
    for i, one in objects.scene.items():
        groups.setdefault(one.label, []).append(i)
    wanted = names or (*GROWTH, *PRESENCE, *MOTION, *ORDERS)
    candidates = [
        (label, name, ids) for label in groups for name in wanted if (ids := _answer(objects, groups[label], name))
    ]
    selective = [one for one in candidates if len(one[2]) < len(groups[one[0]])]
    if not candidates:
        return None
    label, name, ids = pick(rng, selective or candidates)
    noun = (nouns or {}).get(label, label)
    if name in ORDERS:
        text = pick(rng, getattr(EXTREMES[name], split)).format(noun)
    else:
        word = "the" if len(ids) == 1 else pick(rng, getattr(DETERMINERS, split))
        text = f"{word} {noun} {pick(rng, getattr((GROWTH | STATES)[name], split))}"
    text = pick(rng, getattr(SENTENCES, split)).format(text)
    thought = f"{label}{ids_text(groups[label])}. {name}{ids_text(ids)}."
    is_program = name not in GROWTH and (objects.is_still or name not in MOTION)
    program = (name, ("label", label)) if is_program and label == noun else ()
    return Query(text, thought, tuple(ids), "temporal", 1, program)


def presence(one: Instance, exact: bool, absent: int) -> Facts:
    """Whether an object enters, leaves, stays or is hidden for a while; see the table at the top."""
    visible = _visible(one)
    facts: Facts = {"enters": _enters(one, absent), "leaves": _enters(_backwards(one), absent)}
    times = np.flatnonzero(visible)
    gone = [(a, b) for a, b in itertools.pairwise(times) if b - a > 1]
    facts["stays"] = True if visible.all() else False if facts["enters"] or facts["leaves"] else None
    clear = exact and not any(_at_edge(one.boxes[t]) for pair in gone for t in pair)
    facts["hidden"] = False if not gone else True if clear else None
    return facts


def growth(one: Instance, placed: Instance | None) -> Facts:
    """Whether an object grows, shrinks, comes nearer or goes farther; `placed` as in `tracked`."""
    whole = _whole(one)
    if whole is None:
        return dict.fromkeys(GROWTH)
    factors = _factors(one, one, whole)
    if not factors[0].all():  # a mask is empty where its box is not
        return dict.fromkeys(GROWTH)
    world = None if placed is None else _factors(one, placed, whole)
    same = _is_same(factors)
    unchanged = same and world is not None and _is_same(world)
    grows, shrinks = _grows(factors), _grows(_reversed(factors))
    nearer = grows and world is not None and _approaches(factors) and _approaches(world)
    farther = shrinks and world is not None and _approaches(_reversed(factors)) and _approaches(_reversed(world))
    facts: Facts = {"grows": grows, "shrinks": shrinks}
    moved: Facts = {"nearer": nearer, "farther": farther}
    facts = facts if grows or shrinks or same else dict.fromkeys(facts)
    return facts | (moved if nearer or farther or unchanged else dict.fromkeys(moved))


def _is_same(factors: Factors) -> bool:
    return all(float(sizes.max()) <= SAME * float(sizes.min()) for sizes in factors)


def _grows(factors: Factors) -> bool:
    area, width, height = (float(sizes[-1] / sizes[0]) for sizes in factors)
    steady = bool((factors[0][1:] >= STEADY * factors[0][:-1]).all())
    return area >= GROWN and min(width, height) >= WIDER and steady


def _approaches(factors: Factors) -> bool:
    return min(float(sizes[-1] / sizes[0]) for sizes in factors[1:]) >= NEARER


def _reversed(factors: Factors) -> Factors:
    return factors[0][::-1], factors[1][::-1], factors[2][::-1]


def _answer(objects: Tracked, ids: Sequence[int], name: str) -> list[int]:
    """The objects of `ids` that a fact is true of; [] if one is doubtful, or if it is true of none."""
    if name not in ORDERS:
        facts = [objects.facts[i][name] for i in ids]
        return [] if None in facts else [i for i, fact in zip(ids, facts) if fact]
    rank, _, verb = name.partition(" to ")
    event = f"{verb}s"
    taking_part = _answer(objects, ids, event)
    if len(taking_part) < 2:
        return []
    times = {i: np.flatnonzero(_visible(objects.scene[i]))[0 if verb == "enter" else -1] for i in taking_part}
    ranking = sorted(taking_part, key=times.__getitem__, reverse=rank == "last")
    return ranking[:1] if times[ranking[0]] != times[ranking[1]] else []


def _enters(one: Instance, absent: int) -> bool | None:
    visible = _visible(one)
    first = int(visible.argmax())
    if first == 0:
        return False
    return (
        True if first >= absent and visible[first : first + SEEN].sum() == SEEN and _at_edge(one.boxes[first]) else None
    )


def _whole(one: Instance) -> np.ndarray | None:
    """bool[T], the frames that show an object whole, away from the edge.

    None if these are fewer than three, or if the first or the last frame of its track is none of them.
    """
    if one.masks is None:
        return None
    times = np.flatnonzero(_visible(one))
    whole = _visible(one) & ~np.array([_at_edge(box) for box in one.boxes])
    return whole if whole.sum() >= 3 and whole[times[0]] and whole[times[-1]] else None


def _factors(one: Instance, placed: Instance, whole: np.ndarray) -> Factors:
    """The sizes of an object in the frames `whole`: its pixels, and the sides of the boxes of `placed`."""
    boxes = np.asarray(placed.boxes, np.float64)[whole]
    pixels = np.sqrt(np.asarray(one.masks)[whole].sum((1, 2), dtype=np.float64))
    return pixels, boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def _visible(one: Instance) -> np.ndarray:
    boxes = np.asarray(one.boxes)
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _at_edge(box: np.ndarray) -> bool:
    return bool(min(box[0], box[1]) < EDGE or max(box[2], box[3]) > 1 - EDGE)


def _backwards(one: Instance) -> Instance:
    return dataclasses.replace(one, boxes=np.asarray(one.boxes)[::-1], masks=None)


def _words(program: Program) -> list[str]:
    """All words of a program."""
    return [word for part in program for word in ([part] if isinstance(part, str) else _words(part))]
