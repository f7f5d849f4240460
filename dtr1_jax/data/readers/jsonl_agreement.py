"""Whether the parts of a JSON line agree: its answer with its target, and the masks of its objects with their boxes.

A program that removes objects from a file without numbering the answer anew leaves lines whose answer is another
object than their target. Such a line is refused, because training would imitate a wrong answer. What perception finds
never equals the target exactly, so only what cannot be meant is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.readers.jsonl_fields import Line, fill_box
from dtr1_jax.types import Instance, Target

LEAST_OVERLAP = 0.05  # of answer and target; `--mode=perceive` matches objects from an IoU of 0.5 on
LEAST_INSIDE = 0.25  # share of a mask's pixels in its box; masks of SAM have had 0.57 and more in a detector's box
LEAST_SIDE = 64  # pixels of the longer side of a mask that is smaller than its picture


def check_answer(line: Line, target: Target, chosen: Sequence[Instance]) -> None:
    """Raises ValueError if the objects of the answer are not what the target of the line shows.

    Answer and target must both be empty or both have pixels, and must overlap by LEAST_OVERLAP. The overlap is the IoU
    where both are outlines or both are boxes. Where one is an outline and the other a box it is the intersection as a
    share of the smaller, because the outline of a thin object may fill little of its box. Ignored pixels and frames
    without a target count for neither.

    Args:
      line: has `oracle["answer"]`, and a target that is not in words.
      target: that of the line, with `ignore`.
      chosen: all objects of the answer.
    """
    wanted = target.mask[None] if target.masks is None else target.masks
    frames = slice(None) if target.labelled is None else target.labelled
    in_boxes = line.form in ("boxes", "tracks")
    answered = np.zeros(wanted.shape, bool)
    for one in chosen:
        answered |= _pixels(one, in_boxes, wanted.shape)
    if target.ignore is not None:
        answered &= ~target.ignore
    wanted, answered = wanted[frames], answered[frames]
    pixels = int(np.count_nonzero(wanted)), int(np.count_nonzero(answered))
    if not any(pixels) or (not pixels[0] and _is_elsewhere(line, target)):
        return
    numbers = line.oracle["answer"]
    advice = "if objects were removed from the line, number the answer anew, or remove the answer"
    if not numbers:
        raise ValueError(
            f"oracle.answer: expected the objects of the target ({line.form}), got [], that is none; {advice}"
        )
    if not pixels[0]:
        raise ValueError(f"oracle.answer: expected [], as the target ({line.form}) is empty, got {numbers}; {advice}")
    both = int(np.count_nonzero(wanted & answered))
    alike = in_boxes or all(one.outlined for one in chosen)
    overlap = both / max(1, sum(pixels) - both if alike else min(pixels))
    if overlap < LEAST_OVERLAP:
        raise ValueError(
            f"oracle.answer: expected objects that overlap with the target ({line.form}), got {numbers} with an "
            f"overlap of {overlap:.2f}; {advice}"
        )


def _pixels(one: Instance, in_boxes: bool, shape: tuple[int, ...]) -> np.ndarray:
    """bool[T, h, w], the masks of an object, or its filled boxes; T = 1 for a picture."""
    if not in_boxes:
        return one.mask[None] if one.masks is None else one.masks
    h, w = shape[1:]
    boxes = np.array([one.box]) if one.boxes is None else one.boxes
    return np.stack([fill_box(box * (w, h, w, h), h, w) for box in boxes])


def _is_elsewhere(line: Line, target: Target) -> bool:
    """Whether a target without pixels may have some in frames of the video that are not shown."""
    if target.masks is None:
        return False
    if target.labelled is None:
        return bool(line.target)
    return len(line.target) > int(target.labelled.sum())


def check_mask(name: str, masks: np.ndarray, boxes: Sequence[Sequence[float]], margin: float) -> None:
    """Raises ValueError if the mask of an object has no pixels, or if most of them are outside its box.

    Args:
      name: of the field, for messages.
      masks: bool[T, h, w], the mask in each frame in which the object has a box and a mask; T = 1 for a picture.
      boxes: x1, y1, x2, y2 of each frame, unit frame.
      margin: pixels by which a box is widened on each side, at least the size of a pixel of a mask that was enlarged.
    """
    pixels = int(np.count_nonzero(masks))
    if not pixels:
        raise ValueError(
            f"{name}: expected a mask with pixels, got none; remove {name.rpartition('.')[2]} to fill the box, or the "
            "object"
        )
    h, w = masks.shape[1:]
    inside = 0
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        left, top = (max(0, int(np.floor(v - margin))) for v in (x1 * w, y1 * h))
        right, bottom = (int(np.ceil(v + margin)) for v in (x2 * w, y2 * h))
        inside += int(np.count_nonzero(mask[top:bottom, left:right]))
    if inside < LEAST_INSIDE * pixels:
        raise ValueError(
            f"{name}: expected a mask in the object's box, got one with {inside / pixels:.0%} of its pixels there; "
            "take the mask and the box of one object"
        )


def check_size(name: str, shape: tuple[int, int], h: int, w: int) -> None:
    """Raises ValueError if a mask of `shape` (height, width) cannot stand for one of the picture of h x w pixels.

    It may be smaller, with the same proportions. Then its longer side has at least LEAST_SIDE pixels, or half of the
    picture's longer side.
    """
    scale = shape[1] / w
    least = min(LEAST_SIDE, max(h, w) / 2)
    if not min(shape) or scale > 1 or abs(shape[0] - h * scale) > 1 or max(shape) < least:
        raise ValueError(
            f"{name}: expected the size of the picture, {w} x {h} pixels, or a smaller one of its shape, with "
            f"{round(least)} pixels or more on the longer side, got {shape[1]} x {shape[0]}; take the mask of this "
            "picture"
        )
