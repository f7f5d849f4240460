"""Each sign that a run goes nowhere, by numbers of steps and evaluations, and that a run gives it once."""

import dataclasses
import functools

import pytest

from configs import default
from dtr1_jax import config
from dtr1_jax.modes import diagnosis
from dtr1_jax.rl import optim
from dtr1_jax.run import warnings_file

SETTINGS = config.from_configdict(default.get_config())
FINE = {
    "train/reward": 0.7, "train/reward_std": 0.2, "train/groups_without_spread": 0.4, "train/truncated": 0.1,
    "train/sound": 0.9, "train/mismatch": 0.001, "train/skipped": 0,
}  # fmt: skip


def names(*rows, c=SETTINGS, count=diagnosis.STEPS):
    """Names of the findings about steps like FINE with the changes in `rows`, the last of them repeated."""
    steps = [FINE | row for row in rows] + [FINE | rows[-1]] * (count - len(rows))
    return [finding.name for finding in diagnosis.of_steps(steps, c)]


def with_grpo(**changes):
    return dataclasses.replace(SETTINGS, grpo=dataclasses.replace(SETTINGS.grpo, **changes))


NO_REWARD = {"train/reward": 0.0, "train/reward_std": 0.0, "train/groups_without_spread": 1.0}


def test_a_healthy_run_has_no_findings():
    assert names({}) == [] and names({}, count=1) == []


@pytest.mark.parametrize("change, name", [
    (NO_REWARD, "no_reward"),
    ({"train/groups_without_spread": 1.0}, "no_spread"),
    ({"train/truncated": 1.0}, "all_truncated"),
])  # fmt: skip
def test_what_all_latest_steps_show_is_found(change, name):
    assert names(change) == [name]
    assert names(change, count=diagnosis.STEPS - 1) == []
    assert names({}, change) == []  # one of the latest steps was fine


def test_the_message_on_missing_rewards_says_whether_the_format_is_known():
    def message(sound):
        (finding,) = diagnosis.of_steps([FINE | NO_REWARD | {"train/sound": sound}] * 5, SETTINGS)
        return finding.message

    assert "policy.prompt=full" in message(0.0) and "reward.weights" not in message(0.0)
    assert "reward.weights" in message(1.0)


def test_rewards_that_cancel_out_are_not_missing():
    assert names(NO_REWARD | {"train/reward_std": 0.5, "train/groups_without_spread": 0.0}) == []


def test_a_mismatch_is_found_at_once_and_names_the_setting():
    assert names({"train/mismatch": 0.01}, count=1) == []
    assert names({"train/mismatch": 0.02}, count=1) == ["mismatch"]
    assert names({"train/mismatch": float("nan")}, count=1) == []
    assert names({"train/mismatch": 0.02}, c=with_grpo(importance="token_truncate")) == []
    (finding,) = diagnosis.of_steps([FINE | {"train/mismatch": 0.02}], SETTINGS)
    assert "grpo.importance=token_truncate" in finding.message and "fault of dtr1_jax" in finding.message
    dropout = dataclasses.replace(SETTINGS, lora=dataclasses.replace(SETTINGS.lora, rank=2, dropout=0.1))
    (finding,) = diagnosis.of_steps([FINE | {"train/mismatch": 0.02}], dropout)
    assert "lower lora.dropout = 0.1" in finding.message and "fault of dtr1_jax" not in finding.message


def test_skipped_updates_are_found_when_they_are_half():
    skip = {"train/skipped": 1}
    assert names(skip, count=1) == []  # one is no pattern
    assert names(skip, skip, count=2) == ["updates_skipped"]
    assert names({}, skip, {}, skip, count=4) == ["updates_skipped"]
    assert names({}, {}, skip, {}, {}, skip, {}, {}, count=8) == []
    assert names(skip, skip, c=with_grpo(epochs=4), count=2) == []  # 2 of 8 updates


def rows(values, task="vqa"):
    name = {"vqa": "accuracy", "summary": "rouge_l"}[task]
    return [{"task": task, "modality": "picture", "uid": str(i), name: v} for i, v in enumerate(values)]


def test_worse_than_before_by_more_than_chance():
    before = rows([1.0] * 12 + [0.0] * 4)
    (finding,) = diagnosis.of_evaluation(before, rows([1.0] * 6 + [0.0] * 10))
    assert finding.name == "worse_vqa_picture"
    assert "accuracy of vqa (picture) fell from 0.750 before training to 0.375" in finding.message
    assert diagnosis.of_evaluation(before, rows([1.0] * 11 + [0.0] * 5)) == []  # one query: chance
    assert diagnosis.of_evaluation(before, rows([1.0] * 16)) == [] == diagnosis.of_evaluation(before, before)
    assert diagnosis.of_evaluation([], before) == []
    assert diagnosis.of_evaluation(rows([1.0] * 7), rows([0.0] * 7)) == []  # too few queries


def test_one_task_that_falls_is_found_beside_one_that_rises():
    before = rows([0.5] * 10) + rows([0.5] * 10, "summary")
    after = rows([1.0] * 10) + rows([0.4] * 10, "summary")
    assert [f.name for f in diagnosis.of_evaluation(before, after)] == ["worse_summary_picture"]


def test_pictures_that_do_not_matter():
    assert [f.name for f in diagnosis.of_pictures(1.0, 32)] == ["pictures_ignored"]
    assert diagnosis.of_pictures(0.5, 32) == [] == diagnosis.of_pictures(1.0, 3)


@pytest.mark.parametrize("schedule, old, new, step, jumps", [
    ("linear", 60, 120, 60, True), ("linear", 60, 60, 30, False), ("cosine", 60, 120, 30, True),
    ("constant", 60, 120, 60, False), ("linear", 120, 80, 60, True), ("linear", 60, 120, 0, False),
])  # fmt: skip
def test_a_schedule_that_jumps(schedule, old, new, step, jumps):
    settings = dataclasses.replace(SETTINGS.optim, lr=1e-5, warmup=0, schedule=schedule)
    found = diagnosis.of_schedule(functools.partial(optim.lr_at, settings), old, new, step, "train.steps")
    assert [f.name for f in found] == [f"schedule_jump_{old}_{new}"] * jumps
    if (schedule, old) == ("linear", 60) and jumps:
        assert "the last update had 1.7e-07, and the next has 5e-06 instead of 0" in found[0].message


def test_a_watch_gives_each_finding_once(tmp_path, caplog):
    watch = diagnosis.Watch(tmp_path, active=True)
    for step in range(1, 9):
        watch.note_step(step, FINE | NO_REWARD, SETTINGS)
    watch.give(9, diagnosis.of_pictures(1.0, 32))
    assert [(w["step"], w["name"]) for w in warnings_file.read_warnings(tmp_path)] == [
        (5, "no_reward"), (9, "pictures_ignored")
    ]  # fmt: skip
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 2 and "step 5: every reward" in caplog.text
    resumed = diagnosis.Watch(tmp_path, active=True)  # from the checkpoint of step 6
    resumed.forget(6)
    resumed.give(7, [diagnosis.Finding("no_reward", "again")])
    resumed.give(9, diagnosis.of_pictures(1.0, 32))
    assert [w["name"] for w in warnings_file.read_warnings(tmp_path)] == ["no_reward", "pictures_ignored"]
    diagnosis.Watch(tmp_path, active=True).forget(-1)
    assert warnings_file.read_warnings(tmp_path) == []


def test_a_watch_of_another_process_is_silent(tmp_path, caplog):
    watch = diagnosis.Watch(tmp_path / "none", active=False)
    watch.forget(-1)
    watch.give(1, diagnosis.of_pictures(1.0, 32))
    assert not caplog.records and not (tmp_path / "none").exists()


def test_without_an_evaluation_before_training_there_is_nothing_to_compare(tmp_path):
    assert diagnosis.rows_before(tmp_path) == []
    (tmp_path / "gallery" / "before").mkdir(parents=True)
    (tmp_path / "gallery" / "before" / "predictions.jsonl").write_text("{broken")
    assert diagnosis.rows_before(tmp_path) == []
