"""Answers held-out queries greedily, and computes the rewards and the benchmark numbers of each answer."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import numpy as np

from dtr1_jax import mesh
from dtr1_jax.asking.complete import Completions, aligned, complete, complete_in_turn
from dtr1_jax.asking.requested_work import Work
from dtr1_jax.data import json_files, pipeline
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.sources import Source
from dtr1_jax.data.working_size import DRAWN, OBJECTWISE, fit, fit_masks
from dtr1_jax.evaluation import benchmark_rows, blind, query_metrics, twin_answers, whole_videos
from dtr1_jax.evaluation.answered_objects import object_masks
from dtr1_jax.evaluation.benchmarks import twin_fidelity
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.rewards import answer_regions, score
from dtr1_jax.rewards.answer_regions import Outcome, RealMasks, SegmentFn
from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One held-out query with its answer.

    Attributes:
      example: the query and its target.
      canvas: the coordinate frame in which the policy wrote its boxes.
      transcript: the parts of the completion.
      outcome: the boxes, masks or words of the answer.
      columns: the reward columns that the query's task has, and "reward", their weighted sum.
      measures: numbers that the query adds to the figures of its task, see query_metrics.py and twin_answers.py.
      fidelity: how true the policy's own twin is; None if the twin was given or nothing is annotated.
      work: what specialists were asked for; None where the constructor is another.
      seconds: its share of the times of its batch, see asking.complete.Completions.
      benchmark: what it adds to the figures of its public benchmark (benchmark_rows.py); None if it is of none.
      place: of the query in its source.
    """

    example: Example
    canvas: Canvas
    transcript: Transcript
    outcome: Outcome
    columns: dict[str, float]
    measures: dict[str, float]
    fidelity: twin_fidelity.Fidelity | None = None
    work: Work | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    benchmark: dict[str, Any] | None = None
    place: int = 0


def ask(runtime: Runtime, batch: Batch, key: jax.Array) -> Completions:
    """One completion for each of a batch's B queries, greedy or sampled at train.eval_temperature with `key`."""
    return complete(runtime, batch, key, group=1, temperature=runtime.config.train.eval_temperature)


def predictions_of(
    runtime: Runtime, batch: Batch, completed: Completions, key: jax.Array, emulate: Collection[str] = ()
) -> list[Prediction]:
    """Scores the answers to a batch, `completed` of `ask`; `emulate` is as in `evaluate`.

    All processes must call it, each with its own queries.
    """
    c, segmenter, transcripts, real = runtime.config, runtime.segmenter, completed.transcripts, completed.real
    blind_bg = blind.blind_scores(
        runtime, batch, transcripts, jax.random.fold_in(key, 1), temperature=c.train.eval_temperature
    )
    rewards, outcomes = score.score(
        transcripts, batch.examples, batch.canvases, segmenter, c.reward, runtime.text_scorers,
        completed.rollout.mask_bgs.sum(-1), blind_bg, real,
    )  # fmt: skip
    needs_mask = [e.task == "segmentation" for e in batch.examples]
    if any(needs_mask) and not c.reward.weights.get("segmentation", {}).get("mask_iou"):
        # The metrics of segmentation need masks, even if the reward has no column mask_iou.
        outcomes = answer_regions.outcomes(transcripts, batch.examples, batch.canvases, segmenter, needs_mask, real)
    columns = {**rewards.columns, "reward": rewards.total_bg}
    owners = {**rewards.own, "reward": np.ones(len(batch.examples), bool)}
    seconds = {name: value / len(batch.examples) for name, value in completed.seconds.items()}
    return [
        Prediction(
            example=example,
            canvas=canvas,
            transcript=transcripts[i][0],
            outcome=outcomes[i][0],
            columns={name: float(column_bg[i, 0]) for name, column_bg in columns.items() if owners[name][i]},
            measures=query_metrics.measure(example, transcripts[i][0], outcomes[i][0], c.reward.tolerance)
            | twin_answers.judge(example, transcripts[i][0], canvas, c.reward.tolerance),
            fidelity=_fidelity(transcripts[i][0], example, canvas)
            if runtime.policy.style.constructor == "policy"
            else None,
            work=completed.perception.work[i] if completed.perception is not None else None,
            seconds=seconds,
            benchmark=benchmark_rows.measure(
                example,
                transcripts[i][0],
                outcomes[i][0],
                _answered(example, transcripts[i][0], canvas, segmenter, real and real[i][0]),
                whole_videos.measure(example, transcripts[i][0], canvas, outcomes[i][0], segmenter, emulate),
                emulate,
            ),
            place=int(batch.numbers[i]),
        )
        for i, (example, canvas) in enumerate(zip(batch.examples, batch.canvases))
    ]


def _answered(
    example: Example, transcript: Transcript, canvas: Canvas, segmenter: SegmentFn,
    real: RealMasks | None,
) -> list[np.ndarray]:  # fmt: skip
    """The masks of the answer's objects, where the figures of the example's benchmark compare object with object."""
    if example.benchmark not in OBJECTWISE or example.task != "segmentation":
        return []
    return object_masks(example, transcript, canvas, segmenter, real)


def _fidelity(transcript: Transcript, example: Example, canvas: Canvas) -> twin_fidelity.Fidelity | None:
    """Compares the twin with the annotated scene, by the first frame of a video; None if nothing is annotated."""
    scene = [twin_fidelity.DescribedObject(x.label, x.box, x.attributes) for x in example.scene if x.box[2] > x.box[0]]
    if not scene:
        return None
    boxes = answer_regions.twin_boxes(transcript, canvas)
    objects = tracks.first_frame(transcript.twin).objects if transcript.twin else ()
    described = [twin_fidelity.DescribedObject(o.label, box, o.attributes) for o, box in zip(objects, boxes)]
    return twin_fidelity.fidelity(described, scene)


def evaluate(
    runtime: Runtime,
    source: Source,
    check: Callable[[], object] = lambda: None,
    skipped: pipeline.SkipCounter | None = None,
    emulate: Collection[str] = (),
) -> list[Prediction]:
    """Predictions on the first train.eval_examples examples of `source`: those of this process's share of each batch.

    Large pictures and masks are shrunk after their numbers are computed, because all predictions are kept. All
    processes must call it; `answered.of_all` brings their answers together.

    Args:
      check: called before the first batch and after each, equally often in all processes; it may raise to end the
        evaluation.
      skipped: counts the examples that cannot be read; each is left out with a warning.
      emulate: of peers.PEERS, whose numbers are computed too.

    Raises DataError if no example can be used.
    """
    c, style = runtime.config, runtime.policy.style
    predictions: list[Prediction] = []
    skipped, root = skipped or pipeline.SkipCounter(), jax.random.key(c.seed)
    sizes = c.train.eval_batch, c.train.eval_examples
    batches = pipeline.evaluation_batches(source, style, *sizes, skipped, mesh.share_of_rows(runtime.mesh))
    asked: collections.deque[tuple[Batch, bool]] = collections.deque()  # (batch, whether its answers count)

    def work() -> Iterator[tuple[Batch, jax.Array]]:
        for batch in batches:
            if mesh.most(batch is not None):
                asked.append((aligned(batch or _stand_in(runtime, source)), batch is not None))
                yield asked[-1][0], root

    check()
    for completed in complete_in_turn(runtime, work(), group=1, temperature=c.train.eval_temperature):
        batch, counts = asked.popleft()
        judged = predictions_of(runtime, batch, completed, root, emulate)
        predictions += map(_to_draw, judged) if counts else ()
        check()
    unusable = mesh.total_of_shares(runtime.mesh, skipped.count)
    if unusable and not mesh.most(len(predictions)):
        raise json_files.DataError(
            f"none of the {unusable} held-out examples of {source!r} could be used; the warnings say why"
        )
    return predictions


def _stand_in(runtime: Runtime, source: Source) -> Batch:
    """Any query, for a batch in which only other processes have queries."""
    batch = pipeline.first_usable(source, runtime.policy.style, runtime.config.train.eval_examples)
    if batch is None:
        raise json_files.DataError(f"{source!r}: this process can use none of the examples, but others can")
    return batch


def _to_draw(prediction: Prediction) -> Prediction:
    """The prediction with pictures and masks that are large enough to be drawn; its numbers are computed already."""
    example = fit(prediction.example, DRAWN)
    if example is prediction.example:
        return prediction
    outcome, size = prediction.outcome, example.target.mask.shape
    fitted = {
        name: fit_masks(value, size) for name in ("mask", "masks") if (value := getattr(outcome, name)) is not None
    }
    return dataclasses.replace(prediction, example=example, outcome=dataclasses.replace(outcome, **fitted))
