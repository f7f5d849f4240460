"""The description of an ONNX model, specialist.json: which picture the model takes and what its outputs mean.

    {"kind": "detect", "file": "model.onnx",
     "input": {"name": "images", "height": 640, "width": 640, "resize": "letterbox"},
     "boxes": {"predictions": "output0", "transposed": true, "format": "cxcywh", "unit": "pixel"},
     "classes": ["person", "bicycle"]}

All fields are in the dataclasses below. A field with a value in DEFAULTS may be left out.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from dtr1_jax import checked_fields
from dtr1_jax.checked_fields import ConfigError

FILE = "specialist.json"


@dataclasses.dataclass(frozen=True)
class Input:
    """The picture that the model takes: (pixel * scale - mean) / std.

    Attributes:
      name: the input's name in the graph.
      height, width: its size in pixels.
      layout: order of its axes.
      channels: order of its colours.
      scale: factor of the pixels' values 0 to 255; 1 / 255 gives values in [0, 1].
      mean, std: of the scaled values, three numbers each, in the order of `channels`.
      resize: "stretch" to the size; "letterbox" keeps the proportions, with `fill` on both sides; "corner" keeps them
        too, with the picture in the upper left corner.
      filter: Pillow's name of the filter (specialists/pictures.py).
      fill: value of a pixel beside the picture, 0 to 255.
    """

    name: str
    height: int = checked_fields.at_least(1)
    width: int = checked_fields.at_least(1)
    layout: Literal["NCHW", "NHWC"] = dataclasses.field()
    channels: Literal["RGB", "BGR"] = dataclasses.field()
    scale: float = checked_fields.above(0.0, "a number above 0")
    mean: list = dataclasses.field()
    std: list = dataclasses.field()
    resize: Literal["stretch", "letterbox", "corner"] = dataclasses.field()
    filter: Literal["NEAREST", "BILINEAR", "BICUBIC", "BOX", "LANCZOS"] = dataclasses.field()
    fill: int = checked_fields.Bound("0 to 255", lambda value: 0 <= value <= 255).field()


@dataclasses.dataclass(frozen=True)
class Boxes:
    """The outputs of a detector with n boxes and c classes. An axis of length 1 in front is left out.

    Attributes:
      predictions: name of one output [n, columns] with boxes and scores: 4 columns of the box, the objectness if
        `objectness`, a score for each class, and the mask's coefficients if there are prototypes. "" = there is none.
      transposed: the output is [columns, n].
      objectness: a column that multiplies the scores.
      boxes: in place of `predictions`, the name of an output [n, 4];
      scores: of an output [n, c], or [n] with labels;
      labels: and of an output [n].
      format: the four numbers of a box.
      unit: "pixel" of the model's input, or "unit": 0 to 1 over it.
      activation: of the scores.
      background: the column of the scores that is no class; -1 = none.
      first_label: the label of the first class, for models with `labels`.
      threshold: score that a detection must exceed, if `detect` is called without one.
      overlap: largest IoU of two boxes of one class that both stay; 1 = all stay, for models that suppress themselves.
    """

    predictions: str
    transposed: bool
    objectness: bool
    boxes: str
    scores: str
    labels: str
    format: Literal["xyxy", "yxyx", "cxcywh", "xywh"]
    unit: Literal["pixel", "unit"]
    activation: Literal["none", "sigmoid", "softmax"]
    background: int = checked_fields.at_least(-1)
    first_label: int = checked_fields.at_least(0)
    threshold: float = checked_fields.within_one("a number in [0, 1)", closed=False)
    overlap: float = checked_fields.within_one("a number in [0, 1]")


@dataclasses.dataclass(frozen=True)
class MaskOutput:
    """The masks of an instance segmenter.

    Attributes:
      output: name of the output.
      form: "full", [n, h, w] over the model's input; "box", [n, h, w] over each box; "prototypes", [k, h, w] over the
        model's input, to be summed by the last k columns of `predictions`.
      sigmoid: whether the values are logits.
      threshold: value above which a pixel is inside, after the sigmoid.
    """

    output: str
    form: Literal["full", "box", "prototypes"]
    sigmoid: bool
    threshold: float = checked_fields.within_one("a number in [0, 1]")


@dataclasses.dataclass(frozen=True)
class DepthOutput:
    """The depth of each pixel.

    Attributes:
      output: name of the output [h, w]; axes of length 1 are left out.
      meaning: "depth", larger = farther, or "disparity", larger = nearer.
      metres: metres for 1 of the output, where it is a metric depth; 0 = it has no unit.
    """

    output: str
    meaning: Literal["depth", "disparity"]
    metres: float = checked_fields.Bound("0 or more", lambda value: value >= 0).field()


@dataclasses.dataclass(frozen=True)
class OnnxSpec:
    """A description: boxes and classes for "detect" and "segment", masks for "segment", depth for "depth"."""

    kind: Literal["detect", "segment", "depth"]
    file: str
    input: Input
    classes: list
    boxes: Boxes
    masks: MaskOutput
    depth: DepthOutput


DEFAULTS: dict[str, dict[str, Any]] = {
    "input": {
        "layout": "NCHW", "channels": "RGB", "scale": 1 / 255, "mean": [0, 0, 0], "std": [1, 1, 1],
        "resize": "stretch", "filter": "BILINEAR", "fill": 114,
    },
    "boxes": {
        "predictions": "", "transposed": False, "objectness": False, "boxes": "", "scores": "", "labels": "",
        "format": "xyxy", "unit": "pixel", "activation": "none", "background": -1, "first_label": 0, "threshold": 0.25,
        "overlap": 0.5,
    },
    "masks": {"form": "full", "sigmoid": True, "threshold": 0.5},
    "depth": {"metres": 0.0},
}  # fmt: skip
_GROUPS = {"detect": ("boxes", "classes"), "segment": ("boxes", "classes", "masks"), "depth": ("depth",)}
_EMPTY = {
    "boxes": {"predictions": "-"}, "masks": {"output": ""}, "depth": {"output": "", "meaning": "depth"}, "classes": [],
}  # fmt: skip


def read(file: Path) -> OnnxSpec:
    """Reads a specialist.json. Raises ConfigError, which names the file and each field that is wrong."""
    try:
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON: {error}") from None
    return from_dict(value, str(file))


def from_dict(value: Any, where: str) -> OnnxSpec:
    """The description in a dict; `where` names it in messages. Raises ConfigError with all faults."""
    if not isinstance(value, dict) or value.get("kind") not in _GROUPS:
        kind = value.get("kind") if isinstance(value, dict) else value
        raise ConfigError(f"{where}: kind: expected one of {', '.join(_GROUPS)}, got {kind!r}")
    used = _GROUPS[value["kind"]]
    faults = [f"{where}: {n}: a model of kind {value['kind']} has none" for n in _EMPTY if n in value and n not in used]
    value = {n: {} for n in _EMPTY if n in DEFAULTS} | value | {n: v for n, v in _EMPTY.items() if n not in used}
    value = {n: DEFAULTS[n] | v if n in DEFAULTS and isinstance(v, dict) else v for n, v in value.items()}
    spec = checked_fields.build(OnnxSpec, value, where, faults)
    if not faults:
        faults = list(checked_fields.faults_of_bounds(spec, where)) + _faults(spec, where)
    if faults:
        raise ConfigError("\n".join(faults))
    return spec


def _faults(spec: OnnxSpec, where: str) -> list[str]:
    """Rules about several fields."""
    faults = []
    for name, values in (("mean", spec.input.mean), ("std", spec.input.std)):
        numbers = len(values) == 3 and all(type(v) in (int, float) and abs(v) < float("inf") for v in values)
        if not numbers or (name == "std" and not all(v > 0 for v in values)):
            faults.append(f"{where}.input.{name}: expected 3 numbers{' above 0' * (name == 'std')}, got {values}")
    if Path(spec.file).name != spec.file or not spec.file.endswith(".onnx"):
        faults.append(f"{where}.file: expected the name of a .onnx file in the same folder, got {spec.file!r}")
    if spec.kind == "depth":
        return faults
    if not spec.classes or not all(isinstance(c, str) and c for c in spec.classes):
        faults.append(f"{where}.classes: expected a list of names, one for each class, got {spec.classes!r}")
    boxes = spec.boxes
    if bool(boxes.predictions) == bool(boxes.boxes and boxes.scores) or (boxes.predictions and boxes.boxes):
        faults.append(f"{where}.boxes: expected an output `predictions`, or outputs `boxes` and `scores`")
    if boxes.predictions and (boxes.labels or boxes.scores):
        faults.append(f"{where}.boxes: `scores` and `labels` are columns of `predictions`; leave them out")
    if boxes.background >= len(spec.classes) + 1:
        faults.append(f"{where}.boxes.background: expected at most {len(spec.classes)}, got {boxes.background}")
    if spec.kind == "segment" and spec.masks.form == "prototypes" and not boxes.predictions:
        faults.append(f"{where}.masks.form: prototypes need an output `boxes.predictions` with the coefficients")
    return faults


def minimal(file: str, inputs: list, outputs: list) -> str:
    """A description to start from, as JSON text: a depth model with the graph's own names and size."""
    name, shape = (inputs[0][0], inputs[0][1]) if inputs else ("INPUT", [])
    shape = shape if len(shape) == 4 else [None] * 4
    last = shape[1] != 3 and shape[3] == 3
    height, width = (224 if side is None else side for side in (shape[1:3] if last else shape[2:4]))
    picture = {"name": name, "height": height, "width": width} | ({"layout": "NHWC"} if last else {})
    depth = {"output": outputs[0][0] if outputs else "OUTPUT", "meaning": "depth"}
    description = {"kind": "depth", "file": file, "input": picture, "depth": depth}
    return json.dumps(description, indent=2)
