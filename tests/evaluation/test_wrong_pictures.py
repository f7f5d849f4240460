"""Queries with the pixels of another query: what changes, and what a policy that looks, or does not look, answers."""

import dataclasses

import jax
import numpy as np
import pytest
import small
import tiny

from dtr1_jax.data import sources
from dtr1_jax.evaluation import predict, wrong_pictures
from dtr1_jax.modes import train
from dtr1_jax.policies import pretrained, state
from dtr1_jax.policies.runtime import Runtime


def test_only_the_pixels_change():
    prompt = small.prompt(5)
    patch = prompt.images.patch_bnc.copy()
    patch[1] = patch[0]  # two queries about one picture
    slot = prompt.slot_bp.copy()
    slot[4] = -1  # a query without a picture
    prompt = dataclasses.replace(prompt, slot_bp=slot, images=dataclasses.replace(prompt.images, patch_bnc=patch))
    got, changed_b = wrong_pictures.with_pixels_of_others(prompt)
    assert changed_b.tolist() == [True, True, True, True, False]
    np.testing.assert_array_equal(got.images.patch_bnc, patch[[2, 2, 3, 4, 4]])
    same = dataclasses.replace(got, images=dataclasses.replace(got.images, patch_bnc=patch))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(prompt), strict=True))


def test_without_other_pixels_nothing_changes():
    prompt = small.prompt(3)
    patch = np.repeat(prompt.images.patch_bnc[:1], 3, 0)
    for images in (dataclasses.replace(prompt.images, patch_bnc=patch), None):
        alike = dataclasses.replace(prompt, images=images)
        got, changed_b = wrong_pictures.with_pixels_of_others(alike)
        assert not changed_b.any()
        assert all((a == b).all() for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(alike), strict=True))


@pytest.mark.parametrize("looks", [True, False])
def test_a_policy_that_does_not_look_says_the_same(looks, tmp_path, monkeypatch):
    """Without looking: the vision tower's last layer is 0, so every picture gives the same vision tokens."""
    tiny.install(monkeypatch)
    c = tiny.settings(tiny.weights_file(tmp_path), train__eval_examples=8, train__eval_batch=8)
    ready = pretrained.load_policy(c)
    device_mesh = train.mesh.make(c.mesh)
    trainable, _ = state.initial_weights(c, ready, device_mesh)
    # The vision tokens of a random policy of this size are too weak to change a word: make them louder.
    factor = 300.0 if looks else 0.0
    merger = jax.tree.map(lambda x: factor * x, trainable["base"]["vision"]["merger"]["fc2"])
    trainable["base"]["vision"]["merger"]["fc2"] = merger
    with train.host_tools(c) as (segmenter, text_scorers, _):
        runtime = Runtime(c, ready, device_mesh, trainable["base"], None, segmenter, text_scorers)
        source = sources.open_source(c.data, c.data.eval_split)
        predictions = predict.evaluate(runtime, source)
        same, queries = wrong_pictures.same_answers(runtime, source, predictions)
        assert queries == 8 and (same < 0.5 if looks else same == 1)
        given = dataclasses.replace(ready, style=dataclasses.replace(ready.style, constructor="given"))
        assert wrong_pictures.same_answers(dataclasses.replace(runtime, policy=given), source, predictions)[1] == 0
        assert wrong_pictures.same_answers(runtime, source, []) == (0.0, 0)
