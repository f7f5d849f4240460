"""The outputs of a detector or instance segmenter become detections in the unit frame of the picture."""

from __future__ import annotations

import cv2
import numpy as np

from dtr1_jax.specialists import box_suppression
from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.onnx.spec import Boxes, OnnxSpec

_MOST_BOXES = 200_000

# Where a picture lies in the model's input: left, top, width, height, pixels.
Place = tuple[int, int, int, int]


def detections(
    spec: OnnxSpec, outputs: dict[str, np.ndarray], place: Place, size: tuple[int, int], threshold: float, most: int
) -> Detections:
    """The detections of one picture.

    Args:
      spec: the description.
      outputs: the arrays by the outputs' names.
      place: where the picture lies in the model's input.
      size: height and width of the picture.
      threshold: score that a detection must exceed.
      most: largest number of detections.

    Raises ValueError: an output does not have the shape that the description says.
    """
    box, score, rest = _tables(spec, outputs)
    box = _unit_boxes(spec, box.astype(np.float64), place)
    overlap = spec.boxes.overlap
    rows = np.flatnonzero((score > threshold).any(1))  # suppression compares few boxes with one another
    boxes, scores, columns, order = box_suppression.per_class(box[rows], score[rows], threshold, overlap, most)
    masks = _masks(spec, outputs, box[rows[order]], rows[order], rest, place, size) if spec.kind == "segment" else None
    return Detections(boxes, scores, tuple(spec.classes[c] for c in columns), masks)


def _matrix(outputs: dict[str, np.ndarray], name: str, axes: int) -> np.ndarray:
    """An output with `axes` axes, float32; axes of length 1 in front are left out."""
    value = outputs[name]
    shape = value.shape
    while value.ndim > axes and value.shape[0] == 1:
        value = value[0]
    if value.ndim != axes or value.dtype.kind not in "fiub":
        raise ValueError(
            f"output {name}: expected {axes} axes of numbers (and an axis of 1 in front), got {list(shape)}"
        )
    return value.astype(np.float32)


def _tables(spec: OnnxSpec, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes [n, 4], scores [n, classes] after their rules, other columns [n, k])."""
    b, classes = spec.boxes, len(spec.classes)
    columns = classes + (b.background >= 0)
    rest = None
    if b.predictions:
        table = _matrix(outputs, b.predictions, 2)
        table = table.T if b.transposed else table
        start = 4 + b.objectness
        extra = table.shape[1] - start - columns
        wanted = spec.kind == "segment" and spec.masks.form == "prototypes"
        if extra < 0 or (extra and not wanted):
            raise ValueError(
                f"output {b.predictions}: expected {start + columns} columns (4 of the box, {int(b.objectness)} of the "
                f"objectness, {columns} of the classes), got {table.shape[1]}; is `transposed` right?"
            )
        box, score, rest = table[:, :4], table[:, start : start + columns], table[:, start + columns :]
        score = _activated(b, score)
        if b.objectness:
            gate = table[:, 4:5]
            score = score * (1 / (1 + np.exp(-gate)) if b.activation == "sigmoid" else gate)
    else:
        box = _matrix(outputs, b.boxes, 2)
        score = _scores_by_label(spec, outputs) if b.labels else _activated(b, _matrix(outputs, b.scores, 2))
    if box.shape[1:] != (4,) or score.shape != (len(box), columns):
        raise ValueError(f"expected boxes [n, 4] and scores [n, {columns}], got {list(box.shape)}, {list(score.shape)}")
    if len(box) > _MOST_BOXES:
        raise ValueError(f"expected at most {_MOST_BOXES} boxes, got {len(box)}")
    score = np.nan_to_num(score, nan=0.0, posinf=0.0, neginf=0.0)
    if b.background >= 0:
        score = np.delete(score, b.background, axis=1)
    return box, score, np.zeros((len(box), 0)) if rest is None else rest


def _activated(b: Boxes, score: np.ndarray) -> np.ndarray:
    if b.activation == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(score, -80, 80)))
    if b.activation == "softmax":
        score = np.exp(score - score.max(-1, keepdims=True, initial=-np.inf))
        return score / score.sum(-1, keepdims=True)
    return score


def _scores_by_label(spec: OnnxSpec, outputs: dict[str, np.ndarray]) -> np.ndarray:
    """[n, classes] with the one score of each box in the column of its label; labels that are no class score 0."""
    b = spec.boxes
    score, label = _matrix(outputs, b.scores, 1), _matrix(outputs, b.labels, 1)
    if score.shape != label.shape:
        raise ValueError(f"expected as many scores as labels, got {len(score)} and {len(label)}")
    columns = len(spec.classes) + (b.background >= 0)
    label = np.where(np.isfinite(label), label, -1.0) - b.first_label
    known = (label >= 0) & (label < columns)
    table = np.zeros((len(score), columns), np.float32)
    table[np.flatnonzero(known), label[known].astype(np.int64)] = _activated(b, score[known])
    return table


def _unit_boxes(spec: OnnxSpec, box: np.ndarray, place: Place) -> np.ndarray:
    """float[n, 4], x1,y1,x2,y2 in the unit frame of the picture."""
    form = spec.boxes.format
    if form == "yxyx":
        box = box[:, [1, 0, 3, 2]]
    elif form == "cxcywh":
        box = np.concatenate([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)
    elif form == "xywh":
        box = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1)
    if spec.boxes.unit == "unit":
        box = box * np.tile([spec.input.width, spec.input.height], 2)
    left, top, width, height = place
    return (box - [left, top, left, top]) / [width, height, width, height]


def _masks(
    spec: OnnxSpec,
    outputs: dict[str, np.ndarray],
    boxes: np.ndarray,
    rows: np.ndarray,
    rest: np.ndarray,
    place: Place,
    size: tuple[int, int],
) -> np.ndarray:
    """bool[n, h, w] of the chosen rows."""
    m = spec.masks
    value = _matrix(outputs, m.output, 4 if outputs[m.output].ndim == 4 and outputs[m.output].shape[1] == 1 else 3)
    value = value[:, 0] if value.ndim == 4 else value
    if m.form == "prototypes":
        if rest.shape[1] != len(value):
            raise ValueError(f"output {m.output}: expected {rest.shape[1]} prototypes, got {len(value)}")
        value = np.einsum("nk,khw->nhw", rest[rows], value)
    elif len(value) <= rows.max(initial=-1):
        raise ValueError(f"output {m.output}: expected a mask for each box, got {len(value)}")
    else:
        value = value[rows]
    value = np.nan_to_num(value)
    value = 1 / (1 + np.exp(-np.clip(value, -80, 80))) if m.sigmoid else value
    masks = np.zeros((len(rows), *size), bool)
    for i, (patch, box) in enumerate(zip(value, boxes)):
        x1, y1, x2, y2 = np.clip(np.rint(box * [size[1], size[0], size[1], size[0]]), 0, [size[1], size[0]] * 2).astype(
            int
        )
        if m.form == "box":
            if x2 > x1 and y2 > y1:
                masks[i, y1:y2, x1:x2] = cv2.resize(patch, (int(x2 - x1), int(y2 - y1))) > m.threshold
            continue
        whole = cropped(spec, patch, place, size) > m.threshold
        masks[i, y1:y2, x1:x2] = whole[y1:y2, x1:x2]
    return masks


def cropped(spec: OnnxSpec, value: np.ndarray, place: Place, size: tuple[int, int]) -> np.ndarray:
    """float32[h, w] of the picture, of a map [h', w'] over the model's input, resized bilinearly."""
    left, top, width, height = place
    rows, columns = value.shape[0] / spec.input.height, value.shape[1] / spec.input.width
    y1, x1 = round(top * rows), round(left * columns)
    y2, x2 = max(round((top + height) * rows), y1 + 1), max(round((left + width) * columns), x1 + 1)
    part = np.ascontiguousarray(value[y1:y2, x1:x2], np.float32)
    return cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
