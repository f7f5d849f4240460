"""The check of the weights, and the weights of a batch of several tasks."""

import numpy as np
import pytest
from scored import example

from configs import default
from dtr1_jax import config
from dtr1_jax.rewards import columns


def test_weights_are_checked_with_the_nearest_name():
    good = {task: {"structure": 1.0} for task in columns.TASK_COLUMNS}
    columns.check_weights(good)
    columns.check_weights(default.get_config().reward.weights.to_dict())
    cases = [
        ({"segmentation": {"mask_io": 1.0}}, r'segmentation.mask_io: unknown column \(did you mean "mask_iou"\?\)'),
        ({"vqa": {"structure": 1.0, "mask_iou": 1.0}}, r"vqa.mask_iou: unknown column"),
        ({"vqua": {"answer": 1.0}}, r'weights.vqua: unknown task \(did you mean "vqa"\?\)'),
        ({"summary": {"structure": 1.0, "bleu": float("inf")}}, "summary.bleu: expected a finite number, got inf"),
        ({"grounding": {}}, "weights.grounding: expected a weight other than 0"),
        ({"grounding": {"structure": 0.0}}, "every reward would be 0"),
    ]
    for change, message in cases:
        with pytest.raises(config.ConfigError, match=message):
            columns.check_weights(good | change)
    with pytest.raises(config.ConfigError, match=r"weights\.vqa: expected"):
        columns.check_weights({task: good[task] for task in columns.TASK_COLUMNS if task != "vqa"})


def test_columns_with_a_weight():
    weights = {"vqa": {"answer": 1.0, "bleu": 0.0}, "summary": {"bleu": 0.5, "cider": 0.0}}
    assert columns.weighted_columns(weights) == {"answer", "bleu"}


def test_weights_of_a_batch_are_0_where_the_task_lacks_the_column():
    weights = {"segmentation": {"structure": 0.5, "mask_iou": 1.0}, "vqa": {"structure": 0.25, "answer": 0.0}}
    weight_of = columns.batch_weights(weights, [example(task=task) for task in ("vqa", "segmentation")])
    assert {name: weight_b.tolist() for name, weight_b in weight_of.items()} == {
        "structure": [0.25, 0.5],
        "mask_iou": [0.0, 1.0],
    }
    assert all(weight_b.dtype == np.float32 for weight_b in weight_of.values())
