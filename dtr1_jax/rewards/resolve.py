"""What an answer points at: ids or boxes in the text become boxes of the picture, and boxes become masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.twin import tracks
from dtr1_jax.twin.text import Canvas, to_unit
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example

# (pictures uint8[h, w, 3], boxes float32[n, 4] of each, unit frame) -> the union mask bool[h, w] of each. Anything else
# in the place of a mask says that this sample failed.
SegmentFn = Callable[[list[np.ndarray], list[np.ndarray]], Sequence]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one completion answered.

    Attributes:
      boxes: float32[n, 4], unit frame; n = 0 where nothing is answered or the transcript is unsound.
      mask: bool[h, w] at the example's own size; None where the transcript is unsound, no masks were asked for, or the
        segmenter failed.
      failed: True where the segmenter was asked and gave no mask.
    """

    boxes: np.ndarray
    mask: np.ndarray | None = None
    failed: bool = False


def boxes_of(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, 4], unit frame: the boxes that the answer names, or those of the twin's objects whose ids it names.

    Empty where the transcript is unsound or the answer is made of words. `canvas` says what the text's integers mean.
    Of a video, the boxes are those of its first frame, without objects that are not to be seen there.
    """
    answer = transcript.answer
    if not transcript.sound or answer is None:
        return np.zeros((0, 4), np.float32)
    boxes = answer.boxes or ()
    if answer.objects:
        box_of = {o.id: o.box for o in tracks.first(transcript.twin).objects}
        boxes = [box_of[i] for i in answer.objects if i in box_of]
    return _unit(boxes, canvas)


def twin_boxes(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, 4], unit frame: the boxes of all objects of the twin; of a video, those of its first frame.

    Empty where the transcript has no twin that is sound by itself.
    """
    return _unit([o.box for o in tracks.first(transcript.twin).objects] if transcript.twin else [], canvas)


def _unit(boxes, canvas: Canvas) -> np.ndarray:
    return np.asarray([to_unit(b, canvas) for b in boxes], np.float32).reshape(-1, 4)


def outcomes(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    segment_fn: SegmentFn | None,
) -> list[list[Outcome]]:
    """The boxes and masks of B x G completions.

    The segmenter is asked once for the whole batch, and once for completions of a query that answer the same set of
    boxes. It is not asked about unsound transcripts, nor about answers without boxes, whose mask is empty.

    Args:
      transcripts: B groups of G completions.
      examples: B queries.
      canvases: B canvases, the frame of each query's text.
      segment_fn: boxes -> mask; None leaves every mask out.

    Raises ValueError where segment_fn does not return as many masks as it was asked for.
    """
    boxes = [[boxes_of(t, canvas) for t in group] for group, canvas in zip(transcripts, canvases, strict=True)]
    if segment_fn is None:
        return [[Outcome(b) for b in group] for group in boxes]
    masks = _segment(boxes, examples, segment_fn)

    def outcome(b: int, g: int) -> Outcome:
        if not transcripts[b][g].sound:
            return Outcome(boxes[b][g])
        mask = masks[_key(b, boxes[b][g])]
        return Outcome(boxes[b][g], mask, failed=mask is None)

    return [[outcome(b, g) for g in range(len(group))] for b, group in enumerate(transcripts)]


def _key(b: int, boxes: np.ndarray) -> tuple[int, bytes]:
    """The same for the same set of boxes on the same query, whatever their order: a union has none."""
    return b, np.unique(boxes, axis=0).tobytes()


def _segment(boxes, examples, segment_fn) -> dict[tuple[int, bytes], np.ndarray | None]:
    """Mask of each distinct set of boxes of each query; None where the segmenter gave none of the right kind."""
    sets = {_key(b, x): (b, np.unique(x, axis=0)) for b, group in enumerate(boxes) for x in group}
    masks = {key: np.zeros(examples[b].image.shape[:2], bool) for key, (b, x) in sets.items() if len(x) == 0}
    asked = {key: job for key, job in sets.items() if key not in masks}
    if not asked:
        return masks
    got = segment_fn([examples[b].image for b, _ in asked.values()], [x for _, x in asked.values()])
    if len(got) != len(asked):
        raise ValueError(f"segment_fn must return one mask per picture: expected {len(asked)}, got {len(got)}")
    for (key, (b, _)), mask in zip(asked.items(), got):
        fits = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == examples[b].image.shape[:2]
        masks[key] = mask if fits else None
    return masks
