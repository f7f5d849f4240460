"""A perceived scene becomes a JSON line that `data.source=jsonl` reads, and a line about where its fields come from.

The query and the target of an example stay as they are; only `objects` are perceived. The line of a picture without a
query has neither query nor target, so that nothing trains on it by mistake.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.data import json_files
from dtr1_jax.data.queries import photos
from dtr1_jax.data.readers.jsonl_fields import append_choices, are_choices
from dtr1_jax.modes import perceived_video_queries
from dtr1_jax.modes.perceive_inputs import Item
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.specialists.sightings import box_iou
from dtr1_jax.twin import masks
from dtr1_jax.types import POINTING, Example, Instance, Video

MATCH = 0.5  # least IoU of a perceived object and one of the target


def lines(item: Item, scene: PerceivedScene, pseudo_queries: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """The JSON lines of an input: one, or one for each pseudo-query.

    A pseudo-query is generated about a picture from what was perceived (data/queries/photos.py), or about a video from
    its tracks (perceived_video_queries.py). It asks only for labels that were found, since a detector that finds no dog
    does not know that there is none.

    Where the detector failed, the lines have no `objects`: an empty list would say that somebody looked and found none.
    Then there is no `oracle.answer` and no pseudo-query either.
    """
    height, width = _size(item.visual)
    base = {**item.fields, "id": item.uid}
    if item.split:
        base["split"] = item.split
    described: dict[str, Any] = {}
    if scene.detected:
        described["objects"] = [_object(one, scene.frames, height, width) for one in scene.instances]
    if scene.detected and scene.relations:
        number = {one.id: i for i, one in enumerate(scene.instances, 1)}
        described["relations"] = [[number[a], words, number[b]] for a, words, b in scene.relations]
    if item.example is not None:
        return [base | _query(item.example, scene, height, width) | described]
    if not pseudo_queries or not scene.detected:
        return [base | described]
    return [
        base | asked | {"id": f"{item.uid}/pseudo/{k}"} | described
        for k, asked in enumerate(_pseudo(item, scene, pseudo_queries, seed))
    ]


def provenance(item: Item, scene: PerceivedScene) -> dict[str, Any]:
    """Where each field of each object comes from, with scores, and what failed. Where the detector did, "detected" is
    false, and the objects are not in the lines.
    """
    of_objects = [{"id": one.id, "label": one.label, **scene.provenance.get(one.id, {})} for one in scene.instances]
    found = {"id": item.uid, "objects": of_objects}
    found |= {"failures": list(scene.failures)} if scene.failures else {}
    return found | ({} if scene.detected else {"detected": False})


def _size(visual: np.ndarray | Video) -> tuple[int, int]:
    return visual.frames.shape[1:3] if isinstance(visual, Video) else visual.shape[:2]


def _object(one: Instance, frames: Sequence[int], height: int, width: int) -> dict[str, Any]:
    label = one.label if json_files.is_name(one.label) else "object"
    found: dict[str, Any] = {"label": label}
    if frames:
        found["track"] = _track(one.boxes, frames, height, width)
        if one.outlined:
            found["rles"] = {str(n): rle(mask) for n, mask in zip(frames, one.masks) if mask.any()}
        if one.velocity is not None:
            found["velocity"] = [round(one.velocity[0] * width, 3), round(one.velocity[1] * height, 3)]
    else:
        found["box"] = _pixels(one.box, height, width)
        if one.outlined and one.mask.any():
            found["rle"] = rle(one.mask)
    if one.depth:
        found["depth"] = one.depth
    return found | ({"attributes": list(one.attributes)} if one.attributes else {})


def _track(boxes: np.ndarray, frames: Sequence[int], height: int, width: int) -> dict[str, list[float] | None]:
    """The box in each frame from the first to the last in which the object is seen."""
    seen = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    return {
        str(frames[t]): _pixels(boxes[t], height, width) if boxes[t][2] > boxes[t][0] else None
        for t in range(seen[0], seen[-1] + 1)
    }


def _pixels(box: Sequence[float], height: int, width: int) -> list[float]:
    return [round(float(value) * side, 3) for value, side in zip(box, (width, height, width, height))]


def rle(mask: np.ndarray) -> dict[str, Any]:
    """The RLE of a mask bool[h, w] that JSON can hold."""
    code = masks.encode(mask)
    return {"size": code["size"], "counts": code["counts"].decode("ascii")}


def _query(example: Example, scene: PerceivedScene, height: int, width: int) -> dict[str, Any]:
    """The query and the target of an example, and what is known of its answer."""
    choices, answers = list(example.target.choices), list(example.target.references)
    listed = are_choices(choices, answers, example.task)  # else they stay in the query, such as two with equal words
    words = example.query.removesuffix(append_choices("", choices)) if listed else ""
    found: dict[str, Any] = {"query": (words or example.query).strip(), "task": example.task}
    found |= {"choices": choices} if listed else {}
    oracle: dict[str, Any] = {}
    if example.task not in POINTING:
        found["answers"] = answers
    else:
        found |= _target(example, height, width)
        answer = _answer(example, scene) if scene.detected else None
        oracle |= {"answer": answer} if answer is not None else {}
        if example.target.ignore is not None and example.target.ignore.any() and example.video is None:
            oracle["ignore"] = rle(example.target.ignore)
    oracle |= {"program": example.program} if example.program else {}
    oracle |= {"category": example.category} if example.category else {}
    oracle |= {"level": example.level} if example.level else {}
    return found | ({"oracle": oracle} if oracle else {})


def _target(example: Example, height: int, width: int) -> dict[str, Any]:
    """The target: boxes for grounding in a picture; else a mask for each object, by frame in a video."""
    if example.video is None and example.task == "grounding":
        return {"boxes": [_pixels(box, height, width) for box in example.target.boxes]}
    objects = _target_masks(example)
    if example.video is None:
        return {"rle": [rle(mask[0]) for mask in objects]}
    labelled = example.target.labelled
    frames = [t for t in range(len(example.video.index)) if labelled is None or labelled[t]]
    numbers = example.video.index.tolist()
    return {"rles": {str(numbers[t]): [rle(m[t]) if m[t].any() else None for m in objects] for t in frames}}


def _target_masks(example: Example) -> list[np.ndarray]:
    """bool[T, h, w] of each object of the target; of all of them together where they are not known one by one."""
    whole = example.target.mask[None] if example.target.masks is None else example.target.masks
    chosen = [one for one in example.scene if one.id in (example.answer_ids or ())]
    objects = [one.mask[None] if one.masks is None else one.masks for one in chosen]
    fits = all(mask.shape == whole.shape for mask in objects)
    if objects and fits and np.array_equal(np.any(objects, axis=0), whole):
        return [mask for mask in objects if mask.any()]
    return [whole] if whole.any() else []


def _answer(example: Example, scene: PerceivedScene) -> list[int] | None:
    """The ids of the perceived objects that are the target's, one for each; None if some object has none."""
    if example.task == "grounding" and example.video is None:
        truth = [np.asarray(box, np.float64) for box in example.target.boxes]
        table = [[box_iou(box, np.asarray(one.box, np.float64)) for one in scene.instances] for box in truth]
    else:
        truth = _target_masks(example)
        found = [one.mask[None] if one.masks is None else one.masks for one in scene.instances]
        table = [[_mask_iou(mask, other) for other in found] for mask in truth]
    if not truth:
        return []
    if len(scene.instances) < len(truth):
        return None
    rows, columns = linear_sum_assignment(-np.array(table))
    if min(table[r][k] for r, k in zip(rows, columns)) < MATCH:
        return None
    return sorted(scene.instances[k].id for k in columns)


def _mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """The IoU of bool[T, h, w] and bool[T, h', w'], over all frames."""
    if len(a) != len(b):
        return 0.0
    if a.shape != b.shape:
        a = np.stack([_scaled(mask, *b.shape[1:]) for mask in a])
    whole = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / whole if whole else 0.0


def _scaled(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask bool[h, w] as bool[height, width], by the nearest pixels."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _pseudo(item: Item, scene: PerceivedScene, count: int, seed: int) -> list[dict[str, Any]]:
    """Queries with targets about the perceived objects of a picture or video; [] if these settle none.

    The masks of a large picture have the size to which it was shrunk, but a target has the picture's own.
    """
    height, width = _size(item.visual)

    def whole(mask: np.ndarray) -> dict[str, Any]:
        return rle(_scaled(mask, height, width))

    if isinstance(item.visual, Video):
        queries = perceived_video_queries.video_queries(item.visual, scene, count, seed, item.uid)
        return [perceived_video_queries.fields(query, scene, whole) for query in queries]
    labels = [one.label for one in scene.instances]
    facts = photos.Facts(scene.instances, frozenset(labels), collections.Counter(labels))
    found: dict[str, dict[str, Any]] = {}
    for k in range(count if labels else 0):
        try:
            query = photos.photo_query(facts, seed=seed, picture=item.uid, k=k)
        except ValueError:  # such as objects of one size and one kind
            continue
        chosen = [one for one in scene.instances if one.id in query.ids]
        oracle = {"answer": list(query.ids), "program": query.program, "category": query.category, "level": query.level}
        oracle = {name: value for name, value in oracle.items() if value or name == "answer"}
        target = [whole(one.mask) for one in chosen]
        found.setdefault(
            query.text, {"query": query.text, "task": "segmentation", "rle": target, "oracle": oracle}
        )  # fmt: skip
    return list(found.values())
