"""The motion of an object, measured from its boxes over time: when it is visible, its direction, its turns.

Lengths are in the unit frame. Times count the sampled frames (0, 1, ...); they are not the numbers of the frames
in the video. Between a clear yes and a clear no lies a margin in which the answer is None, since a person could
doubt it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.types import Instance

# The excess of an object measures how far it moves: the length of the box around all its boxes, minus the length of its
# longest box, along x or along y, whichever is larger.
STILL = 0.03  # an object with at most this excess stands still
MOVED = 0.1  # an object with at least this excess moves
TURN = 0.08  # distance that an object covers before and after a turn, at least
DIRECTIONS = ("left", "right", "up", "down")
_STRAIGHT = 2.0  # a direction needs a shift along its axis at least this many times the shift along the other axis


@dataclasses.dataclass(frozen=True)
class Motion:
    """The motion of one object.

    Attributes:
      visible: bool[T].
      first, last: the first and the last frame in which the object is visible.
      hidden: (start, stop) of each gap between `first` and `last` in which it is not visible; it is visible in `stop`.
      moves: whether it moves; None if doubtful.
      direction: one of DIRECTIONS; "" if it stands still; None if doubtful or if it turns back.
      turns: how often it turns back along the axis on which it moves; None if doubtful.
      speed: mean distance from one frame to the next; 0 if it stands still.
      centre: float64[T, 2], centre of its box, or of its last visible box where it is not visible.
    """

    visible: np.ndarray
    first: int
    last: int
    hidden: tuple[tuple[int, int], ...]
    moves: bool | None
    direction: str | None
    turns: int | None
    speed: float
    centre: np.ndarray


def measure_motion(instance: Instance) -> Motion | None:
    """Measures the motion of an object with `boxes`; None if it is visible in no frame.

    The object's velocity, if known, has precedence over its boxes: these cover its visible part alone, which shrinks at
    the picture's edge and behind other objects.
    """
    boxes = np.asarray(instance.boxes, float)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    times = np.flatnonzero(visible)
    if not len(times):
        return None
    first, last = int(times[0]), int(times[-1])
    gaps = np.flatnonzero(np.diff(times) > 1)
    hidden = tuple((int(times[g]) + 1, int(times[g + 1])) for g in gaps)
    visible_boxes = boxes[times]
    hull = np.r_[visible_boxes[:, :2].min(0), visible_boxes[:, 2:].max(0)]
    excess = (hull[2:] - hull[:2] - (visible_boxes[:, 2:] - visible_boxes[:, :2]).max(0)).max()
    moves = False if excess <= STILL else True if excess >= MOVED else None
    centre = (visible_boxes[:, :2] + visible_boxes[:, 2:]) / 2
    shift = centre[-1] - centre[0]
    axis = int(np.ptp(centre[:, 1]) > np.ptp(centre[:, 0]))
    turns = _count_turns(centre[:, axis]) if moves else 0 if moves is False else None
    velocity = instance.velocity
    if velocity is None:
        velocity = tuple(shift / max(last - first, 1))
    direction = "" if moves is False else _direction(shift) if moves and turns == 0 else None
    if direction and not _agrees(velocity, direction):
        direction = None
    speed = float(np.hypot(*velocity)) if moves is not False else 0.0
    last_visible = np.maximum.accumulate(np.where(visible, np.arange(len(visible)), first))
    centres = (boxes[last_visible, :2] + boxes[last_visible, 2:]) / 2
    return Motion(visible, first, last, hidden, moves, direction, turns, speed, centres)


def _direction(shift: np.ndarray) -> str | None:
    dx, dy = shift
    distance, axis = (abs(dx), 0) if abs(dx) >= abs(dy) else (abs(dy), 1)
    if distance < MOVED / 2 or distance < _STRAIGHT * min(abs(dx), abs(dy)):
        return None
    return DIRECTIONS[2 * axis + int(shift[axis] > 0)]


def _agrees(velocity: tuple[float, float], direction: str) -> bool:
    axis, sign = divmod(DIRECTIONS.index(direction), 2)
    return velocity[axis] * (2 * sign - 1) > 0 and abs(velocity[axis]) >= abs(velocity[1 - axis])


def _count_turns(x: np.ndarray) -> int | None:
    """Counts the turns of at least TURN; None if there is one between STILL and TURN, which is doubtful."""
    counts = {_reversals(x, margin) for margin in (STILL, TURN)}
    return counts.pop() if len(counts) == 1 else None


def _reversals(x: np.ndarray, margin: float) -> int:
    """Counts how often the values go back by `margin` from an extreme that is `margin` away from the one before."""
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
