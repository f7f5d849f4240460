"""Importance weights between sampler and scorer by hand; their place in the loss is in test_loss_trl.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax.rl.importance import MODES, importance_weights

# Two completions; the ratios of scorer to sampler are 2, 1/4, 1 (sum of logs: 1/2) and 4, 2, with a masked token.
RATIO = np.array([[[2.0, 0.25, 1.0], [4.0, 2.0, 100.0]]])
MASK = np.array([[[True, True, True], [True, True, False]]])
SAMPLER = np.full((1, 2, 3), -1.0)
SCORER = SAMPLER + np.log(RATIO)


def weights(mode, low=0.0, high=3.0, scorer=SCORER, sampler=SAMPLER, mask=MASK):
    weight, metrics = importance_weights(
        *(jnp.asarray(x) for x in (scorer, sampler, mask)), mode=mode, low=low, high=high
    )
    return np.asarray(weight), {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("mode, low, high, want", [
    ("token_truncate", 0.0, 3.0, [[2, 0.25, 1], [3, 2, 0]]),
    ("token_truncate", 0.5, 1.5, [[1.5, 0.5, 1], [1.5, 1.5, 0]]),
    ("token_mask", 0.0, 3.0, [[2, 0.25, 1], [0, 2, 0]]),
    ("token_mask", 0.5, 3.0, [[2, 0, 1], [0, 2, 0]]),
    ("sequence_truncate", 0.0, 3.0, [[0.5, 0.5, 0.5], [3, 3, 0]]),
    ("sequence_truncate", 0.75, 9.0, [[0.75, 0.75, 0.75], [8, 8, 0]]),
    ("sequence_mask", 0.0, 3.0, [[0.5, 0.5, 0.5], [0, 0, 0]]),
    ("sequence_mask", 0.75, 9.0, [[0, 0, 0], [8, 8, 0]]),
])  # fmt: skip
def test_by_hand(mode, low, high, want):
    np.testing.assert_allclose(weights(mode, low, high)[0], [want], rtol=1e-6)


def test_metrics_by_hand():
    logs = np.abs(np.log([2, 0.25, 1, 4, 2]))
    _, metrics = weights("token_mask")
    want = {"mismatch": logs.mean(), "mismatch_max": logs.max(), "importance": 5.25 / 5, "importance_bounded": 1 / 5}
    assert metrics == pytest.approx(want, rel=1e-6)
    assert weights("sequence_truncate")[1]["importance_bounded"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("mode", MODES)
def test_equal_log_probabilities_have_weight_1(mode):
    weight, metrics = weights(mode, scorer=SAMPLER)
    np.testing.assert_array_equal(weight, MASK)
    assert metrics == {"mismatch": 0, "mismatch_max": 0, "importance": 1, "importance_bounded": 0}


@pytest.mark.parametrize("mode", MODES)
def test_padding_and_far_off_values_stay_finite(mode):
    dirty = np.where(MASK, SAMPLER, np.nan)
    clean = weights(mode)
    got = weights(mode, scorer=np.where(MASK, SCORER, np.nan), sampler=dirty)
    np.testing.assert_array_equal(got[0], clean[0])
    assert got[1] == clean[1]
    for scorer, sampler in ((-1e4, 0.0), (0.0, -1e4)):
        weight, metrics = weights(mode, scorer=np.full_like(SAMPLER, scorer), sampler=np.full_like(SAMPLER, sampler))
        assert np.isfinite(weight).all() and (weight <= 3).all() and np.isfinite(list(metrics.values())).all()
    none = weights(mode, mask=np.zeros_like(MASK))
    assert not none[0].any() and not any(none[1].values())


@pytest.mark.parametrize("mode", MODES)
def test_no_gradient_flows_through_a_weight(mode):
    arrays = [jnp.asarray(x, jnp.float32) for x in (SAMPLER + 0.1, SAMPLER)]
    grads = jax.grad(lambda a, b: importance_weights(a, b, MASK, mode=mode, low=0.0, high=3.0)[0].sum(), (0, 1))
    assert not any(np.any(x) for x in grads(*arrays))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"expected one of token_truncate, .*got 'off'"):
        weights("off")
