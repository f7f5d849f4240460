"""Twins and answers as compact JSON.

In the twin of a video, an object that stands still has a box; an object that moves has a track, a list of keyframes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from dtr1_jax.twin import ids, tracks
from dtr1_jax.twin.coordinates import Canvas, from_unit
from dtr1_jax.twin.schema import MAX_KEYFRAMES, Answer, Object, Twin
from dtr1_jax.types import Instance

TOLERANCE = 0.015  # unit frame: largest distance between a track that `from_scene` writes and the annotated boxes


def from_scene(instances: Sequence[Instance], canvas: Canvas, named: bool = False) -> Twin:
    """Builds the oracle twin: the annotated objects in their order, as a flawless policy would write them.

    In a video, objects that are never visible are left out. An object counts as standing still where its box moves by
    at most TOLERANCE over the whole video, and where the instance has no `boxes`. The track of any other object is
    within TOLERANCE of its boxes, up to rounding. The velocity is that of the instance, or else that of its boxes.
    `named` is the form of the ids in the text.

    Raises ValueError if an instance has boxes for another number of frames than the canvas.
    """
    items = (_moving(item, canvas) if canvas.frames and item.boxes is not None else _standing(item, canvas)
             for item in instances)  # fmt: skip
    return Twin(canvas.size, tuple(item for item in items if item is not None), frames=canvas.frames, named=named)


def _standing(item: Instance, canvas: Canvas) -> Object:
    return Object(item.id, item.label, from_unit(item.box, canvas), item.depth or None, tuple(item.attributes))


def _moving(item: Instance, canvas: Canvas) -> Object | None:
    """An object of a video's twin, or None if it is never visible."""
    if len(item.boxes) != len(canvas.frames):
        raise ValueError(
            f"object {item.id} {item.label!r}: expected boxes for the {len(canvas.frames)} frames of the video, "
            f"got {len(item.boxes)}"
        )
    boxes = [tuple(map(float, box)) if box[2] > box[0] and box[3] > box[1] else None for box in item.boxes]
    visible = [box for box in boxes if box is not None]
    if not visible:
        return None
    words = (item.depth or None, tuple(item.attributes))
    distance = max(abs(a - b) for box in visible for a, b in zip(box, visible[0]))
    if len(visible) == len(boxes) and distance <= TOLERANCE:
        return Object(item.id, item.label, from_unit(visible[0], canvas), *words)
    track = tracks.keyframes(boxes, canvas.frames, TOLERANCE)
    if len(track) > MAX_KEYFRAMES:  # too many keyframes: keep those where it appears or disappears
        track = tracks.keyframes(boxes, canvas.frames, 1.0)[:MAX_KEYFRAMES]
        track = track if track[-1][1] is not None else track[:-1]
    track = tuple((frame, box and from_unit(box, canvas)) for frame, box in track)
    dx, dy = item.velocity or tracks.velocity(boxes)
    (w, h), clamp = canvas.limit, lambda v, most: min(max(round(v * most), -most), most)
    return Object(item.id, item.label, None, *words, track, (clamp(dx, w), clamp(dy, h)))


def dumps_twin(twin: Twin) -> str:
    """Writes a twin as JSON without spaces and without the keys of empty fields (depth, attributes, relations, ...)."""
    value: dict[str, Any] = {"size": twin.size}
    if twin.frames:
        value["frames"] = twin.frames
    write = _writer(twin)
    value["objects"] = [_object(item, write(item.id)) for item in twin.objects]
    if twin.relations:
        value["relations"] = [(write(one), words, write(other)) for one, words, other in twin.relations]
    if twin.more:
        value["more"] = twin.more
    return _dumps(value)


def dumps_answer(answer: Answer, twin: Twin | None = None) -> str:
    """Writes an answer as JSON without spaces, with ids in the form of the twin, or as numbers without one.

    Raises:
      ValueError: not exactly one of its fields is set.
    """
    value = {k: v for k, v in vars(answer).items() if v is not None}
    if len(value) != 1:
        raise ValueError(f"expected an Answer with exactly one of objects, boxes, text, got {sorted(value) or 'none'}")
    if twin is not None and answer.objects is not None:
        value["objects"] = [_writer(twin)(number) for number in answer.objects]
    return _dumps(value)


def _writer(twin: Twin) -> Callable[[int], int | str]:
    """A function that gives an id the form of the twin's ids. An id that no object has stays a number."""
    labels = {item.id: item.label for item in twin.objects} if twin.named else {}
    return lambda number: ids.name(number, labels[number]) if number in labels else number


def _object(item: Object, written_id: int | str) -> dict[str, Any]:
    value: dict[str, Any] = {"id": written_id, "label": item.label}
    if item.track:
        value["track"] = {str(frame): box for frame, box in item.track}
    else:
        value["box"] = item.box
    if item.velocity is not None:
        value["velocity"] = item.velocity
    if item.depth is not None:
        value["depth"] = item.depth
    if item.attributes:
        value["attributes"] = item.attributes
    return value


def _dumps(value: dict[str, Any]) -> str:
    # "<" is escaped, so that no string can contain a tag of the transcript.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
