"""gIoU and cIoU of reasoning segmentation, in the picture's own pixels.

The definitions are those of LISA (arXiv 2308.00692, `validate` in train_ds.py of its repository), which the tables of
ReasonSeg use. I and U are the intersection and the union of answer and target, in pixels:

    gIoU = mean over samples of I / U; a sample with U = 0 (no target and no answered pixel) counts 1, and a sample
           without target but with an answered pixel counts 0
    cIoU = sum of I / sum of U over all samples

Pixels that the data set ignores are in neither I nor U. In gIoU, LISA adds 1e-5 to U against division by zero, which
changes no printed digit; here the division is exact. A failed sample (unreadable transcript, crashed segmenter) stays
in the denominator: it counts 0 in gIoU, even without a target, and adds the pixels of its target to the U of cIoU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Overlap(NamedTuple):
    """I and U of one sample in pixels, and its IoU in [0, 1]."""

    intersection: int
    union: int
    iou: float


def overlap(pred: np.ndarray | None, target: np.ndarray, ignore: np.ndarray | None = None) -> Overlap:
    """Overlap of one answered mask with its target.

    Args:
      pred: bool[h, w] at the picture's own size, or None for a failed sample.
      target: bool[h, w], the target pixels.
      ignore: bool[h, w] or None, pixels that do not count.

    Raises ValueError if the sizes differ: a silent resize would falsify the benchmark.
    """
    shapes = {name: x.shape for name, x in (("pred", pred), ("target", target), ("ignore", ignore)) if x is not None}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"masks of one sample must have one size [h, w], the picture's own; got {shapes}")
    target = target.astype(bool)
    counted = np.ones_like(target) if ignore is None else ~ignore.astype(bool)
    target = target & counted
    if pred is None:
        return Overlap(0, int(target.sum()), 0.0)
    pred = pred.astype(bool) & counted
    intersection, union = int((pred & target).sum()), int((pred | target).sum())
    return Overlap(intersection, union, intersection / union if union else 1.0)


def giou(overlaps: Sequence[Overlap]) -> float:
    """gIoU, the mean of the samples' IoU, in [0, 1]. It has nothing to do with the generalised IoU of boxes.

    Raises ValueError if there are no samples.
    """
    return float(_table(overlaps)[:, 2].mean())


def ciou(overlaps: Sequence[Overlap]) -> float:
    """cIoU, the cumulative IoU, in [0, 1]; large objects weigh more. 0 if no sample has a pixel, as in LISA's code.

    Raises ValueError if there are no samples.
    """
    inter, union = _table(overlaps)[:, :2].sum(axis=0)
    return float(inter / union) if union else 0.0


def bootstrap(
    rows: Sequence[Any], statistic: Callable[[np.ndarray], float], *,
    rounds: int = 1000, level: float = 0.95, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Percentile bootstrap interval of a figure (Efron 1979): `rounds` times, samples are drawn with replacement.

    Args:
      rows: one row for each sample, such as a list of Overlap; anything that `np.asarray` turns into an array.
      statistic: rows -> figure, such as `giou` or `ciou`.
      level: share of the resampled figures inside the interval.
      seed: the same rows and seed give the same interval.

    Returns (low, high). Raises ValueError if there are no rows.
    """
    rows = np.asarray(rows, np.float64)
    if len(rows) == 0:
        raise ValueError("no samples to resample; expected at least one")
    rng = np.random.default_rng(seed)
    figures = [statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(rounds)]
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _table(overlaps: Sequence[Overlap]) -> np.ndarray:
    """float64[n, 3] of intersection, union, iou."""
    table = np.asarray(overlaps, np.float64)
    if len(table) == 0:
        raise ValueError("no samples to measure; expected at least one Overlap")
    return table
