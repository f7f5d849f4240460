"""The objects of a twin or of an annotated scene in one form, on which a program is executed (twin/programs.py).

All measures are total: they decide by the measured values where the oracle of the generated queries would not ask
(data/queries/motion.py), so that a program can be executed on any twin that a policy writes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.schema import Twin
from dtr1_jax.types import Instance

# The generator of queries leaves a margin around each of these, in which it asks nothing; unit frame.
MOVES = 0.05  # an object moves if the box around all its boxes is longer than its longest box by more than this
TURNS = 0.05  # an object turns back if it covers more than this before and after the turn

Corners = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object.

    Attributes:
      id: its id in the twin or in the scene.
      label: its category in lower case.
      boxes: the box of each frame, unit frame, None if it is not visible there; one box for a picture. Some frame has a
        box.
      depth: 1 = nearest; None = not known.
      attributes: words in lower case.
      velocity: mean motion dx, dy from one frame to the next, unit frame; None = computed from the boxes.
      pixels: share of the picture that its mask covers; None = not known, which the area of its box replaces.
    """

    id: int
    label: str
    boxes: tuple[Corners | None, ...]
    depth: int | None = None
    attributes: tuple[str, ...] = ()
    velocity: tuple[float, float] | None = None
    pixels: float | None = None

    @functools.cached_property
    def times(self) -> list[int]:
        """The places of the frames in which it is visible, ascending."""
        return [t for t, box in enumerate(self.boxes) if box is not None]

    @functools.cached_property
    def box(self) -> Corners:
        """Its box in the first frame in which it is visible."""
        return self.boxes[self.times[0]]

    @functools.cached_property
    def area(self) -> float:
        """Area of `box`, a share of the picture."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @functools.cached_property
    def centres(self) -> np.ndarray:
        """float64[T, 2], the centre x, y of its box, where it is not visible that of its last box before."""
        boxes, last = [], self.box
        for box in self.boxes:
            last = box or last
            boxes.append(last)
        return (np.array(boxes)[:, :2] + np.array(boxes)[:, 2:]) / 2

    @functools.cached_property
    def moves(self) -> bool:
        """Whether it moves."""
        boxes = np.array([self.boxes[t] for t in self.times])
        whole = boxes[:, 2:].max(0) - boxes[:, :2].min(0)
        return bool((whole - (boxes[:, 2:] - boxes[:, :2]).max(0)).max() > MOVES)

    @functools.cached_property
    def direction(self) -> str:
        """left, right, up or down by its longest shift from its first to its last box; "" if it does not move."""
        if not self.moves:
            return ""
        dx, dy = self.centres[self.times[-1]] - self.centres[self.times[0]]
        return ("right" if dx > 0 else "left") if abs(dx) >= abs(dy) else ("down" if dy > 0 else "up")

    @functools.cached_property
    def turns(self) -> bool:
        """Whether it turns back along the axis on which it moves."""
        seen = self.centres[self.times]
        return self.moves and _turns_back(seen[:, int(np.ptp(seen[:, 1]) > np.ptp(seen[:, 0]))])

    @functools.cached_property
    def speed(self) -> float:
        """Mean distance from one frame to the next, unit frame; 0 if it does not move."""
        if not self.moves:
            return 0.0
        first, last = self.times[0], self.times[-1]
        velocity = self.velocity or (self.centres[last] - self.centres[first]) / max(last - first, 1)
        return math.hypot(*velocity)


def _turns_back(x: np.ndarray) -> bool:
    """Whether the values go back by more than TURNS after a way of more than TURNS in one direction."""
    low = high = x[0]
    heading = 0
    for value in x[1:]:
        low, high = min(low, value), max(high, value)
        if value < high - TURNS:
            if heading > 0:
                return True
            heading, high = -1, value
        elif value > low + TURNS:
            if heading < 0:
                return True
            heading, low = 1, value
    return False


def things_of_scene(scene: Sequence[Instance]) -> list[Thing]:
    """The annotated objects of a picture or video that are visible in some frame."""
    things = []
    for item in scene:
        rows = np.asarray([item.box] if item.boxes is None else item.boxes, float)
        boxes = tuple(tuple(row) if row[2] > row[0] and row[3] > row[1] else None for row in rows.tolist())
        if any(boxes):
            pixels = float(item.mask.mean()) if item.boxes is None and item.mask.size else None
            words, velocity = tuple(map(plain, item.attributes)), item.velocity
            things.append(Thing(item.id, plain(item.label), boxes, item.depth or None, words, velocity, pixels))
    return things


def things_of_twin(twin: Twin, canvas: Canvas) -> list[Thing]:
    """The objects of a twin, in its order; `canvas` is the frame of its integers."""
    things = []
    for item in twin.objects:
        rows = tracks.boxes(item, canvas.frames) if canvas.frames else [item.box]
        boxes = tuple(box and to_unit(box, canvas) for box in rows)
        velocity = item.velocity and (item.velocity[0] / canvas.limit[0], item.velocity[1] / canvas.limit[1])
        if any(boxes):
            words = tuple(map(plain, item.attributes))
            things.append(Thing(item.id, plain(item.label), boxes, item.depth, words, velocity))
    return things


def plain(text: str) -> str:
    """A label or attribute in lower case, with single blanks: labels that differ in no more are the same."""
    return " ".join(text.casefold().split())
