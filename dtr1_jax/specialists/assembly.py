"""Sightings of one picture or video become a scene: objects with boxes, masks, depth ranks, attributes and relations.

An object of a video is a row of sightings, one for each frame that was looked at, or None where it was not seen.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtr1_jax import camera_motion, config
from dtr1_jax.specialists import colour_names, depth_order, scene_relations
from dtr1_jax.specialists.depth_order import ObjectDepth
from dtr1_jax.specialists.findings import DepthMap
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.specialists.segmenter import box_mask
from dtr1_jax.specialists.sightings import Sighting, box_iou
from dtr1_jax.twin import masks as mask_codes
from dtr1_jax.types import Instance

SMALL, LARGE = 0.01, 0.1  # shares of the picture at which an object is "small" or "large", as in readers/coco.py
AGREES = 0.5  # IoU of a mask's box and the detector's from which the mask's box is taken

Row = Sequence[Sighting | None]


@dataclasses.dataclass(frozen=True)
class Makers:
    """Who found what, by name, for the provenance."""

    detector: str
    depth: str = ""
    tracker: str = ""


@dataclasses.dataclass(frozen=True)
class Looked:
    """What was looked at.

    Attributes:
      images: T pictures uint8[h, w, 3] of one size; T = 1 for a picture.
      depths: the depth of each, or None.
      frames: numbers of the frames of a video; empty = a picture.
      path: where each frame lies in the first, homographies of camera_motion.camera_path; None = not measured.
    """

    images: Sequence[np.ndarray]
    depths: Sequence[DepthMap | None]
    frames: tuple[int, ...] = ()
    path: Sequence[np.ndarray | None] | None = None


def assemble(
    looked: Looked, rows: Sequence[Row], makers: Makers, c: config.Specialists, failures: Sequence[str] = ()
) -> PerceivedScene:
    """The scene of n rows of T sightings, each with at least one.

    Objects are numbered from left to right by the centres of their boxes; those of a video by their first frame first.
    A colour is named inside a mask that is no filled box, from `c.colour_share` of its pixels on; "small" and "large"
    are shares of the picture. Nothing is said of textures, which nobody measures.
    """
    ordered = sorted(rows, key=_place)
    height, width = looked.images[0].shape[:2]
    masks = [[_mask(one, looked.images[t]) for t, one in enumerate(row)] for row in ordered]
    boxes = [np.array([_box(one, mask) for one, mask in zip(row, of_row)]) for row, of_row in zip(ordered, masks)]
    depths = _depths(looked, ordered, masks)
    nearness = [None if depth is None else depth.nearness for depth in depths]
    ranks = depth_order.ranks(nearness, c.depth_tie)
    filled = {i for i, row in enumerate(ordered, 1) if any(one is not None and one.mask is None for one in row)}
    instances, provenance = [], {}
    for i, row in enumerate(ordered):
        number, (label, score, others) = i + 1, _label(row)
        words, measured = _attributes(looked, row, masks[i], c.colour_share)
        velocity = _velocity(boxes[i], looked.path) if looked.frames else None
        stack = np.stack([np.zeros((height, width), bool) if mask is None else mask for mask in masks[i]])
        instances.append(Instance(
            number, label, tuple(boxes[i][0].tolist()), stack[0], ranks[i], words,
            boxes[i] if looked.frames else None, stack if looked.frames else None, velocity,
            outlined=number not in filled,
        ))  # fmt: skip
        provenance[number] = _provenance(row, boxes[i], makers, (score, others), depths[i], measured, velocity, looked)
    return PerceivedScene(
        tuple(instances), tuple(_relations(instances, looked, depths, c.depth_tie, filled)), provenance, looked.frames,
        tuple(failures),
    )  # fmt: skip


def _place(row: Row) -> tuple[int, float, float]:
    t = next(t for t, one in enumerate(row) if one is not None)
    box = row[t].box
    return t, float(box[0] + box[2]), float(box[1] + box[3])


def _mask(one: Sighting | None, image: np.ndarray) -> np.ndarray | None:
    if one is None:
        return None
    return box_mask(image, one.box) if one.mask is None else one.mask


def _box(one: Sighting | None, mask: np.ndarray | None) -> tuple[float, float, float, float]:
    """The tight box of a learned mask, unless it is far from the detector's box, which is taken then."""
    if one is None:
        return (0.0, 0.0, 0.0, 0.0)
    tight = mask_codes.bbox(mask) if one.mask_by not in ("box", "grabcut") else None
    if tight is not None and box_iou(np.asarray(tight, np.float64), one.box) >= AGREES:
        return tight
    return tuple(one.box.tolist())


def _label(row: Row) -> tuple[str, float, dict[str, float]]:
    """(the label with the largest sum of scores over the frames, its mean score there, the best scores of others)."""
    scores, others = collections.defaultdict(list), {}
    for one in filter(None, row):
        scores[one.label].append(one.score)
        others |= {name: max(score, others.get(name, 0.0)) for name, score in one.others.items()}
    label = max(scores, key=lambda name: sum(scores[name]))
    others |= {name: max(values) for name, values in scores.items()}
    return label, float(np.mean(scores[label])), {name: s for name, s in others.items() if name != label}


def _depths(looked: Looked, rows: Sequence[Row], masks: Sequence[Sequence]) -> list[ObjectDepth | None]:
    """The depth of each object, the mean over the frames in which it is seen and depth is known."""
    found: list[list[ObjectDepth]] = [[] for _ in rows]
    for t, depth in enumerate(looked.depths):
        seen = [i for i in range(len(rows)) if depth is not None and masks[i][t] is not None]
        for i, one in zip(seen, depth_order.of_masks(depth, [masks[i][t] for i in seen]) if seen else ()):
            found[i] += [one] if one is not None else []
    return [_mean(values) if values else None for values in found]


def _mean(values: Sequence[ObjectDepth]) -> ObjectDepth:
    metres = [value.metres for value in values if value.metres is not None]
    nearness, spread = (float(np.mean([getattr(v, name) for v in values])) for name in ("nearness", "spread"))
    return ObjectDepth(nearness, spread, float(np.mean(metres)) if metres else None)


def _attributes(looked: Looked, row: Row, masks: Sequence, share: float) -> tuple[tuple[str, ...], dict[str, float]]:
    """(the words of an object in the frame in which it is largest, the shares of its colours)."""
    t = max(range(len(row)), key=lambda k: -1 if masks[k] is None else int(masks[k].sum()))
    filled = row[t].mask is None or row[t].mask_by == "box"
    area = float(masks[t].mean())
    shares = {} if filled else colour_names.shares(looked.images[t], masks[t])
    colours = tuple(name for name, of_mask in shares.items() if of_mask >= share)[:2]
    size = ("small",) if area < SMALL else ("large",) if area >= LARGE and not filled else ()
    return colours + size, shares


def _velocity(boxes: np.ndarray, path: Sequence[np.ndarray | None] | None) -> tuple[float, float] | None:
    """Mean motion of the centre from one frame to the next, without the camera's, unit frame of the first frame.

    None where the camera's motion is not known, or the object is seen in one frame only.
    """
    seen = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    if path is None or len(seen) < 2 or any(path[t] is None for t in (seen[0], seen[-1])):
        return None
    ends = camera_motion.in_first_frame(boxes[[seen[0], seen[-1]]], [path[seen[0]], path[seen[-1]]])
    centres = (ends[:, :2] + ends[:, 2:]) / 2
    dx, dy = (centres[1] - centres[0]) / (seen[-1] - seen[0])
    return float(dx), float(dy)


def _relations(
    instances: Sequence[Instance], looked: Looked, depths: Sequence[ObjectDepth | None], tie: float, filled: set[int]
) -> list[scene_relations.Relation]:
    """The relations of a picture; of a video those that hold in every frame that shows both objects."""
    if not looked.frames:
        return scene_relations.relations(instances, depths, tie, filled)
    held: collections.Counter = collections.Counter()
    shown: collections.Counter = collections.Counter()
    for t in range(len(looked.images)):
        there = [i for i, item in enumerate(instances) if item.boxes[t][2] > item.boxes[t][0]]
        at_t = [
            dataclasses.replace(instances[i], box=tuple(instances[i].boxes[t].tolist()), mask=instances[i].masks[t])
            for i in there
        ]
        held.update(scene_relations.relations(at_t, [depths[i] for i in there], tie, filled))
        shown.update(frozenset((a.id, b.id)) for a in at_t for b in at_t if a.id < b.id)
    return [(a, words, b) for (a, words, b), count in held.items() if count == shown[frozenset((a, b))]]


def _provenance(
    row: Row, boxes: np.ndarray, makers: Makers, label: tuple[float, dict[str, float]], depth: ObjectDepth | None,
    shares: dict[str, float], velocity: tuple[float, float] | None, looked: Looked,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Where each field of an object comes from: its maker and, where there is one, its score."""
    seen = [one for one in row if one is not None]
    first = next(t for t, one in enumerate(row) if one is not None)
    score, others = label
    own_box = np.allclose(boxes[first], seen[0].box)
    scores = [one.mask_score for one in seen if one.mask_score is not None]
    found: dict[str, dict[str, Any]] = {
        "label": {"by": makers.detector, "score": round(score, 4)},
        "box": {"by": makers.detector if own_box else f"mask of {seen[0].mask_by}"},
        "mask": {"by": seen[0].mask_by},
        "centre": {"by": "box", "value": _rounded((boxes[first][:2] + boxes[first][2:]) / 2)},
    }
    if others:
        found["label"]["others"] = {name: round(value, 4) for name, value in others.items()}
    if scores:
        found["mask"]["score"] = round(float(np.mean(scores)), 4)
    if depth is not None:
        found["depth"] = {"by": makers.depth, "nearness": round(depth.nearness, 4), "spread": round(depth.spread, 4)}
        if depth.metres is not None:
            found["depth"]["metres"] = round(depth.metres, 3)
    if shares:
        found["attributes"] = {"by": "pixels", "shares": {name: round(value, 3) for name, value in shares.items()}}
    if looked.frames and makers.tracker:
        found["track"] = {"by": makers.tracker, "frames": len(seen)}
    if velocity is not None:
        found["velocity"] = {"by": "track without the camera's motion"}
    return found


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
