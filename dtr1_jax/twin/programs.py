"""Executes the program of a generated query on the objects of any twin: the answer that follows from this twin.

A program (`types.Program`) is an operation with its arguments. P and Q are programs that give objects, w are words:

    ("all",)                          all objects
    ("label", w, ...)                 objects with one of these labels
    ("word", P, w), ("without", P, w) objects of P with and without an attribute
    ("both", P, Q)                    objects of P that are in Q too
    ("left of", P, Q), ...            objects of P in a relation to the object of Q (`_RELATIONS`, "before", "after")
    ("leftmost", P), ...              the one object of P that is most so (`_EXTREMES`)
    ("left half", P), ("moves", P), ...   objects of P in a place or state (`_STATES`)
    ("twice",)                        objects whose label occurs exactly twice
    ("most common", w, ...)           objects with the attribute, among these words, that most objects have
    ("most common label", w, ...)     objects with the label that most objects have; these labels are left out
    ("unshared", w, ...)              objects with an attribute, among these words, that no other object has
    ("sharing", Q, w, ...)            other objects with the attribute, among these words, that the object of Q has

A question wraps them into one of `_ANSWERS`: ("number", P), ("any", P), ("name", P), ("which word", P, (w, ...), ...),
("whether it moves", P), ("direction", P).

A twin may be wrong, so execution never refuses a close call: measured values decide, and objects that are equal stand
in the order of the twin. Three rules make it total:

- Where one object is meant ("left of the mug", "what colour is ...") and several fit, it is the largest one.
- Where one object is meant and none fits, or it lacks the attribute or event that is asked for, the program cannot be
  executed on this twin: `Result.executable` is False, and there are neither ids nor texts.
- An object without depth is neither in front nor behind, and neither nearest nor farthest.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.twin.things import Thing, plain
from dtr1_jax.types import Program


@dataclasses.dataclass(frozen=True)
class Result:
    """The answer of a program.

    Attributes:
      ids: ids of the objects at which the program ends, in the order of the twin.
      texts: right answers in words, which all mean the same; empty for a program without a question.
      executable: False if an object that the program needs is missing; then there are no ids and no texts.
      evidence: ids of the objects on which the answer rests: those that the program found or compared; all objects if
        `ids` is empty, since every object must be known to say that none fits.
    """

    ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    executable: bool = True
    evidence: frozenset[int] = frozenset()


class _NotExecutableError(Exception):
    """An object that the program needs is missing."""


class _Execution:
    """One execution: the objects of the twin, and the ids of those that were found or compared."""

    def __init__(self, things: Sequence[Thing]):
        self.things = list(things)
        self.used: set[int] = set()

    def objects(self, program: Program) -> list[Thing]:
        """The objects that a program gives. Raises _NotExecutableError."""
        name, *arguments = program
        if name == "all":
            return self.things
        if name in _RELATIONS:
            found = self._related(_RELATIONS[name], *arguments)
        elif name in _EXTREMES:
            found = self._extreme(_EXTREMES[name], *arguments)
        elif name in _STATES:
            found = [x for x in self.objects(*arguments) if _STATES[name](x)]
        elif name in _FILTERS:
            found = _FILTERS[name](self, *arguments)
        else:
            raise ValueError(f"program: expected an operation of twin/programs.py, got {name!r}")
        self.used.update(x.id for x in found)
        return found

    def the_one(self, program: Program) -> Thing:
        """The largest object that a program gives. Raises _NotExecutableError if it gives none."""
        return _one_of(self.objects(program))

    def compared(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """The same objects, which count as evidence."""
        self.used.update(x.id for x in things)
        return things

    def _related(self, holds: Callable[[Thing, Thing], bool], program: Program, anchor: Program) -> list[Thing]:
        one = self.the_one(anchor)
        return [x for x in self.objects(program) if x is not one and holds(x, one)]

    def _extreme(self, value: Callable[[Thing], float | None], program: Program) -> list[Thing]:
        values = [(value(x), x) for x in self.compared(self.objects(program))]
        known = [(number, x) for number, x in values if number is not None]
        return [max(known, key=lambda pair: pair[0])[1]] if known else []


def execute(program: Program, things: Sequence[Thing]) -> Result:
    """Executes a program on the objects of a twin or scene.

    The time grows at most with the square of the number of objects. No twin makes it raise. Raises ValueError if the
    program has an operation that this module does not know.
    """
    execution = _Execution(things)
    name, *arguments = program
    answer = _ANSWERS.get(name)
    try:
        found = execution.objects(arguments[0] if answer else program)
        texts = answer(found, *arguments[1:]) if answer else ()
    except _NotExecutableError:
        return Result(executable=False, evidence=frozenset(x.id for x in things))
    used = execution.used if found and execution.used else {x.id for x in things}
    return Result(tuple(x.id for x in found), texts, True, frozenset(used))


def reads(program: Program) -> frozenset[str]:
    """Which fields of a twin's objects the program reads besides labels and boxes: "attributes", "depth"."""
    name, *arguments = program
    fields = {_READS[name]} if name in _READS else set()
    return frozenset(fields).union(*(reads(argument) for argument in arguments if isinstance(argument, tuple)))


def _x(thing: Thing) -> float:
    return (thing.box[0] + thing.box[2]) / 2


def _y(thing: Thing) -> float:
    return (thing.box[1] + thing.box[3]) / 2


def _pixels(thing: Thing) -> float:
    return thing.area if thing.pixels is None else thing.pixels


def _nearness(a: Thing, b: Thing) -> int:
    """How much nearer `a` is than `b`; 0 if a depth is not known."""
    return 0 if a.depth is None or b.depth is None else b.depth - a.depth


def _approach(thing: Thing, anchor: Thing) -> float:
    """How much nearer an object comes to the place at which the anchor is first seen; 0 if it does not move."""
    if not thing.moves:
        return 0.0
    distance = np.hypot(*(thing.centres - anchor.centres[anchor.times[0]]).T)
    return float(distance[thing.times[0]] - distance[thing.times[-1]])


def _entry(thing: Thing) -> int | None:
    """The first frame in which an object is visible; None if it is there from the start."""
    return thing.times[0] or None


def _exit(thing: Thing) -> int | None:
    """The first frame after an object has left; None if it is there at the end."""
    return thing.times[-1] + 1 if thing.times[-1] + 1 < len(thing.boxes) else None


def _hidden(thing: Thing) -> bool:
    return thing.times[-1] - thing.times[0] + 1 > len(thing.times)


def _same_way(a: Thing, b: Thing) -> bool:
    return a.moves and b.moves and a.direction == b.direction


_RELATIONS: dict[str, Callable[[Thing, Thing], bool]] = {
    "left of": lambda a, b: _x(a) < _x(b),
    "right of": lambda a, b: _x(a) > _x(b),
    "above": lambda a, b: _y(a) < _y(b),
    "below": lambda a, b: _y(a) > _y(b),
    "in front of": lambda a, b: _nearness(a, b) > 0,
    "behind": lambda a, b: _nearness(a, b) < 0,
    "larger than": lambda a, b: a.area > b.area,
    "smaller than": lambda a, b: a.area < b.area,
    "towards": lambda a, b: _approach(a, b) > 0,
    "away from": lambda a, b: _approach(a, b) < 0,
    "same way as": _same_way,
    "faster than": lambda a, b: a.speed > b.speed,
    "slower than": lambda a, b: a.moves and a.speed < b.speed,
}
_EXTREMES: dict[str, Callable[[Thing], float | None]] = {  # the object with the largest value; None = left out
    "leftmost": lambda a: -_x(a),
    "rightmost": _x,
    "highest": lambda a: -_y(a),
    "lowest": _y,
    "nearest": lambda a: None if a.depth is None else -a.depth,
    "farthest": lambda a: a.depth,
    "largest": lambda a: a.area,
    "smallest": lambda a: -a.area,
    "most pixels": _pixels,
    "fewest pixels": lambda a: -_pixels(a),
    "fastest": lambda a: a.speed,
    "slowest": lambda a: -a.speed,
    "first to enter": lambda a: None if _entry(a) is None else -_entry(a),
    "last to enter": _entry,
    "first to leave": lambda a: None if _exit(a) is None else -_exit(a),
    "last to leave": _exit,
}
_STATES: dict[str, Callable[[Thing], bool]] = {
    "left half": lambda a: _x(a) < 0.5,
    "right half": lambda a: _x(a) > 0.5,
    "upper half": lambda a: _y(a) < 0.5,
    "lower half": lambda a: _y(a) > 0.5,
    "moves": lambda a: a.moves,
    "still": lambda a: not a.moves,
    "moves left": lambda a: a.direction == "left",
    "moves right": lambda a: a.direction == "right",
    "moves up": lambda a: a.direction == "up",
    "moves down": lambda a: a.direction == "down",
    "turns": lambda a: a.turns,
    "enters": lambda a: _entry(a) is not None,
    "leaves": lambda a: _exit(a) is not None,
    "stays": lambda a: _entry(a) is None and _exit(a) is None and not _hidden(a),
    "hidden": _hidden,
}
_EVENTS: dict[str, Callable[[Thing], int | None]] = {"enters": _entry, "leaves": _exit}


def _label(execution: _Execution, *labels: str) -> list[Thing]:
    wanted = set(map(plain, labels))
    return [x for x in execution.things if x.label in wanted]


def _word(execution: _Execution, program: Program, word: str) -> list[Thing]:
    return [x for x in execution.objects(program) if plain(word) in x.attributes]


def _without(execution: _Execution, program: Program, word: str) -> list[Thing]:
    return [x for x in execution.objects(program) if plain(word) not in x.attributes]


def _both(execution: _Execution, one: Program, two: Program) -> list[Thing]:
    ids = {x.id for x in execution.objects(two)}
    return [x for x in execution.objects(one) if x.id in ids]


def _before(execution: _Execution, program: Program, event: str, anchor: Program, anchor_event: str) -> list[Thing]:
    return _at_time(execution, program, event, anchor, anchor_event, 1)


def _after(execution: _Execution, program: Program, event: str, anchor: Program, anchor_event: str) -> list[Thing]:
    return _at_time(execution, program, event, anchor, anchor_event, -1)


def _at_time(
    execution: _Execution, program: Program, event: str, anchor: Program, anchor_event: str, sign: int
) -> list[Thing]:
    """Objects whose event comes earlier (sign 1) or later (sign -1) than the anchor's event."""
    one = execution.the_one(anchor)
    anchor_time = _EVENTS[anchor_event](one)
    if anchor_time is None:
        raise _NotExecutableError
    times = [(_EVENTS[event](x), x) for x in execution.objects(program)]
    return [x for time, x in times if x is not one and time is not None and sign * (anchor_time - time) > 0]


def _twice(execution: _Execution) -> list[Thing]:
    counts = collections.Counter(x.label for x in execution.compared(execution.things))
    return [x for x in execution.things if counts[x.label] == 2]


def _word_counts(execution: _Execution, words: Sequence[str]) -> collections.Counter:
    """How many objects have each of these attributes."""
    return collections.Counter(w for x in execution.compared(execution.things) for w in set(x.attributes) & set(words))


def _most_common(execution: _Execution, *words: str) -> list[Thing]:
    counts = _word_counts(execution, words)
    most = {word for word, count in counts.items() if count == max(counts.values())}
    return [x for x in execution.things if most & set(x.attributes)]


def _most_common_label(execution: _Execution, *others: str) -> list[Thing]:
    left_out = set(map(plain, others))
    counts = collections.Counter(x.label for x in execution.compared(execution.things) if x.label not in left_out)
    return [x for x in execution.things if x.label in counts and counts[x.label] == max(counts.values())]


def _unshared(execution: _Execution, *words: str) -> list[Thing]:
    counts = _word_counts(execution, words)
    return [x for x in execution.things if any(counts[word] == 1 for word in x.attributes)]


def _sharing(execution: _Execution, anchor: Program, *words: str) -> list[Thing]:
    one = execution.the_one(anchor)
    own = set(one.attributes) & set(words)
    if not own:
        raise _NotExecutableError
    return [x for x in execution.things if x is not one and own & set(x.attributes)]


_FILTERS: dict[str, Callable[..., list[Thing]]] = {
    "label": _label,
    "word": _word,
    "without": _without,
    "both": _both,
    "before": _before,
    "after": _after,
    "twice": _twice,
    "most common": _most_common,
    "most common label": _most_common_label,
    "unshared": _unshared,
    "sharing": _sharing,
}
_READS = {
    **dict.fromkeys(("word", "without", "most common", "unshared", "sharing", "which word"), "attributes"),
    **dict.fromkeys(("in front of", "behind", "nearest", "farthest"), "depth"),
}


def _one_of(found: Sequence[Thing]) -> Thing:
    """The largest object, where one is meant. Raises _NotExecutableError if there is none."""
    if not found:
        raise _NotExecutableError
    return max(found, key=lambda x: x.area)


def _which_word(found: Sequence[Thing], *words: tuple[str, ...]) -> tuple[str, ...]:
    own = set(_one_of(found).attributes)
    stated = [forms for forms in words if own & set(forms)]
    if len(stated) != 1:  # no such attribute, or several that contradict each other
        raise _NotExecutableError
    return stated[0]


def _direction(found: Sequence[Thing]) -> tuple[str, ...]:
    direction = _one_of(found).direction
    if not direction:
        raise _NotExecutableError
    return direction, f"to the {direction}" if direction in ("left", "right") else f"{direction}wards"


_ANSWERS: dict[str, Callable[..., tuple[str, ...]]] = {
    "number": lambda found: (str(len(found)),),
    "any": lambda found: ("yes" if found else "no",),
    "name": lambda found: (_one_of(found).label,),
    "which word": _which_word,
    "whether it moves": lambda found: ("yes" if _one_of(found).moves else "no",),
    "direction": _direction,
}

# What an operation takes: P a program of objects, w a word, W a tuple of words, + = one or more, * = any number.
_TAKES = {
    **dict.fromkeys(_RELATIONS, "PP"), **dict.fromkeys((*_EXTREMES, *_STATES), "P"), "all": "", "twice": "",
    "label": "w+", "word": "Pw", "without": "Pw", "both": "PP", "before": "PePe", "after": "PePe",
    "most common": "w+", "most common label": "w*", "unshared": "w+", "sharing": "Pw+",
    "number": "P", "any": "P", "name": "P", "which word": "PW+", "whether it moves": "P", "direction": "P",
}  # fmt: skip
DEEPEST = 16  # operations inside one another


def is_program(value: object, answers: bool = True, depth: int = 0) -> bool:
    """Whether a value is a program that `execute` takes: of known operations, each with its kinds of arguments.

    Args:
      value: any value; a program is a tuple.
      answers: whether the outermost operation may be a question.
      depth: of the value in a program.
    """
    if depth > DEEPEST or not isinstance(value, tuple) or not value or not isinstance(value[0], str):
        return False
    name, *arguments = value
    takes = _TAKES.get(name)
    if takes is None or (name in _ANSWERS and not answers) or len(arguments) > 256:
        return False
    if takes.endswith(("+", "*")):
        kinds, least = takes[:-1], len(takes) - 1 - takes.endswith("*")
        takes = kinds[:-1] + kinds[-1] * (len(arguments) - len(kinds) + 1)
        if len(arguments) < least:
            return False
    return len(arguments) == len(takes) and all(_is_argument(kind, one, depth) for kind, one in zip(takes, arguments))


def _is_argument(kind: str, value: object, depth: int) -> bool:
    if kind == "P":
        return is_program(value, False, depth + 1)
    if kind == "W":
        return isinstance(value, tuple) and bool(value) and all(isinstance(word, str) for word in value)
    return isinstance(value, str) and (kind == "w" or value in _EVENTS)
