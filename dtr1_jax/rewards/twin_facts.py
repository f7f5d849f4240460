"""Twins and annotations become the arrays that rewards/twin_truth.py compares: names become numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from dtr1_jax.rewards.label_names import canonical, relation_kind
from dtr1_jax.rewards.twin_truth import Facts
from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.schema import Twin
from dtr1_jax.types import Example

MAX_OBJECTS = 64  # at most so many objects are matched, the largest first, because matching is cubic in their number
MAX_ATTRIBUTES = 16  # of one object; more of them count as false
MAX_RELATIONS = 64  # more of them count as false


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts of one twin, or of one annotation, before they are padded.

    Attributes:
      boxes: float32[n, T, 4], unit frame, all 0 in frames in which an object has no box.
      labels: n names.
      attributes: n collections of words.
      depths: n numbers, 1 = nearest, 0 = not known.
      velocities: float32[n, 2], unit frame from one frame to the next.
      relations: (row, words, row); a row is an index into these objects.
    """

    boxes: np.ndarray
    labels: Sequence[str]
    attributes: Sequence[Collection[str]]
    depths: Sequence[int]
    velocities: np.ndarray
    relations: Sequence[tuple[int, str, int]] = ()


def of_twin(twin: Twin | None, canvas: Canvas) -> Description:
    """The facts that a twin states; a transcript without a sound twin states none.

    A velocity that is not stated is that of the object's own boxes.
    """
    objects = twin.objects if twin else ()
    frames = canvas.frames or (0,)
    over_time = [tracks.boxes(item, frames) if canvas.frames else [item.box] for item in objects]
    boxes = [[(0, 0, 0, 0) if box is None else to_unit(box, canvas) for box in row] for row in over_time]
    width, height = canvas.limit
    velocities = [
        _velocity(row) if item.velocity is None else (item.velocity[0] / width, item.velocity[1] / height)
        for item, row in zip(objects, boxes)
    ]
    row_of = {item.id: i for i, item in enumerate(objects)}
    return Description(
        np.array(boxes, np.float32).reshape(-1, len(frames), 4), [item.label for item in objects],
        [item.attributes for item in objects], [item.depth or 0 for item in objects],
        np.array(velocities, np.float32).reshape(-1, 2),
        [(row_of[a], words, row_of[b]) for a, words, b in (twin.relations if twin else ())],
    )  # fmt: skip


def of_example(example: Example, frames: int) -> Description:
    """The facts that a data set annotates: the objects of the scene that have an area in some frame.

    Args:
      example: the query with its scene.
      frames: number of frames of the video that the policy saw; 0 = a picture.
    """
    boxes = np.zeros((len(example.scene), max(frames, 1), 4), np.float32)
    for i, thing in enumerate(example.scene):
        over_time = thing.boxes if frames and thing.boxes is not None else None
        rows = np.tile(thing.box, (max(frames, 1), 1)) if over_time is None else over_time[:frames]
        boxes[i, : len(rows)] = rows
    seen = np.flatnonzero(_has_area(boxes).any(1))
    scene = [example.scene[i] for i in seen]
    velocities = [_velocity(boxes[i]) if t.velocity is None else t.velocity for i, t in zip(seen, scene)]
    return Description(
        boxes[seen], [t.label for t in scene], [t.attributes for t in scene], [t.depth for t in scene],
        np.array(velocities, np.float32).reshape(-1, 2),
    )  # fmt: skip


def known(truth: Description, video: bool) -> set[str]:
    """The columns of rewards/twin_truth.py for which an annotation has facts.

    Without objects there are none. Labels and relations need objects, attributes need some attribute, depth needs two
    objects at different depths, and tracks need a video.
    """
    if not truth.labels:
        return set()
    names = {"twin_iou", "twin_relations"}
    names |= {"twin_labels"} if all(truth.labels) else set()
    names |= {"twin_attributes"} if any(truth.attributes) else set()
    names |= {"twin_depth"} if len({depth for depth in truth.depths if depth}) > 1 else set()
    return names | ({"twin_tracks"} if video else set())


def pack(descriptions: Sequence[Description], frames: int, vocabulary: dict[str, int]) -> Facts:
    """Facts with a leading axis: n descriptions, padded to the same numbers of objects, frames and relations.

    The numbers of objects, attributes and relations are powers of two, so that a run compiles few shapes.

    Args:
      descriptions: n twins or annotations.
      frames: T, to which the frames are padded.
      vocabulary: name -> number; new names are added. Descriptions that are compared must share it.
    """
    words = [[_numbers(attributes, vocabulary) for attributes in d.attributes] for d in descriptions]
    m = _padded(max((len(d.labels) for d in descriptions), default=0), 8, MAX_OBJECTS)
    a = _padded(max((len(x) for rows in words for x in rows), default=0), 4, MAX_ATTRIBUTES)
    r = _padded(max((len(d.relations) for d in descriptions), default=0), 1, MAX_RELATIONS)
    n = len(descriptions)
    facts = Facts(
        box_mt4=np.zeros((n, m, frames, 4), np.float32), visible_mt=np.zeros((n, m, frames), bool),
        count=np.array([len(d.labels) for d in descriptions], np.int32), label_m=np.full((n, m), -1, np.int32),
        attribute_ma=np.full((n, m, a), -1, np.int32),
        attributes=np.array([sum(map(len, rows)) for rows in words], np.int32), depth_m=np.zeros((n, m), np.int32),
        velocity_m2=np.zeros((n, m, 2), np.float32), relation_r3=np.full((n, r, 3), -1, np.int32),
        relations=np.array([len(d.relations) for d in descriptions], np.int32),
    )  # fmt: skip
    for i, d in enumerate(descriptions):
        area = np.clip(d.boxes[..., 2:] - d.boxes[..., :2], 0, None).prod(-1).sum(1)
        rows = np.sort(np.argsort(-area, kind="stable")[:m])
        place = {int(row): k for k, row in enumerate(rows)}
        t = d.boxes.shape[1]
        facts.box_mt4[i, : len(rows), :t] = d.boxes[rows]
        facts.visible_mt[i, : len(rows), :t] = _has_area(d.boxes[rows])
        facts.velocity_m2[i, : len(rows)] = d.velocities[rows]
        for row, k in place.items():
            facts.label_m[i, k] = vocabulary.setdefault(canonical(d.labels[row]), len(vocabulary))
            facts.attribute_ma[i, k, : len(words[i][row])] = words[i][row][:a]
            facts.depth_m[i, k] = d.depths[row]
        for k, (first, name, second) in enumerate(d.relations[:r]):
            facts.relation_r3[i, k] = place.get(first, -1), relation_kind(name), place.get(second, -1)
    return facts


def _numbers(attributes: Collection[str], vocabulary: dict[str, int]) -> list[int]:
    """The numbers of the different attributes of an object."""
    return list(
        dict.fromkeys(vocabulary.setdefault(canonical(word, attribute=True), len(vocabulary)) for word in attributes)
    )


def _velocity(boxes: Sequence[Sequence[float]]) -> tuple[float, float]:
    return tracks.velocity([box if box[2] > box[0] and box[3] > box[1] else None for box in boxes])


def _has_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _padded(count: int, low: int, high: int) -> int:
    """The smallest power of two that is at least `count`, within [low, high]."""
    return min(high, max(low, 1 << max(count - 1, 0).bit_length()))
