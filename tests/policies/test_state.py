"""The weights of a run's checkpoints, by step."""

import jax
import numpy as np
import pytest
import tiny

from dtr1_jax import mesh
from dtr1_jax.modes import train
from dtr1_jax.policies import pretrained, state
from dtr1_jax.run import run_log


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    """A run of two steps with an evaluation after each: (workdir, settings)."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        c = tiny.settings(path, train__steps=2, train__eval_every=1, checkpoint__every=1, checkpoint__keep=3)
        train.run(c, workdir)
    return workdir, c


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
