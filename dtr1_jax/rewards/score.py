"""The reward: named columns, each in [0, 1], and their weighted sum.

    structure  is the transcript sound (rewards/structure.py)
    mask_iou   IoU of the answer's masks with the target
    box_iou    IoU of the answer's boxes with the target's, best one-to-one matching (geometry.matched_box_iou)
    twin_iou   the same for all boxes of the twin and all objects that the data set annotates

No credit for accuracy that stands on an unsound transcript: there the last three are 0. The masks and boxes of the
answer are worth 0 too for queries that are answered in words, which have nothing to overlap, and the twin where the
data set does not say what is in the picture. `twin_iou` is ours, not the paper's: an answer alone does not need the
objects that it does not name, and a policy that is paid for answers alone learns to leave them out.

Text is read on the host; overlaps are computed on the device, in one call for all B x G completions and on fixed
shapes, so that a run compiles it once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import config
from dtr1_jax.rewards.geometry import mask_iou, matched_box_iou
from dtr1_jax.rewards.resolve import Outcome, SegmentFn, outcomes, twin_boxes
from dtr1_jax.rewards.structure import structure
from dtr1_jax.twin.text import Canvas
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example, Rewards

COLUMNS = ("structure", "mask_iou", "box_iou", "twin_iou")
POINTING_TASKS = ("segmentation", "grounding")
# Matching is cubic in the number of boxes, which an answer may have hundreds of: 64 completions with 64 boxes each take
# 0.06 s on a CPU, with 128 boxes 0.4 s.
MAX_BOXES = 64


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuses weights that can not make a reward; call it at start-up. Raises ConfigError, which names every fault."""
    faults = [
        f"config.reward.weights.{name}: unknown column{config.nearest(name, COLUMNS)}"
        for name in weights
        if name not in COLUMNS
    ]
    faults += [
        f"config.reward.weights.{name}: expected a finite number, got {weight!r}"
        for name, weight in weights.items()
        if not math.isfinite(weight)
    ]
    if not any(weights.values()):
        faults.append("config.reward.weights: expected a weight other than 0, got none: every reward would be 0")
    if faults:
        raise config.ConfigError("bad reward:\n  " + "\n  ".join(faults))


def score(
    transcripts: Sequence[Sequence[Transcript]],
    examples: Sequence[Example],
    canvases: Sequence[Canvas],
    segment_fn: SegmentFn,
    reward: config.Reward,
) -> tuple[Rewards, list[list[Outcome]]]:
    """Scores B groups of G completions.

    Args:
      transcripts: B groups of G parsed completions.
      examples: B queries with their targets.
      canvases: B canvases: the frame in which each query's completions give coordinates.
      segment_fn: boxes -> mask, see resolve.SegmentFn; called at most once, and not at all where mask_iou weighs 0.
        A sample for which it gives no mask has mask_iou 0 and `Outcome.failed`.
      reward: weights (checked by `check_weights`; a column of weight 0 is left out) and mask_size.

    Returns Rewards of numpy float32[B, G], all finite, and the Outcome of each completion. Raises ValueError where the
    groups differ in size.
    """
    sizes = sorted({len(group) for group in transcripts})
    if len(sizes) != 1:
        raise ValueError(f"groups must have one size G and there must be at least one; got sizes {sizes}")
    weights = {name: weight for name, weight in reward.weights.items() if weight}
    results = outcomes(transcripts, examples, canvases, segment_fn if "mask_iou" in weights else None)
    points_bg = np.array([[t.sound and e.task in POINTING_TASKS for t in g] for g, e in zip(transcripts, examples)])

    columns = {}
    if "structure" in weights:
        columns["structure"] = np.array([[structure(t) for t in group] for group in transcripts], np.float32)
    masks = _mask_arrays(results, examples, reward.mask_size) if "mask_iou" in weights else None
    boxes = twins = known_bg = None
    if "box_iou" in weights:
        boxes = _box_arrays([[o.boxes for o in group] for group in results], [e.target.boxes for e in examples])
    if "twin_iou" in weights:
        described = [[twin_boxes(t, canvas) for t in group] for group, canvas in zip(transcripts, canvases)]
        annotated = [_seen([thing.box for thing in e.scene]) for e in examples]
        twins = _box_arrays(described, annotated)
        known_bg = np.array([[t.sound and len(things) > 0 for t in g] for g, things in zip(transcripts, annotated)])
    columns |= jax.device_get(_accuracy(masks, boxes, twins, points_bg, known_bg))
    columns = {name: columns[name] for name in COLUMNS if name in columns}
    total_bg = sum(np.float32(weights[name]) * column for name, column in columns.items())
    return Rewards(columns=columns, total_bg=total_bg), results


@jax.jit
def _accuracy(masks, boxes, twins, points_bg, known_bg):
    """The device part: columns float32[B, G] of those of `masks`, `boxes`, `twins` (see the makers below) there are."""
    columns = {}
    if masks is not None:
        pred_bghw, made_bg, target_bhw, valid_bhw = masks
        group_iou = jax.vmap(mask_iou, in_axes=(0, None, None))
        columns["mask_iou"] = jnp.where(points_bg & made_bg, jax.vmap(group_iou)(pred_bghw, target_bhw, valid_bhw), 0.0)
    group_iou = jax.vmap(matched_box_iou, in_axes=(0, 0, None, None))
    if boxes is not None:
        columns["box_iou"] = jnp.where(points_bg, jax.vmap(group_iou)(*boxes), 0.0)
    if twins is not None:
        columns["twin_iou"] = jnp.where(known_bg, jax.vmap(group_iou)(*twins), 0.0)
    return columns


def coverage(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool[h, w] on a fixed grid: float32[size, size], the share of each cell that it covers.

    A side longer than `size` is shrunk to it, each side by itself (IoU does not mind an unequal stretch); a shorter one
    keeps its pixels and is padded at right or below, so that small pictures are compared exactly. Shares rather than
    nearest pixels, so that a thin or tiny object never vanishes: a target that became empty would reward empty answers.
    """
    h, w = mask.shape
    cells = cv2.resize(mask.astype(np.float32), (min(w, size), min(h, size)), interpolation=cv2.INTER_AREA)
    return np.pad(cells, [(0, size - n) for n in cells.shape])


def _mask_arrays(results, examples, size):
    """Answers float32[B, G, size, size], which there are bool[B, G], targets float32[B, size, size], cells that count.

    Ignored pixels are taken out before the masks shrink: afterwards a cell may be ignored in part.
    """
    counted = [np.ones_like(e.target.mask) if e.target.ignore is None else ~e.target.ignore for e in examples]
    nothing = np.zeros((size, size), np.float32)
    pred_bghw = np.stack(
        [
            np.stack([nothing if o.mask is None else coverage(o.mask & keep, size) for o in group])
            for group, keep in zip(results, counted)
        ]
    )
    made_bg = np.array([[o.mask is not None for o in group] for group in results])
    target_bhw = np.stack([coverage(e.target.mask & keep, size) for e, keep in zip(examples, counted)])
    valid_bhw = np.stack([coverage(keep, size) > 0 for keep in counted])
    return pred_bghw, made_bg, target_bhw, valid_bhw


def _box_arrays(pred, target):
    """Boxes of B x G completions float32[B, G, M, 4] with bool[B, G, M], of targets float32[B, M, 4] with bool[B, M].

    M is a power of two, so that a run meets few shapes. Of more than MAX_BOXES boxes the largest are kept.

    Args:
      pred: B lists of G times float[n, 4].
      target: B times float[n, 4].
    """
    most = max([len(x) for group in pred for x in group] + [len(x) for x in target])
    m = min(MAX_BOXES, max(8, 1 << (most - 1).bit_length()))
    pred = [[_pad(x, m) for x in group] for group in pred]
    target = [_pad(x, m) for x in target]
    pred_bgm4, pred_valid_bgm = (np.array([[p[i] for p in group] for group in pred]) for i in (0, 1))
    target_bm4, target_valid_bm = (np.array([t[i] for t in target]) for i in (0, 1))
    return pred_bgm4, pred_valid_bgm, target_bm4, target_valid_bm


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
