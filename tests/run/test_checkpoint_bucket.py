"""Checkpoints in a bucket, written and read by orbax and tensorstore themselves."""

import buckets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax import places
from dtr1_jax.run import checkpoint

URL = "gs://bucket/run"


@pytest.fixture(autouse=True)
def bucket():
    with buckets.with_checkpoints():
        yield


def state(step: int) -> dict:
    return {"a": jnp.arange(6.0) + step, "b": {"c": jnp.full((3, 4), step, jnp.bfloat16)}}


TEMPLATE = jax.eval_shape(lambda: state(0))


def opened(**more) -> checkpoint.Checkpoints:
    return checkpoint.Checkpoints(URL, {"lr": 1.0}, keep=1, **more)


def folders() -> set[str]:
    names = (n.removeprefix("bucket/run/checkpoints/") for n in buckets.objects if n.startswith("bucket/run/checkp"))
    return {name.partition("/")[0] for name in names if "/" in name}


def test_saved_steps_come_back_bit_for_bit_and_old_ones_go():
    with opened() as saved:
        for step, metric in ((1, 0.9), (2, 0.1), (3, None)):
            saved.save(step, state(step), {"n": step}, metric)
        saved.add_metric(3, 0.2)
        saved.wait()
        assert saved.steps == (1, 3) and folders() == {"1", "3"}  # the best and the newest
    with opened(read_only=True) as saved:
        assert saved.best() == 1 and saved.metric(3) == 0.2
        for wanted, step in (("newest", 3), ("best", 1), (1, 1)):
            restored, position, number = saved.restore(TEMPLATE, wanted)
            assert (position, number) == ({"n": step}, step)
            for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state(step))):
                assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    with pytest.raises(checkpoint.CheckpointError, match=r"lr: workdir has 1.0, this run has 2.0"):
        checkpoint.Checkpoints(URL, {"lr": 2.0}, keep=1)


def test_a_metric_that_cannot_be_read_is_an_error(monkeypatch):
    """Else the best step would count as an old one, and be removed."""
    with opened() as saved:
        saved.save(1, state(1), {"n": 1}, 0.9, wait=True)
        saved.add_metric(1, 0.9)
    read = places.read_bytes

    def refuse(file):
        if "metric-" in str(file):
            raise places.PlaceError(f"{file}: 503")
        return read(file)

    monkeypatch.setattr(places, "read_bytes", refuse)
    with pytest.raises(places.PlaceError, match=r"metric-1\.json: 503"):
        opened()


def test_half_written_and_damaged_steps():
    with opened() as saved:
        saved.save(1, state(1), {"n": 1}, wait=True)
        saved.save(2, state(2), {"n": 2}, 1.0, wait=True)
        saved.save(3, state(3), {"n": 3}, wait=True)
    del buckets.objects["bucket/run/checkpoints/3/commit_success.txt"]  # as if its process had been killed
    for name in [n for n in buckets.objects if n.startswith("bucket/run/checkpoints/2/state/d/")]:
        del buckets.objects[name]
    with opened() as saved:
        assert 3 not in saved.steps
        with pytest.raises(checkpoint.CheckpointError, match="no readable checkpoint"):
            saved.restore(TEMPLATE)
        saved.save(2, state(20), {"n": 20}, wait=True)  # the damaged one is moved aside, not deleted
        assert "damaged-2-0" in folders()
        saved.save(3, state(30), {"n": 30}, wait=True)  # over the half-written one
        assert saved.restore(TEMPLATE)[1:] == ({"n": 30}, 3)


def test_other_buckets_are_refused():
    with pytest.raises(places.PlaceError, match="--workdir=s3://bucket/run: checkpoints can be saved in gs://"):
        checkpoint.Checkpoints("s3://bucket/run", {}, keep=1)
