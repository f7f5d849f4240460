"""How true a digital twin is to what a data set annotates. Our own figures: no benchmark has these.

Objects of the twin and annotated objects are paired one to one by the IoU of their boxes (best sum, the Hungarian
method); a pair of IoU >= PAIRED is the same object, and only such pairs are asked for their label and attributes.
Labels and attributes are compared as words, in lower case: a synonym is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.evaluation.benchmarks.boxes import iou_matrix

PAIRED = 0.5


class Described(NamedTuple):
    """One object as the twin or the data set has it; box x1,y1,x2,y2, any one frame for both."""

    label: str
    box: Sequence[float]
    attributes: Collection[str] = ()


class Fidelity(NamedTuple):
    """What one twin adds to the figures.

    Attributes:
      excess: objects of the twin minus objects annotated.
      iou: summed IoU of the pairs / the larger number of objects, in [0, 1]; 1 where there are none on both sides.
      annotated: objects annotated.
      paired: of these, those with a partner of IoU >= PAIRED.
      labelled: of the paired, those with the same label.
      attributes: of the attributes annotated for the paired, those that the twin has too.
      attributes_annotated: their number.
    """

    excess: int
    iou: float
    annotated: int
    paired: int
    labelled: int
    attributes: int
    attributes_annotated: int


def fidelity(said: Sequence[Described], annotated: Sequence[Described]) -> Fidelity:
    """Compares the objects of one twin, none where it could not be read, with the annotated ones."""
    boxes = [np.array([x.box for x in side], np.float64).reshape(-1, 4) for side in (said, annotated)]
    iou = iou_matrix(*boxes)
    pairs = list(zip(*linear_sum_assignment(-iou)))
    most = max(len(said), len(annotated))
    same = [(said[i], annotated[j]) for i, j in pairs if iou[i, j] >= PAIRED]
    words = [({w.lower() for w in a.attributes}, {w.lower() for w in b.attributes}) for a, b in same]
    return Fidelity(
        excess=len(said) - len(annotated),
        iou=float(sum(iou[i, j] for i, j in pairs)) / most if most else 1.0,
        annotated=len(annotated),
        paired=len(same),
        labelled=sum(a.label.lower() == b.label.lower() for a, b in same),
        attributes=sum(len(a & b) for a, b in words),
        attributes_annotated=sum(len(b) for _, b in words),
    )


def figures(rows: Sequence[Fidelity]) -> dict[str, float]:
    """Means over twins and shares over objects; empty where there is nothing to measure.

    count_right: share of twins with as many objects as annotated; excess: mean number of objects too many (below 0:
    too few); iou: mean of Fidelity.iou; found: share of annotated objects with a partner; label, attributes: share of
    those of the found that are right.
    """
    if not rows:
        return {}
    total = np.array(rows, np.float64).sum(0)
    _, _, annotated, paired, labelled, attributes, attributes_annotated = total
    out = {
        "count_right": float(np.mean([r.excess == 0 for r in rows])),
        "excess": float(np.mean([r.excess for r in rows])),
        "iou": float(np.mean([r.iou for r in rows])),
    }
    shares = {
        "found": (paired, annotated),
        "label": (labelled, paired),
        "attributes": (attributes, attributes_annotated),
    }
    return out | {name: float(part / whole) for name, (part, whole) in shares.items() if whole}
