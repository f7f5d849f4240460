"""Policies by name: the sizes of published checkpoints."""

import dataclasses
import math

import jax
import pytest

from dtr1_jax.config import ConfigError
from dtr1_jax.models import policy, published_sizes, spec
from dtr1_jax.models.weights import hf_names, native

# parameters of the published checkpoints, as their model cards and safetensors files count them; the tied head once
PARAMETERS = {
    "smollm2_135m": 134_515_008, "smollm2_360m": 361_821_120, "smollm2_1_7b": 1_711_376_384,
    "qwen2_5_0_5b": 494_032_768, "qwen2_5_1_5b": 1_543_714_304, "qwen2_5_3b": 3_085_938_688,
    "qwen2_5_7b": 7_615_616_512, "qwen2_5_14b": 14_770_033_664, "qwen2_5_32b": 32_763_876_352,
    "qwen3_0_6b": 596_049_920, "qwen3_1_7b": 1_720_574_976, "qwen3_4b": 4_022_468_096, "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200, "qwen3_32b": 32_762_123_264,
    "qwen2_5_vl_3b": 3_754_622_976, "qwen2_5_vl_7b": 8_292_166_656, "qwen2_5_vl_32b": 33_452_718_336,
    "qwen2_5_vl_72b": 73_410_777_344,
    "qwen3_vl_2b": 2_127_532_032, "qwen3_vl_4b": 4_437_815_808, "qwen3_vl_8b": 8_767_123_696,
    "qwen3_vl_32b": 33_357_390_064,
}  # fmt: skip


def test_no_name_is_untested():
    assert set(PARAMETERS) == set(published_sizes.CONFIGS)


@pytest.mark.parametrize("name", published_sizes.CONFIGS)
def test_parameters_and_names_on_disk(name):
    shape = published_sizes.get_spec(name)
    tree = native.flatten(jax.eval_shape(lambda: policy.init(jax.random.key(0), shape)))
    assert sum(math.prod(x.shape) for x in tree.values()) == PARAMETERS[name]
    family = published_sizes.CONFIGS[name]["model_type"]
    names = [n for leaf in hf_names.leaves({p: x.shape for p, x in tree.items()}, family) for n in leaf.names]
    assert len(names) == len(set(names))
    if name == "qwen3_vl_32b":
        assert len(names) == 1058  # tensors in the published files


def test_frames_and_positions():
    assert published_sizes.get_spec("qwen2_5_vl_3b").frame == "pixel"
    assert published_sizes.get_spec("qwen3_vl_2b").frame == "norm1000"
    assert published_sizes.get_spec("qwen2_5_vl_7b").sections == (16, 24, 24)
    assert published_sizes.get_spec("qwen3_vl_8b").sections == (24, 20, 20)
    assert not published_sizes.get_spec("qwen2_5_vl_7b").interleaved
    assert published_sizes.get_spec("qwen3_vl_8b").vision.deepstack == (8, 16, 24)
    assert published_sizes.get_spec("tiny") is spec.TINY


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"no policy 'qwen3_vl_3b' \(did you mean \"qwen3_vl_"):
        published_sizes.get_spec("qwen3_vl_3b")
    with pytest.raises(ConfigError, match=r"config\.policy\.name: no policy 'tinny'.*did you mean \"tiny\""):
        published_sizes.get_spec("tinny")


def test_differences():
    one = published_sizes.get_spec("qwen3_vl_2b")
    assert published_sizes.differences(one, dataclasses.replace(one, theta=1.0, eps=1.0, lora_scale=9.0)) == []
    other = dataclasses.replace(one, layers=3, vision=dataclasses.replace(one.vision, patch=14))
    assert published_sizes.differences(one, other) == ["layers: 28 and 3", "vision.patch: 16 and 14"]
    text = dataclasses.replace(one, vision=None)
    assert published_sizes.differences(one, text) == ["vision tower: one and none"]
    assert published_sizes.differences(text, one) == ["vision tower: none and one"]


def test_config_json_of_the_shipped_policy():
    found = spec.from_hf(published_sizes.TINY)
    assert found == dataclasses.replace(spec.TINY, unroll=found.unroll, remat=found.remat)
