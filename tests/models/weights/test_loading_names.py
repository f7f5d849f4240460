"""Checkpoints of others: the same tensors under other names, tables that are no weights, and tied embeddings."""

import json

import checkpoints
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import hf_checkpoint, hf_names, loading, native
from dtr1_jax.models.weights.native import WeightsError

TEXT, VL = ("llama", "qwen2", "qwen3"), ("qwen2_5_vl", "qwen3_vl")
PUBLISHED = dict.fromkeys((*TEXT, "qwen2_5_vl"), "model.") | {"qwen3_vl": "model.language_model."}
TOWER = {"qwen2_5_vl": "visual.", "qwen3_vl": "model.visual."}


def load(folder):
    opened = hf_checkpoint.open_folder(folder)
    tree = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec.from_hf(opened.config)))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return loading.load_weights(opened, tree, jax.tree.map(lambda _: here, tree), jnp.float32)


def write(folder, family, rename=lambda name: name, extra=None, **changes):
    """A tiny checkpoint whose tensors have other names; returns its weights."""
    weights = checkpoints.write(folder, family, **changes)
    file = folder / hf_checkpoint.SINGLE
    tensors = {rename(name): x for name, x in load_file(file).items()}
    save_file(tensors | (extra or {}), file)
    return weights


def renamed(family, decoder, head="", tower=None):
    """A function that puts other prefixes before the names of the published checkpoints."""

    def rename(name):
        if name.startswith("lm_head"):
            return head + name
        if family in TOWER and name.startswith(TOWER[family]):
            return (TOWER[family] if tower is None else tower) + name.removeprefix(TOWER[family])
        return decoder + name.removeprefix(PUBLISHED[family])

    return rename


PREFIXES = (  # of the decoder, the output projection and the tower
    ("", "", None),
    ("model.", "", None),
    ("language_model.model.", "language_model.", "visual."),
    ("language_model.", "", "visual."),
    ("model.language_model.", "", "model.visual."),
    ("model.language_model.model.", "model.language_model.", "model.visual."),
    ("module.model.", "module.", "module.visual."),
    ("_orig_mod.model.", "_orig_mod.", "_orig_mod.visual."),
)


@pytest.mark.parametrize("family", [*TEXT, *VL])
def test_every_name_under_other_prefixes(family):
    values = checkpoints.config(family, tie_word_embeddings=False)
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec.from_hf(values)))
    flat = {path: x.shape for path, x in native.flatten(shapes).items()}
    names = [name for leaf in hf_names.leaves(flat, family) for name in leaf.names]
    assert len(names) > 20
    for prefixes in PREFIXES:
        other = renamed(family, *prefixes)
        assert [hf_names.canonical(other(name), family) for name in names] == names


@pytest.mark.parametrize(("family", "prefixes"), [("llama", PREFIXES[0]), ("qwen3_vl", PREFIXES[2])])
def test_the_same_tensors_under_other_names(tmp_path, family, prefixes):
    wanted = write(tmp_path, family, renamed(family, *prefixes), tie_word_embeddings=False)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path), wanted)


@pytest.mark.parametrize("family", ["llama"])
def test_tables_of_rotary_frequencies_are_left_out(tmp_path, family):
    table = np.ones(4, np.float32)
    names = [
        "model.layers.0.self_attn.rotary_emb.inv_freq", "layers.1.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq", "rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.cos_cached",
        "visual.rotary_pos_emb.inv_freq",
    ]  # fmt: skip
    wanted = write(tmp_path, family, extra=dict.fromkeys(names, table))
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path), wanted)


@pytest.mark.parametrize("name", ["rotary_emb.weight", "model.layers.0.inv_freq", "model.layers.9.mlp.up_proj.weight"])
def test_other_tensors_are_not_left_out(tmp_path, name):
    write(tmp_path, "llama", extra={name: np.ones(4, np.float32)})
    with pytest.raises(WeightsError, match=f"left over {name} in model"):
        load(tmp_path)


def test_a_tensor_that_is_there_twice(tmp_path):
    """Under two names: nobody can say which one counts."""
    write(tmp_path, "llama", extra={"layers.0.mlp.up_proj.weight": np.ones((48, 32), np.float32)})
    with pytest.raises(WeightsError, match=r"left over (model\.)?layers\.0\.mlp\.up_proj\.weight in model"):
        load(tmp_path)


@pytest.mark.parametrize(("family", "prefix"), [("llama", ""), ("qwen3_vl", "language_model.")])
def test_tied_embeddings(tmp_path, family, prefix):
    wanted = write(tmp_path, family)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path), wanted)  # without the output projection
    table = wanted["embed"]["table"]
    wanted = write(tmp_path, family, extra={f"{prefix}lm_head.weight": table})  # with one that is equal
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path), wanted)
    write(tmp_path, family, extra={f"{prefix}lm_head.weight": table + 1})
    with pytest.raises(WeightsError, match=r"ties the output projection to the embedding, but .*lm_head\.weight in"):
        load(tmp_path)
    write(tmp_path, family)
    values = json.loads((tmp_path / "config.json").read_text())
    values["tie_word_embeddings"] = values.get("text_config", values)["tie_word_embeddings"] = False
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=r"missing lm_head\.weight .*, since config.json does not set tie_word"):
        load(tmp_path)


@pytest.mark.parametrize(("family", "decoder"), [("llama", "")])
def test_transformers_reads_the_same(tmp_path, family, decoder):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    write(tmp_path, family, renamed(family, decoder))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32")
    got = {name: x.numpy() for name, x in model.state_dict().items()}
    ours = load(tmp_path)
    np.testing.assert_array_equal(got["model.layers.1.mlp.up_proj.weight"].T, ours["decoder"]["up"]["kernel"][1])
    np.testing.assert_array_equal(got["model.norm.weight"], ours["norm"]["scale"])


def test_families_have_their_own_names():
    for family in hf_names.FAMILIES:
        for name in ("model.layers.0.mlp.up_proj.weight", "layers.0.mlp.up_proj.weight"):
            assert hf_names.canonical(name, family) == f"{PUBLISHED[family]}layers.0.mlp.up_proj.weight"
    assert hf_names.canonical("model.magic.weight", "llama") == "model.magic.weight"
    assert hf_names.canonical("visual.blocks.0.norm1.weight", "llama") == "visual.blocks.0.norm1.weight"
