"""Figures as the evaluation code of other projects computes them, beside the benchmark's own, for comparisons.

The field "peers" of a row's "benchmark" holds what each peer needs of a query, and the figures have the peer's name:

    visionreasoner  segmentation: gIoU and cIoU, ignored pixels are targets, IoU is 0 if both masks are empty
                    grounding: a query counts if some box of the answer has IoU > 0.5
                    (dvlab-research/VisionReasoner@a455092, evaluation/evaluation_segmentation.py, calculate_iou.py)
    onethinker      videos: frames without a target are left out; F by boundary_f; J is 0 if both masks are empty
                    pictures: gIoU and cIoU, IoU is 0 if both masks are empty
                    (tulerfeng/OneThinker@768b20f, Evaluation/Eval/seg_post_sam2.py)
    lmms_eval       grounding: the first box of the answer alone; IoU >= X counts; whether its centre is in the target
                    (EvolvingLMMs-Lab/lmms-eval@75571cf, lmms_eval/tasks/refcoco/utils_rec.py)

A failed answer counts as wrong in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import cv2
import numpy as np

from dtr1_jax.evaluation.benchmarks import boxes, segmentation
from dtr1_jax.rewards import video_overlap
from dtr1_jax.rewards.answer_regions import Outcome
from dtr1_jax.types import Example

PEERS = ("visionreasoner", "onethinker", "lmms_eval")
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of lmms_eval
TOLERANCE = 0.0075  # of onethinker's boundaries, as a share of the frame's diagonal
_REFERRING = ("refcoco", "refcoco+", "refcocog")
_RULES: dict[str, dict[str, tuple[str, ...]]] = {  # peer -> task -> the benchmarks that its code evaluates so
    "visionreasoner": {"segmentation": ("reasonseg", *_REFERRING), "grounding": _REFERRING},
    "onethinker": {"segmentation": (*_REFERRING, "mevis", "revos", "ref_davis17", "ref_ytvos", "reasonvos")},
    "lmms_eval": {"grounding": _REFERRING},
}


def has_rule(peer: str, benchmark: str, task: str) -> bool:
    """Whether a peer of PEERS has a rule for the queries of a benchmark and task."""
    return benchmark in _RULES[peer].get(task, ())


def measure(names: Collection[str], example: Example, outcome: Outcome, sound: bool) -> dict[str, dict[str, float]]:
    """What the named peers need of an answer about a picture; {} where none has a rule for its task.

    segmentation: intersection and union, in pixels. grounding: iou of the best box for visionreasoner; iou of the first
    box and centre, 0 or 1, for lmms_eval.
    """
    found: dict[str, dict[str, float]] = {}
    for name in names:
        if outcome.tracks is not None or not has_rule(name, example.benchmark, example.task):
            continue
        if example.task == "segmentation":
            found[name] = _overlap(example, outcome, ignored=name == "visionreasoner")
        else:
            found[name] = _boxes(example, outcome, sound, first=name == "lmms_eval")
    return found


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """PEER_FIGURE -> its value, for the peers that all rows have in the field "peers" of "benchmark"."""
    fields = [row["benchmark"].get("peers", {}) for row in rows]
    found: dict[str, float] = {}
    for name in PEERS:
        if not all(name in field for field in fields):
            continue
        values = [field[name] for field in fields]
        found |= {f"{name}_{key}": value for key, value in _figures(name, values).items()}
    return found


def fault(field: dict[str, Any]) -> str | None:
    """The first fault of the field "peers" of a row's "benchmark", or None."""
    value = field.get("peers", {})
    names = isinstance(value, dict) and all(name in PEERS and isinstance(part, dict) for name, part in value.items())
    if not names:
        return f"benchmark.peers: expected an object of {', '.join(PEERS)}"
    for name, part in value.items():
        numbers = all(type(v) in (int, float) and 0 <= v <= 1 << 53 for v in part.values())
        known = any(set(part) == set(keys) for keys in _KEYS[name])
        if not numbers or not known or part.get("intersection", 0) > part.get("union", 0):
            return f"benchmark.peers.{name}: expected {' or '.join(map(str, _KEYS[name]))}, numbers of at least 0"
    return None


_KEYS = {
    "visionreasoner": (("intersection", "union"), ("iou",)),
    "onethinker": (("intersection", "union"), ("j", "f")),
    "lmms_eval": (("iou", "centre"),),
}


def frame_scores(mask: np.ndarray | None, target: np.ndarray) -> tuple[float, float] | None:
    """(J, F) of onethinker for a frame of masks bool[h, w]; None for a frame without a target, which it leaves out."""
    if not target.any():
        return None
    if mask is None:
        return 0.0, 0.0
    return np.count_nonzero(mask & target) / np.count_nonzero(mask | target), boundary_f(mask, target)


def boundary_f(mask: np.ndarray, target: np.ndarray) -> float:
    """F of onethinker: the boundary of a mask bool[h, w] is its pixels with a neighbour of 8 outside it or the frame.

    A boundary pixel is right if the other mask has one within a square of max(1, round(TOLERANCE * diagonal)) pixels.
    """
    if not mask.any() or not target.any():
        return float(not mask.any() and not target.any())
    side = 2 * max(1, round(TOLERANCE * math.hypot(*mask.shape))) + 1
    edges = [_edge(x) for x in (mask, target)]
    near = [cv2.dilate(edge.astype(np.uint8), np.ones((side, side), np.uint8)) > 0 for edge in edges]
    precision = np.count_nonzero(edges[0] & near[1]) / np.count_nonzero(edges[0])
    recall = np.count_nonzero(edges[1] & near[0]) / np.count_nonzero(edges[1])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edge(mask: np.ndarray) -> np.ndarray:
    inner = cv2.erode(
        mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )  # fmt: skip
    return mask & (inner == 0)


def _overlap(example: Example, outcome: Outcome, ignored: bool) -> dict[str, float]:
    target = example.target.mask
    if ignored and example.target.ignore is not None:
        target = target | example.target.ignore
    pred = None if outcome.mask is None else video_overlap.resize_mask(outcome.mask, target.shape)
    both = segmentation.overlap(pred, target)
    return {"intersection": both.intersection, "union": both.union}


def _boxes(example: Example, outcome: Outcome, sound: bool, first: bool) -> dict[str, float]:
    h, w = example.image.shape[:2]
    answer, target = (np.asarray(x, np.float64) * [w, h, w, h] for x in (outcome.boxes, example.target.boxes))
    nothing = {"iou": 0.0, "centre": 0.0} if first else {"iou": 0.0}
    if not sound or not len(answer) or not len(target):
        return nothing
    ious = boxes.iou_matrix(answer, target[:1])[:, 0]
    if not first:
        return {"iou": float(ious.max())}
    x, y = (answer[0, :2] + answer[0, 2:]) / 2
    x1, y1, x2, y2 = target[0]
    return {"iou": float(ious[0]), "centre": float(x1 <= x <= x2 and y1 <= y <= y2)}


def _figures(name: str, values: Sequence[dict[str, float]]) -> dict[str, float]:
    if all("union" in value for value in values):
        pairs = [(value["intersection"], value["union"]) for value in values]
        union = sum(u for _, u in pairs)
        return {
            "giou": float(np.mean([i / u if u else 0.0 for i, u in pairs])),
            "ciou": sum(i for i, _ in pairs) / union if union else 0.0,
        }
    means = {key: float(np.mean([value[key] for value in values])) for key in values[0]}
    if name == "onethinker":
        return {"jf": (means["j"] + means["f"]) / 2, "j": means["j"], "f": means["f"]}
    ious = np.array([value["iou"] for value in values])
    if name == "visionreasoner":
        return {"box_acc": float(np.mean(ious > 0.5))}
    return {f"acc@{x}": float(np.mean(ious >= x)) for x in THRESHOLDS} | {
        "iou": means["iou"], "center_acc": means["centre"],
    }  # fmt: skip
