"""Advantages of several tasks: OneThinker's formula in a plain loop, unscored rewards, and runs that stop."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dtr1_jax import config, mesh
from dtr1_jax.modes import learn, train
from dtr1_jax.policies import pretrained, state
from dtr1_jax.rl import advantages as adv
from dtr1_jax.rl import optim, update
from dtr1_jax.run import checkpoint, interrupt, run_log
from dtr1_jax.types import TASKS

SEG, GROUND, VQA, SUMMARY = range(4)
jitted = jax.jit(adv.ema_advantages, static_argnames=("decay", "eps"))


def loop(batches, decay, eps=1e-4):
    """The formula in float64, task by task and completion by completion; moments as the paper has them.

    The order of update and division and the bound are those of OneThinker's code (commit 768b20f3, EasyR1's
    core_algos.py); the bias correction is ours. NaN marks unscored rewards.
    """
    first, second, count = {}, {}, {}
    for reward_bg, task_b in batches:
        reward_bg = np.asarray(reward_bg, np.float64)
        for task in set(task_b):
            known = reward_bg[np.asarray(task_b) == task]
            known = known[~np.isnan(known)]
            if not len(known):
                continue
            first[task] = decay * first.get(task, 0.0) + (1 - decay) * known.mean()
            second[task] = decay * second.get(task, 0.0) + (1 - decay) * (known**2).mean()
            count[task] = count.get(task, 0) + 1
        out = np.zeros_like(reward_bg)
        for b, (group, task) in enumerate(zip(reward_bg, task_b)):
            known = group[~np.isnan(group)]
            if len(known) < 2 or known.max() == known.min():
                continue
            right = 1 - decay ** count[task]
            deviation = np.sqrt(second[task] / right - (first[task] / right) ** 2)
            advantage = (group - known.mean()) / (deviation + eps)
            if np.nanmax(np.abs(advantage)) > 5:
                advantage = (group - known.mean()) / (known.std(ddof=1) + eps)
            out[b] = np.nan_to_num(advantage)
    return out, {task: np.sqrt(max(0, second[t] / (1 - decay ** count[t]) - (first[t] / (1 - decay ** count[t])) ** 2))
                 for t, task in enumerate(TASKS) if t in count}  # fmt: skip


def ours(batches, decay, eps=1e-4):
    ema = adv.initial_ema()
    for reward_bg, task_b in batches:
        got, ema = jitted(np.float32(reward_bg), np.int32(task_b), ema, decay=decay, eps=eps)
    return np.asarray(got), {name.rpartition("/")[2]: x for name, x in learn.describe_ema(ema).items()}


def mixed(count=25, seed=0):
    """Batches of 6 groups of 4 whose tasks come and go and have rewards of unlike size; some are unscored."""
    rng = np.random.default_rng(seed)
    scale = np.array([1.0, 0.02, 0.3, 5.0])
    for _ in range(count):
        task_b = rng.choice([SEG, GROUND, VQA], 6) if rng.random() < 0.7 else np.full(6, SUMMARY)
        reward_bg = rng.random((6, 4)) * scale[task_b][:, None] + rng.random()
        reward_bg[rng.random((6, 4)) < 0.1] = np.nan
        reward_bg[0] = 0.25
        yield reward_bg, task_b


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99])
def test_the_formula(decay):
    batches = list(mixed())
    for n in (1, 2, 25):
        (got, deviations), (want, expected) = ours(batches[:n], decay), loop(batches[:n], decay)
        assert (want != 0).any()
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5)
        assert deviations == pytest.approx(expected, rel=1e-4) and list(deviations) == list(expected)


def test_by_hand():
    """First batch: the deviation of all its rewards, dividing by n; then 0.5 of it and 0.5 of the next, corrected."""
    ema = adv.initial_ema()
    got, ema = jitted(np.float32([[0, 1], [2, 3]]), np.int32([VQA, VQA]), ema, decay=0.5)
    np.testing.assert_allclose(got, np.array([[-0.5, 0.5]] * 2) / (np.sqrt(1.25) + 1e-4), rtol=1e-6)
    assert ema.weight_k.tolist() == [0, 0, 0.5, 0] and ema.mean_k.tolist() == [0, 0, 1.5, 0]
    got, ema = jitted(np.float32([[4, 4], [6, 6]]), np.int32([VQA, VQA]), ema, decay=0.5)
    m1, m2 = (0.25 * 1.5 + 0.5 * 5) / 0.75, (0.25 * 3.5 + 0.5 * 26) / 0.75
    np.testing.assert_allclose(ema.mean_k[VQA], m1, rtol=1e-6)
    np.testing.assert_allclose(ema.variance_k[VQA], m2 - m1**2, rtol=1e-6)
    assert not np.any(got)


def test_tasks_do_not_touch_one_another():
    reward_bg, task_b = np.float32([[0, 1], [0, 100]]), np.int32([SEG, GROUND])
    got, ema = jitted(reward_bg, task_b, adv.initial_ema(), decay=0.9)
    np.testing.assert_allclose(got, [[-1, 1], [-1, 1]], rtol=1e-3)  # though one is spread a hundred times as far
    _, after = jitted(reward_bg[:1], task_b[:1], ema, decay=0.9)
    for before, now in zip(jax.tree.leaves(ema), jax.tree.leaves(after)):
        assert (np.asarray(before)[1:] == np.asarray(now)[1:]).all()
    assert after.weight_k[SEG] == np.float32(0.9) * ema.weight_k[SEG] + np.float32(0.1)


def test_within_a_task_spread_counts():
    """The deviation of the group would make these two groups equal."""
    got, _ = jitted(np.float32([[0.4, 0.6], [0, 1]]), np.int32([SEG, SEG]), adv.initial_ema(), decay=0.9)
    assert got[1, 1] == pytest.approx(5 * float(got[0, 1]), rel=1e-5)


def test_rewards_that_begin_to_differ_are_bounded():
    ema = adv.initial_ema()
    for _ in range(50):
        got, ema = jitted(np.ones((8, 4), np.float32), np.zeros(8, np.int32), ema, decay=0.99)
        assert not np.any(got)
    assert learn.describe_ema(ema) == {"train/ema_std/segmentation": 0.0}  # exactly 0, without the rounding of 1 - 1
    reward_bg = np.ones((8, 4), np.float32)
    reward_bg[3, 1] = 0
    got, _ = jitted(reward_bg, np.zeros(8, np.int32), ema, decay=0.99)
    np.testing.assert_allclose(got[3], adv.advantages(reward_bg, scale="group")[3], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -1e30])
def test_unscored_rewards_are_left_out(bad):
    reward_bg, task_b = [[bad, 0.0, 1.0], [1.0, 2.0, 4.0], [bad, bad, bad]], [SEG, SEG, VQA]
    got, deviations = ours([(reward_bg, task_b)] * 2, 0.9)
    want, expected = loop([(np.where(np.abs(reward_bg) < 1e18, reward_bg, np.nan), task_b)] * 2, 0.9)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert deviations == pytest.approx(expected) and list(deviations) == ["segmentation"]


@given(hnp.arrays(np.float32, (3, 2, 3), elements=st.floats(width=32)), st.lists(st.integers(0, 3), min_size=2))
@settings(max_examples=100, deadline=None)
def test_always_finite(batches, tasks):
    ema = adv.initial_ema()
    for reward_bg in batches:
        got, ema = jitted(reward_bg, np.int32(tasks[:2]), ema, decay=0.9)
        assert all(np.isfinite(x).all() for x in (got, *jax.tree.leaves(ema)))
        assert (np.asarray(ema.variance_k) >= 0).all()


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
def test_the_same_on_every_mesh(sizes):
    rng = np.random.default_rng(0)
    reward_bg, task_b = rng.random((16, 5), np.float32), rng.integers(0, 4, 16, np.int32)

    def twice(m):
        ema = mesh.put(adv.initial_ema(), mesh.replicated(m))
        there = mesh.put_batch(m, (reward_bg, task_b))
        for _ in range(2):
            got, ema = learn.ema_advantages(*there, ema, decay=0.9, place=mesh.replicated(m))
        return [np.asarray(x) for x in (mesh.local(got), *jax.tree.leaves(ema))]

    one = twice(mesh.make(config.Mesh(1, 1, 1), jax.devices()[:1]))
    many = twice(mesh.make(config.Mesh(*sizes), jax.devices()[:8]))
    for a, b in zip(one, many):
        assert a.tobytes() == b.tobytes()


EMA = {"grpo__advantage": "ema", "grpo__ema_decay": 0.5, "grpo__minibatches": 2, "train__eval_examples": 0}


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    """A run of four steps that nothing disturbs: (workdir, settings)."""
    workdir, c = tmp_path_factory.mktemp("ema"), tiny.settings(path, **EMA)
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        train.run(c, workdir)
    return workdir, c


def test_a_stopped_run_goes_on_with_its_averages(whole, small, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        tiny.signals(patch, "TERM@learn:2")
        with pytest.raises(interrupt.Interrupted):
            train.run(whole[1], tmp_path)
    train.run(whole[1], tmp_path)
    a, b = (tiny.state(w, whole[1], 4) for w in (tmp_path, whole[0]))
    assert [name for name in b if a[name].tobytes() != b[name].tobytes()] == []
    weight = next(x for name, x in b.items() if "weight_k" in name)
    assert weight.tolist() == [1 - 0.5**4, 0, 0, 0]  # once a step, with any number of minibatches
    assert tiny.timeless(run_log.read_run_log(tmp_path)) == tiny.timeless(run_log.read_run_log(whole[0]))
    rows = run_log.read_run_log(tmp_path)
    assert all(row["train/ema_std/segmentation"] > 0 for row in rows) and len(rows) == 4
    assert not any(name.startswith("train/ema_std/") for name in rows[0] if not name.endswith("segmentation"))


def test_a_trained_policy_is_restored_under_another_advantage(whole, path, small):
    plain = tiny.settings(path)
    ready, m = pretrained.load_policy(plain), mesh.make(plain.mesh)
    weights = state.trained_weights(plain, ready, m, whole[0])[0]
    arrays = tiny.state(*whole, 4)
    for name, x in jax.tree_util.tree_leaves_with_path(weights):
        saved = arrays[f".trainable['base']{jax.tree_util.keystr(name)}"]
        assert np.array_equal(x, saved)


def test_the_setting_is_used_and_bound_to_the_workdir(whole, path, small, tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match=r"grpo\.ema_decay: workdir has 0\.5, this run has 0\.9"):
        train.run(tiny.settings(path, **EMA | {"grpo__ema_decay": 0.9}), whole[0])
    train.run(tiny.settings(path, **EMA | {"grpo__ema_decay": 0.0, "train__steps": 2}), tmp_path)
    ours, theirs = (run_log.read_run_log(w) for w in (tmp_path, whole[0]))
    assert ours[0]["train/loss"] == theirs[0]["train/loss"]  # the first batch weighs all in both
    assert ours[1]["train/ema_std/segmentation"] != theirs[1]["train/ema_std/segmentation"]


def test_a_decay_of_one_never_learns(path):
    for decay in (1.0, -0.1):
        with pytest.raises(config.ConfigError, match=r"config\.grpo\.ema_decay: expected a number in \[0, 1\)"):
            tiny.settings(path, grpo__ema_decay=decay)


def test_without_ema_a_checkpoint_has_no_averages(path, small):
    c = tiny.settings(path)
    m = mesh.make(c.mesh)
    trainable = state.initial_weights(c, pretrained.load_policy(c), m)[0]
    tx = optim.optimizer(c.optim, 4)
    leaves = jax.tree_util.tree_leaves_with_path(state.initial_state(tx, trainable, m))
    names = [jax.tree_util.keystr(p) for p, _ in leaves]
    assert names and all(name.startswith((".trainable", ".opt")) for name in names)
    assert [f.name for f in dataclasses.fields(update.State)] == ["trainable", "opt", "ema", "behind"]


def test_a_run_of_two_tasks_has_numbers_and_curves_of_each(path, small, tmp_path):
    real = train.experience.begin_collecting

    def begin_collecting(*args):
        e = real(*args)()
        renamed = [dataclasses.replace(x, task=TASKS[i % 2]) for i, x in enumerate(e.asked)]
        return lambda: dataclasses.replace(e, asked=renamed)

    small.setattr(train.experience, "begin_collecting", begin_collecting)
    page = train.run(tiny.settings(path, **EMA | {"train__steps": 2}), tmp_path).read_text()
    for row in run_log.read_run_log(tmp_path):
        assert row["train/reward"] == pytest.approx(np.mean([row[f"train/{task}/reward"] for task in TASKS[:2]]))
        assert {"train/ema_std/segmentation", "train/ema_std/grounding", "train/grounding/mask_iou"} <= set(row)
        assert not any("vqa" in name for name in row)
    assert "train/reward by task" in page and "train/ema_std by task" in page
