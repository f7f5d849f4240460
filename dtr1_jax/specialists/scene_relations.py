"""Relations between the perceived objects of one picture, from their masks, boxes and depths.

    inside        INSIDE of the pixels of the first object lie within the outer outline of the second, which is larger
    on            the two touch, mostly at the bottom of the first object and along SUPPORT of its width; the first
                  stands higher, and WITHIN of its width is above the second; their depths do not contradict
    overlapping   their masks share OVERLAP of the smaller one
    touching      their masks are at most TOUCH of the picture's longer side apart
    in front of   the two are in contact in one of these ways, or their boxes overlap, and the first is nearer: their
                  medians differ by more than ties do, and the middle halves of their depths do not overlap
    left of, right of, above, below   the two are apart along this axis, and each is the nearest object of the other or
                  one of them is; of two axes the one with the wider gap

These say how things look in the picture. A cup that is seen from above on a table is within the table's outline, and so
"inside" it. Where nothing is sure, nothing is said: no pair has a side that it does not have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np

from dtr1_jax.specialists.depth_order import ObjectDepth
from dtr1_jax.types import Instance

Relation = tuple[int, str, int]

SIDE = 256  # pixels of the longer side at which masks are compared
INSIDE, OVERLAP, TOUCH = 0.9, 0.05, 0.008
APART = 0.01  # unit frame: objects that overlap by at most this along an axis are apart, as in data/queries/photos.py
BOTTOM, RESTS = 0.25, 0.6  # the part of an object's height that is its bottom; share of the contact that is there
SUPPORT, WITHIN = 0.5, 0.8
LEVEL = 0.3  # of the range of depths: an object that rests on another differs from it by no more
MOST = 64  # relations of one scene


def relations(
    instances: Sequence[Instance], depths: Sequence[ObjectDepth | None] = (), tie: float = 0.0,
    filled: Collection[int] = (),
) -> list[Relation]:  # fmt: skip
    """The relations (id, words, id) of a picture, those of contact first; at most MOST.

    Args:
      instances: the objects; their masks bool[h, w] have one size.
      depths: of each object; None = not known. Empty = none is known.
      tie: depths that differ by no more than this have no order.
      filled: ids of objects whose masks are filled boxes: nobody knows whether these touch another one.
    """
    if len(instances) < 2:
        return []
    known = list(depths) or [None] * len(instances)
    small = [_small(instance.mask) for instance in instances]
    contacts, order = [], []
    for i in range(len(instances)):
        for j in range(i + 1, len(instances)):
            if not _near(instances[i].box, instances[j].box):
                continue
            outlined = instances[i].id not in filled and instances[j].id not in filled
            found = _contact(instances, small, known, i, j) if outlined else None
            contacts += [found] if found else []
            if (found or _overlap(instances[i].box, instances[j].box)) and _has_order(known[i], known[j], tie):
                near, far = (i, j) if known[i].nearness > known[j].nearness else (j, i)
                order.append((instances[near].id, "in front of", instances[far].id))
    return (contacts + order + _sides(instances))[:MOST]


def _small(mask: np.ndarray) -> np.ndarray:
    """uint8[h, w] of at most SIDE pixels a side; pixels that are covered by half count."""
    scale = SIDE / max(mask.shape)
    if scale >= 1:
        return mask.astype(np.uint8)
    size = tuple(max(1, round(side * scale)) for side in mask.shape[::-1])
    return (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5).astype(np.uint8)


def _near(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes are at most TOUCH apart, with some room for rounding."""
    return all(min(a[k + 2], b[k + 2]) - max(a[k], b[k]) >= -2 * TOUCH for k in (0, 1))


def _has_order(a: ObjectDepth | None, b: ObjectDepth | None, tie: float) -> bool:
    """Whether one of two objects is nearer for sure."""
    if a is None or b is None:
        return False
    return abs(a.nearness - b.nearness) > max(tie, (a.spread + b.spread) / 2)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(min(a[k + 2], b[k + 2]) > max(a[k], b[k]) for k in (0, 1))


def _contact(
    instances: Sequence[Instance], small: Sequence[np.ndarray], known: Sequence[ObjectDepth | None], i: int, j: int
) -> Relation | None:
    """The one relation of contact between objects i and j; None if they do not touch."""
    area = [int(small[k].sum()) for k in (i, j)]
    if not all(area):
        return None
    one, other = (i, j) if area[0] <= area[1] else (j, i)
    inner, outer = small[one], small[other]
    ids = instances[one].id, instances[other].id
    if area[0] != area[1] and int((inner & _outline(outer)).sum()) >= INSIDE * inner.sum():
        return ids[0], "inside", ids[1]
    for upper, lower in ((i, j), (j, i)):
        if _rests(instances, small, known, upper, lower):
            return instances[upper].id, "on", instances[lower].id
    if int((inner & outer).sum()) >= OVERLAP * min(area):
        return ids[0], "overlapping", ids[1]
    return (ids[0], "touching", ids[1]) if (_grown(inner) & outer).any() else None


def _outline(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes filled."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)


def _grown(mask: np.ndarray) -> np.ndarray:
    reach = max(1, round(TOUCH * max(mask.shape)))
    return cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))


def _rests(
    instances: Sequence[Instance],
    small: Sequence[np.ndarray],
    known: Sequence[ObjectDepth | None],
    upper: int,
    lower: int,
) -> bool:
    """Whether an object stands or lies on another one."""
    a, b = instances[upper].box, instances[lower].box
    shared = (min(a[2], b[2]) - max(a[0], b[0])) / (a[2] - a[0])
    if not (shared >= WITHIN and (a[1] + a[3]) / 2 < (b[1] + b[3]) / 2 and a[3] < b[3]):
        return False
    one, other = known[upper], known[lower]
    if one is not None and other is not None and abs(one.nearness - other.nearness) > LEVEL:
        return False
    rows, columns = np.nonzero(_grown(small[upper]) & small[lower])
    if not len(rows):
        return False
    height = small[upper].shape[0]
    bottom = (a[3] - BOTTOM * (a[3] - a[1])) * height
    at_bottom = rows >= bottom - 1
    wide = len(np.unique(columns[at_bottom])) >= SUPPORT * (a[2] - a[0]) * small[upper].shape[1]
    return wide and float(at_bottom.mean()) >= RESTS


def _sides(instances: Sequence[Instance]) -> list[Relation]:
    """The side of each object to its nearest one, if the two are apart along an axis; each pair once."""
    found: dict[frozenset, Relation] = {}
    for one in instances:
        others = [other for other in instances if other is not one]
        other = min(others, key=lambda item: (_gap(one.box, item.box), item.id))
        side = _side(one, other)
        pair = frozenset((one.id, other.id))
        if side and pair not in found:
            found[pair] = (one.id, side, other.id)
    return list(found.values())


def _gap(a: Sequence[float], b: Sequence[float]) -> float:
    """The distance of two boxes, unit frame; 0 if they overlap."""
    return float(np.hypot(*(max(a[k] - b[k + 2], b[k] - a[k + 2], 0.0) for k in (0, 1))))


def _side(one: Instance, other: Instance) -> str | None:
    a, b = one.box, other.box
    gaps = [max(a[k] - b[k + 2], b[k] - a[k + 2]) for k in (0, 1)]  # negative = they overlap along the axis
    axis = int(np.argmax(gaps))
    if gaps[axis] < -APART:
        return None
    before = a[axis] + a[axis + 2] < b[axis] + b[axis + 2]
    return (("left of", "right of"), ("above", "below"))[axis][0 if before else 1]
