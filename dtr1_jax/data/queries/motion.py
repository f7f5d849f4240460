"""What the boxes of an object over time say of its motion: when it is seen, which way it goes, whether it turns back.

Lengths are in the unit frame, times are places in the row of frames (0, 1, ... whatever the frames' numbers). Between a
clear yes and a clear no there is a margin in which the answer is None: a person could doubt it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.types import Instance

STILL, MOVED = (
    0.03,
    0.1,
)  # what the boxes together exceed the largest by: at most of what stands still, at least of what moves
TURN = 0.08  # way before and after a turn back
WAYS = ("left", "right", "up", "down")
_STRAIGHT = 2.0  # times as far along one axis as along the other, or the way has no name


@dataclasses.dataclass(frozen=True)
class Move:
    """How one object moves.

    Attributes:
      seen: bool[T].
      first, last: of the frames in which it is seen.
      hidden: (start, stop) of the stretches between them in which it is not seen; stop is seen again.
      moves: True, False, or None where it is doubtful.
      way: one of WAYS; "" where it stands still; None where it is doubtful or it turns back.
      turns: how often it turns back along the axis on which it moves; None where it is doubtful.
      speed: way from one frame to the next, the mean; 0 where it stands still.
      centre: float64[T, 2], of its box; of the last seen box where it is not seen.
    """

    seen: np.ndarray
    first: int
    last: int
    hidden: tuple[tuple[int, int], ...]
    moves: bool | None
    way: str | None
    turns: int | None
    speed: float
    centre: np.ndarray


def move(item: Instance) -> Move | None:
    """The motion of an object with `boxes`; None where it is seen in no frame.

    What its velocity says, where it has one, goes before the boxes of visible parts: they shrink at the picture's edge
    and behind other objects.
    """
    boxes = np.asarray(item.boxes, float)
    seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    places = np.flatnonzero(seen)
    if not len(places):
        return None
    first, last = int(places[0]), int(places[-1])
    gaps = np.flatnonzero(np.diff(places) > 1)
    hidden = tuple((int(places[g]) + 1, int(places[g + 1])) for g in gaps)
    there = boxes[places]
    together = np.r_[there[:, :2].min(0), there[:, 2:].max(0)]
    excess = (together[2:] - together[:2] - (there[:, 2:] - there[:, :2]).max(0)).max()
    moves = False if excess <= STILL else True if excess >= MOVED else None
    centre = (there[:, :2] + there[:, 2:]) / 2
    shift = centre[-1] - centre[0]
    axis = int(np.ptp(centre[:, 1]) > np.ptp(centre[:, 0]))
    turns = _turns(centre[:, axis]) if moves else 0 if moves is False else None
    velocity = item.velocity
    if velocity is None:
        velocity = tuple(shift / max(last - first, 1))
    way = "" if moves is False else _way(shift) if moves and turns == 0 else None
    if way and not _agree(velocity, way):
        way = None
    speed = float(np.hypot(*velocity)) if moves is not False else 0.0
    held = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), first))
    centres = (boxes[held, :2] + boxes[held, 2:]) / 2
    return Move(seen, first, last, hidden, moves, way, turns, speed, centres)


def _way(shift: np.ndarray) -> str | None:
    dx, dy = shift
    far, axis = (abs(dx), 0) if abs(dx) >= abs(dy) else (abs(dy), 1)
    if far < MOVED / 2 or far < _STRAIGHT * min(abs(dx), abs(dy)):
        return None
    return WAYS[2 * axis + int(shift[axis] > 0)]


def _agree(velocity: tuple[float, float], way: str) -> bool:
    axis, sign = divmod(WAYS.index(way), 2)
    return velocity[axis] * (2 * sign - 1) > 0 and abs(velocity[axis]) >= abs(velocity[1 - axis])


def _turns(x: np.ndarray) -> int | None:
    """Turns back of at least TURN on both sides; None where there is one of more than STILL and less than TURN."""
    counts = {_reversals(x, margin) for margin in (STILL, TURN)}
    return counts.pop() if len(counts) == 1 else None


def _reversals(x: np.ndarray, margin: float) -> int:
    """How often a row of values goes back by `margin` from an extreme that was `margin` away from the one before."""
    low = high = x[0]
    heading, count = 0, 0
    for value in x[1:]:
        low, high = min(low, value), max(high, value)
        if heading >= 0 and value <= high - margin:
            count += heading > 0
            heading, low = -1, value
            high = value
        elif heading <= 0 and value >= low + margin:
            count += heading < 0
            heading, high = 1, value
            low = value
    return count
