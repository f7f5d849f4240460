"""The optimizer steps of one batch of experience: how the batch is cut, and what several steps report together."""

import types

import jax
import numpy as np
import pytest
import tiny

from dtr1_jax import config, mesh
from dtr1_jax.modes import learn
from dtr1_jax.rl import update
from dtr1_jax.rl.advantages import Ema
from dtr1_jax.types import Prompt, Rollout

METRICS = ("loss", "skipped", "ratio_max", "mismatch", "mismatch_max")


def test_minibatches_are_the_same_queries_on_any_number_of_processes():
    row_b = np.arange(6)
    rollout = Rollout(row_b, row_b, row_b, row_b)
    prompt = Prompt(row_b, row_b, row_b, row_b, row_b, None)
    parts = learn._minibatches(update.Minibatch(prompt, rollout, row_b.astype(np.float32), None), 3)
    assert [part.advantage_bg.tolist() for part in parts] == [[0, 3], [1, 4], [2, 5]]
    assert [part.prompt.next_b.tolist() for part in parts] == [part.rollout.token_bgs.tolist() for part in parts]
    assert all(part.twin_bgs is None for part in parts)
    whole = update.Minibatch(prompt, rollout, row_b, None)
    first, second = (  # the minibatches of two processes with three rows each
        learn._minibatches(jax.tree.map(lambda x, rows=rows: x[rows], whole), 3) for rows in (slice(0, 3), slice(3, 6))
    )
    together = [[*a.advantage_bg.tolist(), *b.advantage_bg.tolist()] for a, b in zip(first, second)]
    assert together == [part.advantage_bg.tolist() for part in parts]


@pytest.mark.parametrize("mask_truncated, tokens", [(False, 7), (True, 4)])
def test_every_minibatch_divides_by_the_tokens_of_the_whole_step(monkeypatch, mask_truncated, tokens):
    c = tiny.settings("", grpo__minibatches=2, grpo__epochs=2, grpo__mask_truncated=mask_truncated)
    length_bg, stopped_bg = np.array([[1, 2], [1, 0], [0, 0], [3, 0]]), np.array([[1, 0], [1, 1], [1, 1], [0, 1]], bool)
    stopped_bg[3, 0] = not mask_truncated
    stopped_bg[0, 1] = True
    mask_bgs = np.arange(4) < length_bg[..., None]
    row_b = np.arange(4)
    experience = types.SimpleNamespace(
        rewards=types.SimpleNamespace(total_bg=np.arange(8, dtype=np.float32).reshape(4, 2)),
        prompt=Prompt(row_b, row_b, row_b, row_b, row_b, None),
        rollout=Rollout(mask_bgs, mask_bgs, mask_bgs, stopped_bg),
    )
    divisors = []

    def update_recorded(state, *args, batch_tokens, **options):
        divisors.append(float(batch_tokens))
        return state, dict.fromkeys(METRICS, np.float32(0))

    monkeypatch.setattr(learn.update, "update", update_recorded)
    one = mesh.make(config.Mesh(1, 1, 1), jax.devices()[:1])
    policy = types.SimpleNamespace(banned_v=np.zeros(3, bool), spec=None, dtype=None)
    runtime = types.SimpleNamespace(config=c, mesh=one, policy=policy)
    learn.learn(runtime, update.State({}, {}), {}, None, experience, jax.random.key(0))
    assert divisors == [tokens] * 4


def test_numbers_of_several_steps_by_hand():
    first, second = (dict(zip(METRICS, values)) for values in ((1.0, 1, 3.0, 0.1, 0.2), (3.0, 1, 2.0, 0.5, 0.9)))
    assert learn._over_steps([first, second]) == pytest.approx({
        "train/loss": 2.0, "train/skipped": 2.0, "train/ratio_max": 3.0,
        "train/mismatch": 0.1, "train/mismatch_max": 0.2,  # the first step alone: the second scores other weights
    })  # fmt: skip


def test_the_deviation_of_tasks_without_a_query_is_not_reported():
    ema = Ema(np.array([0.5, 0, 0, 1.0]), np.zeros(4), np.array([0.25, 0, 0, 0.0]))
    assert learn.describe_ema(ema) == {"train/ema_std/segmentation": 0.5, "train/ema_std/summary": 0.0}
