"""Objects over time: the boxes between the keyframes of a track, and the keyframes that a sequence of boxes needs.

A track is ((frame number, box), ...), ascending. Between two keyframes the box moves in a straight line; only
`interpolate` implements this rule. None instead of a box means that the object is out of sight from this frame until
the next keyframe. Before the first and after the last keyframe the object is absent. Boxes may be in any coordinate
frame.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from dtr1_jax.twin.schema import Object, Twin

Corners = Sequence[float]
Keyframes = Sequence[tuple[int, Corners | None]]


def interpolate(track: Keyframes, frame: float) -> tuple[float, ...] | None:
    """The box of a track at a frame number: linear between two keyframes, corner by corner.

    A box whose next keyframe is None stays the same until that keyframe. Returns None if the object is not visible.
    """
    for (start, first), (end, last) in itertools.pairwise(track):
        if start <= frame < end:
            if first is None or last is None or start == frame:
                return None if first is None else tuple(first)
            share = (frame - start) / (end - start)
            return tuple(a + (b - a) * share for a, b in zip(first, last))
    return tuple(track[-1][1]) if track and track[-1][0] == frame and track[-1][1] is not None else None


def boxes(item: Object, frames: Sequence[int]) -> list[tuple[float, ...] | None]:
    """The box of a twin's object in each of `frames`, None if it is not visible."""
    if item.box is not None:
        return [tuple(item.box)] * len(frames)
    return [interpolate(item.track, frame) for frame in frames]


def at_frame(twin: Twin, frame: int) -> Twin:
    """The twin of one frame of a video, in the form of a picture's twin, with boxes rounded to integers.

    Objects that are not visible there are left out, and so are their relations. A picture's twin is returned unchanged.
    """
    if not twin.frames:
        return twin
    box_of = {item.id: boxes(item, [frame])[0] for item in twin.objects}
    objects = tuple(
        dataclasses.replace(item, box=_round(box_of[item.id]), track=(), velocity=None)
        for item in twin.objects
        if box_of[item.id] is not None
    )
    relations = tuple(r for r in twin.relations if box_of[r[0]] is not None and box_of[r[2]] is not None)
    return Twin(twin.size, objects, relations, (), twin.more)


def first_frame(twin: Twin) -> Twin:
    """The twin of a video's first frame, in the form of a picture's twin."""
    return at_frame(twin, twin.frames[0]) if twin.frames else twin


def keyframes(
    boxes: Sequence[Corners | None], frames: Sequence[int], tolerance: float
) -> tuple[tuple[int, Corners | None], ...]:
    """Builds a track with few keyframes, such that `interpolate` is within `tolerance` of every box, corner by corner.

    Each run of frames in which the object is visible is split at its worst frame until it fits (Ramer 1972; Douglas and
    Peucker 1973). Before the next run, the track has a None at the first frame in which the object is not visible.

    Args:
      boxes: the box in each frame, None if the object is not visible.
      frames: numbers of the frames, ascending, one for each box.
      tolerance: in the unit of the boxes.

    Returns:
      ((frame number, box or None), ...); empty if the object is never visible.
    """
    track: list[tuple[int, Corners | None]] = []
    start = None
    for i in range(len(boxes) + 1):
        visible = i < len(boxes) and boxes[i] is not None
        if visible and start is None:
            start = i
        elif not visible and start is not None:
            track += [(frames[k], tuple(boxes[k])) for k in _run_keyframes(boxes, frames, start, i - 1, tolerance)]
            if any(box is not None for box in boxes[i:]):
                track.append((frames[i], None))
            start = None
    return tuple(track)


def velocity(boxes: Sequence[Corners | None]) -> tuple[float, float]:
    """The mean motion (dx, dy) of the box's centre from one frame to the next.

    The mean is over the frames from the first that has a box to the last. It is (0, 0) with fewer than two boxes.
    """
    visible = [i for i, box in enumerate(boxes) if box is not None]
    if len(visible) < 2:
        return 0.0, 0.0
    first, last, steps = boxes[visible[0]], boxes[visible[-1]], visible[-1] - visible[0]
    return tuple(float(last[k] + last[k + 2] - first[k] - first[k + 2]) / 2 / steps for k in (0, 1))


def _round(box: Corners) -> tuple[int, int, int, int]:
    """Rounds a box to integers. It stays at least 1 wide and high, even where both edges round to the same integer."""
    x1, y1, x2, y2 = (round(v) for v in box)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _run_keyframes(
    boxes: Sequence[Corners | None], frames: Sequence[int], first: int, last: int, tolerance: float
) -> list[int]:
    """Indices of the keyframes of a run of frames, ascending. A loop, since a long run would exhaust the stack."""
    indices, segments = {first, last}, [(first, last)]
    values, times = np.array([boxes[k] for k in range(first, last + 1)], float), np.asarray(frames, float)
    while segments:
        a, b = segments.pop()
        if b - a < 2:
            continue
        share = ((times[a + 1 : b] - times[a]) / (times[b] - times[a]))[:, None]
        straight = values[a - first] + (values[b - first] - values[a - first]) * share
        error = np.abs(values[a + 1 - first : b - first] - straight).max(1)
        if error.max() > tolerance:
            worst = a + 1 + int(error.argmax())
            indices.add(worst)
            segments += [(a, worst), (worst, b)]
    return sorted(indices)
