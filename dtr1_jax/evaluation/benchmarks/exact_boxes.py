"""IoU of boxes in rational numbers, so that an IoU equal to a threshold is judged right.

Boxes are kept as floats in the unit frame, and 1/3 of a picture is no float. In floats, about a third of the pairs
whose IoU is exactly 1/2 come out just below it. Here each coordinate becomes the rational number that was rounded to
the float:

    answers   the simplest fraction that rounds to the float. A twin's coordinates are whole numbers of a frame of at
              most 1000 steps (or of as many steps as the picture that the policy saw has pixels). A fraction p / q
              with q <= 4096 is found again from a float32, because no simpler fraction rounds to the same float.
    targets   where the size of the picture is known: the whole pixel, or else the hundredth of a pixel (COCO and
              RefCOCO have two decimals), that rounds to the float; where neither exists, the simplest fraction
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

_NEAR = 1e-3  # floats decide about pairs whose IoU is farther than this from the threshold

Box = tuple[Fraction, ...]  # x1,y1,x2,y2


def pairs_above(
    iou_mn: np.ndarray,
    pred_m4: np.ndarray,
    target_n4: np.ndarray,
    threshold: float,
    size: tuple[int, int] | None = None,
) -> dict[tuple[int, int], Fraction]:
    """The pairs (row, column) of boxes whose IoU is at least `threshold`, with their exact IoU.

    Args:
      iou_mn: float[m, n], the IoU of each pair in floats, which decides about most pairs.
      pred_m4: float[m, 4], answered boxes x1,y1,x2,y2.
      target_n4: float[n, 4], target boxes in the same coordinate frame.
      threshold: a decimal such as 0.5 or 0.7.
      size: width and height of the picture in pixels where the boxes are in the unit frame; None = unknown.
    """
    least = Fraction(threshold).limit_denominator(1000)
    rows, columns = np.nonzero(np.nan_to_num(iou_mn, nan=0.0) >= threshold - _NEAR)
    answers = {i: _box(pred_m4[i], None) for i in set(rows.tolist())}
    targets = {j: _box(target_n4[j], size) for j in set(columns.tolist())}
    exact = {(i, j): iou(answers[i], targets[j]) for i, j in zip(rows.tolist(), columns.tolist())}
    return {pair: value for pair, value in exact.items() if value >= least}


def iou(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """The IoU of two boxes x1,y1,x2,y2; 0 where a box has no area."""
    inter = _area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = _area(*a) + _area(*b) - inter
    return inter / union if union else Fraction(0)


def simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction in [low, high] with the smallest denominator, by continued fractions (the Stern-Brocot tree)."""
    if low <= 0 <= high:
        return Fraction(0)
    if high < 0:
        return -simplest(-high, -low)
    floor = low.numerator // low.denominator
    if floor == low:
        return low
    if floor + 1 <= high:
        return Fraction(floor + 1)
    return floor + 1 / simplest(1 / (high - floor), 1 / (low - floor))


def _box(box: np.ndarray, size: tuple[int, int] | None) -> Box:
    return tuple(_coordinate(value, size and size[axis % 2]) for axis, value in enumerate(box))


def _coordinate(value: float, pixels: int | None) -> Fraction:
    """The rational number that was rounded to `value`; in pixels as a multiple of 1 or 1/100 where there is one."""
    number = np.float32(value) if float(np.float32(value)) == float(value) else np.float64(value)
    half = Fraction(float(np.spacing(np.abs(number)))) / 2
    low, high = Fraction(float(number)) - half, Fraction(float(number)) + half
    for step in (Fraction(1), Fraction(1, 100)) if pixels else ():
        whole = round(float(number) * pixels / step)
        if low <= whole * step / pixels <= high:
            return whole * step / pixels
    return simplest(low, high)


def _area(x1: Fraction, y1: Fraction, x2: Fraction, y2: Fraction) -> Fraction:
    return max(x2 - x1, Fraction(0)) * max(y2 - y1, Fraction(0))
