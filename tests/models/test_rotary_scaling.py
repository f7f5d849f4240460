"""Scaled rotary frequencies: by hand, as transformers computes them, and config.json objects that are refused."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.models import layers, rotary_scaling
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.rotary_scaling import RotaryScaling

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def read(rope, head_dim=16, name="rope_scaling", sections=False, **text):
    """Our reading of a config.json with these rotary fields."""
    return rotary_scaling.from_hf({name: rope} | text, head_dim, 1e4, 2048, sections)


def test_linear_by_hand():
    """4 values of a head, base 100: the frequencies 1 and 0.1, divided by 4."""
    scaled = rotary_scaling.frequencies(4, 100.0, RotaryScaling("linear", 4.0))
    np.testing.assert_allclose(scaled, [0.25, 0.025], rtol=1e-6)


def test_llama3_by_hand():
    """Base 100, 4 values: 6.3 and 62.8 positions a turn. Bounds 64 / 4 and 64 / 1: one is kept, one is blended."""
    scaled = rotary_scaling.frequencies(4, 100.0, RotaryScaling("llama3", 8.0, 64, low=1.0, high=4.0))
    share = (64 / (20 * math.pi) - 1) / 3
    np.testing.assert_allclose(scaled, [1.0, 0.1 * ((1 - share) / 8 + share)], rtol=1e-5)
    scaled = rotary_scaling.frequencies(4, 100.0, RotaryScaling("llama3", 8.0, 32, low=1.0, high=4.0))
    np.testing.assert_allclose(scaled, [1.0, 0.1 / 8], rtol=1e-6)


def test_dynamic_by_hand():
    """Up to 10 positions nothing changes; at 30, s = 2 x 3 - 1 = 5, and the last frequency is divided by 5."""
    scaling = RotaryScaling("dynamic", 2.0, 10)
    np.testing.assert_array_equal(rotary_scaling.dynamic_stretch(np.int32([[1, 10]]), 4, scaling), np.ones((1, 2, 2)))
    np.testing.assert_allclose(rotary_scaling.dynamic_stretch(np.int32([[30]]), 4, scaling), [[[1, 1 / 5]]], rtol=1e-6)


def test_yarn_by_hand():
    """Base 10,000, 8 values, 64 positions: 1 turn is at frequency 1.007, 32 turns before the first one."""
    scaled = rotary_scaling.frequencies(8, 1e4, RotaryScaling("yarn", 4.0, 64, low=1.0, high=32.0))
    np.testing.assert_allclose(scaled, [1.0, (0.1 / 4 + 0.1) / 2, 0.01 / 4, 0.001 / 4], rtol=1e-5)
    whole = rotary_scaling.frequencies(8, 1e4, RotaryScaling("yarn", 4.0, 64, low=1.0, high=32.0, truncate=False))
    end = 4 * math.log(64 / (2 * math.pi)) / math.log(1e4)
    assert whole[1] == pytest.approx(0.1 * (1 / end / 4 + 1 - 1 / end), rel=1e-5)
    assert read(YARN).scaling.attention == pytest.approx(0.1 * math.log(4) + 1)


def test_rotate_multiplies_by_the_attention_factor():
    x = np.random.default_rng(0).standard_normal((3, 2, 8)).astype(np.float32)
    angle = np.linspace(0, 5, 12).reshape(3, 4).astype(np.float32)
    np.testing.assert_allclose(layers.rotate(x, angle, 1.5), 1.5 * np.asarray(layers.rotate(x, angle)), rtol=1e-5)


def test_old_and_new_names():
    old = read({"type": "yarn", "factor": 4, "original_max_position_embeddings": 64}, rope_theta=5e5)
    new = read(YARN | {"rope_theta": 5e5}, name="rope_parameters")
    assert old[:2] == new[:2] and old.theta == 5e5 and old.scaling.kind == "yarn"
    assert (old.where, new.where) == ("rope_scaling.", "rope_parameters.")
    both = {"rope_parameters": YARN | {"rope_theta": 5e5}, "rope_theta": 5e5}
    assert read({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, **both)[:2] == new[:2]
    assert read({"rope_type": "default", "rope_theta": 7.0}, rope_theta=8.0).theta == 7.0  # the inner one counts
    assert read(None, rope_theta=8.0)[:2] == (8.0, None)
    assert read({"type": "mrope", "rope_type": "default"}, sections=True).scaling is None


@pytest.mark.parametrize(
    ("rope", "text", "message"),
    [
        ({"rope_type": "longrope", "factor": 4}, {}, "rope_scaling.rope_type = 'longrope' is not supported; expected"),
        ({"rope_type": ["yarn"]}, {}, r"rope_scaling.rope_type = \['yarn'\] is not supported"),
        ({"type": "mrope"}, {}, "rope_scaling.type = 'mrope' is not supported"),
        (YARN | {"type": "linear"}, {}, "rope_type = 'yarn' and rope_scaling.type = 'linear': keep one"),
        (YARN, {"rope_parameters": {"rope_type": "default"}}, "rope_scaling and rope_parameters differ"),
        (YARN | {"partial_rotary_factor": 0.5}, {}, "rope_scaling.partial_rotary_factor = 0.5 is not supported"),
        (None, {"partial_rotary_factor": 0.25}, "partial_rotary_factor = 0.25 is not supported; expected 1"),
        ({"full_attention": {"rope_theta": 1e4}}, {}, "rope_scaling.full_attention: rotary positions that differ"),
        (YARN | {"short_factor": [1.0]}, {}, "rope_scaling.short_factor is not a known field"),
        ({"type": "dynamic", "factor": 2.0, "alpha": 8}, {}, "rope_scaling.alpha is not a known field of .* 'dynamic'"),
        ({"type": "linear"}, {}, "rope_scaling.factor: expected a positive number, got None"),
        ({"type": "dynamic"}, {}, "rope_scaling.factor: expected a positive number, got None"),
        ({"type": "yarn"}, {}, "rope_scaling.factor: expected a positive number, got None"),
        (LLAMA3 | {"factor": True}, {}, "rope_scaling.factor: expected a positive number, got True"),
        (LLAMA3 | {"factor": -2}, {}, "rope_scaling.factor: expected a positive number, got -2"),
        (LLAMA3 | {"factor": 10**400}, {}, "rope_scaling.factor: expected a positive number, got 1000"),
        (LLAMA3 | {"low_freq_factor": None}, {}, "rope_scaling.low_freq_factor: expected a positive number, got None"),
        (LLAMA3 | {"high_freq_factor": 1}, {}, "high_freq_factor = 1.0: expected more than low_freq_factor = 1.0"),
        (LLAMA3, {"max_position_embeddings": "8k"}, "max_position_embeddings: expected a positive number, got '8k'"),
        (YARN | {"original_max_position_embeddings": 0}, {}, "original_max_position_embeddings: expected a positive"),
        (YARN | {"beta_fast": -1}, {}, "rope_scaling.beta_fast: expected a positive number, got -1"),
        (YARN | {"beta_fast": 0.5}, {}, "rope_scaling.beta_fast = 0.5: expected at least beta_slow = 1.0"),
        (YARN | {"truncate": "no"}, {}, "rope_scaling.truncate: expected true or false, got 'no'"),
        (YARN | {"attention_factor": 0}, {}, "rope_scaling.attention_factor: expected a positive number, got 0"),
        (YARN | {"mscale": -1, "mscale_all_dim": 1}, {}, "rope_scaling.mscale: expected a positive number, got -1"),
        (YARN | {"rope_theta": 1}, {}, "'yarn' is not defined for rope_theta = 1"),
    ],
)
def test_objects_that_are_refused(rope, text, message):
    with pytest.raises(SpecError, match=message):
        read(rope, **text)


def test_dynamic_needs_two_frequencies():
    with pytest.raises(SpecError, match="not defined for head_dim = 2"):
        read({"type": "dynamic", "factor": 2.0}, head_dim=2)


# Every field that transformers reads, set and not set, whole and fractional, in both spellings.
LENGTHS = st.sampled_from([None, 16, 100, 4096, 8192])
FIELDS = {
    "linear": {},
    "dynamic": {"original_max_position_embeddings": LENGTHS},
    "llama3": {
        "low_freq_factor": st.sampled_from([1, 0.5, 1.5]),
        "high_freq_factor": st.sampled_from([4, 2.5, 8.0]),
        "original_max_position_embeddings": LENGTHS,
    },
    "yarn": {
        "original_max_position_embeddings": LENGTHS,
        "attention_factor": st.sampled_from([None, 1.0, 0.7, 1.3]),
        "mscale": st.sampled_from([None, 0, 1, 0.7]),
        "mscale_all_dim": st.sampled_from([None, 0, 1, 1.3]),
        "beta_fast": st.sampled_from([None, 32, 8.5]),
        "beta_slow": st.sampled_from([None, 1, 0.5]),
        "truncate": st.sampled_from([None, True, False]),
    },
}


@pytest.mark.parametrize("kind", rotary_scaling.KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_as_transformers(kind, data):
    torch = pytest.importorskip("torch")
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    draw = data.draw
    rope = {name: value for name, choices in FIELDS[kind].items() if (value := draw(choices)) is not None}
    if kind == "yarn" and rope.get("truncate") is None:
        rope.pop("truncate", None)
    rope["factor"] = draw(st.sampled_from([1, 2, 4.0, 8.5, 40]))
    rope |= {draw(st.sampled_from(["type", "rope_type"])): kind}
    theta, head_dim = draw(st.sampled_from([1e4, 5e5, 1e6, 100.0])), draw(st.sampled_from([8, 12, 64, 128]))
    length = draw(st.sampled_from([16, 100, 2048, 131072]))
    inside = draw(st.booleans())
    text = {draw(st.sampled_from(["rope_scaling", "rope_parameters"])): rope, "max_position_embeddings": length}
    (rope if inside else text)["rope_theta"] = theta
    if kind in ("llama3", "yarn") and draw(st.booleans()):
        text["original_max_position_embeddings"] = 77  # beside the object, as some files have it
    read = rotary_scaling.from_hf(text, head_dim, 1e4, 2048, False)
    copied = {k: dict(v) if isinstance(v, dict) else v for k, v in text.items()}
    config = transformers.LlamaConfig(head_dim=head_dim, hidden_size=head_dim * 2, num_attention_heads=2, **copied)
    wanted, attention = ROPE_INIT_FUNCTIONS[kind](config)
    got = rotary_scaling.frequencies(head_dim, read.theta, read.scaling)
    assert got.dtype == np.float32 and read.theta == theta
    # 8 roundings of float32. A blend of high and low frequencies carries the rounding of the high one.
    rounded = rotary_scaling.frequencies(head_dim, theta) if kind in ("llama3", "yarn") else wanted.numpy()
    assert (np.abs(got - wanted.numpy()) <= 1e-6 * rounded).all()
    assert read.scaling.attention == pytest.approx(attention, rel=1e-12)
    if kind == "dynamic":
        at = draw(st.sampled_from([1, length, length + 1, 3 * length, 10 * length]))
        wanted, _ = ROPE_INIT_FUNCTIONS[kind](config, seq_len=torch.tensor(at))
        got = got * np.asarray(rotary_scaling.dynamic_stretch(np.int32(at), head_dim, read.scaling))
        np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-6)


@pytest.mark.parametrize("theta", [1e4, 1e5, 1.3e5, 5e5, 1e6, 5e6])
def test_plain_frequencies_as_transformers_to_the_last_bit(theta):
    """One step of float32 at most in one frequency of 64: at position 30,000 it would be an angle of 0.002."""
    torch = pytest.importorskip("torch")
    for head_dim in (16, 64, 80, 128):
        wanted = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim)).numpy()
        got = rotary_scaling.frequencies(head_dim, theta)
        assert (got != wanted).sum() <= 1
        np.testing.assert_allclose(got, wanted, rtol=1.2e-7)


def test_scalings_are_hashable():
    """They are part of the spec, a static argument of jit."""
    assert (
        hash(read(YARN).scaling) == hash(read(YARN).scaling) != hash(dataclasses.replace(read(YARN).scaling, low=2.0))
    )
