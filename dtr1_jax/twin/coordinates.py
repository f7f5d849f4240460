"""The coordinate frames of boxes, and the one place where a box changes from one frame to another.

Everywhere in Python a box is in the unit frame: float x1,y1,x2,y2 in [0,1] of the picture. Only the text that a policy
reads and writes has integers, and a `Canvas` says in which frame they are.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence

from dtr1_jax.twin.schema import Box


class Frame(enum.Enum):
    """The unit of a box's integers: pixels of the resized picture, or thousandths of its width and height."""

    PIXEL = "pixel"
    NORM1000 = "norm1000"


@dataclasses.dataclass(frozen=True)
class Canvas:
    """The picture or video as the policy saw it.

    Attributes:
      frame: the frame of boxes in the text.
      size: (w, h) in pixels of the *resized* picture, both positive.
      frames: numbers of the frames of a video that the policy saw, ascending from 0 or later; empty = a picture.
    """

    frame: Frame
    size: tuple[int, int]
    frames: tuple[int, ...] = ()

    def __post_init__(self):
        if not isinstance(self.frame, Frame):
            raise ValueError(f"Canvas.frame: expected a Frame, such as Frame('norm1000'), got {self.frame!r}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"Canvas.size: expected (w, h), both at least 1 pixel, got {self.size!r}")
        numbers = isinstance(self.frames, tuple) and all(type(v) is int for v in self.frames)
        if not numbers or any(b <= a for a, b in zip((-1, *self.frames), self.frames)):
            raise ValueError(f"Canvas.frames: expected a tuple of ascending integers from 0 on, got {self.frames!r}")

    @property
    def limit(self) -> tuple[int, int]:
        """(w, h), the largest x and y that a box of the text may have."""
        return self.size if self.frame is Frame.PIXEL else (1000, 1000)


def to_unit(box: Box, canvas: Canvas) -> tuple[float, float, float, float]:
    """Converts a box of the text, int x1,y1,x2,y2 in the frame of `canvas`, to the unit frame."""
    w, h = canvas.limit
    x1, y1, x2, y2 = box
    return x1 / w, y1 / h, x2 / w, y2 / h


def from_unit(box: Sequence[float], canvas: Canvas) -> Box:
    """Converts a unit-frame box to the frame of the text: rounded, clamped to the frame, at least 1 wide and high.

    This inverts `to_unit` exactly for every sound box.

    Raises:
      ValueError: a corner is not finite, or x2 < x1 or y2 < y1.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1:
        raise ValueError(f"expected a unit-frame box of finite x1 <= x2, y1 <= y2, got {(x1, y1, x2, y2)}")
    w, h = canvas.limit
    (left, right), (top, bottom) = _side(x1, x2, w), _side(y1, y2, h)
    return left, top, right, bottom


def _side(low: float, high: float, limit: int) -> tuple[int, int]:
    start, end = (round(min(max(v, 0.0), 1.0) * limit) for v in (low, high))
    start = min(start, limit - 1)
    return start, max(end, start + 1)
