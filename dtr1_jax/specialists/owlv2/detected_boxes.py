"""Chooses the boxes of one picture that are detections, as OWLv2's processor does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from dtr1_jax.specialists import box_suppression
from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.owlv2 import padded_square

_SHARE = 0.1  # of the best score; examples find nothing below it


def check_options(threshold: float, nms: float | None, most: int | None) -> None:
    """Raises ValueError: a threshold outside [0, 1], or `most` below 1."""
    for name, value in (("threshold", threshold), ("nms", nms)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number in [0, 1], got {value}")
    if most is not None and most < 1:
        raise ValueError(f"most: expected at least 1, or None for all detections, got {most}")


def checked_boxes(boxes: Any, count: int) -> np.ndarray:
    """Boxes of `count` pictures as float32[count, 4], x1,y1,x2,y2 in the unit frame, clipped to the picture.

    Raises ValueError: another shape, a number that is not finite, or a box without area in the picture.
    """
    given = np.asarray(boxes, np.float32)
    if given.shape != (count, 4):
        raise ValueError(f"query_boxes: expected shape [{count}, 4], a box for each query picture, got {given.shape}")
    clipped = np.clip(given, 0, 1)
    bad = np.flatnonzero(~(np.isfinite(given).all(1) & (clipped[:, 2:] > clipped[:, :2]).all(1)))
    if len(bad):
        raise ValueError(
            f"query_boxes: box {bad[0]} has no area in its picture: {given[bad[0]].tolist()}; expected x1,y1,x2,y2 as "
            "shares of the picture's width and height"
        )
    return clipped


def by_phrases(
    picture: dict[str, np.ndarray], logit_p: np.ndarray, labels: Sequence[str], size: tuple[int, int],
    threshold: float, nms: float | None, most: int | None,
) -> Detections:  # fmt: skip
    """The detections among P boxes with a score above `threshold`.

    Args:
      picture: the picture's row of `model.embed_pictures`.
      logit_p: float32[P], of the best phrase of each patch.
      labels: that phrase, for each patch.
      size: height and width of the picture in pixels.
      threshold, nms, most: as in `Owlv2.detect`.
    """
    score_p = expit(logit_p)
    return _detections(picture, score_p, np.flatnonzero(score_p > threshold), labels, size, nms, most)


def by_example(
    picture: dict[str, np.ndarray], logit_p: np.ndarray, label: str, size: tuple[int, int],
    threshold: float, nms: float | None, most: int | None,
) -> Detections:  # fmt: skip
    """The detections with a score of at least `threshold` that is above a tenth of the picture's best score.

    Args are those of `by_phrases`, except for one label for all.
    """
    score_p = expit(logit_p)
    fitting = (score_p >= threshold) & (score_p > _SHARE * (score_p.max() + 1e-6))
    return _detections(picture, score_p, np.flatnonzero(fitting), [label] * len(score_p), size, nms, most)


def _detections(picture, score_p, keep, labels, size, nms, most):
    corners = padded_square.corners(picture["boxes"][keep])
    keep = keep[box_suppression.suppress(corners, score_p[keep], 1 if nms is None else nms, len(keep))]
    boxes = padded_square.picture_corners(picture["boxes"][keep], *size)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    keep, boxes = keep[inside][:most], boxes[inside][:most]
    names = tuple(labels[i] for i in keep)
    return Detections(boxes, score_p[keep], names, objectness=expit(picture["objectness"][keep]))
