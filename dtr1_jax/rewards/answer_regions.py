"""An answer becomes boxes and masks: ids or boxes in the text become boxes of the picture, and boxes become masks.

On a video, ids become tracks: the box of each object in each frame, in a straight line between the keyframes of the
twin (twin/tracks.py), and the boxes of each frame become its mask. An answer in boxes does not name a frame: it applies
to the first frame and is empty in the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example

# (pictures uint8[h, w, 3], boxes float32[n, 4] of each, unit frame) -> the union mask bool[h, w] of each. Any other
# value in place of a mask means that this sample failed.
SegmentFn = Callable[[list[np.ndarray], list[np.ndarray]], Sequence]


RealFrames = Callable[[int], np.ndarray | None]  # place of a frame -> the mask of an object there, if it is known


class RealMasks(Protocol):
    """The pixels of a twin's objects that a specialist found.

    Attributes:
      masks: id -> bool[h, w] at the example's own size; for a video bool[T, h, w], which holds in the frames that
        `looked` marks. Objects without pixels are left out.
      looked: bool[T], the frames of the video that were looked at; None = a picture.
    """

    @property
    def masks(self) -> Mapping[int, np.ndarray]:
        """The masks by id."""

    @property
    def looked(self) -> np.ndarray | None:
        """The frames that were looked at."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The boxes and masks of one completion's answer.

    Attributes:
      boxes: float32[n, 4], unit frame; n = 0 if the answer is empty or the transcript is unsound. For a video they
        are the boxes in its first frame.
      mask: bool[h, w] at the example's own size; None if the transcript is unsound, the caller wanted no masks, or
        the segmenter failed. For a video it is the mask of its first frame.
      failed: True if the segmenter was called and gave no mask; for a video, in any of its frames.
      tracks: float32[n, T, 4], unit frame, the box of each object of the answer in each of the T frames of a video, all
        0 in frames where the object is absent; None = a picture.
      masks: bool[T, h, w], the mask of each frame of a video, empty in frames that the target does not label; None
        where `mask` is None, and for a picture.
    """

    boxes: np.ndarray
    mask: np.ndarray | None = None
    failed: bool = False
    tracks: np.ndarray | None = None
    masks: np.ndarray | None = None


def boxes_of(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, 4], unit frame: the boxes that the answer names, or the boxes of the twin's objects that it names.

    Empty where the transcript is unsound or the answer is in words. `canvas` is the frame of the text's integers. For a
    video, the boxes are those in its first frame; objects that are absent from it are left out.
    """
    answer = transcript.answer
    if not transcript.sound or answer is None:
        return np.zeros((0, 4), np.float32)
    boxes = answer.boxes or ()
    if answer.objects:
        # The twin of specialists may begin at a later frame than the video.
        first = tracks.at_frame(transcript.twin, canvas.frames[0]) if canvas.frames else transcript.twin
        box_of = {o.id: o.box for o in first.objects}
        boxes = [box_of[i] for i in answer.objects if i in box_of]
    return _unit(boxes, canvas)


def tracks_of(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, T, 4], unit frame: the boxes of `boxes_of` in each frame of a video; all 0 if there is no box."""
    answer = transcript.answer
    if not transcript.sound or answer is None:
        return _over_time([], canvas)
    if answer.boxes is not None:  # boxes apply to the first frame
        return _over_time([[box] + [None] * (len(canvas.frames) - 1) for box in answer.boxes], canvas)
    item_of = {o.id: o for o in transcript.twin.objects}
    return _over_time([tracks.boxes(item_of[i], canvas.frames) for i in answer.objects or () if i in item_of], canvas)


def twin_boxes(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, 4], unit frame: the boxes of all objects of the twin; for a video, those in its first frame.

    Empty where the transcript has no twin that is sound by itself.
    """
    return _unit([o.box for o in tracks.first_frame(transcript.twin).objects] if transcript.twin else [], canvas)


def _unit(boxes, canvas: Canvas) -> np.ndarray:
    return np.asarray([to_unit(b, canvas) for b in boxes], np.float32).reshape(-1, 4)


def _over_time(rows, canvas: Canvas) -> np.ndarray:
    """float32[n, T, 4], unit frame, from n lists of T boxes or None."""
    boxes = [[(0, 0, 0, 0) if box is None else to_unit(box, canvas) for box in row] for row in rows]
    return np.asarray(boxes, np.float32).reshape(-1, len(canvas.frames), 4)


def outcomes(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    segment_fn: SegmentFn | None,
    masked: Sequence[bool] | None = None,
    real: Sequence[Sequence[RealMasks]] | None = None,
) -> list[list[Outcome]]:
    """The boxes, tracks and masks of B x G completions.

    The mask of an answer by ids is the union of its objects' real masks, where `real` has them. All else comes from the
    segmenter, by boxes.

    The segmenter is called once for the whole batch. It gets each distinct set of boxes of a picture or frame once,
    even where several completions of a query name it. It gets no boxes of unsound transcripts and no empty sets, whose
    mask is empty.

    Args:
      transcripts: B groups of G completions.
      examples: B queries.
      canvases: B canvases, the frame of each query's text.
      segment_fn: boxes -> mask; None leaves every mask out.
      masked: B times bool, False at queries that need no masks; None = all need them.
      real: for each completion the masks of its twin's objects; None = there are none.

    Raises ValueError if segment_fn does not return one mask for each picture.
    """
    unmasked = [
        [_without_mask(t, canvas) for t in group] for group, canvas in zip(transcripts, canvases, strict=True)
    ]  # fmt: skip
    needs_masks = [segment_fn is not None and (masked is None or bool(masked[b])) for b in range(len(examples))]
    own = [
        [dict(answer_masks(t, real[b][g])) if real is not None else {} for g, t in enumerate(group)]
        for b, group in enumerate(transcripts)
    ]
    box_sets = [
        [_box_sets(o, e, t, known) if t.sound and needed else [] for o, t, known in zip(group, of_group, of_real)]
        for group, of_group, of_real, e, needed in zip(unmasked, transcripts, own, examples, needs_masks)
    ]
    masks = _segment(box_sets, examples, segment_fn)

    def masked_outcome(b: int, g: int) -> Outcome:
        o, example = unmasked[b][g], examples[b]
        if not needs_masks[b] or not transcripts[b][g].sound:
            return o
        parts = [masks[_key(b, t, boxes)] for t, boxes in box_sets[b][g]]
        if any(part is None for part in parts):
            return dataclasses.replace(o, failed=True)
        shape = example.image.shape[:2]
        parts = [united(part, own[b][g], t, shape) for (t, _), part in zip(box_sets[b][g], parts)]
        if o.tracks is None:
            return dataclasses.replace(o, mask=parts[0])
        over_time = np.zeros((o.tracks.shape[1], *example.image.shape[:2]), bool)
        for (t, _), part in zip(box_sets[b][g], parts):
            over_time[t] = part
        return dataclasses.replace(o, mask=over_time[0], masks=over_time)

    return [[masked_outcome(b, g) for g in range(len(group))] for b, group in enumerate(unmasked)]


def _without_mask(transcript: Transcript, canvas: Canvas) -> Outcome:
    return Outcome(
        boxes_of(transcript, canvas), tracks=tracks_of(transcript, canvas) if canvas.frames else None
    )  # fmt: skip


def answer_masks(transcript: Transcript, real: RealMasks) -> Iterator[tuple[int, RealFrames]]:
    """(id, its mask in the frames where it is known) for each object of the answer that has real masks.

    A function of the frame's place gives the mask bool[h, w], or None where nobody looked; a picture is frame 0.
    """
    answer = transcript.answer if transcript.sound else None
    for i in (answer.objects or ()) if answer is not None else ():
        if i in real.masks:
            yield i, functools.partial(_real_frame, real.masks[i], real.looked)


def _real_frame(mask: np.ndarray, looked: np.ndarray | None, t: int) -> np.ndarray | None:
    return mask if looked is None else mask[t] if looked[t] else None


def united(
    mask: np.ndarray | None, known: Mapping[int, RealFrames], t: int, shape: tuple[int, int]
) -> np.ndarray | None:
    """The union bool[h, w] of a mask and the real masks that are known in frame t; None if `mask` is None."""
    for of_object in known.values():
        real = of_object(t)
        if mask is not None and real is not None and real.shape == shape:
            mask = mask | real
    return mask


def _box_sets(
    outcome: Outcome, example: Example, transcript: Transcript, known: Mapping[int, RealFrames]
) -> list[tuple[int, np.ndarray]]:
    """(frame, boxes without a real mask) for each mask of the answer: frame 0 of a picture, every labelled frame of a
    video.
    """
    ids = transcript.answer.objects if transcript.answer is not None else None
    ids = [i for i in ids or () if any(o.id == i for o in transcript.twin.objects)] if known else []

    def unknown(t: int, boxes: np.ndarray) -> np.ndarray:
        """bool[n], True at the boxes of objects without a real mask in frame t."""
        return (
            np.array([i not in known or known[i](t) is None for i in ids], bool) if ids else np.ones(len(boxes), bool)
        )

    if outcome.tracks is None:
        return [(0, outcome.boxes[unknown(0, outcome.boxes)])]
    labelled = example.target.labelled
    frames = range(min(outcome.tracks.shape[1], len(pictures(example))))
    boxes = [
        outcome.tracks[(outcome.tracks[:, t, 2] > outcome.tracks[:, t, 0]) & unknown(t, outcome.tracks), t]
        for t in frames
    ]
    return [(t, boxes[t]) for t in frames if labelled is None or (t < len(labelled) and labelled[t])]


def pictures(example: Example) -> Sequence[np.ndarray]:
    """The frames of a video uint8[T, h, w, 3], or the picture alone."""
    return [example.image] if example.video is None else example.video.frames


def _key(b: int, t: int, boxes: np.ndarray) -> tuple[int, int, bytes]:
    """Equal for equal sets of boxes on the same picture; their order does not matter, since the mask is their union."""
    return b, t, np.unique(boxes, axis=0).tobytes()


def _segment(box_sets, examples, segment_fn) -> dict[tuple[int, int, bytes], np.ndarray | None]:
    """Mask of each distinct set of boxes of each picture; None if the segmenter gave no valid mask."""
    sets = {_key(b, t, x): (b, t, np.unique(x, axis=0))
            for b, group in enumerate(box_sets) for of_answer in group for t, x in of_answer}  # fmt: skip
    images = [pictures(examples[b])[t] for b, t, _ in sets.values()]
    return dict(zip(sets, masks_of(images, [x for *_, x in sets.values()], segment_fn)))


def masks_of(
    images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], segment_fn: SegmentFn | None
) -> list[np.ndarray | None]:
    """The union mask bool[h, w] of the boxes on each picture; None if the segmenter gave no valid mask.

    The segmenter is called once, with the pictures that have boxes; the mask of the others is empty.

    Args:
      images: n pictures uint8[h, w, 3].
      boxes: n times float32[m, 4], unit frame.
      segment_fn: may be None if no picture has a box.

    Raises ValueError if segment_fn does not return one mask for each picture.
    """
    boxed = [i for i, x in enumerate(boxes) if len(x)]
    segments = segment_fn([images[i] for i in boxed], [boxes[i] for i in boxed]) if boxed else []
    if len(segments) != len(boxed):
        raise ValueError(f"segment_fn must return one mask per picture: expected {len(boxed)}, got {len(segments)}")
    masks: list[np.ndarray | None] = [np.zeros(image.shape[:2], bool) for image in images]
    for i, mask in zip(boxed, segments):
        valid = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == images[i].shape[:2]
        masks[i] = mask if valid else None
    return masks
