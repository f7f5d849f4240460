"""Evaluations of a run: its settings with single changes, a name for each, any of its checkpoints (tiny's policy)."""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from dtr1_jax import config, mesh, settings_of_run
from dtr1_jax.modes import dispatch, evaluate, train
from dtr1_jax.policies import pretrained, state
from dtr1_jax.run import checkpoint, run_log


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    """A run of two steps with an evaluation after each: (workdir, settings)."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        c = tiny.settings(path, train__steps=2, train__eval_every=1, checkpoint__every=1, checkpoint__keep=3)
        train.run(c, workdir)
    return workdir, c


def written(workdir, name):
    return json.loads((workdir / "evaluations" / name / "eval.json").read_text())


def change(workdir, **changes):
    values = settings_of_run.get_config(str(workdir))
    values.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config.from_configdict(values)


def test_a_run_is_evaluated_by_its_workdir_with_single_changes(whole, small):
    """The command of case 20: no --config, one setting changed, and the run's own results stay."""
    workdir, c = whole
    before = sorted(p.name for p in workdir.iterdir())
    evaluate.run(c, workdir)
    command = [sys.executable, tiny.__file__, "--mode=eval", f"--workdir={workdir}", "--name=two"]
    command.append("--config.data.max_objects=2")
    result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, env=tiny.environment())
    assert result.returncode == 0, result.stderr
    for name in ("twinworld-heldout-step2", "two"):
        found = written(workdir, name)
        assert (found["name"], found["step"], found["eval/examples"]) == (name, 2, c.train.eval_examples)
    assert written(workdir, "two")["data"]["max_objects"] == 2
    assert written(workdir, "twinworld-heldout-step2")["data"]["max_objects"] == c.data.max_objects
    assert sorted(p.name for p in workdir.iterdir()) == sorted({*before, "evaluations"})  # maybe already there
    after = [row for row in run_log.read_run_log(workdir) if "eval/giou" in row][-1]
    assert after["eval/giou"] == written(workdir, "twinworld-heldout-step2")["eval/giou"]


def test_another_data_set_or_step_does_not_take_the_name(whole, small):
    workdir, c = whole
    evaluate.run(c, workdir, name="mine", step="1")
    first = (workdir / "evaluations/mine/eval.json").read_bytes()
    evaluate.run(c, workdir, name="mine", step="1")  # The same evaluation may be made again.
    assert (workdir / "evaluations/mine/eval.json").read_bytes() == first
    for other, step, message in (
        (c, "2", "step 1, now 2"),
        (change(workdir, data__max_objects=2), "1", "data.max_objects 3, now 2"),
        (change(workdir, train__eval_examples=3), "1", "data.examples 4, now 3"),
        (change(workdir, rollout__new_tokens=9), "1", "policy.new_tokens 8, now 9"),
        (change(workdir, policy__prompt="full"), "1", "policy.prompt 'brief', now 'full'"),
    ):
        with pytest.raises(config.ConfigError, match=re.escape(message) + ".*nothing was changed; choose another"):
            evaluate.run(other, workdir, name="mine", step=step)
    assert (workdir / "evaluations/mine/eval.json").read_bytes() == first
    (workdir / "evaluations/broken").mkdir()
    (workdir / "evaluations/broken/eval.json").write_text("{")
    with pytest.raises(config.ConfigError, match=r"holds an eval\.json that cannot be read"):
        evaluate.run(c, workdir, name="broken")


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a b", "x" * 101])
def test_names_that_are_no_folders_are_refused(path, small, tmp_path, name):
    with pytest.raises(config.ConfigError, match="--name: expected up to 100"):
        evaluate.run(tiny.settings(path), tmp_path, name=name)
    assert not list(tmp_path.iterdir())


def test_default_names_say_data_and_step(path):
    c = tiny.settings(path)
    assert evaluate.default_name(c, None) == "twinworld-heldout-untrained"
    c = tiny.settings(path, data__source="jsonl", data__root="my data/queries v2.jsonl")
    assert evaluate.default_name(c, 20) == "jsonl-queries_v2-heldout-step20"


def test_any_step_can_be_asked_for(whole, small):
    workdir, c = whole
    pretrained_policy, device_mesh = pretrained.load_policy(c), mesh.make(c.mesh)

    def weights(step):
        params, _, number = state.trained_weights(c, pretrained_policy, device_mesh, workdir, step)
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)]), number

    steps = {step: weights(step) for step in ("0", "1", "2", "newest", "best")}
    assert [number for _, number in steps.values()][:4] == [0, 1, 2, 2]
    np.testing.assert_array_equal(steps["2"][0], steps["newest"][0])
    assert np.abs(steps["0"][0] - steps["1"][0]).max() > 0 < np.abs(steps["1"][0] - steps["2"][0]).max()
    means = {row["step"]: row["eval/mean"] for row in run_log.read_run_log(workdir) if "eval/mean" in row}
    best = max(means, key=lambda step: (means[step], step))
    assert steps["best"][1] == best
    np.testing.assert_array_equal(steps["best"][0], steps[str(best)][0])


def test_steps_that_are_not_there_are_named(whole, path, small, tmp_path, capsys):
    workdir, c = whole
    values = settings_of_run.get_config(str(workdir))
    for step, message in (
        ("7", "the steps that can be used are (0, 1, 2)"),
        ("last", "--step: expected newest, best or the number of a saved step, got 'last'"),
    ):
        for mode in ("eval", "export"):
            options = dispatch.Options(step=step, out=str(tmp_path / "out"))
            assert dispatch.run(mode, values, str(workdir), options) == 1
            assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(checkpoint.CheckpointError, match=r"--step=best: .* has no checkpoints"):
        evaluate.run(c, tmp_path / "nothing", step="best")
    unscored = tiny.settings(path, train__steps=1, train__eval_examples=0)
    train.run(unscored, tmp_path / "unscored")
    with pytest.raises(checkpoint.CheckpointError, match=r"has a metric, so none is the best; .* are \(1,\)"):
        evaluate.run(tiny.settings(path), tmp_path / "unscored", step="best")
