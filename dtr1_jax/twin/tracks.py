"""Objects over time: what keyframes say of the frames between them, and which keyframes a row of boxes needs.

A track is ((frame number, box), ...), ascending. Between two keyframes the box moves in a straight line (`interpolate`,
the one place that says so). None in the place of a box: out of sight from this frame until the next keyframe. Before
the first and after the last keyframe the object is not there. Boxes may be in any frame of coordinates.
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
    """The box of a track at a frame: linear in the frame number between two keyframes, corner by corner.

    A box before a None holds until that frame. Returns None where the object is not to be seen.
    """
    for (start, first), (end, last) in itertools.pairwise(track):
        if start <= frame < end:
            if first is None or last is None or start == frame:
                return None if first is None else tuple(first)
            share = (frame - start) / (end - start)
            return tuple(a + (b - a) * share for a, b in zip(first, last))
    return tuple(track[-1][1]) if track and track[-1][0] == frame and track[-1][1] is not None else None


def boxes(item: Object, frames: Sequence[int]) -> list[tuple[float, ...] | None]:
    """The box of an object of a twin in each of `frames`, None where it is not to be seen; of a `box`: always that."""
    if item.box is not None:
        return [tuple(item.box)] * len(frames)
    return [interpolate(item.track, frame) for frame in frames]


def span(item: Object, frames: Sequence[int]) -> tuple[int, int] | None:
    """(first, last) of the frames in which an object is to be seen: it appears and disappears there. None: in none."""
    there = [frame for frame, box in zip(frames, boxes(item, frames)) if box is not None]
    return (there[0], there[-1]) if there else None


def still(twin: Twin, frame: int) -> Twin:
    """The twin of one frame of a video, as a picture's: what is to be seen there, with boxes rounded to integers.

    Relations with what is not are left out. A twin of a picture comes back as it is.
    """
    if not twin.frames:
        return twin
    there = {item.id: boxes(item, [frame])[0] for item in twin.objects}
    objects = tuple(
        dataclasses.replace(item, box=_whole(there[item.id]), track=(), velocity=None)
        for item in twin.objects
        if there[item.id] is not None
    )
    relations = tuple(r for r in twin.relations if there[r[0]] is not None and there[r[2]] is not None)
    return Twin(twin.size, objects, relations, (), twin.more)


def first(twin: Twin) -> Twin:
    """The twin of the first frame, as a picture's."""
    return still(twin, twin.frames[0]) if twin.frames else twin


def keyframes(found: Sequence[Corners | None], frames: Sequence[int], tolerance: float) -> tuple:
    """The track with few keyframes whose `interpolate` is within `tolerance` of every box, corner by corner.

    Each stretch of frames in which the object is seen is split at its worst frame until it fits (Ramer 1972; Douglas
    and Peucker 1973). A stretch that another follows ends with a None at the first frame in which it is not seen.

    Args:
      found: the box in each frame, None where it is not seen.
      frames: numbers of the frames, ascending, as many as boxes.
      tolerance: in the unit of the boxes.

    Returns:
      ((frame number, box or None), ...); empty where it is never seen.
    """
    track: list[tuple[int, Corners | None]] = []
    start = None
    for i in range(len(found) + 1):
        seen = i < len(found) and found[i] is not None
        if seen and start is None:
            start = i
        elif not seen and start is not None:
            track += [(frames[k], tuple(found[k])) for k in _needed(found, frames, start, i - 1, tolerance)]
            if any(box is not None for box in found[i:]):
                track.append((frames[i], None))
            start = None
    return tuple(track)


def velocity(found: Sequence[Corners | None]) -> tuple[float, float]:
    """dx, dy of the box's centre from one frame to the next, the mean from the first frame that has a box to the last.

    (0, 0) where only one frame has a box, or none.
    """
    there = [i for i, box in enumerate(found) if box is not None]
    if len(there) < 2:
        return 0.0, 0.0
    first, last, steps = found[there[0]], found[there[-1]], there[-1] - there[0]
    return tuple(float(last[k] + last[k + 2] - first[k] - first[k + 2]) / 2 / steps for k in (0, 1))


def _whole(box: Corners) -> tuple[int, int, int, int]:
    """Rounded to integers, at least 1 wide and high: between two sound boxes a box is as wide as the narrower."""
    x1, y1, x2, y2 = (round(v) for v in box)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _needed(found, frames, first: int, last: int, tolerance: float) -> list[int]:
    """Places of the keyframes of a stretch, ascending; without recursion, since a stretch may be long."""
    kept, open_ = {first, last}, [(first, last)]
    values, times = np.array([found[k] for k in range(first, last + 1)], float), np.asarray(frames, float)
    while open_:
        a, b = open_.pop()
        if b - a < 2:
            continue
        share = ((times[a + 1 : b] - times[a]) / (times[b] - times[a]))[:, None]
        straight = values[a - first] + (values[b - first] - values[a - first]) * share
        off = np.abs(values[a + 1 - first : b - first] - straight).max(1)
        if off.max() > tolerance:
            worst = a + 1 + int(off.argmax())
            kept.add(worst)
            open_ += [(a, worst), (worst, b)]
    return sorted(kept)
