"""The reward: named columns (rewards/columns.py), each in [0, 1], and their weighted sum by the weights of the task.

No credit for what stands on an unsound transcript: there all columns but `structure` are 0. A query has the columns of
its task: in a batch of several tasks the others are 0, and `Rewards.own` says whose a column is.

Text is read on the host; overlaps are computed on the device. Those of pictures are computed in one call for all B x G
completions and on fixed shapes, so that a run compiles it once; videos are computed query by query.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import config
from dtr1_jax.rewards import answer_matching, video_overlap
from dtr1_jax.rewards.columns import COLUMNS, WORDS, check_weights, of_batch
from dtr1_jax.rewards.geometry import mask_iou, matched_box_iou, matched_points
from dtr1_jax.rewards.resolve import Outcome, SegmentFn, outcomes, twin_boxes, twin_tracks
from dtr1_jax.rewards.structure import structure
from dtr1_jax.rewards.style import length, repetition
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.rewards.video_overlap import coverage, fit
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, Example, Rewards

__all__ = ["COLUMNS", "MAX_BOXES", "check_weights", "coverage", "score"]

# Matching is cubic in the number of boxes, which an answer may have hundreds of: 64 completions with 64 boxes each take
# 0.06 s on a CPU, with 128 boxes 0.4 s.
MAX_BOXES = video_overlap.MAX_TRACKS
OVERLAPS = ("mask_iou", "box_iou", "twin_iou")


def score(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    segment_fn: SegmentFn,
    reward: config.Reward,
    text_scorers: TextScorers | None = None,
    tokens_bg: np.ndarray | None = None,
) -> tuple[Rewards, list[list[Outcome]]]:
    """Scores B groups of G completions.

    Args:
      transcripts: B groups of G parsed completions.
      examples: B queries with their targets, of any tasks.
      canvases: B canvases: the frame in which each query's completions give coordinates, and the frames of a video.
      segment_fn: boxes -> mask, see resolve.SegmentFn; called at most once, and not at all where mask_iou weighs 0.
        A sample for which it gives no mask has mask_iou 0 and `Outcome.failed`.
      reward: weights (checked by `check_weights`; a column of weight 0 is left out) and mask_size, tolerance, length_*.
      readers: who compares answers in words; needed where such a column weighs something.
      tokens_bg: int[B, G], tokens of each completion; needed where the column length weighs something.

    Returns Rewards of numpy float32[B, G], all finite, and the Outcome of each completion. Raises ValueError where the
    groups differ in size, or readers or tokens_bg are missing.
    """
    sizes = sorted({len(group) for group in transcripts})
    if len(sizes) != 1:
        raise ValueError(f"groups must have one size G and there must be at least one; got sizes {sizes}")
    weights = of_batch(reward.weights, examples)
    nothing_b = np.zeros(len(examples), np.float32)
    own = {name: weight_b != 0 for name, weight_b in weights.items()}
    masked_b = own.get("mask_iou", nothing_b > 0)
    results = outcomes(transcripts, examples, canvases, segment_fn if masked_b.any() else None, masked_b)

    columns = _pictures(own, transcripts, examples, canvases, results, reward.mask_size)
    if "structure" in own:
        columns["structure"] = np.array([[structure(t) for t in group] for group in transcripts], np.float32)
    for b in np.flatnonzero([canvas.frames != () for canvas in canvases]):
        wanted = {name for name in OVERLAPS if name in own and own[name][b]}
        for name, scores in _film(wanted, transcripts[b], examples[b], canvases[b], results[b], reward.mask_size):
            columns[name][b] = scores
    columns |= _texts(own, transcripts, examples, reward, text_scorers)
    columns |= _styles(own, transcripts, reward, tokens_bg)
    columns = {name: np.where(own[name][:, None], columns[name], 0.0).astype(np.float32) for name in own}
    total_bg = np.zeros((len(examples), sizes[0]), np.float32)
    total_bg = sum((weights[name][:, None] * column for name, column in columns.items()), total_bg)
    return Rewards(columns=columns, total_bg=total_bg, own=own), results


def _pictures(own, transcripts, examples, canvases, results, mask_size) -> dict[str, np.ndarray]:
    """mask_iou, box_iou, twin_iou and points float32[B, G], of those that are in `own`; of videos points alone."""
    still_b = np.array([not canvas.frames for canvas in canvases])
    points_bg = np.array([[t.sound and e.task in POINTING for t in g] for g, e in zip(transcripts, examples)])
    asked = {name for name in OVERLAPS if name in own and (own[name] & still_b).any()}
    masks = boxes = twins = known_bg = None
    if "mask_iou" in asked:
        masks = _mask_arrays(results, examples, mask_size)
    if "box_iou" in asked or "points" in own:
        boxes = _box_arrays([[o.boxes for o in group] for group in results], [e.target.boxes for e in examples])
    if "twin_iou" in asked:
        described = [[twin_boxes(t, canvas) for t in group] for group, canvas in zip(transcripts, canvases)]
        annotated = [_seen([thing.box for thing in e.scene]) for e in examples]
        twins = _box_arrays(described, annotated)
        known_bg = np.array([[t.sound and len(things) > 0 for t in g] for g, things in zip(transcripts, annotated)])
    columns = {
        name: np.zeros(points_bg.shape, np.float32) for name in ("mask_iou", "box_iou", "twin_iou") if name in own
    }
    if asked:
        answered_bg = points_bg & still_b[:, None]
        columns |= _accuracy(masks, boxes if "box_iou" in asked else None, twins, answered_bg, known_bg)
    if "points" in own:
        columns["points"] = _points(boxes, points_bg)
    return {name: np.array(column_bg) for name, column_bg in jax.device_get(columns).items()}


def _film(wanted, group, example, canvas, results, mask_size):
    """(column, float32[G]) of those of mask_iou, box_iou and twin_iou that are in `wanted`, for a query on a video."""
    frames = len(canvas.frames)
    sound_g = np.array([t.sound for t in group])
    if "mask_iou" in wanted:
        yield "mask_iou", video_overlap.mask_scores([o.masks for o in results], example.target, mask_size, frames)
    if "box_iou" in wanted:
        right = video_overlap.truth(example.target, frames)
        found_g = video_overlap.track_scores([o.tracks for o in results], right.tracks, right.labelled)
        yield "box_iou", np.where(sound_g, found_g, 0.0)
    if "twin_iou" in wanted:
        annotated = video_overlap.scene_tracks(example, frames)
        found_g = video_overlap.track_scores([twin_tracks(t, canvas) for t in group], annotated, np.ones(frames, bool))
        yield "twin_iou", np.where(sound_g & (len(annotated) > 0), found_g, 0.0)


def said(transcript: Transcript) -> str | None:
    """The answer in words; None where the transcript is unsound or answers in another form."""
    return transcript.answer.text if transcript.sound and transcript.answer else None


def _texts(own, transcripts, examples, reward, text_scorers) -> dict[str, np.ndarray]:
    """The columns of answers in words, float32[B, G]."""
    shape = len(transcripts), len(transcripts[0])
    columns = {name: np.zeros(shape, np.float32) for name in ("answer", *WORDS) if name in own}
    if "answer" in own:
        rows = np.flatnonzero(own["answer"])
        answers = [[said(t) for t in transcripts[b]] for b in rows]
        targets = [examples[b].target for b in rows]
        columns["answer"][rows] = answer_matching.answer_scores(
            answers, [t.references for t in targets], [t.choices for t in targets], reward.tolerance
        )
    names = [[name for name in WORDS if name in own and own[name][b]] for b in range(shape[0])]
    cells = [(b, g) for b, e in enumerate(examples) if names[b] and e.target.references for g in range(shape[1])]
    if not cells:
        return columns
    if text_scorers is None:
        raise ValueError(f"expected readers for the columns {', '.join(n for n in WORDS if n in own)}, got none")
    rows = [(examples[b].query, said(transcripts[b][g]), examples[b].target.references) for b, g in cells]
    for (b, g), found in zip(cells, text_scorers.columns(rows, [names[b] for b, _ in cells])):
        for name, value in found.items():
            columns[name][b, g] = value
    return columns


def _styles(own, transcripts, reward, tokens_bg) -> dict[str, np.ndarray]:
    """length and repetition float32[B, G]; 0 where the transcript is unsound."""
    columns = {}
    if "length" in own:
        if tokens_bg is None:
            raise ValueError("expected the number of tokens of each completion for the column length, got none")
        most, slack = reward.length_most, reward.length_most - reward.length_free
        columns["length"] = np.array(
            [
                [length(int(n), most, slack) if t.sound else 0.0 for t, n in zip(*row)]
                for row in zip(transcripts, tokens_bg)
            ]
        )
    if "repetition" in own:
        columns["repetition"] = np.array(
            [[repetition(f"{t.thought} {said(t) or ''}" if t.sound else None) for t in group] for group in transcripts]
        )
    return columns


@jax.jit
def _accuracy(masks, boxes, twins, points_bg, known_bg):
    """The device part: columns float32[B, G] of those of `masks`, `boxes`, `twins` (see the makers below) there are."""
    columns = {}
    if masks is not None:
        pred_bghw, made_bg, target_bhw, valid_bhw = masks
        group_iou = jax.vmap(mask_iou, in_axes=(0, None, None))
        columns["mask_iou"] = jnp.where(points_bg & made_bg, jax.vmap(group_iou)(pred_bghw, target_bhw, valid_bhw), 0.0)
    group_iou = jax.vmap(matched_box_iou, in_axes=(0, 0, None, None))
    for name, found, counts_bg in (("box_iou", boxes, points_bg), ("twin_iou", twins, known_bg)):
        if found is not None:
            *arrays, kept_bg = found
            columns[name] = jnp.where(counts_bg, kept_bg * jax.vmap(group_iou)(*arrays), 0.0)
    return columns


@jax.jit
def _points(boxes, points_bg):
    """float32[B, G]: the centres of the answer's boxes against the wanted boxes, see geometry.matched_points."""
    pred_bgm4, pred_valid_bgm, target_bm4, target_valid_bm, kept_bg = boxes
    centre_bgm2 = (pred_bgm4[..., :2] + pred_bgm4[..., 2:]) / 2
    group = jax.vmap(jax.vmap(matched_points, in_axes=(0, 0, None, None)))
    found_bg = group(centre_bgm2, pred_valid_bgm, target_bm4, target_valid_bm)
    return jnp.where(points_bg, kept_bg * found_bg, 0.0)


def _mask_arrays(results, examples, size):
    """Answers float32[B, G, size, size], which there are bool[B, G], targets float32[B, size, size], cells that count.

    An answer of another size than its target is brought to the target's. Ignored pixels are taken out before the masks
    shrink: afterwards a cell may be ignored in part.
    """
    sizes = [e.target.mask.shape for e in examples]
    counted = [
        np.ones(shape, bool) if e.target.ignore is None else ~fit(e.target.ignore, shape)
        for e, shape in zip(examples, sizes)
    ]
    nothing = np.zeros((size, size), np.float32)
    pred_bghw = np.stack(
        [
            np.stack([nothing if o.mask is None else coverage(fit(o.mask, keep.shape) & keep, size) for o in group])
            for group, keep in zip(results, counted)
        ]
    )
    made_bg = np.array([[o.mask is not None for o in group] for group in results])
    target_bhw = np.stack([coverage(e.target.mask & keep, size) for e, keep in zip(examples, counted)])
    valid_bhw = np.stack([coverage(keep, size) > 0 for keep in counted])
    return pred_bghw, made_bg, target_bhw, valid_bhw


def _box_arrays(pred, target):
    """Boxes of B x G completions float32[B, G, M, 4] with bool[B, G, M], of targets float32[B, M, 4] with bool[B, M].

    M is a power of two, so that a run meets few shapes. Of more than MAX_BOXES boxes the largest are kept; as last,
    float32[B, G], by which what they match is multiplied, so that the others count.

    Args:
      pred: B lists of G times float[n, 4].
      target: B times float[n, 4].
    """
    most = max([len(x) for group in pred for x in group] + [len(x) for x in target])
    m = min(MAX_BOXES, max(8, 1 << (most - 1).bit_length()))
    kept_bg = np.array([[video_overlap.kept_share(len(x), len(t), m) for x in group] for group, t in zip(pred, target)])
    pred = [[_pad(x, m) for x in group] for group in pred]
    target = [_pad(x, m) for x in target]
    pred_bgm4, pred_valid_bgm = (np.array([[p[i] for p in group] for group in pred]) for i in (0, 1))
    target_bm4, target_valid_bm = (np.array([t[i] for t in target]) for i in (0, 1))
    return pred_bgm4, pred_valid_bgm, target_bm4, target_valid_bm, kept_bg.astype(np.float32)


def _seen(boxes):
    """float32[n, 4]: those with an area; objects of a video that its first frame does not show have none."""
    return np.array([b for b in boxes if b[2] > b[0] and b[3] > b[1]], np.float32).reshape(-1, 4)


def _pad(boxes, m):
    """float32[m, 4] and bool[m] of float[n, 4]."""
    if len(boxes) > m:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        boxes = boxes[np.argsort(-area, kind="stable")[:m]]
    padded = np.zeros((m, 4), np.float32)
    padded[: len(boxes)] = boxes
    return padded, np.arange(m) < len(boxes)
