"""What a named policy is made of, and settings that it can not be made with."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import default
from dtr1_jax import bundle, config
from dtr1_jax.data import tokens
from dtr1_jax.models import policy, spec, weights
from dtr1_jax.twin.text import Frame


def settings(**changes):
    values = default.get_config()
    for name, value in changes.items():
        values.policy[name] = value
    return config.from_configdict(values)


def small(**changes):
    tower = dataclasses.replace(spec.TINY.vision, width=16, layers=1, heads=2, hidden=16)
    return dataclasses.replace(spec.TINY, width=16, layers=1, heads=2, kv_heads=1, hidden=16, vision=tower, **changes)


def test_the_tiny_policy():
    made = bundle.load(settings())
    assert made.spec == spec.TINY
    assert made.style.frame is Frame.PIXEL
    assert (made.style.words, made.style.length) == ("brief", 96)
    geometry = made.style.geometry
    assert (geometry.patches, geometry.factor) == (144, 16)
    assert 3 * geometry.temporal_patch * geometry.patch**2 == spec.TINY.vision.values
    assert made.style.tokenizer.size <= made.spec.vocab
    np.testing.assert_array_equal(made.banned_v, made.style.tokenizer.banned_v(made.spec.vocab))
    assert made.dtype == np.float32


def test_settings_are_used():
    values = default.get_config()
    values.lora.rank, values.lora.alpha = 4, 32.0
    values.policy.max_pixels, values.policy.prompt_tokens = 32 * 32, 500
    values.policy.prompt, values.policy.dtype = "full", "bfloat16"
    made = bundle.load(config.from_configdict(values))
    assert made.spec.lora_scale == 8
    assert made.style.geometry.patches == 16
    assert (made.style.words, made.style.length, made.dtype.name) == ("full", 500, "bfloat16")


def test_an_unknown_policy():
    with pytest.raises(
        config.ConfigError, match=r"config\.policy\.name: no policy 'tinny' \(did you mean \"tiny\"\?\)"
    ):
        bundle.load(settings(name="tinny"))


def test_pictures_smaller_than_one_token():
    with pytest.raises(
        config.ConfigError, match=r"config\.policy\.max_pixels: max_pixels = 200 is less than one token"
    ):
        bundle.load(settings(max_pixels=200))


def test_a_tokenizer_with_more_ids_than_the_policy(monkeypatch):
    monkeypatch.setitem(spec.SPECS, "tiny", small(vocab=64))
    with pytest.raises(tokens.TokenizerError, match="tiny: expected at most 64 ids, got 1526"):
        bundle.load(settings())


def test_path_of_the_weights(tmp_path, monkeypatch):
    assert bundle.weights_path(settings()) == bundle.ASSETS / "tiny" / "policy.safetensors"
    assert bundle.weights_path(settings(path=str(tmp_path))) == tmp_path / "policy.safetensors"
    assert bundle.weights_path(settings(path=str(tmp_path / "x.safetensors"))) == tmp_path / "x.safetensors"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bundle.weights_path(settings(path="~")) == tmp_path / "policy.safetensors"


def test_weights_come_back_and_must_fit(tmp_path, monkeypatch):
    monkeypatch.setitem(spec.SPECS, "tiny", small())
    c = settings(path=str(tmp_path))
    made = bundle.load(c)
    params = policy.init(jax.random.key(1), made.spec)
    weights.save(tmp_path / "policy.safetensors", params)
    got = bundle.read_weights(c, made)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1 / 128, atol=1e-6), got, params)
    assert jax.tree.map(np.shape, got) == jax.tree.map(lambda x: x.shape, bundle.template(made))
    with pytest.raises(weights.WeightsError, match=r"policy\.safetensors does not fit the policy"):
        bundle.read_weights(c, dataclasses.replace(made, spec=dataclasses.replace(made.spec, hidden=32)))
    with pytest.raises(weights.WeightsError, match=r"nothing\.safetensors: no such file"):
        bundle.read_weights(settings(path=str(tmp_path / "nothing.safetensors")), made)
