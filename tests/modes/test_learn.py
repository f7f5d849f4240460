"""The optimizer steps of one batch of experience: how the batch is cut, and what several steps report together."""

import numpy as np
import pytest

from dtr1_jax.modes import learn
from dtr1_jax.rl import update
from dtr1_jax.rl.advantages import Ema
from dtr1_jax.types import Prompt, Rollout

METRICS = ("loss", "skipped", "ratio_max", "mismatch", "mismatch_max")


def test_minibatches_are_consecutive_queries():
    row_b = np.arange(6)
    rollout = Rollout(row_b, row_b, row_b, row_b)
    prompt = Prompt(row_b, row_b, row_b, row_b, row_b, None)
    parts = learn._minibatches(update.Minibatch(prompt, rollout, row_b.astype(np.float32), None), 3)
    assert [part.advantage_bg.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert [part.prompt.next_b.tolist() for part in parts] == [part.rollout.token_bgs.tolist() for part in parts]
    assert all(part.twin_bgs is None for part in parts)


def test_numbers_of_several_steps_by_hand():
    first, second = (dict(zip(METRICS, values)) for values in ((1.0, 1, 3.0, 0.1, 0.2), (3.0, 1, 2.0, 0.5, 0.9)))
    assert learn._over_steps([first, second]) == pytest.approx({
        "train/loss": 2.0, "train/skipped": 2.0, "train/ratio_max": 3.0,
        "train/mismatch": 0.1, "train/mismatch_max": 0.2,  # the first step alone: the second scores other weights
    })  # fmt: skip


def test_the_deviation_of_tasks_without_a_query_is_not_reported():
    ema = Ema(np.array([0.5, 0, 0, 1.0]), np.zeros(4), np.array([0.25, 0, 0, 0.0]))
    assert learn.describe_ema(ema) == {"train/ema_std/segmentation": 0.5, "train/ema_std/summary": 0.0}
