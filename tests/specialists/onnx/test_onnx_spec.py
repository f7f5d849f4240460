"""Descriptions: defaults, and a message for each fault."""

import json

import pytest

from dtr1_jax.checked_fields import ConfigError
from dtr1_jax.specialists.onnx import spec

DEPTH = {"kind": "depth", "file": "m.onnx", "input": {"name": "x", "height": 4, "width": 6},
         "depth": {"output": "depth", "meaning": "disparity"}}  # fmt: skip
DETECT = {"kind": "detect", "file": "m.onnx", "input": {"name": "x", "height": 8, "width": 8}, "classes": ["a", "b"],
          "boxes": {"boxes": "b", "scores": "s"}}  # fmt: skip
SEGMENT = DETECT | {"kind": "segment", "masks": {"output": "m"}}


def test_what_is_left_out_has_a_default(tmp_path):
    file = tmp_path / "specialist.json"
    file.write_text(json.dumps(DEPTH))
    found = spec.read(file)
    assert found.input == spec.Input(
        "x", 4, 6, "NCHW", "RGB", 1 / 255, [0, 0, 0], [1, 1, 1], "stretch", "BILINEAR", 114
    )
    assert found.depth == spec.DepthOutput("depth", "disparity", 0.0)
    assert spec.from_dict(SEGMENT, "d").masks == spec.MaskOutput("m", "full", True, 0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "kind: expected one of detect, segment, depth, got "),
        (DEPTH | {"kind": "deep"}, "kind: expected one of detect, segment, depth, got 'deep'"),
        (DEPTH | {"boxes": {}}, "d: boxes: a model of kind depth has none"),
        (DEPTH | {"colour": 1}, "d.colour: unknown setting"),
        (DEPTH | {"input": {"name": "x", "height": 4}}, "d.input.width: missing"),
        (DEPTH | {"input": DEPTH["input"] | {"layuot": "NCHW"}}, 'layuot: unknown setting .did you mean "layout"'),
        (DEPTH | {"input": DEPTH["input"] | {"height": 0}}, "d.input.height: expected at least 1, got 0"),
        (DEPTH | {"input": DEPTH["input"] | {"mean": [1, 2]}}, "d.input.mean: expected 3 numbers, got"),
        (DEPTH | {"input": DEPTH["input"] | {"std": [1, 0, 2]}}, "d.input.std: expected 3 numbers above 0"),
        (DEPTH | {"input": DEPTH["input"] | {"mean": [1, "2", float("nan")]}}, "d.input.mean: expected 3 numbers"),
        (DEPTH | {"input": "x"}, "d.input: expected a group of settings"),
        (DEPTH | {"file": "../m.onnx"}, "d.file: expected the name of a .onnx file in the same folder"),
        (DEPTH | {"depth": {"output": "x", "meaning": "far"}}, "d.depth.meaning: expected one of depth, disparity"),
        (DETECT | {"classes": []}, "d.classes: expected a list of names"),
        (DETECT | {"boxes": {"boxes": "b"}}, "d.boxes: expected an output `predictions`, or outputs"),
        (DETECT | {"boxes": {"predictions": "p", "labels": "l"}}, "columns of `predictions`"),
        (DETECT | {"boxes": DETECT["boxes"] | {"background": 3}}, "d.boxes.background: expected at most 2"),
        (DETECT | {"boxes": DETECT["boxes"] | {"threshold": 1.0}}, "d.boxes.threshold: expected a number in"),
        (SEGMENT | {"masks": {"output": "m", "form": "prototypes"}}, "d.masks.form: prototypes need"),
        (SEGMENT | {"masks": {}}, "d.masks.output: missing"),
    ],
)  # fmt: skip
def test_faults_are_named(value, message):
    with pytest.raises(ConfigError, match=message):
        spec.from_dict(value, "d")


def test_files_that_are_no_json(tmp_path):
    (tmp_path / "specialist.json").write_text("{" * 10)
    with pytest.raises(ConfigError, match=r"specialist\.json: cannot be read as JSON"):
        spec.read(tmp_path / "specialist.json")


def test_the_minimal_description_is_a_description():
    text = spec.minimal("m.onnx", [["x", [1, 3, 32, 48], "tensor(float)"]], [["y", [], ""]])
    found = spec.from_dict(json.loads(text), "d")
    assert (found.input.name, found.input.height, found.input.width, found.depth.output) == ("x", 32, 48, "y")
    assert spec.from_dict(json.loads(spec.minimal("m.onnx", [["x", [None] * 4, ""]], [])), "d").input.width == 224
    last = spec.from_dict(json.loads(spec.minimal("m.onnx", [["x", [1, 4, 6, 3], ""]], [])), "d").input
    assert (last.layout, last.height, last.width) == ("NHWC", 4, 6)
