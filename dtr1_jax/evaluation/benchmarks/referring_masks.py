"""Figures of referring and reasoning segmentation over a set of queries, by the conventions of the benchmarks.

    RES    (RefCOCO) gIoU, which the papers call mIoU; cIoU, which they call oIoU; Pr@X, the share of queries with
           IoU >= X
    GRES   (gRefCOCO; refer_evaluation.py of ReLA, arXiv 2306.00968) the same, where a query without a target scores 1
           for an empty answer and 0 for any other; N-acc, the share of these queries with an empty answer; T-acc, the
           share of the others with an answer that is not empty; Pr@X over the queries with a target

A failed sample counts as wrong in every figure: its answer is neither empty nor right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dtr1_jax.evaluation.benchmarks import segmentation

RES_LEVELS, GRES_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9), (0.7, 0.8, 0.9)


class MaskAnswer(NamedTuple):
    """One query: the overlap of answer and target, and their areas in pixels; `answer` is None for a failed sample."""

    overlap: segmentation.Overlap
    target: int
    answer: int | None


def res(rows: Sequence[MaskAnswer]) -> dict[str, float]:
    """giou, ciou and pr@0.5 to pr@0.9 of queries that have a target. Raises ValueError without rows."""
    overlaps = [row.overlap for row in rows]
    return {"giou": segmentation.giou(overlaps), "ciou": segmentation.ciou(overlaps)} | _shares(rows, RES_LEVELS)


def gres(rows: Sequence[MaskAnswer]) -> dict[str, float]:
    """giou, ciou, n_acc, t_acc and pr@0.7 to pr@0.9; a figure without queries that it counts is left out.

    Raises ValueError without rows.
    """
    overlaps = [row.overlap for row in rows]
    with_target, without = [r for r in rows if r.target], [r for r in rows if not r.target]
    figures = {"giou": segmentation.giou(overlaps), "ciou": segmentation.ciou(overlaps)}
    if without:
        figures["n_acc"] = sum(row.answer == 0 for row in without) / len(without)
    if with_target:
        figures["t_acc"] = sum(bool(row.answer) for row in with_target) / len(with_target)
        figures |= _shares(with_target, GRES_LEVELS)
    return figures


def _shares(rows: Sequence[MaskAnswer], levels: Sequence[float]) -> dict[str, float]:
    return {f"pr@{level}": sum(row.overlap.iou >= level for row in rows) / len(rows) for level in levels}
