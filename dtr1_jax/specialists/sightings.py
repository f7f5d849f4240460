"""What a detector saw in one picture, made distinct: no object twice, by the overlap of masks or boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax.specialists.findings import Detections
from dtr1_jax.twin.label_synonyms import canonical

SAME = 0.9  # IoU from which two sightings are one object, whatever their labels


@dataclasses.dataclass(frozen=True)
class Sighting:
    """One object in one picture.

    Attributes:
      label: its best label.
      score: in [0, 1], of that label.
      box: float64[4], x1,y1,x2,y2, unit frame.
      others: scores of other labels that sightings of the same object had.
      mask: bool[h, w]; None = not segmented yet.
      mask_by: who made the mask; "box" = the filled box.
      mask_score: the IoU that the segmenter expects of the mask; None = it does not say.
    """

    label: str
    score: float
    box: np.ndarray
    others: dict[str, float] = dataclasses.field(default_factory=dict)
    mask: np.ndarray | None = None
    mask_by: str = "box"
    mask_score: float | None = None


def of_detections(found: Detections, height: int, width: int, by: str) -> list[Sighting]:
    """The sound detections of a picture of height x width pixels, best score first.

    Boxes are cut to the picture; those that are not finite or have no area there are left out. The masks of an instance
    segmenter are kept if they have the picture's size; `by` is its name.
    """
    sightings = []
    for i, label in enumerate(found.labels):
        box = np.asarray(found.boxes[i], np.float64)
        if box.shape != (4,) or not np.isfinite(box).all() or not np.isfinite(found.scores[i]):
            continue
        box = box.clip(0, 1)
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        mask = None if found.masks is None else np.asarray(found.masks[i], bool)
        fits = mask is not None and mask.shape == (height, width) and mask.any()
        score = float(np.clip(found.scores[i], 0, 1))
        sightings.append(Sighting(label, score, box, mask=mask if fits else None, mask_by=by if fits else "box"))
    return sorted(sightings, key=lambda one: -one.score)


def distinct(sightings: Sequence[Sighting], merge_iou: float) -> list[Sighting]:
    """The sightings without repetitions, best score first.

    Two are one object if their masks (or boxes, where one has no mask) overlap by `merge_iou` and their labels mean the
    same, or by SAME. The one with the higher score stays, and takes over the label of the other.
    """
    kept: list[Sighting] = []
    for one in sorted(sightings, key=lambda item: -item.score):
        place = next((i for i, other in enumerate(kept) if is_same(one, other, merge_iou)), None)
        if place is None:
            kept.append(one)
            continue
        best = kept[place]
        labels = {one.label: one.score, **one.others}
        others = {name: max(score, best.others.get(name, 0.0)) for name, score in labels.items() if name != best.label}
        kept[place] = dataclasses.replace(best, others=best.others | others)
    return kept


def is_same(one: Sighting, other: Sighting, merge_iou: float) -> bool:
    """Whether two sightings in one picture are the same object, see `distinct`."""
    return overlap(one, other) >= (merge_iou if canonical(one.label) == canonical(other.label) else SAME)


def overlap(one: Sighting, other: Sighting) -> float:
    """The IoU of two masks, or of the boxes where one of them has no mask."""
    of_boxes = box_iou(one.box, other.box)
    if one.mask is None or other.mask is None or (one.mask_by, other.mask_by) == ("box", "box"):
        return of_boxes
    return _mask_iou(one.mask, other.mask) if of_boxes > 0 else 0.0


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """The IoU of two boxes x1,y1,x2,y2; 0 if neither has an area."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    whole = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both
    return both / whole if whole > 0 else 0.0


def _mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    whole = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / whole if whole else 0.0
