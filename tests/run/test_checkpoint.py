"""Checkpoints: bit for bit, on any mesh, after a kill or damage, and never with the wrong settings."""

import json
import logging
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtr1_jax.run.checkpoint import CheckpointError, Checkpoints, parse_step

CONFIG = {
    "seed": 0,
    "policy": {"name": "tiny"},
    "train": {"steps": 60},
    "reward": {"workers": 2, "weights": {"a": 1.0}},
}


def make_state(seed=0):
    """Trainable arrays of several types, an optimizer state, and a counter."""
    k1, k2 = jax.random.split(jax.random.key(seed))
    params = {"w": jax.random.normal(k1, (16, 8)), "b": jax.random.normal(k2, (8,)).astype(jnp.bfloat16)}
    opt = optax.adamw(1e-3).init(params)
    return {"params": params, "opt": opt, "skipped": jnp.uint32(seed), "flag": jnp.array(True)}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


def save_steps(workdir, steps=(2, 4), keep=3):
    """A workdir with a checkpoint of state `make_state(step)` for each step."""
    with Checkpoints(workdir, CONFIG, keep=keep) as checkpoints:
        for s in steps:
            checkpoints.save(s, make_state(s), {"next_index": s * 8})
    return workdir


def test_nothing_saved(tmp_path):
    with Checkpoints(tmp_path / "new", CONFIG, keep=1) as checkpoints:
        assert checkpoints.restore(make_state()) is None and checkpoints.steps == () and checkpoints.best() is None


def test_round_trip_is_bit_for_bit(tmp_path):
    save_steps(tmp_path)
    with Checkpoints(tmp_path, CONFIG, keep=3) as checkpoints:
        state, data, step = checkpoints.restore(jax.eval_shape(make_state))
        assert (data, step) == ({"next_index": 32}, 4)
        assert_same(state, make_state(4))
        state, data, step = checkpoints.restore(make_state(), step=2)
        assert (data, step) == ({"next_index": 16}, 2)
        assert_same(state, make_state(2))
        with pytest.raises(CheckpointError, match=r"step 3 .*\(2, 4\)"):
            checkpoints.restore(make_state(), step=3)


def test_state_may_be_donated_right_after_save(tmp_path):
    update = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = {"w": jnp.arange(200_000.0)}
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(20):
            state = update(state)
        restored, _, _ = checkpoints.restore(state)
    np.testing.assert_array_equal(restored["w"], np.arange(200_000.0))


def test_restores_on_another_mesh(tmp_path):
    def mesh(shape):
        return jax.make_mesh(shape, ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def on(shape):
        sharding = jax.sharding.NamedSharding(mesh(shape), jax.sharding.PartitionSpec("x", "y"))
        return {"w": jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=sharding)}

    w = jax.random.normal(jax.random.key(0), (16, 8))
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        checkpoints.save(1, {"w": jax.device_put(w, on((2, 4))["w"].sharding)}, {})
        for shape in ((8, 1), (1, 1), (2, 2)):
            state, _, _ = checkpoints.restore(on(shape))
            assert state["w"].sharding.is_equivalent_to(on(shape)["w"].sharding, 2)
            assert_same(state, {"w": w})


def test_keeps_the_newest_and_the_best(tmp_path):
    metrics = {1: 0.1, 2: 0.9, 3: None, 4: 0.5, 5: float("nan"), 6: 0.2}
    for half in ((1, 2, 3), (4, 5, 6)):  # the best step is found again after a restart
        with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
            for s in half:
                checkpoints.save(s, {"w": jnp.full(3, s)}, {}, metrics[s], wait=True)
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        assert checkpoints.steps == (2, 5, 6) and checkpoints.best() == 2


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(3)}, {})
        checkpoints.save(1, {"w": jnp.ones(3)}, {})
        assert_same(checkpoints.restore({"w": jnp.ones(3)})[0], {"w": jnp.zeros(3)})


def test_kill_during_save_leaves_the_step_before(tmp_path, caplog):
    program = f"""
import os, signal, jax, jax.numpy as jnp
from dtr1_jax.run.checkpoint import Checkpoints
checkpoints = Checkpoints({str(tmp_path)!r}, {CONFIG!r}, keep=2)
big = jax.block_until_ready(jax.random.normal(jax.random.key(0), (8_000_000,)))  # long to write
checkpoints.save(2, {{"w": jnp.arange(4.0)}}, {{"next_index": 16}}, wait=True)
before = len(os.listdir({str(tmp_path / "checkpoints")!r}))
checkpoints.save(4, {{"w": big}}, {{"next_index": 32}})
while len(os.listdir({str(tmp_path / "checkpoints")!r})) == before:
    pass  # another thread makes its folder
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", program], env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False)
    assert process.returncode == -signal.SIGKILL
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        state, data, step = checkpoints.restore({"w": jnp.zeros(4)})
        assert (data, step) == ({"next_index": 16}, 2) and "half-written" in caplog.text
        assert_same(state, {"w": jnp.arange(4.0)})
        checkpoints.save(4, {"w": jnp.full(4, 7.0)}, {"next_index": 32}, wait=True)  # in place of the half-written one
        assert_same(checkpoints.restore({"w": jnp.zeros(4)})[0], {"w": jnp.full(4, 7.0)})


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def numbers_file(step_folder):
    """The largest file: the chunks of the arrays."""
    return max((p for p in step_folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
    "damage",
    [
        lambda step: truncate(step / "meta" / "metadata"),
        lambda step: (step / "meta" / "metadata").write_text('{"arrays": 3, "data": [], "metric": "best"}'),
        lambda step: (step / "state" / "manifest.ocdbt").unlink(),
        lambda step: truncate(step / "state" / "_METADATA"),
        lambda step: numbers_file(step).unlink(),
        lambda step: truncate(numbers_file(step)),
        lambda step: flip(numbers_file(step)),
    ],
    ids=[
        "meta-truncated",
        "meta-strange",
        "manifest-gone",
        "tree-truncated",
        "numbers-gone",
        "numbers-short",
        "bit-flip",
    ],
)
def test_a_damaged_step_is_skipped(tmp_path, caplog, damage):
    state = lambda s: {"w": jax.random.normal(jax.random.key(s), (20_000,))}  # noqa: E731
    with Checkpoints(tmp_path, CONFIG, keep=1) as checkpoints:
        checkpoints.save(2, state(2), {"i": 2}, 1.0)
        checkpoints.save(4, state(4), {"i": 4}, 0.5)
    damage(tmp_path / "checkpoints" / "4")
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path, CONFIG, keep=1) as checkpoints:
        restored, data, step = checkpoints.restore(state(0))
        assert (data, step) == ({"i": 2}, 2) and "damaged checkpoint step 4" in caplog.text
        assert_same(restored, state(2))
        with pytest.raises(CheckpointError, match="step 4"):
            checkpoints.restore(state(0), step=4)
        checkpoints.save(3, state(3), {"i": 3}, 0.0, wait=True)  # the damaged step must not count among the newest
        checkpoints.save(4, state(4), {"i": 4}, 0.0, wait=True)
        assert checkpoints.steps == (2, 4)
        assert_same(checkpoints.restore(state(0))[0], state(4))
    assert (tmp_path / "checkpoints" / "damaged-4-0").is_dir()  # moved aside, not deleted


def test_all_damaged_is_an_error_and_not_a_new_start(tmp_path):
    save_steps(tmp_path)
    for s in (2, 4):
        (tmp_path / "checkpoints" / str(s) / "state" / "manifest.ocdbt").unlink()
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        with pytest.raises(CheckpointError, match="no readable checkpoint"):
            checkpoints.restore(make_state())


def test_other_arrays_are_refused_by_name(tmp_path):
    save_steps(tmp_path)
    template = make_state()
    template["params"] = {"w": jnp.zeros((16, 9)), "b": jnp.zeros(8, jnp.float32), "lora": jnp.ones(1)}
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        with pytest.raises(CheckpointError) as e:
            checkpoints.restore(template)
        assert checkpoints.steps == (2, 4)
    for line in (
        "params/w: expected float32[16, 9], the checkpoint has float32[16, 8]",
        "params/b: expected float32[8], the checkpoint has bfloat16[8]",
        "params/lora: expected float32[1], the checkpoint has nothing",
    ):
        assert line in str(e.value)


def test_config_is_written_once_and_free_settings_may_change(tmp_path):
    save_steps(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    assert json.loads(before) == CONFIG
    other = {**CONFIG, "train": {"steps": 90}, "reward": {"workers": 8, "weights": {"a": 1.0}}, "mesh": {"data": 2}}
    other["policy"] = {"name": "tiny", "remat": "on"}
    with Checkpoints(tmp_path, other, keep=2) as checkpoints:
        assert checkpoints.steps == (2, 4)
    assert (tmp_path / "config.json").read_bytes() == before


def test_other_settings_are_refused_by_name(tmp_path):
    save_steps(tmp_path)
    other = {**CONFIG, "seed": 1, "policy": {"name": "big"}, "reward": {"workers": 2, "weights": {"a": 1.0, "b": 2.0}}}
    with pytest.raises(CheckpointError) as e:
        Checkpoints(tmp_path, other, keep=2)
    for line in (
        "seed: workdir has 0, this run has 1",
        "policy.name: workdir has 'tiny', this run has 'big'",
        "reward.weights.b: workdir has 0.0, this run has 2.0",
        "--workdir",
    ):
        assert line in str(e.value)
    assert "reward.weights.a" not in str(e.value)
    with Checkpoints(tmp_path, {**other, "policy": {"name": "tiny"}}, keep=2, fields=("policy",)) as checkpoints:
        assert checkpoints.steps == (2, 4)  # the settings outside of `fields` may differ
    with pytest.raises(CheckpointError, match=r"policy\.name"):
        Checkpoints(tmp_path, other, keep=2, fields=("policy",))


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000])
def test_a_broken_config_is_an_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="the settings of a run cannot be read"):
        Checkpoints(tmp_path, CONFIG, keep=2)
    assert (tmp_path / "config.json").read_text() == content


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"cannot write to workdir .*file/run"):
        Checkpoints(tmp_path / "file" / "run", CONFIG, keep=2)
    assert (tmp_path / "file").read_text() == "mine"


def test_other_files_in_the_workdir_stay(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "best-run").mkdir()
    save_steps(tmp_path, steps=(1, 2, 3), keep=1)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "best-run").is_dir()


def test_data_state_must_be_json(tmp_path):
    with Checkpoints(tmp_path, CONFIG, keep=1) as checkpoints, pytest.raises(TypeError, match="JSON"):
        checkpoints.save(1, {"w": jnp.zeros(1)}, {"state": b"bytes"})


METRICS = {1: 0.1, 2: 0.9, 3: None, 4: 0.5}


def save_with_metrics(workdir):
    """A workdir with four checkpoints, of which step 2 is the best and step 4 the newest."""
    with Checkpoints(workdir, CONFIG, keep=9) as checkpoints:
        for step, metric in METRICS.items():
            checkpoints.save(step, {"w": jnp.full(3, step)}, {"next_index": step}, metric)
    return workdir


@pytest.mark.parametrize("name, step", [("newest", 4), ("best", 2), ("1", 1), ("3", 3)])
def test_a_step_is_chosen_by_name_or_number(tmp_path, name, step):
    save_with_metrics(tmp_path)
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        state, data, number = checkpoints.restore({"w": jnp.zeros(3, int)}, parse_step(name))
    assert (number, data, state["w"].tolist()) == (step, {"next_index": step}, [step] * 3)


@pytest.mark.parametrize("text", ["", "last", "Best", "-1", "+1", "1.0", " 1", "1_0", "\u0661", "9" * 30])
def test_a_text_that_names_no_step(text):
    with pytest.raises(CheckpointError, match="--step: expected newest, best or the number of a saved step, got"):
        parse_step(text)


@pytest.mark.parametrize("step", [5, 0, "best"])
def test_a_step_that_does_not_exist_is_refused_with_the_steps_that_do(tmp_path, step):
    save_steps(tmp_path)  # without metrics
    with Checkpoints(tmp_path, CONFIG, keep=3) as checkpoints:
        with pytest.raises(CheckpointError, match=r"steps that can be used are \(2, 4\)"):
            checkpoints.restore(make_state(), step)
    with Checkpoints(tmp_path / "new", CONFIG, keep=3) as checkpoints:
        with pytest.raises(CheckpointError, match="there is no complete checkpoint"):
            checkpoints.restore(make_state(), step)


@pytest.mark.parametrize("step, name", [(2, 2), (4, 4), (2, "best")])
def test_a_damaged_step_is_refused_where_it_was_named(tmp_path, step, name):
    save_with_metrics(tmp_path)
    (tmp_path / "checkpoints" / str(step) / "state" / "manifest.ocdbt").unlink()
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        others = ", ".join(str(s) for s in METRICS if s != step)
        with pytest.raises(CheckpointError, match=rf"step {step} in .* is damaged \(.*\); .*\({others}\)"):
            checkpoints.restore({"w": jnp.zeros(3, int)}, name)


def test_a_step_with_a_broken_metric_is_not_the_best_and_a_warning_says_so(tmp_path, caplog):
    save_with_metrics(tmp_path)
    truncate(tmp_path / "checkpoints" / "2" / "meta" / "metadata")
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        assert checkpoints.restore({"w": jnp.zeros(3, int)}, "best")[2] == 4
    assert "checkpoints [2] cannot be chosen as the best" in caplog.text


def test_a_half_written_step_is_refused_where_it_was_named(tmp_path):
    save_steps(tmp_path)
    (tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path, CONFIG, keep=3) as checkpoints:
        with pytest.raises(CheckpointError, match=r"step 6 in .*: it is half-written, .*\(2, 4\)"):
            checkpoints.restore(make_state(), 6)
        assert checkpoints.restore(make_state())[2] == 4


def test_a_step_that_was_moved_aside_is_refused_where_it_was_named(tmp_path):
    save_steps(tmp_path)
    (tmp_path / "checkpoints" / "4" / "state" / "manifest.ocdbt").unlink()
    with Checkpoints(tmp_path, CONFIG, keep=3) as checkpoints:
        assert checkpoints.restore(make_state())[2] == 2
        checkpoints.save(6, make_state(6), {}, wait=True)
        with pytest.raises(CheckpointError, match=r"step 4 in .*: it was damaged and is moved aside; .*\(2, 6\)"):
            checkpoints.restore(make_state(), 4)
