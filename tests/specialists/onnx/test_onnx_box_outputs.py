"""Outputs of detectors of the common kinds become the same detections."""

import numpy as np
import pytest

from dtr1_jax.specialists.onnx import box_outputs, spec

# Two objects in a picture of 20 x 10 pixels that fills the upper half of a model's input of 40 x 40.
PLACE, SIZE = (0, 0, 40, 20), (10, 20)
CORNERS = np.array([[4, 4, 12, 12], [20, 0, 40, 20], [4.5, 4, 12, 12]], np.float32)  # the third one is the first again
SCORES = np.array([[0.9, 0.1], [0.1, 0.8], [0.7, 0.1]], np.float32)
EXPECTED = [[0.1, 0.2, 0.3, 0.6], [0.5, 0, 1, 1]]


def described(boxes, kind="detect", **more):
    value = {"kind": kind, "file": "m.onnx", "input": {"name": "x", "height": 40, "width": 40}, "classes": ["a", "b"]}
    return spec.from_dict(value | {"boxes": boxes} | more, "d")


def check(boxes, outputs):
    found = box_outputs.detections(described(boxes), outputs, PLACE, SIZE, 0.3, 10)
    np.testing.assert_allclose(found.boxes, EXPECTED, atol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.8], atol=1e-5)
    assert found.labels == ("a", "b") and found.masks is None


def logit(p):
    return np.log(p / (1 - p))


def centres(box):
    return np.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], 1)


def test_boxes_and_scores():
    check({"boxes": "b", "scores": "s"}, {"b": CORNERS[None], "s": SCORES})
    check({"boxes": "b", "scores": "s", "format": "yxyx", "unit": "unit"},
          {"b": CORNERS[:, [1, 0, 3, 2]] / 40, "s": SCORES[None]})  # fmt: skip
    sized = np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], 1)
    check({"boxes": "b", "scores": "s", "format": "xywh", "activation": "sigmoid"}, {"b": sized, "s": logit(SCORES)})


def test_boxes_with_labels():
    outputs = {"b": CORNERS, "s": SCORES.max(1), "l": np.array([1, 2, 1], np.int64)}
    check({"boxes": "b", "scores": "s", "labels": "l", "first_label": 1}, outputs)
    outputs["l"] = np.array([1, 2, 99], np.int64)  # a label that is no class
    check({"boxes": "b", "scores": "s", "labels": "l", "first_label": 1, "overlap": 1.0}, outputs)


def test_one_table_of_predictions():
    table = np.concatenate([centres(CORNERS), SCORES], 1)
    check({"predictions": "p", "format": "cxcywh", "transposed": True}, {"p": table.T[None]})
    gated = np.concatenate([centres(CORNERS), np.full((3, 1), 0.5), SCORES * 2], 1)
    check({"predictions": "p", "format": "cxcywh", "objectness": True}, {"p": gated})


def test_background_and_softmax():
    scores = np.concatenate([1 - SCORES.sum(1, keepdims=True), SCORES], 1)
    scores = np.log(np.clip(scores, 1e-9, None))
    value = {"boxes": "b", "scores": "s", "activation": "softmax", "background": 0}
    check(value, {"b": CORNERS, "s": scores})


def test_masks_of_each_form():
    boxes = {"boxes": "b", "scores": "s"}
    full = np.full((3, 40, 40), -9, np.float32)
    full[0, 4:12, 4:8], full[1, :20, 20:] = 9, 9
    expected = np.zeros((2, 10, 20), bool)
    expected[0, 2:6, 2:4], expected[1, :, 10:] = True, True
    outputs = {"b": CORNERS, "s": SCORES, "m": full}
    found = box_outputs.detections(described(boxes, "segment", masks={"output": "m"}), outputs, PLACE, SIZE, 0.3, 10)
    np.testing.assert_array_equal(found.masks, expected)
    left = np.zeros((3, 1, 4, 4), np.float32)
    left[0, 0, :, :2], left[1] = 1, 1
    masks = {"output": "m", "form": "box", "sigmoid": False}
    found = box_outputs.detections(
        described(boxes, "segment", masks=masks), outputs | {"m": left}, PLACE, SIZE, 0.3, 10
    )
    np.testing.assert_array_equal(found.masks, expected)
    table = np.concatenate([CORNERS, SCORES, np.eye(3)[:, :2]], 1)
    masks = {"output": "m", "form": "prototypes"}
    spec_ = described({"predictions": "p"}, "segment", masks=masks)
    found = box_outputs.detections(spec_, {"p": table, "m": full[None, :2]}, PLACE, SIZE, 0.3, 10)
    np.testing.assert_array_equal(found.masks, expected)


@pytest.mark.parametrize(
    ("boxes", "outputs", "message"),
    [
        ({"boxes": "b", "scores": "s"}, {"b": CORNERS.T, "s": SCORES}, r"boxes \[n, 4\] and scores \[n, 2\]"),
        ({"boxes": "b", "scores": "s"}, {"b": CORNERS, "s": SCORES[:, :1]}, r"scores \[n, 2\]"),
        ({"predictions": "p"}, {"p": np.zeros((8, 3))}, "expected 6 columns .*transposed"),
        ({"boxes": "b", "scores": "s"}, {"b": np.zeros((2, 3, 4)), "s": SCORES}, "output b: expected 2 axes"),
        ({"boxes": "b", "scores": "s"}, {"b": np.zeros((300_000, 4)), "s": np.zeros((300_000, 2))}, "at most"),
        ({"boxes": "b", "scores": "s", "labels": "l"}, {"b": CORNERS, "s": SCORES[:, 0], "l": np.zeros(2)}, "as many"),
    ],
)  # fmt: skip
def test_other_shapes_are_refused(boxes, outputs, message):
    with pytest.raises(ValueError, match=message):
        box_outputs.detections(described(boxes), outputs, PLACE, SIZE, 0.3, 10)


def test_numbers_that_are_not_finite_are_no_detections():
    box, score = CORNERS.copy(), SCORES.copy()
    box[0, 0], score[1, 1], score[2] = np.nan, np.inf, np.nan
    found = box_outputs.detections(
        described({"boxes": "b", "scores": "s"}), {"b": box, "s": score}, PLACE, SIZE, 0.3, 10
    )
    assert found.boxes.shape == (0, 4) and found.labels == ()
