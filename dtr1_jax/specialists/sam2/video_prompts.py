"""Prompts that a user gives for objects: checked, and brought to the frame of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from dtr1_jax.specialists.sam2.prompt_tokens import BOTTOM_RIGHT, NO_POINT, TOP_LEFT, UNUSED


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What a user says about one object on one frame of a video: a mask, or a box and points, or one of both.

    The first prompt of an object starts its track. A later one corrects the track: the object is tracked to that frame,
    and the prompt is applied to what tracking found.

    Attributes:
      frame: index of the frame.
      object: the object's name, a number or a string.
      box: x1,y1,x2,y2, unit frame; parts outside the picture are cut off.
      points: float[p, 2], x and y, unit frame.
      labels: p numbers, 1 = on the object, 0 = not on it, -1 = no point, which fills rows; None = all on it.
      mask: bool[h, w] at the frame's own size, or any size of the same view. It is taken as the result for this frame.
      restart: for a later prompt: the object is prompted anew, without regard to what tracking found, and the frame is
        remembered for the rest of the video like that of the first prompt. For an object that was lost.
    """

    frame: int
    object: Hashable
    box: Any = None
    points: Any = None
    labels: Any = None
    mask: Any = None
    restart: bool = False


def as_points(box: Any, points: Any, labels: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a box and points as one list, float32[p, 2] in the unit frame, and their labels int32[p].

    Args:
      box, points, labels: as Prompt documents them.
      where: beginning of a message.

    Raises ValueError: another shape, a number that is not finite, a point outside the picture, a label other than 1,
    0 and -1, or a box without area inside the picture.
    """
    found, kinds = [], []
    if box is not None:
        corners = np.asarray(box, np.float32)
        if corners.shape != (4,) or not has_area(corners[None])[0]:
            raise ValueError(f"{where}: expected a box x1,y1,x2,y2 with area in the unit frame, got {box!r:.80}")
        found.append(np.clip(corners, 0, 1).reshape(2, 2))
        kinds += [TOP_LEFT, BOTTOM_RIGHT]
    if points is not None:
        places = np.asarray(points, np.float32)
        if places.ndim != 2 or places.shape[1] != 2 or not ((places >= 0) & (places <= 1)).all():
            raise ValueError(f"{where}: expected points [p, 2] in the unit frame, got {points!r:.80}")
        marks = np.ones(len(places), int) if labels is None else np.asarray(labels)
        if marks.shape != (len(places),) or not np.isin(marks, (-1, 0, 1)).all():
            raise ValueError(f"{where}: expected {len(places)} labels of 1, 0 and -1, got {labels!r:.80}")
        found.append(places[marks >= 0])
        kinds += marks[marks >= 0].astype(int).tolist()
    elif labels is not None:
        raise ValueError(f"{where}: labels are given, but no points")
    return np.concatenate(found or [np.zeros((0, 2), np.float32)]), np.array(kinds, np.int32)


def points_of(prompt: Prompt | None) -> tuple[np.ndarray, np.ndarray]:
    """`as_points` of a prompt that is checked; no points without a prompt."""
    asked = (None,) * 3 if prompt is None else (prompt.box, prompt.points, prompt.labels)
    return as_points(*asked, where="prompt")


def has_area(boxes: np.ndarray) -> np.ndarray:
    """bool[n], whether each box float[n, 4] of the unit frame is finite and has area inside the picture."""
    with np.errstate(invalid="ignore"):
        cut = np.clip(np.nan_to_num(boxes, nan=0.0), 0, 1)
        return np.isfinite(boxes).all(1) & (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])


def padded(rows: Sequence[tuple[np.ndarray, np.ndarray]], places: int) -> tuple[np.ndarray, np.ndarray]:
    """float32[n, places, 2] and int32[n, places] of the points of n objects, unit frame.

    Each object gets one point with the label NO_POINT, as the model is trained, and an object without points a second
    one; the rest is UNUSED. Example with 4 places and one click: labels 1, -1, -10, -10.
    """
    points = np.zeros((len(rows), places, 2), np.float32)
    labels = np.full((len(rows), places), UNUSED, np.int32)
    for i, (at, kinds) in enumerate(rows):
        points[i, : len(at)] = at
        labels[i, : len(at)] = kinds
        labels[i, len(at) : max(len(at) + 1, 2)] = NO_POINT
    return points, labels


def places_needed(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """A power of two, at least 2, that holds every object's points and the one that is added."""
    return max(2, 1 << max((len(kinds) for _, kinds in rows), default=0).bit_length())


def in_pixels(points: np.ndarray, side: int) -> np.ndarray:
    """Points of the unit frame in pixels of the square picture that the model reads.

    A point without a place, (0, 0) with the label NO_POINT or UNUSED, may be anywhere.
    """
    return (points * side).astype(np.float32)


def checked(prompts: Sequence[Prompt], frames: int | None) -> dict[int, dict[Hashable, Prompt]]:
    """{frame: {object: its prompt}}, with both in increasing order of frame and of first appearance.

    Args:
      prompts: what the user gives.
      frames: length of the video; None if it is not known.

    Raises ValueError: no prompts, a frame that the video does not have, two prompts of one object on one frame, a
    prompt with nothing in it or with a mask beside points, and as `as_points` does.
    """
    if not prompts:
        raise ValueError("prompts: expected at least one Prompt, got none")
    named: dict[int, dict[Hashable, Prompt]] = {}
    for prompt in sorted(prompts, key=lambda p: p.frame):
        where = f"prompt of object {prompt.object!r} on frame {prompt.frame}"
        if isinstance(prompt.frame, bool) or not isinstance(prompt.frame, int | np.integer) or prompt.frame < 0:
            raise ValueError(f"{where}: expected a frame of at least 0")
        if frames is not None and prompt.frame >= frames:
            raise ValueError(f"{where}: the video has {frames} frames")
        if prompt.object in named.setdefault(int(prompt.frame), {}):
            raise ValueError(f"{where}: expected one prompt, got two; put box and points into one")
        if prompt.mask is not None and (prompt.box is not None or prompt.points is not None):
            raise ValueError(f"{where}: expected a mask, or a box and points, got both")
        if prompt.mask is not None:
            mask = np.asarray(prompt.mask)
            if mask.dtype != bool or mask.ndim != 2 or not mask.size:
                raise ValueError(f"{where}: expected mask bool[h, w], got {mask.dtype}{list(mask.shape)}")
        elif not len(as_points(prompt.box, prompt.points, prompt.labels, where)[1]):
            raise ValueError(f"{where}: expected a box, points or a mask, got none")
        named[int(prompt.frame)][prompt.object] = prompt
    return named
