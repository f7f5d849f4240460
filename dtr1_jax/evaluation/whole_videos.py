"""Benchmarks about videos: the figures of an answer over all frames that the benchmark scores, not only those shown.

Between the frames that the policy saw, an object of its twin moves as twin/tracks.py interpolates, and the segmenter
turns its boxes into masks. J and F are those of video_segmentation.py. For benchmarks that give the pixels of all
annotated objects (foreground), by frame:

    A  share of pixels that answer and target agree on
    R  robustness, max(0, 1 - |answer and not target| / (|foreground| + 1e-6))

Source: tools/eval_revos.py and tools/metrics.py of github.com/cilinyan/VISA. Frames are averaged, then queries.
"""

from __future__ import annotations

import collections
import functools
import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from dtr1_jax.evaluation import peers
from dtr1_jax.evaluation.benchmarks import video_segmentation
from dtr1_jax.rewards import answer_regions, video_overlap
from dtr1_jax.rewards.answer_regions import Outcome, SegmentFn
from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example, FrameTruth

MAIN = "jf_of_queries"  # the mean of J&F over all queries, in which missing ones can be counted as wrong
AVERAGED = {"revos": ("referring", "reasoning")}  # benchmark -> the tags whose means it averages
_TINY = 1e-6
_MEANS = ("j", "f", "a", "r")

log = logging.getLogger(__name__)


def measure(
    example: Example, transcript: Transcript, canvas: Canvas, outcome: Outcome, segment_fn: SegmentFn | None,
    emulate: Collection[str] = (),
) -> dict[str, Any] | None:  # fmt: skip
    """j, f and where the foreground is known a and r, each in [0, 1], with target and answer, pixels of all frames.

    None if the example is not about a video of a benchmark. A failed answer has 0 in every frame and answer None. A
    frame that cannot be read counts as 0, with a warning.

    Args:
      example: the query.
      transcript: the parsed completion.
      canvas: the coordinates and frame numbers of its twin.
      outcome: its masks in the frames that the policy saw.
      segment_fn: boxes -> mask, for the other frames.
      emulate: of peers.PEERS, whose numbers are added as "peers".
    """
    whole = example.whole
    if whole is None or example.task != "segmentation" or example.video is None:
        return None
    answered = transcript.sound and outcome.masks is not None
    seen = {int(number): k for k, number in enumerate(example.video.index)}
    sums: collections.Counter[str] = collections.Counter()
    pixels: collections.Counter[str] = collections.Counter()
    of_peer: list[tuple[float, float]] = []  # J and F of onethinker in each frame that it counts
    for k, number in enumerate(whole.numbers):
        try:
            truth = whole.truth(k)
            pixels["target"] += int(np.count_nonzero(truth.target))
            if not answered:
                sums.update(_frame(None, truth))
                of_peer += [(0.0, 0.0)] if truth.target.any() else []
                continue
            if number in seen:
                mask = outcome.masks[seen[number]]
            else:
                mask = _between(transcript, canvas, number, truth, functools.partial(whole.frame, k), segment_fn)
        except ValueError as error:
            _warn(str(error))
            of_peer.append((0.0, 0.0))
            continue
        mask = None if mask is None else video_overlap.resize_mask(mask, truth.target.shape)
        pixels["answer"] += 0 if mask is None else int(np.count_nonzero(mask))
        sums.update(_frame(mask, truth))
        if "onethinker" in emulate and (scores := peers.frame_scores(mask, truth.target)) is not None:
            of_peer.append(scores)
    names = _MEANS if "a" in sums else _MEANS[:2]
    means = {name: sums[name] / len(whole.numbers) for name in names}
    found = means | {"target": pixels["target"], "answer": pixels["answer"] if answered else None}
    if "onethinker" not in emulate:
        return found
    j, f = np.mean(of_peer, 0).tolist() if of_peer else (0.0, 0.0)
    return found | {"peers": {"onethinker": {"j": j, "f": f}}}


def figures(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The figures of a benchmark in rows with the field "benchmark": jf, j, f, and where they are known a and r.

    For a benchmark of AVERAGED, these are the mean of the means by tag where the rows have all its tags. n_acc and
    t_acc are the shares of empty answers to queries without a target, and of other answers to the others; they stand
    where some query has no target.
    """
    fields = [row["benchmark"] for row in rows]
    own = [name for name in _MEANS if all(name in field for field in fields)]
    groups = [[field for field in fields if tag in field["tags"]] for tag in AVERAGED.get(name, ())]
    groups = groups if groups and all(groups) else [fields]
    means = {key: float(np.mean([np.mean([field[key] for field in part]) for part in groups])) for key in own}
    found = {"jf": (means["j"] + means["f"]) / 2} | means
    found[MAIN] = float(np.mean([(field["j"] + field["f"]) / 2 for field in fields]))
    without = [field["answer"] == 0 for field in fields if field["target"] == 0]
    targeted = [field["answer"] is not None and field["answer"] > 0 for field in fields if field["target"]]
    if without:
        found["n_acc"] = float(np.mean(without))
        found |= {"t_acc": float(np.mean(targeted))} if targeted else {}
    return found


def fault(field: dict[str, Any]) -> str | None:
    """The first fault of the field "benchmark" of a row about a video, or None."""
    for name in _MEANS:
        value = field.get(name, 0.0 if name in "ar" else None)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            return f"benchmark.{name}: expected a number in [0, 1]"
    for name in ("target", "answer"):
        value = field.get(name, -1)
        if not (type(value) is int and 0 <= value <= 1 << 53) and not (value is None and name == "answer"):
            return f"benchmark.{name}: expected a number of pixels"
    return None


def _frame(mask: np.ndarray | None, truth: FrameTruth) -> dict[str, float]:
    """The figures of one frame; `mask` bool[h, w] is the answer, None = there is none."""
    found = {
        "j": video_segmentation.region(mask, truth.target, truth.ignore),
        "f": video_segmentation.boundary(mask, truth.target, truth.ignore),
    }
    if truth.foreground is None:
        return found
    if mask is None:
        return found | {"a": 0.0, "r": 0.0}
    false = np.count_nonzero(mask & ~truth.target)
    robustness = max(0.0, 1 - false / (np.count_nonzero(truth.foreground) + _TINY))
    return found | {"a": float(np.mean(mask == truth.target)), "r": robustness}


def _between(
    transcript: Transcript, canvas: Canvas, number: int, truth: FrameTruth, read: Any, segment_fn: SegmentFn | None
) -> np.ndarray | None:
    """The mask bool[h, w] of the answer in a frame that the policy did not see; None if the segmenter fails."""
    answer = transcript.answer
    objects = {o.id: o for o in transcript.twin.objects} if transcript.twin is not None else {}
    ids = answer.objects or () if answer is not None else ()
    boxes = [tracks.boxes(objects[i], [number])[0] for i in ids if i in objects]
    unit = np.asarray([to_unit(box, canvas) for box in boxes if box is not None], np.float32).reshape(-1, 4)
    if not len(unit):
        return np.zeros(truth.target.shape, bool)
    return answer_regions.masks_of([read()], [unit], segment_fn)[0]


@functools.lru_cache(maxsize=64)  # a frame is named once
def _warn(fault: str) -> None:
    log.warning("%s; this frame counts as wrong", fault)
