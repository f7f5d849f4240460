"""One step off-policy (rollout.ahead): which weights sample what and when, and that a run still resumes exactly."""

import itertools

import jax
import numpy as np
import pytest
import tiny

from dtr1_jax import config
from dtr1_jax.modes import slice_plan, train, train_step
from dtr1_jax.run import interrupt, run_log

AHEAD = {
    "rollout__ahead": 1, "grpo__importance": "token_truncate", "lora__rank": 2, "optim__lr": 0.1,
    "checkpoint__every": 1, "checkpoint__keep": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    """A run of four steps that nothing disturbs: (workdir, settings, what happened)."""
    workdir, c, events = tmp_path_factory.mktemp("whole"), tiny.settings(path, **AHEAD), []
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        begin_collecting = train_step.experience.begin_collecting

        def begin(runtime, batches, key):
            finish = begin_collecting(runtime, batches, key)
            events.append(("sampling", jax.tree.map(np.asarray, runtime.lora)))

            def finished():
                events.append(("scoring", None))
                return finish()

            return finished

        patch.setattr(train_step.experience, "begin_collecting", begin)
        tiny.after(patch, train_step, "learn", lambda n: events.append(("update", n)))
        train.run(c, workdir)
    return workdir, c, events


def trainable(workdir, c, step, kind):
    """The adapters of a checkpoint, or with kind=".behind" those before it, as a list."""
    return [x for name, x in sorted(tiny.state(workdir, c, step).items()) if name.startswith(kind + "[")]


def test_the_next_step_is_sampled_before_the_update_and_scored_during_it(whole):
    kinds = [kind for kind, _ in whole[2]]
    assert kinds == ["sampling", "scoring", *["sampling", "update", "scoring"] * 3, "update"]


def test_each_step_is_sampled_with_the_weights_before_the_last_update(whole, small):
    workdir, c, events = whole
    sampled = [jax.tree.leaves(lora) for kind, lora in events if kind == "sampling"]
    after = [trainable(workdir, c, step, ".trainable") for step in range(5)]
    assert all(any((x != y).any() for x, y in zip(a, b)) for a, b in itertools.pairwise(after))
    for lora, expected in zip(sampled, [after[0], after[0], after[1], after[2]], strict=True):
        assert all((x == y).all() for x, y in zip(lora, expected, strict=True))
    for step in range(1, 5):
        behind = trainable(workdir, c, step, ".behind")
        assert all((x == y).all() for x, y in zip(behind, after[step - 1], strict=True))


def test_weights_correct_for_the_older_sampler(whole):
    rows = [row for row in run_log.read_run_log(whole[0]) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    # the first step is on-policy; the others score with weights that are one update newer than those that sampled
    assert rows[0]["train/mismatch"] < 1e-5 and rows[0]["train/importance"] == pytest.approx(1, abs=1e-5)
    assert all(row["train/mismatch"] > 1e-3 for row in rows[1:])
    assert not any("train/update_tokens_per_s" in row for row in rows)


@pytest.mark.parametrize("plan, step", [("TERM@gather:1", 0), ("TERM@learn:2", 2), ("INT@gather:4", 3)])
def test_a_stopped_run_goes_on_exactly(whole, small, plan, step, tmp_path):
    workdir, c, _ = whole
    with small.context() as patch:
        tiny.signals(patch, plan)
        with pytest.raises(interrupt.Interrupted) as stopped:
            train.run(c, tmp_path)
    tiny.settled(tmp_path, stopped.value.step)
    assert stopped.value.step in (step, step + 1)
    train.run(c, tmp_path)
    tiny.assert_same_run(tmp_path, workdir, c)


def test_a_finished_run_that_trains_longer_is_the_long_run(whole, path, small, tmp_path):
    workdir, c, _ = whole
    changes = AHEAD | {"train__eval_examples": 0}
    train.run(tiny.settings(path, **changes | {"train__steps": 2}), tmp_path)
    train.run(tiny.settings(path, **changes), tmp_path)
    tiny.assert_same_run(tmp_path, workdir, c, rows_too=False)


def test_all_weights_train_ahead_too(path, small, tmp_path):
    c = tiny.settings(
        path, **AHEAD | {"lora__rank": 0, "train__steps": 3, "train__eval_examples": 0, "grpo__epochs": 2}
    )
    train.run(c, tmp_path)
    rows = [row for row in run_log.read_run_log(tmp_path) if "train/loss" in row]
    assert len(rows) == 3 and rows[2]["train/mismatch"] > 1e-3 and all(row["train/skipped"] == 0 for row in rows)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"rollout__ahead": 1}, "set grpo.importance=token_truncate"),
        (AHEAD | {"rollout__ahead": 2}, "rollout.ahead.*0 or 1.*got 2"),
    ],
)
def test_settings_that_cannot_be(path, changes, said):
    with pytest.raises(config.ConfigError, match=said):
        tiny.settings(path, **changes)


def test_a_slice_is_not_planned_for_it(path):
    c = tiny.settings(path, **AHEAD)
    with pytest.raises(config.ConfigError, match=r"rollout.ahead = 1: .* add --config.rollout.ahead=0"):
        slice_plan.plan_slice(c, tiny.SPEC, "v5e:4x4")
