"""Column `follows`: does the answer of a completion follow from its own twin?

The query's program (twin/programs.py) is executed on the completion's own twin. The column is the match of the stated
answer with the implied one, times the support that the twin gives:

match    F1 of the ids, or the matched IoU of the answer's boxes with the boxes of the implied objects, or for a
         question the score of the answer in words (rewards/answer_matching.py) with the implied words as references
support  share of the annotated scene that the twin has: each annotated object counts by the IoU of its box or track
         with one object of the twin of the same label, times the share of its attributes that the twin states where the
         program reads attributes, and 0 where the program reads depth and the twin states none. It is the smaller one
         of the share of the whole scene and the share of the objects on which the right answer rests. Where the twin
         has more objects than the scene, the support shrinks in proportion.

Without the support, an empty twin and an empty answer would agree perfectly, and so would any invented twin. For the
same reason the column is 0 where only one of the twin and the annotation has no object that fits the query, and where
the program cannot be executed on the twin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.evaluation.benchmarks import boxes as benchmark
from dtr1_jax.rewards import answer_matching
from dtr1_jax.rewards.answer_regions import boxes_of
from dtr1_jax.twin import programs
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.things import Thing, things_of_scene, things_of_twin
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, Example

NOTHING = programs.Result(executable=False)


@dataclasses.dataclass(frozen=True)
class Implied:
    """The answer that follows from a twin.

    Attributes:
      things: the objects of the twin.
      result: of the program on these objects.
      tracks: float64[n, T, 4], unit frame, the boxes of the objects of `result.ids`, all 0 where an object is not
        visible; T = 1 for a picture.
    """

    things: Sequence[Thing]
    result: programs.Result
    tracks: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """float64[n, 4]: the boxes in the picture, or in the first frame of a video without objects absent from it."""
        first = self.tracks[:, 0]
        return first[first[:, 2] > first[:, 0]]


def implied(transcript: Transcript, example: Example, canvas: Canvas) -> Implied:
    """Executes the example's program, which it must have, on the twin of a completion; a twin with faults has no
    objects and no answer.
    """
    if transcript.twin is None:
        return Implied((), NOTHING, _tracks((), canvas))
    things = things_of_twin(transcript.twin, canvas)
    result = programs.execute(example.program, things)
    by_id = {x.id: x for x in things}
    return Implied(things, result, _tracks([by_id[i] for i in result.ids], canvas))


def follows(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    tolerance: float = 0.0,
) -> np.ndarray:
    """float32[B, G], each in [0, 1]: how well each answer follows from the twin of its completion.

    It is 0 where the transcript is unsound, and for queries without a program or with a summary as their answer.

    Args:
      transcripts: B groups of G completions.
      examples: B queries.
      canvases: B canvases, the frame of each query's text.
      tolerance: how far a number may be from the implied one, as a share of it.
    """
    score_bg = np.zeros((len(examples), len(transcripts[0])), np.float32)
    in_words: list[tuple[int, int, float, tuple[str, ...]]] = []
    for b, (group, example, canvas) in enumerate(zip(transcripts, examples, canvases, strict=True)):
        if not example.program or example.task == "summary":
            continue
        scene = things_of_scene(example.scene)
        right = programs.execute(example.program, scene)
        for g, transcript in enumerate(group):
            if not transcript.sound:
                continue
            own = implied(transcript, example, canvas)
            if not own.result.executable or bool(own.result.ids) != bool(right.ids):
                continue
            share = support(own.things, scene, right.evidence, programs.reads(example.program), canvas)
            if example.task in POINTING:
                score_bg[b, g] = share * _match(transcript, own, canvas)
            else:
                in_words.append((b, g, share, own.result.texts))
    if in_words:
        matches = answer_matching.answer_scores(
            [[transcripts[b][g].answer.text] for b, g, *_ in in_words], [texts for *_, texts in in_words],
            [examples[b].target.choices for b, *_ in in_words], tolerance,
        )  # fmt: skip
        for (b, g, share, _), match in zip(in_words, matches[:, 0]):
            score_bg[b, g] = share * match
    return score_bg


def support(
    things: Sequence[Thing], scene: Sequence[Thing], evidence: Collection[int], fields: Collection[str], canvas: Canvas
) -> float:
    """The share of the annotated scene that a twin has, in [0, 1]; see the module.

    Args:
      things: the objects of the twin.
      scene: the annotated objects.
      evidence: ids of the annotated objects on which the right answer rests.
      fields: the fields that the program reads, see programs.reads.
      canvas: gives the number of frames.
    """
    if not scene or not things:
        return float(not scene and not things)
    score_mn = benchmark.track_iou_matrix(_tracks(scene, canvas), _tracks(things, canvas))
    for m, n in np.argwhere(score_mn):
        score_mn[m, n] *= _agreement(scene[m], things[n], fields)
    rows, columns = linear_sum_assignment(-score_mn)
    by_id = dict(zip((scene[m].id for m in rows), score_mn[rows, columns]))
    needed = [by_id.get(i, 0.0) for i in evidence]
    share = min(sum(by_id.values()) / len(scene), float(np.mean(needed)) if needed else 1.0)
    return float(share * min(1.0, len(scene) / len(things)))


def _match(transcript: Transcript, own: Implied, canvas: Canvas) -> float:
    """How well an answer in objects or boxes equals the implied one."""
    answer = transcript.answer
    if answer.boxes is not None:
        return benchmark.matched_iou(boxes_of(transcript, canvas), own.boxes)
    total = len(answer.objects) + len(own.result.ids)
    return 2 * len(set(answer.objects) & set(own.result.ids)) / total if total else 1.0


def _agreement(one: Thing, other: Thing, fields: Collection[str]) -> float:
    """How far an object of the twin agrees with an annotated one, apart from its box, in [0, 1]."""
    if one.label != other.label or ("depth" in fields and one.depth is not None and other.depth is None):
        return 0.0
    if "attributes" not in fields or not one.attributes:
        return 1.0
    return len(set(one.attributes) & set(other.attributes)) / len(set(one.attributes))


def _tracks(things: Sequence[Thing], canvas: Canvas) -> np.ndarray:
    """float64[n, T, 4]: boxes in the T frames of the canvas, all 0 where an object is not visible; T = 1 for a picture.

    Longer tracks are cut.
    """
    frames = max(1, len(canvas.frames))
    out = np.zeros((len(things), frames, 4))
    for row, thing in zip(out, things):
        boxes = thing.boxes if len(thing.boxes) > 1 else thing.boxes * frames
        for t, box in enumerate(boxes[:frames]):
            row[t] = box or 0.0
    return out
