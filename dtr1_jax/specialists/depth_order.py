"""Depth ranks of objects: the nearness inside their masks, and an order that admits ties."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax.specialists.findings import DepthMap

LOW, HIGH = 5, 95  # percentiles between which a picture's range of depths lies


@dataclasses.dataclass(frozen=True)
class ObjectDepth:
    """The depth of one object.

    Attributes:
      nearness: median inside the mask, as a share of the picture's range of nearness: about 0 = far, 1 = near.
      spread: difference of its quartiles, on the same scale.
      metres: median distance from the camera; None if the model's depth has no unit.
    """

    nearness: float
    spread: float
    metres: float | None = None


def of_masks(depth: DepthMap, masks: Sequence[np.ndarray]) -> list[ObjectDepth | None]:
    """The depth of each object by its mask bool[h, w]; None for an empty mask.

    The range of a picture is that between its LOW-th and its HIGH-th percentile. All objects of a flat map have 0.
    """
    low, high = np.percentile(depth.nearness, (LOW, HIGH))
    scale = 1 / (high - low) if high > low else 0.0
    found: list[ObjectDepth | None] = []
    for mask in masks:
        if not mask.any():
            found.append(None)
            continue
        quarter, middle, rest = (np.percentile(depth.nearness[mask], (25, 50, 75)) - low) * scale
        metres = None if depth.metres is None else float(np.median(depth.metres[mask]))
        found.append(ObjectDepth(float(middle), float(rest - quarter), metres))
    return found


def ranks(nearness: Sequence[float | None], tie: float) -> list[int]:
    """Ranks 1 = nearest, 2, ...; 0 where the nearness is not known.

    Objects share a rank if each of them is at most `tie` farther than the nearest one of that rank.
    """
    order = sorted((i for i, value in enumerate(nearness) if value is not None), key=lambda i: -nearness[i])
    found, rank, front = [0] * len(nearness), 0, None
    for i in order:
        if front is None or front - nearness[i] > tie:
            rank, front = rank + 1, nearness[i]
        found[i] = rank
    return found
