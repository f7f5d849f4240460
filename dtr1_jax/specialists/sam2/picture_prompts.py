"""Prompts of a batch of pictures: checked, and as padded arrays for the mask decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtr1_jax.specialists.sam2 import video_prompts
from dtr1_jax.specialists.sam2.mask_sizes import prompt_logits
from dtr1_jax.specialists.sam2.model import MaskPrompts
from dtr1_jax.specialists.sam2.prompt_tokens import TOP_LEFT
from dtr1_jax.specialists.sam2.spec import Sam2Spec


@dataclasses.dataclass(frozen=True)
class ObjectPrompt:
    """The prompts of one object.

    Attributes:
      index: its place among the objects of its picture.
      points: float32[p, 2], unit frame; the corners of a box come first.
      labels: int32[p].
      mask: float32[4g, 4g] logits; None = no mask prompt.
    """

    index: int
    points: np.ndarray
    labels: np.ndarray
    mask: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class PicturePrompts:
    """The prompts of one picture: how many objects it has, and those that are computed."""

    count: int
    rows: tuple[ObjectPrompt, ...]


def checked(
    pictures: int, boxes: Sequence[Any] | None, points: Sequence[Any] | None, labels: Sequence[Any] | None,
    masks: Sequence[Any] | None, mask_size: int,
) -> list[PicturePrompts]:  # fmt: skip
    """The prompts of each picture.

    Args:
      pictures: number of pictures.
      boxes, points, labels, masks: as predictor.Sam2.segment documents them.
      mask_size: side of the mask prompts that the model reads.

    Raises ValueError: no prompts, other numbers of pictures or objects, or a prompt that has no meaning. Objects whose
    box has no area are counted, but not computed.
    """
    if boxes is None and points is None and masks is None:
        raise ValueError("expected boxes, points or masks, got none of them")
    if labels is not None and points is None:
        raise ValueError("labels are given, but no points")
    given = {"boxes": boxes, "points": points, "labels": labels, "masks": masks}
    for name, value in given.items():
        if value is not None and len(value) != pictures:
            raise ValueError(f"{name}: expected one entry for each of {pictures} pictures, got {len(value)}")
    return [
        _of_picture(i, {name: value[i] for name, value in given.items() if value is not None}, mask_size)
        for i in range(pictures)
    ]


def arrays(
    chunks: Sequence[Sequence[ObjectPrompt]], width: int, spec: Sam2Spec, multimask: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, MaskPrompts | None]:
    """Points float32[B, M, P, 2] in pixels, labels int32[B, M, P], whether several masks are predicted bool[B, M], and
    the mask prompts, for B chunks of at most M = `width` objects; P is a power of two."""
    nothing = ObjectPrompt(0, np.zeros((0, 2), np.float32), np.zeros(0, np.int32), None)
    rows = [row for chunk in chunks for row in [*chunk, *[nothing] * (width - len(chunk))]]
    asked = [(row.points, row.labels) for row in rows]
    points, labels = video_prompts.padded(asked, video_prompts.places_needed(asked))
    several = [
        len(row.labels) == 1 and row.labels[0] != TOP_LEFT if multimask is None else multimask for row in rows
    ]  # fmt: skip
    shape = len(chunks), width
    masks = None
    if any(row.mask is not None for row in rows):
        empty = np.zeros((spec.mask_size,) * 2, np.float32)
        logits = np.stack([empty if row.mask is None else row.mask for row in rows])
        used = np.array([row.mask is not None for row in rows])
        masks = MaskPrompts(logits.reshape(*shape, *logits.shape[1:]), used.reshape(shape))
    return (
        video_prompts.in_pixels(points, spec.image_size).reshape(*shape, -1, 2), labels.reshape(*shape, -1),
        np.array(several, bool).reshape(shape), masks,
    )  # fmt: skip


def _of_picture(i: int, given: dict[str, Any], mask_size: int) -> PicturePrompts:
    where = f"picture {i}"
    boxes = given.get("boxes")
    if boxes is not None:
        boxes = np.asarray(boxes, np.float32)
        boxes = boxes.reshape(0, 4) if not boxes.size else boxes
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"{where}: expected boxes [n, 4], got shape {list(boxes.shape)}")
        given = given | {"boxes": boxes}
    counts = {name: len(value) for name, value in given.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"{where}: expected prompts of equally many objects, got {counts}")
    count = next(iter(counts.values()))
    valid = np.ones(count, bool) if boxes is None else video_prompts.has_area(boxes)
    rows = []
    for index in np.flatnonzero(valid):
        at = f"{where}, object {index}"
        own = {name: given[name][index] if name in given else None for name in ("boxes", "points", "labels", "masks")}
        points, labels = video_prompts.as_points(own["boxes"], own["points"], own["labels"], at)
        mask = None if own["masks"] is None else _mask(own["masks"], mask_size, at)
        if not len(labels) and mask is None:
            raise ValueError(f"{at}: expected at least one point")
        rows.append(ObjectPrompt(int(index), points, labels, mask))
    return PicturePrompts(count, tuple(rows))


def _mask(mask: Any, side: int, where: str) -> np.ndarray:
    values = np.asarray(mask)
    if values.ndim != 2 or not values.size or (values.dtype != bool and values.dtype.kind != "f"):
        raise ValueError(f"{where}: expected a mask [h, w] of floats or bool, got {values.dtype}{list(values.shape)}")
    if values.dtype != bool and not np.isfinite(values).all():
        raise ValueError(f"{where}: expected finite mask logits")
    return prompt_logits(values, side)
