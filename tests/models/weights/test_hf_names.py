"""Our parameter paths and Hugging Face's names: each has its counterpart, for every family."""

import jax
import pytest
import small

from dtr1_jax.models import policy
from dtr1_jax.models.weights import hf_names, native

SHAPES = {n: x.shape for n, x in native.flatten(small.params(spec=small.TEXT)).items()}


@pytest.mark.parametrize("family", hf_names.FAMILIES)
def test_each_name_is_used_once(family):
    names = [name for leaf in hf_names.leaves(SHAPES, family) for name in leaf.names]
    assert len(names) == len(set(names)) == 2 + 11 * small.TEXT.layers


@pytest.mark.parametrize(
    ("path", "family", "disk", "module"),
    [
        ("decoder/q", "llama", "model.layers.3.self_attn.q_proj", "model.layers.{}.self_attn.q_proj"),
        ("decoder/down", "qwen3", "model.layers.3.mlp.down_proj", "model.layers.{}.mlp.down_proj"),
        (
            "decoder/o", "qwen2_5_vl",
            "model.layers.3.self_attn.o_proj", "model.language_model.layers.{}.self_attn.o_proj",
        ),
        (
            "decoder/o", "qwen3_vl",
            "model.language_model.layers.3.self_attn.o_proj", "model.language_model.layers.{}.self_attn.o_proj",
        ),
        ("vision/blocks/qkv", "qwen2_5_vl", "visual.blocks.3.attn.qkv", "model.visual.blocks.{}.attn.qkv"),
        (
            "vision/blocks/up", "qwen3_vl",
            "model.visual.blocks.3.mlp.linear_fc1", "model.visual.blocks.{}.mlp.linear_fc1",
        ),
        ("vision/merger/fc2", "qwen2_5_vl", "visual.merger.mlp.2", "model.visual.merger.mlp.2"),
        (
            "vision/deepstack/fc1", "qwen3_vl",
            "model.visual.deepstack_merger_list.3.linear_fc1", "model.visual.deepstack_merger_list.{}.linear_fc1",
        ),
    ],
)  # fmt: skip
def test_names_on_disk_and_of_modules(path, family, disk, module):
    leaf = hf_names.leaf(f"{path}/kernel", (4, 2, 2), family)
    assert leaf.names[-1] == f"{disk}.weight"
    assert leaf.kind == hf_names.TRANSPOSED
    assert leaf.stacked is ("3" in disk)
    assert hf_names.module(path, family) == module
    assert hf_names.canonical(module.format(3) + ".weight", family) == f"{disk}.weight"
    assert hf_names.canonical(f"{disk}.weight", family) == f"{disk}.weight"


def test_paths_and_families_without_names():
    for path, family in (("vision/patch/kernel", "qwen3"), ("decoder/x/kernel", "llama"), ("decoder/q/a", "llama")):
        with pytest.raises(hf_names.NamingError, match=f"the weight {path} has no name in a {family} checkpoint"):
            hf_names.leaf(path, (1, 1, 1), family)
    with pytest.raises(hf_names.NamingError, match="unknown architecture 'gpt2'; known: llama, qwen2"):
        hf_names.leaves(SHAPES, "gpt2")


def test_every_weight_of_the_shipped_layout_has_a_name():
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), small.SPEC))
    named = hf_names.leaves({n: x.shape for n, x in native.flatten(shapes).items()}, "qwen3_vl")
    assert {leaf.path for leaf in named} == set(native.flatten(shapes))
