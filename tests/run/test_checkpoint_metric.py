"""Metrics that come after their checkpoint, and reading that changes nothing and calls nothing damaged that is not."""

import json
import logging

import jax.numpy as jnp
import pytest

from dtr1_jax.run import checkpoint
from dtr1_jax.run.checkpoint import CheckpointError, Checkpoints

CONFIG = {"seed": 0, "train": {"steps": 60}}


def state(step):
    return {"w": jnp.full((4,), float(step))}


def save(workdir, metrics, keep=9):
    with Checkpoints(workdir, CONFIG, keep=keep) as checkpoints:
        for step, metric in metrics.items():
            checkpoints.save(step, state(step), {}, metric)


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_metric_that_comes_later_counts_as_if_it_had_been_there(tmp_path):
    save(tmp_path, {2: None, 4: 0.5})
    with Checkpoints(tmp_path, CONFIG, keep=1) as checkpoints:
        assert checkpoints.best() == 4 and checkpoints.metric(2) is None
        checkpoints.add_metric(2, 0.75)
        assert checkpoints.best() == 2 and checkpoints.metric(2) == 0.75
    with Checkpoints(tmp_path, CONFIG, keep=1) as checkpoints:  # also in the next process
        assert checkpoints.best() == 2
        checkpoints.save(6, state(6), {}, 0.1)
        checkpoints.save(8, state(8), {}, 0.2)
        checkpoints.wait()
        assert checkpoints.steps == (2, 8)  # the best is kept
        assert checkpoints.restore(state(0), checkpoint.BEST)[2] == 2


def test_saving_a_step_again_adds_its_metric_and_nothing_else(tmp_path):
    save(tmp_path, {2: None})
    before = files(tmp_path / "checkpoints" / "2")
    save(tmp_path, {2: 0.25})
    assert files(tmp_path / "checkpoints" / "2") == before
    save(tmp_path, {2: 0.9})  # it has one now
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        assert checkpoints.metric(2) == 0.25


@pytest.mark.parametrize("metric", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_is_none(tmp_path, metric):
    save(tmp_path, {2: None})
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        checkpoints.add_metric(2, metric)
        assert checkpoints.best() is None
    assert not list((tmp_path / "checkpoints").glob("metric-*"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"metric": "a"}', "{}", '{"metric": 1e999}', '{"metric": ' + "9" * 5000 + "}"],
    ids=range(7),
)
def test_a_broken_metric_file_is_no_metric(tmp_path, text):
    save(tmp_path, {2: None, 4: 0.5})
    (tmp_path / "checkpoints" / "metric-2.json").write_text(text)
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        assert checkpoints.best() == 4 and checkpoints.restore(state(0), 2)[2] == 2


def test_a_step_that_is_made_anew_does_not_inherit_a_metric(tmp_path):
    save(tmp_path, {2: None, 4: None})
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        checkpoints.add_metric(4, 0.9)
    next(path for path in (tmp_path / "checkpoints" / "4").rglob("*") if path.name == "manifest.ocdbt").write_bytes(b"")
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        assert checkpoints.restore(state(0))[2] == 2  # step 4 is damaged, and is moved aside
        checkpoints.save(4, state(4), {}, None)
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        assert checkpoints.steps == (2, 4) and checkpoints.metric(4) is None


def test_reading_changes_nothing(tmp_path):
    save(tmp_path, {2: 0.5})
    before = files(tmp_path)
    with Checkpoints(tmp_path, CONFIG, keep=1, read_only=True) as checkpoints:
        assert checkpoints.restore(state(0))[2] == 2
        with pytest.raises(CheckpointError, match="opened to be read"):
            checkpoints.save(4, state(4), {})
    assert files(tmp_path) == before


def test_reading_makes_no_folder_and_no_settings(tmp_path, caplog):
    save(tmp_path / "run", {2: 0.5})
    (tmp_path / "run" / "config.json").unlink()
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path / "run", CONFIG, keep=1, read_only=True) as checkpoints:
        assert checkpoints.restore(state(0))[2] == 2
    assert "config.json is missing" in caplog.text and not (tmp_path / "run" / "config.json").exists()
    with Checkpoints(tmp_path / "none", CONFIG, keep=1, read_only=True) as checkpoints:
        assert checkpoints.steps == () and checkpoints.restore(state(0)) is None
    assert not (tmp_path / "none").exists()


def nested(cause):
    """An error with `cause` behind it, as the libraries below raise them."""
    error = ValueError("cannot read the array")
    error.__cause__ = cause
    return error


CAUSES = [
    MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), PermissionError(13, "denied"),
    OSError(24, "Too many open files"), nested(MemoryError()), ValueError("PERMISSION_DENIED: opening a file"),
]  # fmt: skip


@pytest.mark.parametrize("error", CAUSES, ids=repr)
@pytest.mark.parametrize("step", ["newest", 4])
def test_what_passes_is_no_damage(tmp_path, monkeypatch, error, step):
    save(tmp_path, {2: None, 4: None})
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "_read_state", lambda *_: (_ for _ in ()).throw(error))
            with pytest.raises(CheckpointError, match=r"step 4 .* could not be read now"):
                checkpoints.restore(state(0), step)
        assert checkpoints.restore(state(0))[2] == 4
        checkpoints.save(6, state(6), {})
    assert (tmp_path / "checkpoints" / "4").is_dir() and not list((tmp_path / "checkpoints").glob("damaged*"))


def test_ctrl_c_while_reading_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path, {2: None, 4: None})
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoints, "_read_state", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            checkpoints.restore(state(0))
        assert checkpoints.restore(state(0))[2] == 4


def test_the_metric_file_says_its_step(tmp_path):
    save(tmp_path, {2: None})
    with Checkpoints(tmp_path, CONFIG, keep=9) as checkpoints:
        checkpoints.add_metric(2, 0.5)
    assert json.loads((tmp_path / "checkpoints" / "metric-2.json").read_text()) == {"step": 2, "metric": 0.5}
