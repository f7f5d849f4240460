"""Training from end to end: it learns from what it samples, and may be stopped, killed and moved at any moment."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
import tiny

from dtr1_jax import config, mesh
from dtr1_jax.models.weights import native
from dtr1_jax.modes import learn, train, train_step
from dtr1_jax.policies import pretrained, state
from dtr1_jax.run import checkpoint, interrupt, run_log, warnings_file


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    """A run of four steps that nothing disturbs: (workdir, settings)."""
    workdir = tmp_path_factory.mktemp("whole")
    c = tiny.settings(path, train__profile=2)
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        train.run(c, workdir)
    return workdir, c


def assert_same_run(workdir, whole, rows_too=True):
    tiny.assert_same_run(workdir, *whole, rows_too)


def test_a_trace_of_two_steps_has_their_phases_by_name(whole):
    (file,) = whole[0].glob("profile/plugins/profile/*/*.xplane.pb")
    events = [e for plane in jax.profiler.ProfileData.from_file(str(file)).planes for line in plane.lines
              for e in line.events]  # fmt: skip
    assert {dict(e.stats).get("step_num") for e in events if e.name == "step"} == {2, 3}
    parts = {"data": 1, "rollout": 2, "score": 1, "update": 2}  # of a step; it begins rollout and update, and waits
    for name, count in parts.items():
        assert sum(e.name == name for e in events) == 2 * count, name


def test_a_run_leaves_what_it_should(whole, small):
    workdir, c = whole
    rows = run_log.read_run_log(workdir)
    evaluations = [row for row in rows if "eval/giou" in row]
    assert [row["step"] for row in evaluations] == [0, 4]
    assert all(0 <= row["eval/same_with_wrong_pictures"] <= 1 for row in evaluations)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]
    names = {
        "train/reward", "train/reward_std", "train/structure", "train/structure_std", "train/mask_iou",
        "train/mask_iou_std", "train/box_iou", "train/box_iou_std", "train/groups_without_spread", "train/length",
        "train/entropy", "train/clip_low", "train/clip_high", "train/mismatch", "train/mismatch_max", "train/grad_norm",
        "train/rollout_tokens_per_s", "train/update_tokens_per_s", "train/data_s", "train/rollout_s", "train/score_s",
        "train/update_s", "train/checkpoint_s", "train/step_s", "train/lr", "train/skipped",
        "train/examples_skipped", "memory/host_peak_mb",
    }  # fmt: skip
    assert names <= {name for row in rows for name in row}
    assert all(row["train/mismatch_max"] < 1e-4 and row["train/skipped"] == 0 for row in rows if "train/loss" in row)
    assert (workdir / "report.html").exists() and (workdir / "tb").is_dir()
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["step_000002.md", "step_000004.md"]
    assert {p.name for p in (workdir / "gallery").iterdir()} == {"before", "after"}
    before, after = (native.flatten(t) for t in (initial_weights(c), trained_weights(workdir, c)))
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert len(moved) > len(before) / 2  # it learns


def initial_weights(c):
    return pretrained.read_weights(c, pretrained.load_policy(c))


def trained_weights(workdir, c):
    return state.trained_weights(c, pretrained.load_policy(c), mesh.make(c.mesh), workdir)[0]


def test_two_steps_a_kill_and_two_more_equal_four(path, whole, small, tmp_path):
    command = [sys.executable, tiny.__file__, "--config=configs/seg.py", f"--workdir={tmp_path}"]
    env = os.environ | {"TINY_SIGNALS": "KILL@learn:4", "PYTHONPATH": str(tiny.ROOT)}
    killed = subprocess.run(command + tiny.arguments(path), cwd=tiny.ROOT, env=env, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run_log.read_run_log(tmp_path)[-1]["step"] == 3  # was written, and is lost with the weights of step 3
    train.run(whole[1], tmp_path)
    assert_same_run(tmp_path, whole)


def test_asked_to_stop_at_any_moment(whole, tmp_path):
    places = [("TERM@predict:1", 0), ("INT@gather:2", 2), ("TERM@learn:2", 4), ("INT@predict:1", 4)]
    for plan, step in places:  # in the first evaluation, while sampling, while learning, in the last evaluation
        with pytest.MonkeyPatch.context() as patch:
            tiny.install(patch)
            tiny.signals(patch, plan)
            with pytest.raises(interrupt.Interrupted) as stopped:
                train.run(whole[1], tmp_path)
        assert stopped.value.step == step
        tiny.settled(tmp_path, step)
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        train.run(whole[1], tmp_path)
        assert_same_run(tmp_path, whole)


def test_a_notice_of_maintenance_saves_once_and_the_run_goes_on(path, small, tmp_path):
    def announce(call):
        if call == 2:
            interrupt.current()._on_save_notice("maintenance")

    tiny.after(small, train_step, "learn", announce)
    train.run(tiny.settings(path, train__steps=4, train__eval_examples=0, checkpoint__every=0), tmp_path)
    saved = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert saved == {2, 4} and run_log.read_run_log(tmp_path)[-1]["step"] == 4


def test_a_finished_run_is_left_as_it_is(whole, small):
    before = (whole[0] / "metrics.jsonl").read_text()
    (whole[0] / "report.html").unlink()
    assert train.run(whole[1], whole[0]).exists()
    assert (whole[0] / "metrics.jsonl").read_text() == before
    assert_same_run(whole[0], whole)


def test_evaluations_on_the_way_survive_a_stop(path, small, tmp_path):
    c = tiny.settings(path, train__eval_every=2, train__eval_examples=2)
    with pytest.MonkeyPatch.context() as patch:
        tiny.signals(patch, "TERM@predict:2")
        with pytest.raises(interrupt.Interrupted):
            train.run(c, tmp_path)
    assert [row["step"] for row in run_log.read_run_log(tmp_path) if "eval/giou" in row] == [0]
    train.run(c, tmp_path)
    assert [row["step"] for row in run_log.read_run_log(tmp_path) if "eval/giou" in row] == [0, 2, 4]


def test_a_signal_during_an_evaluation_loses_no_metric(path, small, tmp_path):
    """The signal comes in each evaluation in turn; the metrics are those of a run that nothing disturbs."""
    c = tiny.settings(path, train__eval_every=2, train__eval_examples=4, checkpoint__keep=9)

    def metrics(workdir):
        with checkpoint.Checkpoints(workdir, config.to_dict(c), keep=9, read_only=True) as saved:
            return {step: saved.metric(step) for step in saved.steps}, saved.best()

    train.run(c, tmp_path / "whole")
    # An evaluation has two batches: in the second one of step 0, and after it is made again in the first one of step 2,
    # and then of step 4.
    for step, call in ((0, 2), (2, 3), (4, 3)):
        with pytest.MonkeyPatch.context() as patch:
            tiny.signals(patch, f"TERM@predict:{call}")
            with pytest.raises(interrupt.Interrupted) as stopped:
                train.run(c, tmp_path / "stopped")
        assert stopped.value.step == step
        assert metrics(tmp_path / "stopped")[0][step] is None  # saved before its evaluation was over
    train.run(c, tmp_path / "stopped")
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")
    assert all(value is not None for value in metrics(tmp_path / "whole")[0].values())


def test_another_workdir_of_other_settings_is_refused(whole, path, small):
    with pytest.raises(checkpoint.CheckpointError, match=r"optim\.lr: workdir has 0\.01, this run has 0\.5"):
        train.run(tiny.settings(path, optim__lr=0.5), whole[0])


def test_not_finite_once_is_counted_and_gone_over(path, small, tmp_path):
    broken = poison(small, {2})
    train.run(tiny.settings(path), tmp_path)
    rows = [row for row in run_log.read_run_log(tmp_path) if "train/loss" in row]
    assert broken == [2] and [row["train/skipped"] for row in rows] == [0, 1, 1, 1]
    assert rows[1]["train/loss"] is None and rows[2]["train/loss"] is not None


def test_not_finite_three_times_in_a_row_stops_and_saves(path, small, tmp_path):
    poison(small, {2, 3, 4, 5, 6})
    c = tiny.settings(path, train__steps=9, checkpoint__every=0)
    with pytest.raises(train.DivergedError, match=r"3 updates in a row \(step 4\)"):
        train.run(c, tmp_path)
    saved = tiny.state(tmp_path, c, 4)
    assert all(np.isfinite(x).all() for x in saved.values() if x.dtype.kind == "f")
    with pytest.raises(train.DivergedError, match="4 updates in a row"):  # it went on, and counts on
        train.run(c, tmp_path)


def poison(patch, steps: set[int]) -> list[int]:
    """Advantages become NaN in the steps of that number (the first is 1); returns those that did, as they come."""
    real, calls, done = learn._advantages, [], []

    def advantages(*args, **kwargs):
        calls.append(None)
        out = real(*args, **kwargs)
        if len(calls) in steps:
            done.append(len(calls))
            return out + np.nan
        return out

    patch.setattr(learn, "_advantages", advantages)
    return done


def test_eight_devices_do_what_one_does_and_hand_over(whole, path, monkeypatch, tmp_path):
    c = dataclasses.replace(whole[1], mesh=config.Mesh(2, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch, devices=8)
        train.run(dataclasses.replace(c, train=dataclasses.replace(c.train, steps=2, eval_batch=4)), tmp_path)
    ours, theirs = (
        [row for row in run_log.read_run_log(w) if "train/loss" in row and row["step"] <= 2]
        for w in (tmp_path, whole[0])
    )
    for a, b in zip(ours, theirs, strict=True):
        for name in ("train/reward", "train/structure", "train/mask_iou", "train/length"):
            assert a[name] == b[name]
        for name in ("train/loss", "train/grad_norm", "train/entropy"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6)
    tiny.install(monkeypatch)  # and on one device to the end
    train.run(whole[1], tmp_path)
    assert [row["step"] for row in run_log.read_run_log(tmp_path) if "train/loss" in row] == [1, 2, 3, 4]


def test_adapters_epochs_minibatches_kl_and_resampling(path, small, tmp_path):
    changes = {
        "lora__rank": 2, "grpo__beta": 0.1, "grpo__hold_twin": 2.0, "grpo__epochs": 2, "grpo__minibatches": 2,
        "grpo__resample": 2, "grpo__importance": "token_truncate", "train__steps": 2, "train__log_every": 2,
        "optim__schedule": "linear",
        "train__eval_examples": 0,
    }  # fmt: skip
    c = tiny.settings(path, **changes)
    rounds, scored = [], []
    tiny.after(small, train.experience, "begin_gathering", rounds.append)
    tiny.after(small, learn.scorer, "score", scored.append)
    # Only as the rounds see it: the jitted advantages call the same function, and may be traced while this test runs.
    spread = types.SimpleNamespace(informative_b=lambda reward_bg: np.arange(len(reward_bg)) == 1)
    small.setattr(train.experience, "advantages", spread)
    train.run(c, tmp_path)
    assert len(rounds) == 6  # 1 of 4 groups has spread, so all further rounds are drawn
    rows = [row for row in run_log.read_run_log(tmp_path) if "train/loss" in row]
    assert [row["step"] for row in rows] == [2]
    assert rows[0]["train/kl"] > 0 and rows[0]["train/ratio_max"] > 1
    assert scored == [1, 2]  # once in each step, whatever the number of updates
    assert rows[0]["train/importance"] == pytest.approx(1, abs=1e-4) and rows[0]["train/mismatch_max"] < 1e-4
    assert rows[0]["train/lr"] == pytest.approx(0.01 * (1 - 7 / 8))  # the eighth of eight updates
    base, lora, _ = state.trained_weights(c, pretrained.load_policy(c), mesh.make(c.mesh), tmp_path)
    assert any(np.asarray(x).any() for name, x in native.flatten(lora).items() if name.endswith("/b"))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(base), jax.tree.leaves(initial_weights(c))))


def test_a_run_that_goes_nowhere_says_so_and_the_report_shows_it(path, small, tmp_path, caplog):
    small.setattr(train.experience.score, "score", tiny.unrewarded)
    c = tiny.settings(path, train__steps=6, train__eval_examples=0, rollout__new_tokens=4, checkpoint__every=0)
    train.run(c, tmp_path)
    given = [(w["step"], w["name"]) for w in warnings_file.read_warnings(tmp_path)]
    assert given == [(5, "all_truncated"), (5, "no_reward")]
    assert "step 5: every reward of the last 5 steps is 0" in caplog.text
    assert "every reward of the last 5 steps is 0" in (tmp_path / "report.html").read_text()


def test_a_schedule_that_jumps_on_resume_is_warned_of(path, small, tmp_path, caplog):
    changes = {"optim__schedule": "linear", "train__eval_examples": 0, "checkpoint__every": 0}
    train.run(tiny.settings(path, train__steps=1, **changes), tmp_path)
    train.run(tiny.settings(path, train__steps=2, **changes), tmp_path)
    assert "the learning rate jumps: the last update had 0.01, and the next has 0.005 instead of 0" in caplog.text
    assert [w["name"] for w in warnings_file.read_warnings(tmp_path)] == ["schedule_jump_1_2"]
    train.run(tiny.settings(path, train__steps=3, **changes), tmp_path)
    assert [w["name"] for w in warnings_file.read_warnings(tmp_path)] == ["schedule_jump_1_2", "schedule_jump_2_3"]


def test_a_schedule_of_its_own_length_does_not_jump(path, small, tmp_path):
    changes = {"optim__schedule": "linear", "optim__decay_steps": 4, "train__eval_examples": 0, "checkpoint__every": 0}
    for steps in (1, 2):
        train.run(tiny.settings(path, train__steps=steps, **changes), tmp_path)
    rates = [row["train/lr"] for row in run_log.read_run_log(tmp_path)]
    assert rates == pytest.approx([0.01, 0.0075]) and warnings_file.read_warnings(tmp_path) == []


def test_the_reference_stays_where_it_was(path, small, tmp_path):
    c = tiny.settings(path, grpo__beta=0.1, train__steps=3, train__eval_examples=0, checkpoint__every=0)
    train.run(c, tmp_path)
    kl = [row["train/kl"] for row in run_log.read_run_log(tmp_path)]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[2] > kl[1] > 1e-4


def test_no_steps_is_one_evaluation(path, small, tmp_path):
    train.run(tiny.settings(path, train__steps=0, train__eval_examples=2), tmp_path)
    assert [row["step"] for row in run_log.read_run_log(tmp_path)] == [0]
    assert json.loads((tmp_path / "gallery/before/predictions.jsonl").read_text().splitlines()[0])["uid"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh__data": 3}, "config.mesh: data x fsdp x tensor = 3 x 1 x 1 = 3 devices, but there are 1"),
        ({"reward__weights": {"vqa": {"structur": 1.0}}}, 'vqa.structur: unknown column .did you mean "structure"'),
        ({"lora__rank": 2, "lora__targets": "encoder/.*"}, "config.lora.targets = 'encoder/.*'.*decoder/q"),
        ({"lora__rank": 2, "lora__targets": "("}, "config.lora.targets = '\\('"),
    ],
)
def test_settings_that_do_not_fit_leave_no_folder(path, small, tmp_path, changes, message):
    with pytest.raises(config.ConfigError, match=message):
        train.run(tiny.settings(path, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_start_without_its_models_leaves_no_settings(path, small, tmp_path):
    """The same workdir then takes the command with the right model."""

    def missing(c):
        raise config.ConfigError("config.specialists.detector: there is no such file")

    small.setattr(train, "host_tools", missing)
    with pytest.raises(config.ConfigError, match="no such file"):
        train.run(tiny.settings(path), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_queries_must_fill_the_mesh(path, monkeypatch, tmp_path):
    tiny.install(monkeypatch, devices=8)
    with pytest.raises(config.ConfigError, match=r"config.rollout.queries = 4 is not a multiple of .* = 8"):
        train.run(tiny.settings(path), tmp_path / "run")
    micro = tiny.settings(path, rollout__queries=12, grpo__micro_queries=1, mesh__fsdp=8, mesh__data=1)
    with pytest.raises(config.ConfigError, match="queries = 12"):
        train.run(micro, tmp_path / "run")
    micro = tiny.settings(path, rollout__queries=24, grpo__micro_queries=2, train__eval_batch=8)
    with pytest.raises(config.ConfigError, match="micro-batches of 16 queries, which do not divide the 24"):
        train.run(micro, tmp_path / "run")


def test_the_log_names_what_is_measured(path, small, tmp_path, caplog):
    c = tiny.settings(path, train__steps=1, train__eval_examples=2, checkpoint__every=0)
    with caplog.at_level("INFO", "dtr1_jax"):
        train.run(c, tmp_path / "run")
    assert "held-out before: giou 0." in caplog.text and "held-out after: giou 0." in caplog.text
