"""What an answer points at: ids or boxes in the text become boxes of the picture, and boxes become masks.

On a video, ids become tracks: the box of each object in each frame, in a straight line between the keyframes of the
twin (twin/tracks.py), and each frame's boxes become its mask. An answer in boxes has no time in it: it applies to the
first frame, and in the others it points at nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example

# (pictures uint8[h, w, 3], boxes float32[n, 4] of each, unit frame) -> the union mask bool[h, w] of each. Anything else
# in the place of a mask says that this sample failed.
SegmentFn = Callable[[list[np.ndarray], list[np.ndarray]], Sequence]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one completion answered.

    Attributes:
      boxes: float32[n, 4], unit frame; n = 0 where nothing is answered or the transcript is unsound. Of a video: those
        in its first frame.
      mask: bool[h, w] at the example's own size; None where the transcript is unsound, no masks were asked for, or the
        segmenter failed. Of a video: that of its first frame.
      failed: True where the segmenter was asked and gave no mask; of a video: in one of its frames, which costs all.
      tracks: of a video: float32[n, T, 4], unit frame, the box of each object of the answer in each of its T frames,
        all 0 where it is not to be seen; None = a picture.
      masks: of a video: bool[T, h, w], `mask` in each frame; empty in frames that the target does not label.
    """

    boxes: np.ndarray
    mask: np.ndarray | None = None
    failed: bool = False
    tracks: np.ndarray | None = None
    masks: np.ndarray | None = None


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
        box_of = {o.id: o.box for o in tracks.first_frame(transcript.twin).objects}
        boxes = [box_of[i] for i in answer.objects if i in box_of]
    return _unit(boxes, canvas)


def tracks_of(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, T, 4], unit frame: what `boxes_of` gives, in each frame of a video; all 0 where there is no box."""
    answer = transcript.answer
    if not transcript.sound or answer is None:
        return _over_time([], canvas)
    if answer.boxes is not None:  # they apply to the first frame
        return _over_time([[box] + [None] * (len(canvas.frames) - 1) for box in answer.boxes], canvas)
    item_of = {o.id: o for o in transcript.twin.objects}
    return _over_time([tracks.boxes(item_of[i], canvas.frames) for i in answer.objects or () if i in item_of], canvas)


def twin_tracks(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, T, 4], unit frame: the tracks of all objects of the twin of a video."""
    objects = transcript.twin.objects if transcript.twin else ()
    return _over_time([tracks.boxes(item, canvas.frames) for item in objects], canvas)


def twin_boxes(transcript: Transcript, canvas: Canvas) -> np.ndarray:
    """float32[n, 4], unit frame: the boxes of all objects of the twin; of a video, those of its first frame.

    Empty where the transcript has no twin that is sound by itself.
    """
    return _unit([o.box for o in tracks.first_frame(transcript.twin).objects] if transcript.twin else [], canvas)


def _unit(boxes, canvas: Canvas) -> np.ndarray:
    return np.asarray([to_unit(b, canvas) for b in boxes], np.float32).reshape(-1, 4)


def _over_time(rows, canvas: Canvas) -> np.ndarray:
    """float32[n, T, 4], unit frame, of n lists of T boxes or None."""
    found = [[(0, 0, 0, 0) if box is None else to_unit(box, canvas) for box in row] for row in rows]
    return np.asarray(found, np.float32).reshape(-1, len(canvas.frames), 4)


def outcomes(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    segment_fn: SegmentFn | None,
    masked: Sequence[bool] | None = None,
) -> list[list[Outcome]]:
    """The boxes, tracks and masks of B x G completions.

    The segmenter is asked once for the whole batch, and once for completions of a query that answer the same set of
    boxes, of a video in the same frame. It is not asked about unsound transcripts, nor where there are no boxes, where
    the mask is empty.

    Args:
      transcripts: B groups of G completions.
      examples: B queries.
      canvases: B canvases, the frame of each query's text.
      segment_fn: boxes -> mask; None leaves every mask out.
      masked: of which queries masks are wanted; None = of all.

    Raises ValueError where segment_fn does not return as many masks as it was asked for.
    """
    found = [
        [_pointed(t, canvas) for t in group] for group, canvas in zip(transcripts, canvases, strict=True)
    ]  # fmt: skip
    wanted = [segment_fn is not None and (masked is None or bool(masked[b])) for b in range(len(examples))]
    asked = [
        [_sets(o, e) if t.sound and want else [] for o, t in zip(group, of_group)]
        for group, of_group, e, want in zip(found, transcripts, examples, wanted)
    ]
    masks = _segment(asked, examples, segment_fn)

    def masked_outcome(b: int, g: int) -> Outcome:
        o, example = found[b][g], examples[b]
        if not wanted[b] or not transcripts[b][g].sound:
            return o
        parts = [masks[_key(b, t, boxes)] for t, boxes in asked[b][g]]
        if any(part is None for part in parts):
            return dataclasses.replace(o, failed=True)
        if o.tracks is None:
            return dataclasses.replace(o, mask=parts[0])
        over_time = np.zeros((o.tracks.shape[1], *example.image.shape[:2]), bool)
        for (t, _), part in zip(asked[b][g], parts):
            over_time[t] = part
        return dataclasses.replace(o, mask=over_time[0], masks=over_time)

    return [[masked_outcome(b, g) for g in range(len(group))] for b, group in enumerate(found)]


def _pointed(transcript: Transcript, canvas: Canvas) -> Outcome:
    return Outcome(
        boxes_of(transcript, canvas), tracks=tracks_of(transcript, canvas) if canvas.frames else None
    )  # fmt: skip


def _sets(outcome: Outcome, example: Example) -> list[tuple[int, np.ndarray]]:
    """(frame, boxes) of which masks are wanted: of a picture frame 0, of a video all labelled ones that are there."""
    if outcome.tracks is None:
        return [(0, outcome.boxes)]
    labelled = example.target.labelled
    frames = range(min(outcome.tracks.shape[1], len(pictures(example))))
    boxes = [outcome.tracks[outcome.tracks[:, t, 2] > outcome.tracks[:, t, 0], t] for t in frames]
    return [(t, boxes[t]) for t in frames if labelled is None or (t < len(labelled) and labelled[t])]


def pictures(example: Example) -> Sequence[np.ndarray]:
    """The frames of a video uint8[T, h, w, 3], or the picture alone."""
    return [example.image] if example.video is None else example.video.frames


def _key(b: int, t: int, boxes: np.ndarray) -> tuple[int, int, bytes]:
    """The same for the same set of boxes on the same picture, whatever their order: a union has none."""
    return b, t, np.unique(boxes, axis=0).tobytes()


def _segment(asked, examples, segment_fn) -> dict[tuple[int, int, bytes], np.ndarray | None]:
    """Mask of each distinct set of boxes of each picture; None where the segmenter gave none of the right kind."""
    sets = {_key(b, t, x): (b, t, np.unique(x, axis=0))
            for b, group in enumerate(asked) for of_answer in group for t, x in of_answer}  # fmt: skip
    shown = [pictures(examples[b])[t] for b, t, _ in sets.values()]
    return dict(zip(sets, masks_of(shown, [x for *_, x in sets.values()], segment_fn)))


def masks_of(
    shown: Sequence[np.ndarray], boxes: Sequence[np.ndarray], segment_fn: SegmentFn | None
) -> list[np.ndarray | None]:
    """The union mask bool[h, w] of the boxes on each picture; None where the segmenter gave none of the right kind.

    The segmenter is asked once, and not where there are no boxes: there the mask is empty.

    Args:
      shown: n pictures uint8[h, w, 3].
      boxes: n times float32[m, 4], unit frame.
      segment_fn: may be None where no picture has a box.

    Raises ValueError where segment_fn does not return as many masks as it was asked for.
    """
    asked = [i for i, x in enumerate(boxes) if len(x)]
    got = segment_fn([shown[i] for i in asked], [boxes[i] for i in asked]) if asked else []
    if len(got) != len(asked):
        raise ValueError(f"segment_fn must return one mask per picture: expected {len(asked)}, got {len(got)}")
    masks: list[np.ndarray | None] = [np.zeros(picture.shape[:2], bool) for picture in shown]
    for i, mask in zip(asked, got):
        fits = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == shown[i].shape[:2]
        masks[i] = mask if fits else None
    return masks
