"""Fidelity: how well a digital twin agrees with the annotation of its picture. These figures are our own.

Objects of the twin and annotated objects are paired one to one so that the sum of the IoU of their boxes is largest
(the Hungarian method). A pair with IoU >= MATCH_IOU is a match; labels and attributes are compared for matches alone.
They are compared as words, in lower case: a synonym counts as wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.evaluation.benchmarks import exact_boxes
from dtr1_jax.evaluation.benchmarks.boxes import iou_matrix

MATCH_IOU = 0.5


class DescribedObject(NamedTuple):
    """An object of a twin or of the annotation; both have their boxes x1,y1,x2,y2 in one coordinate frame."""

    label: str
    box: Sequence[float]
    attributes: Collection[str] = ()


class Fidelity(NamedTuple):
    """The counts of one twin.

    Attributes:
      excess: number of objects of the twin minus number of annotated objects.
      iou: sum of the pairs' IoU / the larger number of objects, in [0, 1]; 1 if there are no objects on both sides.
      targets: number of annotated objects.
      matches: number of annotated objects whose pair has IoU >= MATCH_IOU.
      label_matches: number of matches with equal labels.
      attribute_matches: number of annotated attributes of matches that the twin has too.
      attribute_targets: number of annotated attributes of matches.
    """

    excess: int
    iou: float
    targets: int
    matches: int
    label_matches: int
    attribute_matches: int
    attribute_targets: int


def fidelity(objects: Sequence[DescribedObject], targets: Sequence[DescribedObject]) -> Fidelity:
    """Compares the objects of one twin with the annotated ones; a twin that could not be read has no objects."""
    boxes = [np.array([x.box for x in side], np.float64).reshape(-1, 4) for side in (objects, targets)]
    iou = iou_matrix(*boxes)
    pairs = list(zip(*linear_sum_assignment(-iou)))
    most = max(len(objects), len(targets))
    reached = exact_boxes.pairs_above(iou, boxes[0], boxes[1], MATCH_IOU)
    matches = [(objects[i], targets[j]) for i, j in pairs if (i, j) in reached]
    words = [({w.lower() for w in a.attributes}, {w.lower() for w in b.attributes}) for a, b in matches]
    return Fidelity(
        excess=len(objects) - len(targets),
        iou=float(sum(iou[i, j] for i, j in pairs)) / most if most else 1.0,
        targets=len(targets),
        matches=len(matches),
        label_matches=sum(a.label.lower() == b.label.lower() for a, b in matches),
        attribute_matches=sum(len(a & b) for a, b in words),
        attribute_targets=sum(len(b) for _, b in words),
    )


def figures(rows: Sequence[Fidelity]) -> dict[str, float]:
    """Figures of a set of twins by name; a figure without anything to measure is left out.

    count_right   share of twins with as many objects as the annotation
    excess        mean of Fidelity.excess; below 0: the twins have too few objects
    iou           mean of Fidelity.iou
    found         share of annotated objects that are matched
    label         share of matches with equal labels
    attributes    share of the matches' annotated attributes that the twin has too
    """
    if not rows:
        return {}
    _, _, targets, matches, label_matches, attribute_matches, attribute_targets = np.array(rows, np.float64).sum(0)
    means = {
        "count_right": float(np.mean([r.excess == 0 for r in rows])),
        "excess": float(np.mean([r.excess for r in rows])),
        "iou": float(np.mean([r.iou for r in rows])),
    }
    shares = {
        "found": (matches, targets),
        "label": (label_matches, matches),
        "attributes": (attribute_matches, attribute_targets),
    }
    return means | {name: float(part / whole) for name, (part, whole) in shares.items() if whole}
