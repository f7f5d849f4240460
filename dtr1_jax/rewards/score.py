"""The reward: named columns (rewards/columns.py), each in [0, 1], and their sum by the weights of the query's task.

Where a transcript is unsound, all columns but `structure` are 0: nothing that stands on it earns credit. A query has
the columns of its task; in a batch of several tasks its other columns are 0, and `Rewards.own` says which queries have
a column.

Texts are scored in Python, overlaps by JAX on the CPU of the host (host_jit.py). The overlaps of pictures are one call
for all B x G completions, on fixed shapes, so that a run compiles it once; those of videos are computed query by query.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import config
from dtr1_jax.rewards import answer_matching, facts, twin_facts, twin_truth, video_overlap
from dtr1_jax.rewards.answer_regions import Outcome, RealMasks, SegmentFn, outcomes
from dtr1_jax.rewards.columns import COLUMNS, TEXT_COLUMNS, batch_weights, check_weights
from dtr1_jax.rewards.economy import economy
from dtr1_jax.rewards.follows import follows
from dtr1_jax.rewards.geometry import mask_iou, matched_box_iou, matched_points
from dtr1_jax.rewards.host_jit import host_jit
from dtr1_jax.rewards.mask_cells import overlap_cells, resize_mask
from dtr1_jax.rewards.structure import structure
from dtr1_jax.rewards.style import length, repetition
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, Example, Rewards

__all__ = ["COLUMNS", "MAX_BOXES", "check_weights", "score"]

# An answer may have hundreds of boxes, and matching is cubic in their number: 64 completions with 64 boxes each take
# 0.06 s on a CPU, with 128 boxes 0.4 s.
MAX_BOXES = video_overlap.MAX_TRACKS
OVERLAPS = ("mask_iou", "box_iou")


def score(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    segment_fn: SegmentFn,
    reward: config.Reward,
    text_scorers: TextScorers | None = None,
    tokens_bg: np.ndarray | None = None,
    blind_bg: np.ndarray | None = None,
    real: Sequence[Sequence[RealMasks]] | None = None,
) -> tuple[Rewards, list[list[Outcome]]]:
    """The rewards of B x G completions, and the boxes and masks of their answers.

    Args:
      transcripts: B groups of G parsed completions.
      examples: B queries with their targets, of any tasks.
      canvases: B canvases: the frame in which each query's completions give coordinates, and the frames of a video.
      segment_fn: boxes -> mask, see answer_regions.SegmentFn; called at most once, and never where mask_iou weighs 0. A
      sample
        for which it gives no mask has mask_iou 0 and `Outcome.failed`.
      reward: mask_size, tolerance, length_*, and weights that passed `check_weights`; a column of weight 0 is left out.
      text_scorers: compare answers in words; needed where one of columns.TEXT_COLUMNS has a weight.
      tokens_bg: int[B, G], tokens of each completion; needed where the column length has a weight.
      blind_bg: float[B, G], the column blind, which takes a rollout of its own; needed where it has a weight.
      real: for each completion the masks that specialists found of its twin's objects; None = there are none.

    Returns:
      Rewards of numpy float32[B, G], all finite, and the Outcome of each completion.

    Raises:
      ValueError: groups differ in size, or text_scorers, tokens_bg or blind_bg are missing.
    """
    sizes = sorted({len(group) for group in transcripts})
    if len(sizes) != 1:
        raise ValueError(f"groups must have one size G and there must be at least one; got sizes {sizes}")
    weights = batch_weights(reward.weights, examples)
    truths = [twin_facts.of_example(e, len(canvas.frames)) for e, canvas in zip(examples, canvases)]
    own = _owners(weights, transcripts, examples, truths, canvases)
    masked_b = own.get("mask_iou", np.zeros(len(examples), bool))
    # Texts first: a judge may take long, and where the device is the CPU, programs wait for what it is busy with.
    columns = _text_columns(own, transcripts, examples, reward, text_scorers)
    results = outcomes(transcripts, examples, canvases, segment_fn if masked_b.any() else None, masked_b, real)

    columns |= _picture_columns(own, transcripts, examples, canvases, results, reward.mask_size)
    columns |= _transcript_columns(own, transcripts, examples, canvases, reward, blind_bg)
    for b in np.flatnonzero([canvas.frames != () for canvas in canvases]):
        names = {name for name in OVERLAPS if name in own and own[name][b]}
        video_columns = _video_columns(names, transcripts[b], examples[b], canvases[b], results[b], reward.mask_size)
        for name, score_g in video_columns.items():
            columns[name][b] = score_g
    columns |= _twin_columns(own, transcripts, truths, canvases)
    columns |= _style_columns(own, transcripts, reward, tokens_bg)
    columns = {name: np.where(own[name][:, None], columns[name], 0.0).astype(np.float32) for name in own}
    total_bg = np.zeros((len(examples), sizes[0]), np.float32)
    total_bg = sum((weights[name][:, None] * column for name, column in columns.items()), total_bg)
    return Rewards(columns=columns, total_bg=total_bg, own=own), results


def _transcript_columns(own, transcripts, examples, canvases, reward, blind_bg) -> dict[str, np.ndarray]:
    """float32[B, G] for each of structure, blind, economy and follows that is in `own`."""
    columns = {}
    if "structure" in own:
        columns["structure"] = np.array([[structure(t) for t in group] for group in transcripts], np.float32)
    if "blind" in own:
        if blind_bg is None:
            raise ValueError("the column blind needs blind_bg, the accuracy of answers without the picture, got None")
        columns["blind"] = blind_bg * [[t.sound for t in group] for group in transcripts]
    if "follows" in own:
        columns["follows"] = follows(transcripts, examples, canvases, reward.tolerance)
    if "economy" in own:
        pairs = zip(transcripts, examples)
        columns["economy"] = np.array([[economy(t, e) for t in group] for group, e in pairs], np.float32)
    return columns


def _owners(weights, transcripts, examples, truths, canvases) -> dict[str, np.ndarray]:
    """name -> bool[B]: the queries that have each column: it has a weight, and the data has what it compares with.

    A twin that the policy did not write, because it was given or specialists made it, has no columns of its truth. Only
    a completion with specialists has the column of its request.
    """
    own = {name: weight_b != 0 for name, weight_b in weights.items()}
    asks_b = [any(t.constructor == "specialists" for t in group) for group in transcripts]
    given_b = [
        asks or any(t.twin is not None and "twin" not in t.parts for t in group)
        for asks, group in zip(asks_b, transcripts)
    ]
    known = [
        set() if given else twin_facts.known(d, canvas.frames != ())
        for given, d, canvas in zip(given_b, truths, canvases)
    ]
    for name in twin_truth.COLUMNS:
        if name in own:
            own[name] &= [name in names for names in known]
    if "economy" in own:
        own["economy"] &= asks_b
        if not any(asks_b):
            del own["economy"]
    if "follows" in own:
        own["follows"] &= [bool(e.program) for e in examples]
    if "facts" in own:
        own["facts"] &= [facts.known(e.target.references) for e in examples]
    return own


def _picture_columns(own, transcripts, examples, canvases, results, mask_size) -> dict[str, np.ndarray]:
    """float32[B, G] for each of mask_iou, box_iou and points that is in `own`; for videos only points is set.

    Queries that lack a column may have any number in it.
    """
    picture_b = np.array([not canvas.frames for canvas in canvases])
    pointing_bg = np.array([[t.sound and e.task in POINTING for t in g] for g, e in zip(transcripts, examples)])
    overlaps = {name for name in OVERLAPS if name in own and (own[name] & picture_b).any()}
    masks = boxes = None
    if "mask_iou" in overlaps:
        masks = _mask_arrays(results, examples, mask_size)
    if "box_iou" in overlaps or "points" in own:
        boxes = _box_arrays([[o.boxes for o in group] for group in results], [e.target.boxes for e in examples])
    columns = {name: np.zeros(pointing_bg.shape, np.float32) for name in OVERLAPS if name in own}
    if overlaps:
        answered_bg = pointing_bg & picture_b[:, None]
        columns |= _accuracy(masks, boxes if "box_iou" in overlaps else None, answered_bg)
    if "points" in own:
        columns["points"] = _points(boxes, pointing_bg)
    return {name: np.array(column_bg) for name, column_bg in columns.items()}


def _video_columns(names, group, example, canvas, results, mask_size) -> dict[str, np.ndarray]:
    """float32[G] for each of mask_iou and box_iou that is in `names`, for one query on a video."""
    frames = len(canvas.frames)
    sound_g = np.array([t.sound for t in group])
    columns = {}
    if "mask_iou" in names:
        columns["mask_iou"] = video_overlap.mask_scores([o.masks for o in results], example.target, mask_size, frames)
    if "box_iou" in names:
        truth = video_overlap.truth(example.target, frames)
        iou_g = video_overlap.track_scores([o.tracks for o in results], truth.tracks, truth.labelled)
        columns["box_iou"] = np.where(sound_g, iou_g, 0.0)
    return columns


def _twin_columns(own, transcripts, truths, canvases) -> dict[str, np.ndarray]:
    """float32[B, G] for each column of rewards/twin_truth.py that is in `own`; 0 if the transcript is unsound.

    All pictures are one call; videos are one call each, so that memory holds one group only.
    """
    names = [name for name in twin_truth.COLUMNS if name in own]
    columns = {name: np.zeros((len(transcripts), len(transcripts[0])), np.float32) for name in names}
    rows = [b for b in range(len(transcripts)) if any(own[name][b] for name in names)]
    pictures = [b for b in rows if not canvases[b].frames]
    for batch in ([pictures] if pictures else []) + [[b] for b in rows if canvases[b].frames]:
        frames = max(1, *(video_overlap.next_power(len(canvases[b].frames)) for b in batch))
        vocabulary: dict[str, int] = {}
        twins = [[twin_facts.of_twin(t.twin if t.sound else None, canvases[b]) for t in transcripts[b]] for b in batch]
        twin = twin_facts.pack([d for group in twins for d in group], frames, vocabulary)
        truth = twin_facts.pack([truths[b] for b in batch], frames, vocabulary)
        twin = jax.tree.map(functools.partial(_grouped, groups=len(batch)), twin)
        sound_bg = np.array([[t.sound for t in transcripts[b]] for b in batch])
        scores = _true_twins(twin, truth)
        for name in names:
            columns[name][batch] = np.where(sound_bg, scores[name], 0.0)
    return columns


def _grouped(x, groups):
    """[B*G, ...] as [B, G, ...]."""
    return x.reshape(groups, -1, *x.shape[1:])


def answer_text(transcript: Transcript) -> str | None:
    """The answer in words; None if the transcript is unsound or answers in another form."""
    return transcript.answer.text if transcript.sound and transcript.answer else None


def _text_columns(own, transcripts, examples, reward, text_scorers) -> dict[str, np.ndarray]:
    """float32[B, G] for each column about answers in words that is in `own`."""
    shape = len(transcripts), len(transcripts[0])
    columns = {name: np.zeros(shape, np.float32) for name in ("answer", "facts", *TEXT_COLUMNS) if name in own}
    if "answer" in own:
        rows = np.flatnonzero(own["answer"])
        answers = [[answer_text(t) for t in transcripts[b]] for b in rows]
        targets = [examples[b].target for b in rows]
        columns["answer"][rows] = answer_matching.answer_scores(
            answers, [t.references for t in targets], [t.choices for t in targets], reward.tolerance
        )
    for b in np.flatnonzero(own["facts"]) if "facts" in own else ():
        columns["facts"][b] = [facts.fact_score(answer_text(t), examples[b].target.references) for t in transcripts[b]]
    names = [[name for name in TEXT_COLUMNS if name in own and own[name][b]] for b in range(shape[0])]
    cells = [(b, g) for b, e in enumerate(examples) if names[b] and e.target.references for g in range(shape[1])]
    if not cells:
        return columns
    if text_scorers is None:
        missing = ", ".join(name for name in TEXT_COLUMNS if name in own)
        raise ValueError(f"pass text_scorers: the columns {missing} need them, got None")
    rows = [(examples[b].query, answer_text(transcripts[b][g]), examples[b].target.references) for b, g in cells]
    for (b, g), scores in zip(cells, text_scorers.columns(rows, [names[b] for b, _ in cells])):
        for name, value in scores.items():
            columns[name][b, g] = value
    return columns


def _style_columns(own, transcripts, reward, tokens_bg) -> dict[str, np.ndarray]:
    """float32[B, G] for each of length and repetition that is in `own`; 0 if the transcript is unsound."""
    columns = {}
    if "length" in own:
        if tokens_bg is None:
            raise ValueError("the column length needs tokens_bg, the number of tokens of each completion, got None")
        most, slack = reward.length_most, reward.length_most - reward.length_free
        columns["length"] = np.array(
            [
                [length(int(n), most, slack) if t.sound else 0.0 for t, n in zip(*row)]
                for row in zip(transcripts, tokens_bg)
            ]
        )
    if "repetition" in own:
        columns["repetition"] = np.array(
            [
                [repetition(f"{t.thought} {answer_text(t) or ''}" if t.sound else None) for t in group]
                for group in transcripts
            ]
        )
    return columns


@host_jit
def _true_twins(twin, truth):
    """float32[B, G] of each of twin_truth.COLUMNS, from the Facts of B x G twins and of B annotations."""
    return jax.vmap(jax.vmap(twin_truth.twin_columns, in_axes=(0, None)))(twin, truth)


@host_jit
def _accuracy(masks, boxes, answered_bg):
    """float32[B, G] of mask_iou and box_iou, each where its arrays (`_mask_arrays`, `_box_arrays`) are given.

    Both are 0 where `answered_bg` is False.
    """
    columns = {}
    if masks is not None:
        cells_bgchw, has_mask_bg = masks
        inter_bghw, union_bghw = cells_bgchw[:, :, 0], cells_bgchw[:, :, 1]
        iou_bg = jax.vmap(jax.vmap(mask_iou))(inter_bghw, union_bghw, union_bghw > 0)
        columns["mask_iou"] = jnp.where(answered_bg & has_mask_bg, iou_bg, 0.0)
    if boxes is not None:
        *arrays, share_bg = boxes
        group_iou = jax.vmap(matched_box_iou, in_axes=(0, 0, None, None))
        columns["box_iou"] = jnp.where(answered_bg, share_bg * jax.vmap(group_iou)(*arrays), 0.0)
    return columns


@host_jit
def _points(boxes, pointing_bg):
    """float32[B, G]: the centres of the answer's boxes against the target's boxes, see geometry.matched_points."""
    pred_bgm4, pred_valid_bgm, target_bm4, target_valid_bm, share_bg = boxes
    centre_bgm2 = (pred_bgm4[..., :2] + pred_bgm4[..., 2:]) / 2
    group = jax.vmap(jax.vmap(matched_points, in_axes=(0, 0, None, None)))
    match_bg = group(centre_bgm2, pred_valid_bgm, target_bm4, target_valid_bm)
    return jnp.where(pointing_bg, share_bg * match_bg, 0.0)


def _mask_arrays(results, examples, size):
    """The overlap of answers and targets on a grid of `size` x `size` cells (mask_cells.py).

    An answer's mask of another size than its target is resized to the target's.

    Returns:
      Pixels of intersection and union in each cell int32[B, G, 2, size, size], and whether there is a mask bool[B, G].
    """
    counted = [
        None if e.target.ignore is None else ~resize_mask(e.target.ignore, e.target.mask.shape) for e in examples
    ]
    cells_bgchw = np.stack(
        [
            np.stack([overlap_cells(o.mask, e.target.mask, keep, size) for o in group])
            for group, e, keep in zip(results, examples, counted)
        ]
    )
    return cells_bgchw, np.array([[o.mask is not None for o in group] for group in results])


def _box_arrays(pred, target):
    """The boxes of answers and targets, padded to M boxes each.

    M is a power of two, so that a run compiles few shapes. Where there are more than MAX_BOXES boxes, the largest are
    matched, and the match is multiplied by a share, so that the other boxes count as unmatched.

    Args:
      pred: B lists of G times float[n, 4].
      target: B times float[n, 4].

    Returns:
      Answers float32[B, G, M, 4] and bool[B, G, M], targets float32[B, M, 4] and bool[B, M], and the shares
      float32[B, G].
    """
    most = max([len(x) for group in pred for x in group] + [len(x) for x in target])
    m = min(MAX_BOXES, max(8, 1 << (most - 1).bit_length()))
    share_bg = np.array(
        [[video_overlap.matched_share(len(x), len(t), m) for x in group] for group, t in zip(pred, target)]
    )
    pred = [[_pad(x, m) for x in group] for group in pred]
    target = [_pad(x, m) for x in target]
    pred_bgm4, pred_valid_bgm = (np.array([[p[i] for p in group] for group in pred]) for i in (0, 1))
    target_bm4, target_valid_bm = (np.array([t[i] for t in target]) for i in (0, 1))
    return pred_bgm4, pred_valid_bgm, target_bm4, target_valid_bm, share_bg.astype(np.float32)


def _pad(boxes, m):
    """float32[m, 4] and bool[m], True at boxes, from float[n, 4]; where n > m, the m largest boxes."""
    if len(boxes) > m:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        boxes = boxes[np.argsort(-area, kind="stable")[:m]]
    padded = np.zeros((m, 4), np.float32)
    padded[: len(boxes)] = boxes
    return padded, np.arange(m) < len(boxes)
