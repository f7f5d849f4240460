"""Logits, greedy completions and the use of every weight, against transformers for random models of many shapes."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference models need torch: pip install -e '.[parity]'")
import parity

from dtr1_jax.data import patch_layout
from dtr1_jax.models import layers
from dtr1_jax.models.weights import native
from dtr1_jax.rl import rollout

LIMIT = 1e-4
SIZES = [(family, size) for family in parity.CONFIGS for size in range(3)]


def scenes(family):
    return {n: s for n, s in parity.SCENES.items() if family in parity.VISION or n == "text"} | (
        {} if family in parity.VISION else {"longer": tuple(range(3, 37)), "one token": (4,)}
    )


@functools.cache
def batch(family, size):
    """All scenes side by side in one batch of unequal prompts: (names, rows for transformers, prompt for us)."""
    named = scenes(family)
    rows = [parity.row(family, size, scene, seed) for seed, scene in enumerate(named.values())]
    return list(named), rows, parity.prompt(family, size, rows)


@functools.cache
def ours(family, size):
    _, _, prompt = batch(family, size)
    return parity.params(family, size), np.asarray(
        parity.prompt_logits(parity.params(family, size), prompt, spec=parity.shape(family, size))
    )


@pytest.mark.parametrize(
    ("family", "size", "scene"), [(family, size, scene) for family, size in SIZES for scene in scenes(family)]
)
def test_logits_after_every_prompt_token(family, size, scene):
    names, rows, prompt = batch(family, size)
    i = names.index(scene)
    wanted = parity.torch_logits(family, size, rows[i])
    got = ours(family, size)[1][i][prompt.mask_bp[i]]
    assert got.shape == wanted.shape and np.abs(wanted).max() > 0.5
    np.testing.assert_allclose(got, wanted, atol=LIMIT, rtol=0)


@pytest.mark.parametrize(("family", "size"), SIZES)
def test_logits_of_completions_that_share_a_prefix(family, size):
    _, rows, prompt = batch(family, size)
    token = np.random.default_rng(2).integers(0, parity.TEXT_TOKENS, (len(rows), 2, 5)).astype(np.int32)
    spec = parity.shape(family, size)
    got = np.asarray(parity.completion_logits(ours(family, size)[0], prompt, token, spec=spec))
    for i, r in enumerate(rows):
        for g in range(2):
            wanted = parity.torch_logits(family, size, r, token[i, g])[len(r.ids) - 1 : -1]
            np.testing.assert_allclose(got[i, g], wanted, atol=LIMIT, rtol=0)


@pytest.mark.parametrize("family", parity.CONFIGS)
def test_greedy_completions_are_equal_token_by_token(family):
    # random models with a tied embedding repeat their last token
    size = next(i for i in range(3) if not parity.shape(family, i).tied)
    _, rows, prompt = batch(family, size)
    rows, prompt = rows[-2:], jax.tree.map(lambda x: x[-2:], prompt)
    got = rollout.sample(
        ours(family, size)[0], None, prompt, jax.random.key(0), None, spec=parity.shape(family, size), group=2,
        new_tokens=64, end=-1, pad=0, temperature=0.0,
    )  # fmt: skip
    for i, r in enumerate(rows):
        wanted = parity.generate(family, size, r, 64)
        assert len(wanted) == 64 and len(set(wanted.tolist())) > 3
        for g in range(2):
            np.testing.assert_array_equal(got.token_bgs[i, g], wanted)


@pytest.mark.parametrize("family", parity.CONFIGS)
def test_every_weight_moves_the_logits(family):
    """Each layer of each leaf by itself."""
    _, _, prompt = batch(family, 0)
    params, before = ours(family, 0)
    spec = parity.shape(family, 0)
    flat, rng, checked = native.flatten(params), np.random.default_rng(3), 0
    for name, leaf in flat.items():
        stacked = any(part in name for part in ("decoder/", "blocks/", "deepstack/"))
        for layer in range(len(leaf)) if stacked else [...]:
            changed = np.array(leaf)
            changed[layer] += 0.3 * rng.standard_normal(changed[layer].shape).astype(np.float32)
            after = parity.prompt_logits(native.unflatten(flat | {name: changed}), prompt, spec=spec)
            assert np.abs(np.asarray(after) - before)[prompt.mask_bp].max() > 1e-3, (name, layer)
            checked += 1
    assert checked > len(flat)


@pytest.mark.parametrize("family", parity.VISION)
def test_a_new_picture_of_the_same_padded_size_is_not_traced_again(family):
    spec, params = parity.shape(family, 0), parity.params(family, 0)
    parity.prompt_logits.clear_cache()
    for seed, scene in enumerate(("not square", "video", "odd window edge", "text", "two images")):
        prompt = parity.prompt(family, 0, [parity.row(family, 0, parity.SCENES[scene], seed)])
        parity.prompt_logits(params, prompt, spec=spec)
    assert parity.prompt_logits._cache_size() == 1


@pytest.mark.parametrize("family", parity.VISION)
def test_many_queries_are_taken_in_pieces(family, monkeypatch):
    """The result of attention does not depend on the number of scores that are held at once."""
    params, before = ours(family, 0)
    _, _, prompt = batch(family, 0)
    spec = dataclasses.replace(parity.shape(family, 0), lora_scale=3.0)  # another spec, so that it is compiled anew
    monkeypatch.setattr(layers, "SCORES", 2_000)
    after = np.asarray(parity.prompt_logits(params, prompt, spec=spec))
    np.testing.assert_allclose(after[prompt.mask_bp], before[prompt.mask_bp], atol=1e-5)


def test_windows_are_runs():
    """The layout fulfils the conditions of attend_runs: equal numbers are consecutive, and no window is too large."""
    layout = patch_layout.layout([(2, 10, 6), (1, 4, 4), (1, 2, 14)], merge=2, window=2, patches=300)
    number = layout.fields["window_bn"]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    assert len(starts) == len(set(number[starts].tolist()))
    assert np.diff(starts).max() <= 16 or number[starts[-1]] == 0
    assert sorted(layout.order) == list(range(2 * 60 + 16 + 28)) and sorted(layout.place) == list(range(41))
