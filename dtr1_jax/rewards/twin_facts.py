"""Twins and annotations become the arrays that rewards/twin_truth.py compares: names become numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from dtr1_jax.rewards.label_names import canonical, relation_kind
from dtr1_jax.rewards.twin_truth import Facts
from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.things import Thing, things_of_scene, things_of_twin
from dtr1_jax.types import Example

MAX_OBJECTS = 64  # at most so many objects are matched, the largest first, because matching is cubic in their number
MAX_ATTRIBUTES = 16  # of one object; more of them count as false
MAX_RELATIONS = 64  # more of them count as false


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts of one twin, or of one annotation, before they are padded.

    Attributes:
      things: the objects.
      relations: (row, words, row); a row is an index into `things`, -1 for an object that is not visible.
    """

    things: Sequence[Thing]
    relations: Sequence[tuple[int, str, int]] = ()


def of_twin(twin: Twin | None, canvas: Canvas) -> Description:
    """The facts that a twin states; a transcript without a sound twin states none."""
    if twin is None:
        return Description(())
    things = things_of_twin(twin, canvas)
    row_of = {thing.id: row for row, thing in enumerate(things)}
    return Description(things, [(row_of.get(a, -1), words, row_of.get(b, -1)) for a, words, b in twin.relations])


def of_example(example: Example, frames: int) -> Description:
    """The facts that a data set annotates: the objects of the scene that are visible to the policy.

    Args:
      example: the query with its scene.
      frames: number of frames of the video that the policy saw; 0 = a picture.
    """
    count = max(frames, 1)
    things = [
        # A single box is that of an object that stands still.
        dataclasses.replace(thing, boxes=thing.boxes * count if len(thing.boxes) == 1 else thing.boxes[:count])
        for thing in things_of_scene(example.scene)
    ]
    return Description([thing for thing in things if any(thing.boxes)])


def known(truth: Description, video: bool) -> set[str]:
    """The columns of rewards/twin_truth.py for which an annotation has facts.

    Without objects there are none. Labels and relations need objects, attributes need some attribute, depth needs two
    objects at different depths, and tracks need a video.
    """
    if not truth.things:
        return set()
    names = {"twin_iou", "twin_relations"}
    names |= {"twin_labels"} if all(thing.label for thing in truth.things) else set()
    names |= {"twin_attributes"} if any(thing.attributes for thing in truth.things) else set()
    names |= {"twin_depth"} if len({thing.depth for thing in truth.things if thing.depth}) > 1 else set()
    return names | ({"twin_tracks"} if video else set())


def pack(descriptions: Sequence[Description], frames: int, vocabulary: dict[str, int]) -> Facts:
    """Facts with a leading axis: n descriptions, padded to the same numbers of objects, frames and relations.

    The numbers of objects, attributes and relations are powers of two, so that a run compiles few shapes.

    Args:
      descriptions: n twins or annotations.
      frames: T, at least the number of boxes of each object; the others are padding.
      vocabulary: name -> number; new names are added. Descriptions that are compared must share it.
    """
    words = [[_numbers(thing.attributes, vocabulary) for thing in d.things] for d in descriptions]
    m = _padded(max((len(d.things) for d in descriptions), default=0), 8, MAX_OBJECTS)
    a = _padded(max((len(x) for rows in words for x in rows), default=0), 4, MAX_ATTRIBUTES)
    r = _padded(max((len(d.relations) for d in descriptions), default=0), 1, MAX_RELATIONS)
    n = len(descriptions)
    facts = Facts(
        box_mt4=np.zeros((n, m, frames, 4), np.float32), visible_mt=np.zeros((n, m, frames), bool),
        count=np.array([len(d.things) for d in descriptions], np.int32), label_m=np.full((n, m), -1, np.int32),
        attribute_ma=np.full((n, m, a), -1, np.int32),
        attributes=np.array([sum(map(len, rows)) for rows in words], np.int32), depth_m=np.zeros((n, m), np.int32),
        velocity_m2=np.zeros((n, m, 2), np.float32), relation_r3=np.full((n, r, 3), -1, np.int32),
        relations=np.array([len(d.relations) for d in descriptions], np.int32),
    )  # fmt: skip
    for i, d in enumerate(descriptions):
        place = {row: k for k, row in enumerate(_largest(d.things, m))}
        for row, k in place.items():
            thing = d.things[row]
            for t, box in enumerate(thing.boxes):
                if box is not None:
                    facts.box_mt4[i, k, t], facts.visible_mt[i, k, t] = box, True
            velocity = tracks.velocity(thing.boxes) if thing.velocity is None else thing.velocity
            facts.velocity_m2[i, k], facts.depth_m[i, k] = velocity, thing.depth or 0
            facts.label_m[i, k] = vocabulary.setdefault(canonical(thing.label), len(vocabulary))
            facts.attribute_ma[i, k, : len(words[i][row])] = words[i][row][:a]
        for k, (first, name, second) in enumerate(d.relations[:r]):
            facts.relation_r3[i, k] = place.get(first, -1), relation_kind(name), place.get(second, -1)
    return facts


def _largest(things: Sequence[Thing], limit: int) -> list[int]:
    """Rows of the `limit` objects whose boxes cover most, ascending."""
    areas = [sum((box[2] - box[0]) * (box[3] - box[1]) for box in thing.boxes if box) for thing in things]
    return sorted(sorted(range(len(things)), key=lambda row: -round(areas[row], 6))[:limit])


def _numbers(attributes: Collection[str], vocabulary: dict[str, int]) -> list[int]:
    """The numbers of the different attributes of an object."""
    return list(
        dict.fromkeys(vocabulary.setdefault(canonical(word, attribute=True), len(vocabulary)) for word in attributes)
    )


def _padded(count: int, low: int, high: int) -> int:
    """The smallest power of two that is at least `count`, within [low, high]."""
    return min(high, max(low, 1 << max(count - 1, 0).bit_length()))
