"""The sizes of an SSDLite-MobileNetV2 graph, and the check that its nodes are the network that model.py computes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.models.weights.native import WeightsError, shortened

BODY, HEAD = "FeatureExtractor/MobilenetV2", "BoxPredictor_"
# Strides of the 17 blocks (table 2 of Sandler et al. 2018, arXiv 1801.04381). Block 13 gives its expanded features,
# before its stride, to the first predictor.
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
FIRST_MAP = 13
EXTRAS = 4  # feature maps after the last layer of MobileNetV2, each of half the size
_RESIZE, _FIRST_CLASS = "Preprocessor/map/while/ResizeImage/stack", "Postprocessor/Slice/begin"
ANCHORS = "Postprocessor/ExpandDims"


@dataclasses.dataclass(frozen=True)
class SsdSpec:
    """Sizes of the network.

    Attributes:
      side: height and width to which pictures are resized, pixels.
      classes: number of classes, without the background.
      stem: channels of the first layer.
      blocks: (expanded channels, output channels) of the 17 blocks.
      last: channels of the last layer of MobileNetV2.
      extras: (inner channels, output channels) of the feature maps after it.
      boxes: boxes in each cell of the 6 feature maps.
    """

    side: int
    classes: int
    stem: int
    blocks: tuple[tuple[int, int], ...]
    last: int
    extras: tuple[tuple[int, int], ...]
    boxes: tuple[int, ...]

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the 6 feature maps that boxes are predicted from."""
        return (self.blocks[FIRST_MAP][0], self.last, *(out for _, out in self.extras))

    @property
    def map_sides(self) -> tuple[int, ...]:
        """Cells along a side of each feature map: 19, 10, 5, 3, 2, 1 for pictures of 300 pixels."""
        sides = [-(-self.side // 16)]
        while len(sides) < len(self.map_channels):
            sides.append(-(-sides[-1] // 2))
        return tuple(sides)

    @property
    def anchors(self) -> int:
        """The number of boxes that are predicted for a picture."""
        return sum(side * side * count for side, count in zip(self.map_sides, self.boxes))


def block_name(i: int) -> str:
    """The name of block i in the graph."""
    return f"{BODY}/expanded_conv" + (f"_{i}" if i else "")


def extra_names(i: int, spec: SsdSpec) -> tuple[str, str]:
    """The names of the two layers of extra feature map i."""
    inner, out = spec.extras[i]
    return f"{BODY}/layer_19_1_Conv2d_{i + 2}_1x1_{inner}", f"{BODY}/layer_19_2_Conv2d_{i + 2}_3x3_s2_{out}"


def from_graph(checkpoint: HfCheckpoint, constants: dict[str, np.ndarray]) -> SsdSpec:
    """The sizes of an opened graph (tfjs_graph.open_graph). Raises WeightsError for a graph of another network."""

    def channels(name: str, axis: int = -1) -> int:
        tensor = checkpoint.tensors.get(name)
        if tensor is None or len(tensor.shape) != 4:
            raise WeightsError(
                f"{checkpoint.where}: expected SSDLite-MobileNetV2, but the graph has no convolution {name}"
            )
        return tensor.shape[axis]

    def constant(name: str, shape: tuple[int, ...]) -> np.ndarray:
        value = constants.get(name)
        if value is None or value.shape != shape:
            got = "none" if value is None else f"shape {list(value.shape)}"
            raise WeightsError(f"{checkpoint.where}: expected the constant {name} {list(shape)}, got {got}")
        return value

    outs = [channels(f"{block_name(i)}/project/Conv2D/merged_input") for i in range(len(STRIDES))]
    expanded = [channels(f"{block_name(i)}/depthwise/depthwise_weights", 2) for i in range(len(STRIDES))]
    boxes = [channels(f"{HEAD}{i}/BoxEncodingPredictor/weights") // 4 for i in range(EXTRAS + 2)]
    side, width = (int(n) for n in constant(_RESIZE, (2,)))
    if side != width or not 16 <= side <= 4096:
        raise WeightsError(f"{checkpoint.where}: {_RESIZE}: expected a square of 16 to 4096 pixels, got {side, width}")
    if constant(_FIRST_CLASS, (3,)).tolist() != [0, 0, 1]:
        raise WeightsError(f"{checkpoint.where}: {_FIRST_CLASS}: expected [0, 0, 1], so that class 0 is the background")
    spec = SsdSpec(
        side=side,
        classes=channels(f"{HEAD}0/ClassPredictor/weights") // max(boxes[0], 1) - 1,
        stem=channels(f"{BODY}/Conv/Conv2D/merged_input"),
        blocks=tuple(zip(expanded, outs)),
        last=channels(f"{BODY}/Conv_1/Conv2D/merged_input"),
        extras=tuple(_extra(checkpoint, i) for i in range(EXTRAS)),
        boxes=tuple(boxes),
    )
    faults = node_faults(checkpoint.config["node"], spec)
    if faults:
        raise WeightsError(f"{checkpoint.where}: the graph is not SSDLite-MobileNetV2:\n  " + shortened(faults))
    return spec


def node_faults(nodes: list[dict[str, Any]], spec: SsdSpec) -> list[str]:
    """What differs between the graph's convolutions and resizing and those of model.py."""
    expected = strides(spec)
    faults = []
    for node in nodes:
        name, kind, inputs = node.get("name"), node.get("op"), node.get("input", [])
        attributes = node.get("attr", {})
        try:
            if kind in ("Conv2D", "DepthwiseConv2dNative"):
                weight = inputs[1]
                steps = [int(n) for n in attributes["strides"]["list"]["i"]]
                dilations = [int(n) for n in attributes["dilations"]["list"]["i"]]
                found = steps, dilations, _text(attributes["padding"]), _text(attributes["data_format"])
                step = expected.pop(weight, None)
                if found != ([1, step, step, 1], [1, 1, 1, 1], "SAME", "NHWC"):
                    faults.append(f"{name}: expected stride {step} with SAME padding and NHWC, got {found}")
            elif kind == "ResizeBilinear":
                flags = [a for a in ("align_corners", "half_pixel_centers") if attributes.get(a, {}).get("b")]
                faults += [f"{name}: {flag} is not supported" for flag in flags]
            elif kind == "FusedBatchNorm" and abs(attributes["epsilon"]["f"] - 1e-3) > 1e-9:
                faults.append(f"{name}: expected epsilon 0.001, got {attributes['epsilon']['f']}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            faults.append(f"{name}: cannot be read: {error!r}")
    return faults + [f"no node convolves by {name}" for name in expected]


def strides(spec: SsdSpec) -> dict[str, int]:
    """The stride of each convolution, by the name of its weight."""
    steps = {f"{BODY}/Conv/Conv2D/merged_input": 2, f"{BODY}/Conv_1/Conv2D/merged_input": 1}
    for i, step in enumerate(STRIDES):
        name = block_name(i)
        steps |= {f"{name}/expand/Conv2D/merged_input": 1} if i else {}
        steps |= {f"{name}/depthwise/depthwise_weights": step, f"{name}/project/Conv2D/merged_input": 1}
    for i in range(len(spec.extras)):
        inner, outer = extra_names(i, spec)
        steps |= {f"{inner}/Conv2D/merged_input": 1, f"{outer}_depthwise/depthwise_weights": 2}
        steps |= {f"{outer}/Conv2D/merged_input": 1}
    for i in range(len(spec.boxes)):
        for kind in ("BoxEncoding", "Class"):
            steps |= {f"{HEAD}{i}/{kind}Predictor_depthwise/depthwise_weights": 1}
            steps |= {f"{HEAD}{i}/{kind}Predictor/weights": 1}
    return steps


def _extra(checkpoint: HfCheckpoint, i: int) -> tuple[int, int]:
    """(inner, output) channels of extra feature map i, which are in the names of its layers."""
    found = {}
    for part, rest in (("1", "_1x1_"), ("2", "_3x3_s2_")):
        start, end = f"{BODY}/layer_19_{part}_Conv2d_{i + 2}{rest}", "/Conv2D/merged_input"
        names = [n for n in checkpoint.tensors if n.startswith(start) and n.endswith(end)]
        digits = names[0][len(start) : -len(end)] if len(names) == 1 else ""
        if not digits.isdecimal():
            raise WeightsError(f"{checkpoint.where}: expected one layer {start}CHANNELS{end}, got {names}")
        found[part] = int(digits)
    return found["1"], found["2"]


def _text(attribute: dict[str, Any]) -> str:
    """A string of the graph, which is stored as a list of bytes or as base64."""
    value = attribute["s"]
    if isinstance(value, list):
        return bytes(value).decode()
    import base64

    return base64.b64decode(value).decode()
