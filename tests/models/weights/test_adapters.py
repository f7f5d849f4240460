"""Adapters in PEFT's form: read, added to weights as PEFT adds them, joined; and those that are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import config as hf_config
from checkpoints import params, write
from exports import IDS, adapters, auto
from safetensors.numpy import load_file, save_file

from dtr1_jax.config import Lora
from dtr1_jax.models.weights import adapters as adapter_files
from dtr1_jax.models.weights import exporting, native
from dtr1_jax.models.weights.native import WeightsError

SETTINGS = Lora(rank=4, alpha=8.0, rslora=False, dropout=0.0, targets="decoder/.*")
FILE = "adapter_model.safetensors"


def saved(folder, family="qwen2", settings=SETTINGS, seed=3, targets="decoder/.*", base="org/base"):
    """(weights, adapters) of a tiny policy; the adapters are written into `folder`."""
    weights = params(hf_config(family))
    lora = adapters(weights, settings.rank, seed, targets)
    folder.mkdir(parents=True, exist_ok=True)
    exporting.write_adapter(folder, lora, settings, hf_config(family), base)
    return weights, lora


def change(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "qwen2_5_vl", "qwen3_vl"])
def test_what_is_written_is_read(tmp_path, family):
    targets = "decoder/(q|down)" if family == "llama" else "(decoder|vision/(blocks|merger))/.*"
    weights, lora = saved(tmp_path, family, targets=targets)
    got = adapter_files.read_adapter(tmp_path, weights, hf_config(family))
    assert (got.scale, got.base) == (2.0, "org/base")
    jax.tree.map(np.testing.assert_array_equal, got.lora, lora)


@pytest.mark.parametrize("family", ["qwen2", "qwen2_5_vl"])
def test_the_sum_is_that_of_peft(tmp_path, family):
    """transformers with PEFT's adapter gives the same logits as transformers with the weights that we added up."""
    kind, peft = auto(family), pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    write(tmp_path / "base", family)
    weights, _ = saved(tmp_path / "adapter", family)
    base = kind.from_pretrained(tmp_path / "base", dtype="float32")
    with torch.no_grad():
        plain = base.eval()(torch.tensor([IDS])).logits.numpy()
        model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
        wanted = model.eval()(torch.tensor([IDS])).logits.numpy()
    assert np.abs(wanted - plain).max() > 0.05
    merged = adapter_files.merge(weights, adapter_files.read_adapter(tmp_path / "adapter", weights, hf_config(family)))
    folder = tmp_path / "merged"
    folder.mkdir()
    exporting.write_folder(folder, exporting.tensors(merged, None, 1.0, hf_config(family)), "float32")
    (folder / "config.json").write_text(json.dumps(hf_config(family)))
    with torch.no_grad():
        got = kind.from_pretrained(folder, dtype="float32").eval()(torch.tensor([IDS])).logits.numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_merging_on_devices_rounds_once_and_touches_nothing_else(tmp_path):
    weights, lora = saved(tmp_path, targets="decoder/(q|up)")
    read = adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))
    placed = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), weights)
    kept = jax.tree.map(np.asarray, placed)
    got = native.flatten(adapter_files.merge(placed, read))
    for path, before in native.flatten(kept).items():
        name = path.removesuffix("/kernel")
        if name not in ("decoder/q", "decoder/up"):
            np.testing.assert_array_equal(got[path], before)
            continue
        a, b = (native.flatten(lora)[f"{name}/{n}"] for n in "ab")
        wanted = before.astype(np.float32) + 2.0 * np.matmul(a, b)
        assert got[path].dtype == jnp.bfloat16
        np.testing.assert_allclose(got[path].astype(np.float32), wanted, rtol=2**-8, atol=1e-6)
        assert (got[path] != before).any(axis=(1, 2)).all()  # in each layer


def test_rslora_and_layers_without_adapters(tmp_path):
    weights, lora = saved(tmp_path)
    tensors = load_file(tmp_path / FILE)
    save_file({name: x for name, x in tensors.items() if "layers.0." not in name}, tmp_path / FILE)
    change(tmp_path, use_rslora=True, base_model_name_or_path=None)
    got = adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))
    assert (got.scale, got.base) == (4.0, "")
    for path, x in native.flatten(got.lora).items():
        assert not x[0].any()
        np.testing.assert_array_equal(x[1], native.flatten(lora)[path][1])


def test_two_adapters_become_one(tmp_path):
    weights, first = saved(tmp_path, targets="decoder/(q|v)")
    read = adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))
    second = adapters(weights, 2, 7, "decoder/(v|up)")
    both = adapter_files.joined(read, second, 0.5)
    ranks = {x.shape[-1] for path, x in native.flatten(both).items() if path.endswith("/a")}
    assert ranks == {6} and set(both["decoder"]) == {"q", "v", "up"}

    def product(tree, name):
        return np.matmul(tree["decoder"][name]["a"], tree["decoder"][name]["b"]) if name in tree["decoder"] else 0.0

    for name in ("q", "v", "up"):
        wanted = 2.0 * product(first, name) + 0.5 * product(second, name)
        np.testing.assert_allclose(product(both, name), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"peft_type": "LOHA"}, r"peft_type = 'LOHA' is not supported, expected 'LORA'; merge the adapter with PEFT"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"r": 0}, "r: expected a rank of 1 or more, got 0"),
        ({"r": True}, "r: expected a rank"),
        ({"lora_alpha": "big"}, "lora_alpha: expected a positive number, got 'big'"),
        ({"lora_alpha": float("inf")}, "lora_alpha: expected a positive number"),
        ({"use_rslora": "yes"}, "use_rslora: expected true or false"),
    ],
)
def test_settings_that_mean_something_else(tmp_path, changes, message):
    weights, _ = saved(tmp_path)
    change(tmp_path, **changes)
    with pytest.raises(WeightsError, match=message):
        adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))


def broken(**replaced):
    """A function that replaces tensors of an adapter by others, or removes them (None)."""

    def change(tensors):
        named = {name: x for name, x in tensors.items() if "layers.1.self_attn.q_proj" in name}
        a, b = sorted(named)
        for key, value in replaced.items():
            name = {"a": a, "b": b}.get(key, key)
            tensors[name] = value
        return {name: x for name, x in tensors.items() if x is not None}

    return change


@pytest.mark.parametrize(
    "edit, message",
    [
        (broken(a=np.zeros((4, 31), np.float32)), r"q_proj.lora_A.weight: expected \[rank, 32\] .* another model"),
        (broken(b=np.zeros((32, 3), np.float32)), r"expected \[rank, 32\] and lora_B \[32, rank\], got .* \[32, 3\]"),
        (broken(b=None), "expected lora_A and lora_B of this projection, got one"),
        (broken(a=np.zeros((4, 32), np.int32)), "expected a matrix of floats, got I32"),
        (broken(**{"model.layers.9.self_attn.q_proj.lora_A.weight": np.zeros((4, 32), np.float32)}),
         "layers.9.self_attn.q_proj.lora_A.weight: no projection of this policy"),
        (broken(**{"model.embed_tokens.lora_embedding_A": np.zeros((4, 32), np.float32)}), "no projection"),
        (broken(a=np.zeros((2, 32), np.float32), b=np.zeros((32, 2), np.float32)), "rank differs by layer"),
        (lambda tensors: {}, "it holds no adapters"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(tmp_path, edit, message):
    weights, _ = saved(tmp_path)
    save_file(edit(load_file(tmp_path / FILE)), tmp_path / FILE)
    with pytest.raises(WeightsError, match=message):
        adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))


def test_missing_files(tmp_path):
    weights, _ = saved(tmp_path)
    (tmp_path / FILE).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(WeightsError, match=r"expected adapter_model\.safetensors, got no such file; a pickled"):
        adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(WeightsError, match=r"adapter_config.json: no such file"):
        adapter_files.read_adapter(tmp_path, weights, hf_config("qwen2"))
