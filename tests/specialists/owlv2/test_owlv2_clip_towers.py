"""The towers: attention head by head, as on large pictures, and padding of phrases."""

import jax
import numpy as np

from dtr1_jax.specialists import long_attention
from dtr1_jax.specialists.owlv2 import clip_towers, model, weights
from dtr1_jax.specialists.owlv2.spec import Owlv2Spec, Tower

TOWER = Tower(12, 16, 1, 3, 1e-5, "quick_gelu")
SPEC = Owlv2Spec(TOWER, TOWER, 9, 6, 0, 64, 16)
RNG = np.random.default_rng(0)
PARAMS = {name: RNG.normal(0, 0.3, shape).astype(np.float32) for name, shape in weights.shapes(SPEC).items()}


def test_model_head_by_head(monkeypatch):
    pixels = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
    whole = jax.jit(lambda w, x: model.picture_features(w, SPEC, x))(PARAMS, pixels)
    monkeypatch.setattr(long_attention, "_LARGE", 1)
    by_head = jax.jit(lambda w, x: model.picture_features(w, SPEC, x))(PARAMS, pixels)
    assert np.abs(whole - by_head).max() < 1e-5


def test_padding_behind_the_end_changes_nothing():
    tokens = np.array([[7, 3, 8, 0, 0, 0], [7, 3, 8, 5, 1, 2], [7, 3, 8, 8, 0, 0], [7, 4, 8, 0, 0, 0]], np.int32)
    states = np.asarray(jax.jit(lambda w, x: clip_towers.phrase_states(w, SPEC, x))(PARAMS, tokens))
    assert np.abs(states[1:3] - states[0]).max() < 1e-6 and np.abs(states[3] - states[0]).max() > 1e-3
