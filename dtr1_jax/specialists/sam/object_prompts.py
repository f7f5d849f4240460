"""The prompts that a user passes for one picture, checked and brought to the arrays that the decoder takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dtr1_jax.specialists.sam import prompt_encoder, square
from dtr1_jax.specialists.sam.spec import SamSpec


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The prompts of n objects on one picture, in pixels of the encoder's square.

    Attributes:
      points: float32[n, k, 2].
      labels: int32[n, k] as `prompt_encoder.tokens` takes them.
      boxes: float32[n, 4], or None.
      masks: float32[n, low, low] logits, or None.
      empty: bool[n], True where the box has no area on the picture: its mask is empty.
    """

    points: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None
    masks: np.ndarray | None
    empty: np.ndarray


def checked(spec: SamSpec, i: int, size: tuple[int, int], boxes: Any, points: Any, labels: Any, masks: Any) -> Prompts:
    """Prompts of picture `i`.

    Args:
      spec: the sizes.
      i: number of the picture, for messages.
      size: height and width of the picture.
      boxes, points, labels, masks: what `Sam.segment` takes for one picture; None = none.

    Raises ValueError: a shape or value that is not as `Sam.segment` says, or different numbers of objects.
    """
    counts = {name: len(x) for name, x in (("boxes", boxes), ("points", points), ("masks", masks)) if x is not None}
    if len(set(counts.values())) != 1:
        given = ", ".join(f"{count} {name}" for name, count in counts.items()) or "no prompts"
        raise ValueError(f"picture {i}: expected one prompt of each kind for every object, got {given}")
    n = next(iter(counts.values()))
    empty = np.zeros(n, bool)
    box = None
    if boxes is not None:
        box, empty = _boxes(spec, i, size, boxes, n)
    point, label = _points(spec, i, size, points, labels, n, free=box is None)
    return Prompts(point, label, box, None if masks is None else _masks(spec, i, size, masks, n), empty)


def _boxes(spec: SamSpec, i: int, size: tuple[int, int], boxes: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    unit = np.asarray(boxes, np.float32)
    if unit.size == 0 and n == 0:
        unit = unit.reshape(0, 4)
    if unit.shape != (n, 4):
        raise ValueError(f"picture {i}: expected boxes [n, 4], got shape {list(unit.shape)}")
    if not np.isfinite(unit).all():
        raise ValueError(f"picture {i}: expected finite boxes, got {unit[~np.isfinite(unit).all(1)][0].tolist()}")
    unit = np.clip(unit, 0, 1)
    empty = (unit[:, 2] <= unit[:, 0]) | (unit[:, 3] <= unit[:, 1])
    return square.to_pixels(unit.reshape(n, 2, 2), *size, spec.image).reshape(n, 4), empty


def _points(
    spec: SamSpec, i: int, size: tuple[int, int], points: Any, labels: Any, n: int, free: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels, with columns filled up to a power of two, and before it the token that SAM adds to points
    without a box."""
    if points is None:
        if labels is not None:
            raise ValueError(f"picture {i}: labels without points")
        return np.zeros((n, 0, 2), np.float32), np.zeros((n, 0), np.int32)
    unit = np.asarray(points, np.float32)
    if unit.size == 0 and n == 0:
        unit = unit.reshape(0, 1, 2)
    if unit.ndim != 3 or unit.shape[0] != n or unit.shape[2] != 2 or not unit.shape[1]:
        raise ValueError(f"picture {i}: expected points [n, k, 2] with k >= 1, got shape {list(unit.shape)}")
    label = np.ones(unit.shape[:2], np.int32) if labels is None else np.asarray(labels)
    if label.shape != unit.shape[:2] or not np.isin(label, (-1, 0, 1)).all():
        raise ValueError(
            f"picture {i}: expected labels {list(unit.shape[:2])} of 1 (on the object), 0 (beside it) or -1 (no"
            f" point), got shape {list(label.shape)} with {np.unique(label)[:5].tolist()}"
        )
    real = label >= 0
    if not (np.isfinite(unit[real]).all() and ((unit[real] >= 0) & (unit[real] <= 1)).all()):
        bad = unit[real][~((unit[real] >= 0) & (unit[real] <= 1)).all(1)][0]
        raise ValueError(f"picture {i}: expected points in the unit frame, x and y in [0, 1], got {bad.tolist()}")
    if free and not real.any(1).all():
        raise ValueError(f"picture {i}: object {int(np.argmin(real.any(1)))} has neither a point nor a box")
    label = np.where(real, label, prompt_encoder.ABSENT).astype(np.int32)
    pixels = square.to_pixels(np.where(real[..., None], unit, 0), *size, spec.image)
    width = 2 ** int(np.ceil(np.log2(label.shape[1] + free)))
    more = np.full((n, width - label.shape[1]), prompt_encoder.ABSENT, np.int32)
    more[:, : int(free)] = prompt_encoder.FREE
    return np.concatenate([pixels, np.zeros((*more.shape, 2), np.float32)], 1), np.concatenate([label, more], 1)


def _masks(spec: SamSpec, i: int, size: tuple[int, int], masks: Any, n: int) -> np.ndarray:
    values = np.asarray(masks)
    if values.dtype == bool and values.shape == (n, *size):
        return square.to_logits(values, spec.image, spec.low)
    if values.dtype.kind != "f" or values.shape != (n, spec.low, spec.low) or not np.isfinite(values).all():
        raise ValueError(
            f"picture {i}: expected masks as bool{[n, *size]}, or as finite logits float32{[n, spec.low, spec.low]},"
            f" got {values.dtype}{list(values.shape)}"
        )
    return values.astype(np.float32)
