"""gIoU and cIoU of reasoning segmentation, in the picture's own pixels.

Convention of LISA (arXiv 2308.00692, `validate` in train_ds.py of its repository), which ReasonSeg's tables use:

    gIoU = mean over samples of I / U, where a sample with U = 0 (nothing wanted, nothing answered) counts 1;
           so a no-target sample with any answered pixel counts 0
    cIoU = sum of I / sum of U over all samples

Pixels that the data set ignores leave both I and U. LISA adds 1e-5 to U in gIoU against division by zero, which moves
no figure that is printed; here the division is exact. A sample whose answer could not be had (unreadable transcript,
crashed segmenter) stays in the denominator: it counts 0 in gIoU, even where nothing was wanted, and adds its target's
pixels to the U of cIoU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Overlap(NamedTuple):
    """What one sample adds to the figures: I and U in pixels, and the sample's own IoU in [0, 1]."""

    intersection: int
    union: int
    iou: float


def overlap(pred: np.ndarray | None, target: np.ndarray, ignore: np.ndarray | None = None) -> Overlap:
    """Overlap of one answer with its target.

    Args:
      pred: bool[h, w] at the picture's own size, or None where there is no answer to judge (a failed sample).
      target: bool[h, w], the wanted pixels.
      ignore: bool[h, w] or None, pixels that count neither way.

    Raises ValueError where the sizes differ: a silent resize would blur what the benchmark measures.
    """
    shapes = {name: x.shape for name, x in (("pred", pred), ("target", target), ("ignore", ignore)) if x is not None}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"masks of one sample must have one size [h, w], the picture's own; got {shapes}")
    target = target.astype(bool)
    counted = np.ones_like(target) if ignore is None else ~ignore.astype(bool)
    wanted = target & counted
    if pred is None:
        return Overlap(0, int(wanted.sum()), 0.0)
    answered = pred.astype(bool) & counted
    intersection, union = int((answered & wanted).sum()), int((answered | wanted).sum())
    return Overlap(intersection, union, intersection / union if union else 1.0)


def giou(overlaps: Sequence[Overlap]) -> float:
    """Mean of the samples' IoU, in [0, 1] (the g is for generalised over samples; it is not GIoU of boxes)."""
    return float(_table(overlaps)[:, 2].mean())


def ciou(overlaps: Sequence[Overlap]) -> float:
    """Cumulative IoU, in [0, 1]; large objects weigh more. 0 where no sample has a pixel, as in LISA's code."""
    inter, union = _table(overlaps)[:, :2].sum(axis=0)
    return float(inter / union) if union else 0.0


def bootstrap(
    rows: Sequence, statistic: Callable[[np.ndarray], float], *, rounds: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a figure (Efron 1979): samples are drawn anew with replacement, `rounds` times.

    Args:
      rows: one row per sample, such as a list of Overlap; anything `np.asarray` makes an array of.
      statistic: rows -> figure, such as `giou` or `ciou`.
      level: share of the resampled figures that the interval holds.
      seed: the interval is a pure function of rows and seed.

    Returns (low, high). Raises ValueError where there are no rows.
    """
    rows = np.asarray(rows, np.float64)
    if len(rows) == 0:
        raise ValueError("no samples to resample; expected at least one")
    rng = np.random.default_rng(seed)
    figures = [statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(rounds)]
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _table(overlaps) -> np.ndarray:
    """float64[n, 3] of intersection, union, iou."""
    table = np.asarray(overlaps, np.float64)
    if len(table) == 0:
        raise ValueError("no samples to measure; expected at least one Overlap")
    return table
