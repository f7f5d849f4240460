"""The masks of an answer's objects one by one, and the figures that compare them with each target."""

import dataclasses

import numpy as np
from scored import CANVAS, WANT_LEFT, Segmenter, example, say, say_boxes

from dtr1_jax.asking.given_masks import GivenMasks
from dtr1_jax.evaluation import benchmark_rows
from dtr1_jax.evaluation.answered_objects import object_masks
from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin.transcript import parse
from dtr1_jax.types import Instance

BROKEN = parse("no", task="segmentation", canvas=CANVAS)
LEFT = np.zeros((4, 8), bool)
LEFT[:, :4] = True


def test_one_mask_for_each_object():
    query = example(WANT_LEFT)
    found = object_masks(query, say(1, 7), CANVAS, Segmenter())
    np.testing.assert_array_equal(found, [LEFT, ~LEFT])
    assert object_masks(query, BROKEN, CANVAS, Segmenter()) == object_masks(query, say(), CANVAS, Segmenter()) == []
    boxed = dataclasses.replace(query, task="grounding")
    np.testing.assert_array_equal(object_masks(boxed, say_boxes((4, 0, 8, 4)), CANVAS, Segmenter()), [~LEFT])
    assert object_masks(query, say(1), CANVAS, lambda images, boxes: [None] * len(images)) == []


def test_known_masks_come_first():
    corner = np.zeros((4, 8), bool)
    corner[0, 0] = True
    found = object_masks(example(WANT_LEFT), say(1, 7), CANVAS, Segmenter(), GivenMasks({1: corner}))
    np.testing.assert_array_equal(found, [corner, ~LEFT])


def test_masks_have_the_size_of_the_target():
    query = example(WANT_LEFT)
    large = np.kron(LEFT, np.ones((3, 3), bool))
    query = dataclasses.replace(query, target=dataclasses.replace(query.target, mask=large))
    np.testing.assert_array_equal(object_masks(query, say(1), CANVAS, Segmenter()), [large])


def test_figures_of_vrt():
    """Both halves are targets: the left one is answered; the answer that takes both as one object reaches neither."""
    scene = tuple(Instance(i, "mug", (0, 0, 1, 1), mask) for i, mask in ((1, LEFT), (2, ~LEFT), (3, LEFT)))
    query = example(WANT_LEFT, (0.5, 0, 1, 1))
    query = dataclasses.replace(query, scene=scene, answer_ids=(1, 2), benchmark="vrt", tags=("loc",))
    rows = []
    for transcript in (say(1), say_boxes((0, 0, 8, 4)), BROKEN):
        outcome = answer_regions.outcomes([[transcript]], [query], [CANVAS], Segmenter(), [True])[0][0]
        field = benchmark_rows.measure(query, transcript, outcome, object_masks(query, transcript, CANVAS, Segmenter()))
        row = {"task": "segmentation", "modality": "picture", "intersection": 0, "union": 32, "iou": 0.0}
        rows.append(row | {"benchmark": field})
        assert benchmark_rows.fault(rows[-1]) is None
    assert [r["benchmark"]["ious"] for r in rows] == [[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]]
    found = benchmark_rows.figures(rows)
    assert (found["eval/vrt/lq"], found["eval/vrt/vq"], found["eval/vrt/miou"]) == (1 / 6, 1.0, 1.5 / 6)
    assert found["eval/vrt/loc/lq"] == 1 / 6
    for broken in ([2], ["x"], None, 3):
        rows[0]["benchmark"]["ious"] = broken
        assert benchmark_rows.fault(rows[0]) == "benchmark.ious: expected the IoU of each target, in [0, 1]"
    del rows[0]["benchmark"]["ious"]
    assert benchmark_rows.fault(rows[0]).startswith("benchmark.ious")
