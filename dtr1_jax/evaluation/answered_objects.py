"""The masks of the objects of an answer one by one, for benchmarks that compare object with object."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.rewards import answer_regions, video_overlap
from dtr1_jax.rewards.answer_regions import RealMasks, SegmentFn
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.schema import Answer
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example


def object_masks(
    example: Example, transcript: Transcript, canvas: Canvas, segment_fn: SegmentFn, real: RealMasks | None = None
) -> list[np.ndarray]:
    """The mask bool[h, w] of each object or box of an answer about a picture, at the size of the target's mask.

    Objects for which the segmenter gives no mask are left out; an unsound transcript has none.

    Args:
      example: the query.
      transcript: the parsed completion.
      canvas: the frame of its integers.
      segment_fn: boxes -> mask.
      real: masks of the twin's objects that are known.
    """
    answer = transcript.answer if transcript.sound else None
    if answer is None:
        return []
    single = [Answer(objects=(i,)) for i in answer.objects or ()] + [Answer(boxes=(box,)) for box in answer.boxes or ()]
    group = [dataclasses.replace(transcript, answer=one) for one in single]
    found = answer_regions.outcomes(
        [group], [example], [canvas], segment_fn, None, None if real is None else [[real] * len(group)]
    )
    masks = [outcome.mask for outcome in found[0] if outcome.mask is not None]
    return [video_overlap.resize_mask(mask, example.target.mask.shape) for mask in masks]
