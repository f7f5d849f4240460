"""Attention by head and in blocks of queries equals attention at once, alone and in a whole model."""

import jax
import numpy as np
import pytest

from dtr1_jax.specialists import operations
from dtr1_jax.specialists.owlv2 import clip_towers, model, weights
from dtr1_jax.specialists.owlv2.spec import Spec, Tower

TOWER = Tower(12, 16, 1, 3, 1e-5, "quick_gelu")
SPEC = Spec(TOWER, TOWER, 9, 6, 0, 64, 16)
RNG = np.random.default_rng(0)
PARAMS = {name: RNG.normal(0, 0.3, shape).astype(np.float32) for name, shape in weights.shapes(SPEC).items()}


@pytest.mark.parametrize("count", [8, 17, 24])
def test_attention(monkeypatch, count):
    q, k, v = (RNG.normal(size=(2, count, 3, 4)).astype(np.float32) for _ in range(3))
    monkeypatch.setattr(clip_towers, "QUERIES", 8)
    wanted = jax.jit(operations.attention)(q, k, v)
    for function in (clip_towers.attention_in_blocks, clip_towers.attention_by_head, clip_towers.attention):
        assert np.abs(jax.jit(function)(q, k, v) - wanted).max() < 1e-6


def test_model_in_blocks(monkeypatch):
    pixels = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
    whole = jax.jit(lambda w, x: model.picture_features(w, SPEC, x))(PARAMS, pixels)
    monkeypatch.setattr(clip_towers, "QUERIES", 6)
    monkeypatch.setattr(clip_towers, "attention", clip_towers.attention_in_blocks)
    blocks = jax.jit(lambda w, x: model.picture_features(w, SPEC, x))(PARAMS, pixels)
    assert np.abs(whole - blocks).max() < 1e-5


def test_padding_behind_the_end_changes_nothing():
    tokens = np.array([[7, 3, 8, 0, 0, 0], [7, 3, 8, 5, 1, 2], [7, 3, 8, 8, 0, 0], [7, 4, 8, 0, 0, 0]], np.int32)
    states = np.asarray(jax.jit(lambda w, x: clip_towers.phrase_states(w, SPEC, x))(PARAMS, tokens))
    assert np.abs(states[1:3] - states[0]).max() < 1e-6 and np.abs(states[3] - states[0]).max() > 1e-3
