"""The motion of an object, measured from its boxes over time: when it is visible, its direction, its turns.

Lengths are in the unit frame. Times count the sampled frames (0, 1, ...); they are not the numbers of the frames
in the video. Between a clear yes and a clear no lies a margin in which the answer is None, since a person could
doubt it.

Boxes cover what is seen of an object. A generated scene says what else there is of it; of a real video nobody knows
(`measure_track`).
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
SIGHTINGS = 3  # frames of a real video that show an object, at least; fewer say nothing of its motion
RESIZED = 1.4  # a side of its box that grows by this factor or more may come from a motion towards the camera
CUT = 0.03  # unit frame: a box that comes as near to the edge of the picture may be cut by it
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
    velocity = _velocity(instance, shift, last - first)
    direction = "" if moves is False else _direction(shift) if moves and turns == 0 else None
    if direction and not _agrees(velocity, direction):
        direction = None
    speed = float(np.hypot(*velocity)) if moves is not False else 0.0
    last_visible = np.maximum.accumulate(np.where(visible, np.arange(len(visible)), first))
    centres = (boxes[last_visible, :2] + boxes[last_visible, 2:]) / 2
    return Motion(visible, first, last, hidden, moves, direction, turns, speed, centres)


def measure_track(instance: Instance, shown: np.ndarray) -> Motion | None:
    """Measures the motion of an object of a real video; None if it is visible in no frame.

    As in `measure_motion`, but doubtful where fewer than SIGHTINGS frames show the object. It stands still only if the
    centre and the sides of its box stand still too: a box that shrinks at the picture's edge, where the object leaves,
    lies in its longest box, and so does that of a person who goes away from the camera. A train that is cut at the left
    and at the right edge may stand or pass.

    Args:
      instance: the object with `boxes` without the motion of the camera, unit frame of the first frame.
      shown: float64[T, 4], its boxes in the pictures, unit frame of each; equal to its `boxes` if the camera stands
        still.
    """
    motion = measure_motion(instance)
    if motion is None:
        return None
    times = np.flatnonzero(motion.visible)
    boxes, in_picture = np.asarray(instance.boxes, float)[times], np.asarray(shown, float)[times]
    if len(times) >= SIGHTINGS and (motion.moves is not False or _stands_still(boxes, in_picture)):
        return motion
    shift = motion.centre[motion.last] - motion.centre[motion.first]
    speed = float(np.hypot(*_velocity(instance, shift, motion.last - motion.first)))
    return dataclasses.replace(motion, moves=None, direction=None, turns=None, speed=speed)


def _stands_still(boxes: np.ndarray, shown: np.ndarray) -> bool:
    """Whether boxes float64[n, 4] of small excess, and the same in the pictures, leave no doubt of it."""
    sides = boxes[:, 2:] - boxes[:, :2]
    cut = ((shown[:, :2] < CUT) & (shown[:, 2:] > 1 - CUT)).any()
    same_place = np.ptp((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0).max() <= STILL
    same_size = np.ptp(sides, axis=0).max() <= 2 * STILL and (sides.max(0) < RESIZED * sides.min(0)).all()
    return bool(same_place and same_size and not cut)


def _velocity(instance: Instance, shift: np.ndarray, steps: int) -> tuple[float, float]:
    return tuple(shift / max(steps, 1)) if instance.velocity is None else instance.velocity


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
