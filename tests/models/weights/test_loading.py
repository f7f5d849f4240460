"""Checkpoints are read onto the mesh: each tensor finds its place on any mesh, and what does not fit is refused."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from safetensors.numpy import load_file, save_file

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.models import policy, published_sizes, spec
from dtr1_jax.models.weights import exporting, hf_checkpoint, loading, native
from dtr1_jax.models.weights.native import WeightsError

SPEC = dataclasses.replace(small.TEXT, tied=False, qkv_bias=True)
PARAMS = small.params(spec=SPEC)
CONFIG = {"model_type": "qwen2"}


def shapes(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def places(tree, *sizes):
    sizes = sizes or (1, 1, 1)
    settings = config.from_configdict(default.get_config()).mesh
    settings = dataclasses.replace(settings, data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    return mesh.shardings(mesh.make(settings, jax.devices()[: int(np.prod(sizes))]), tree)


def folder(path, params=PARAMS, values=CONFIG, shard=2**30, dtype="float32"):
    path.mkdir(exist_ok=True)
    exporting.write_folder(path, exporting.tensors(params, None, 1.0, values), dtype, shard)
    (path / "config.json").write_text(json.dumps(values))
    return path


def read(path, params=PARAMS, sizes=(), dtype=jnp.float32):
    return loading.load_weights(hf_checkpoint.open_folder(path), shapes(params), places(params, *sizes), dtype)


def edit(path, **changes):
    """Changes tensors of the single file (None leaves one out); names with dots as double underscores."""
    file = path / hf_checkpoint.SINGLE
    arrays = load_file(file) | {name.replace("__", "."): x for name, x in changes.items()}
    save_file({name: x for name, x in arrays.items() if x is not None}, file)


def test_names_and_layout_on_disk(tmp_path):
    got = load_file(folder(tmp_path) / hf_checkpoint.SINGLE)
    np.testing.assert_array_equal(got["model.layers.1.mlp.up_proj.weight"], PARAMS["decoder"]["up"]["kernel"][1].T)
    np.testing.assert_array_equal(got["model.layers.0.self_attn.q_proj.bias"], PARAMS["decoder"]["q"]["bias"][0])
    np.testing.assert_array_equal(got["model.embed_tokens.weight"], PARAMS["embed"]["table"])
    np.testing.assert_array_equal(got["lm_head.weight"], PARAMS["head"]["kernel"].T)
    assert len(got) == 3 + 2 * (2 + 2 + 3 + 7)  # per layer: norms, q and k norms, biases, kernels


@pytest.mark.parametrize("shard", [2**30, 4000])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2), (2, 1, 2)])
def test_the_same_weights_come_back_on_any_mesh_and_from_any_shards(tmp_path, sizes, shard, monkeypatch):
    monkeypatch.setattr(loading, "PART", 512)  # bytes: tensors are read in several parts
    got = read(folder(tmp_path, shard=shard), sizes=sizes)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 5) == (shard == 4000)
    wanted = places(PARAMS, *sizes)
    jax.tree.map(np.testing.assert_array_equal, got, PARAMS)
    jax.tree.map(lambda x, place: x.sharding.is_equivalent_to(place, x.ndim) or pytest.fail(str(place)), got, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_on_disk_and_in_memory(tmp_path, dtype):
    path = folder(tmp_path, dtype=dtype)
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(exporting.DTYPES[dtype]).astype(np.float32), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, read(path), rounded)
    half = read(path, dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


def test_float64_is_read_as_float32(tmp_path):
    edit(folder(tmp_path), model__norm__weight=np.full(SPEC.width, 0.1))
    np.testing.assert_array_equal(read(tmp_path)["norm"]["scale"], np.full(SPEC.width, np.float32(0.1)))


def test_a_process_reads_only_what_its_devices_hold(tmp_path, monkeypatch):
    checkpoint = hf_checkpoint.open_folder(folder(tmp_path))
    parts_read = []
    actual = loading._floats
    monkeypatch.setattr(
        loading, "_floats", lambda *args: parts_read.append((args[1], actual(*args))) or parts_read[-1][1]
    )
    place = places(PARAMS, 1, 4, 1)
    one = jax.devices()[0]

    class Part:  # a sharding of which this process has one device
        def __init__(self, whole):
            self.whole = whole

        def addressable_devices_indices_map(self, shape):
            return {one: self.whole.addressable_devices_indices_map(shape)[one]}

    buffers = {}
    monkeypatch.setattr(
        jax, "make_array_from_single_device_arrays", lambda shape, _, parts: buffers.setdefault(shape, parts[0])
    )
    parts = jax.tree.map(Part, place)
    loading.load_weights(checkpoint, shapes(PARAMS), parts)
    kernel = PARAMS["decoder"]["gate"]["kernel"]
    np.testing.assert_array_equal(buffers[kernel.shape], kernel[:, :4])
    sizes = [part.size for name, part in parts_read if name.endswith("gate_proj.weight")]
    assert sizes == [kernel[0].size // 4] * SPEC.layers


def test_each_part_is_read_once_however_many_devices_hold_it(tmp_path, monkeypatch):
    checkpoint = hf_checkpoint.open_folder(folder(tmp_path))
    count = []
    actual = loading._floats
    monkeypatch.setattr(loading, "_floats", lambda *args: count.append(args[1]) or actual(*args))
    loading.load_weights(checkpoint, shapes(PARAMS), places(PARAMS, 4, 1, 1))
    assert sorted(count) == sorted(checkpoint.tensors)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model__norm__weight": None}, r"missing model\.norm\.weight \[16\]"),
        (
            {"model__layers__1__mlp__up_proj__weight": None},
            r"missing model\.layers\.1\.mlp\.up_proj\.weight \[32, 16\]",
        ),
        ({"extra": np.ones(2, np.float32)}, r"left over extra in model\.safetensors"),
        ({"model__layers__2__mlp__up_proj__weight": np.ones((32, 16), np.float32)}, r"left over model\.layers\.2"),
        ({"model__norm__weight": np.ones(17, np.float32)}, r"norm\.weight in .*: expected shape \[16\], got \[17\]"),
        ({"model__norm__weight": np.ones(16, np.int8)}, r"model\.norm\.weight in .*: expected floats .*, got I8"),
        (
            {"model__layers__0__mlp__up_proj__weight": np.ones((16, 32), np.float32)},
            r"model\.layers\.0\.mlp\.up_proj\.weight in model\.safetensors: expected shape \[32, 16\], got \[16, 32\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, changes, fault):
    edit(folder(tmp_path), **changes)
    with pytest.raises(WeightsError, match=fault) as error:
        read(tmp_path)
    assert str(error.value).startswith(str(tmp_path))


def test_every_tensor_is_used(tmp_path):
    """Changing any one tensor changes the leaf that it belongs to, and that alone."""
    names = load_file(folder(tmp_path) / hf_checkpoint.SINGLE)
    before = native.flatten(read(tmp_path))
    for name in list(names)[::5]:
        folder(tmp_path)
        edit(tmp_path, **{name: names[name] + 1})
        after = native.flatten(read(tmp_path))
        changed = [path for path in before if not np.array_equal(before[path], after[path])]
        assert len(changed) == 1, name


@pytest.mark.parametrize(("family", "fault"), [("gemma", "unknown architecture 'gemma'"), (None, "architecture None")])
def test_unknown_architectures(tmp_path, family, fault):
    folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(WeightsError, match=f"{fault}; known: llama"):
        read(tmp_path)


def test_a_tied_head_on_disk_must_be_the_embedding(tmp_path):
    tied = {k: v for k, v in PARAMS.items() if k != "head"}
    folder(tmp_path, tied)
    edit(tmp_path, lm_head__weight=PARAMS["embed"]["table"])
    jax.tree.map(np.testing.assert_array_equal, read(tmp_path, tied), tied)
    edit(tmp_path, lm_head__weight=PARAMS["head"]["kernel"].T.copy())
    with pytest.raises(
        WeightsError, match=r"ties .* but lm_head\.weight in model\.safetensors is not equal to model\."
    ):
        read(tmp_path, tied)
    edit(tmp_path, lm_head__weight=np.ones((3, 3), np.float32))
    with pytest.raises(WeightsError, match="expected the tied embedding's shape"):
        read(tmp_path, tied)


def test_many_faults_are_shortened(tmp_path):
    edit(folder(tmp_path), **{f"extra{i}": np.ones(1, np.float32) for i in range(30)})
    with pytest.raises(WeightsError, match="and 20 more"):
        read(tmp_path)


FAMILIES = {
    "qwen2_5_vl": ("visual.", ("ln_q", "mlp.0")),
    "qwen3_vl": ("model.visual.", ("norm", "linear_fc1")),
}


def tower(family, levels=2):
    """A tower's weights in the layout of the family, random: 2 blocks of width 8, patches of 2 x 2 x 2 x 3 values."""
    rng = np.random.default_rng(0)

    def kernel(*shape):
        return {"kernel": rng.normal(size=shape).astype(np.float32), "bias": rng.normal(size=shape[:-2] + shape[-1:])}

    def norm(*shape):
        scale = {"scale": rng.normal(size=shape)}
        return scale | ({"bias": rng.normal(size=shape)} if family == "qwen3_vl" else {})

    merger = {"fc1": kernel(32, 32), "fc2": kernel(32, 16)}
    params = {
        "patch": kernel(24, 8),
        "blocks": {
            "norm1": norm(2, 8), "norm2": norm(2, 8), "qkv": kernel(2, 8, 24), "out": kernel(2, 8, 8),
            "up": kernel(2, 8, 12), "down": kernel(2, 12, 8),
        },
        "merger": {"norm": norm(8), **merger},
    }  # fmt: skip
    if family == "qwen3_vl":
        params["position"] = {"table": rng.normal(size=(9, 8))}
        params["deepstack"] = {
            "norm": norm(levels, 32), "fc1": kernel(levels, 32, 32), "fc2": kernel(levels, 32, 16),
        }  # fmt: skip
    else:
        params["blocks"]["gate"] = kernel(2, 8, 12)
        del params["patch"]["bias"]
    return jax.tree.map(lambda x: np.asarray(x, np.float32), params)


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_come_back(tmp_path, family):
    params = PARAMS | {"vision": tower(family)}
    vision = {"in_channels": 3, "temporal_patch_size": 2, "patch_size": 2}
    folder(tmp_path, params, {"model_type": family, "vision_config": vision})
    names = load_file(tmp_path / hf_checkpoint.SINGLE)
    prefix = FAMILIES[family][0]
    assert names[f"{prefix}patch_embed.proj.weight"].shape == (8, 3, 2, 2, 2)
    for part in FAMILIES[family][1]:
        assert f"{prefix}merger.{part}.weight" in names
    got = loading.load_weights(
        hf_checkpoint.open_folder(tmp_path), shapes(params), jax.tree.map(lambda _: replicated(), params)
    )
    jax.tree.map(np.testing.assert_array_equal, got, params)
    # files that were saved under the names of transformers' modules are the same checkpoint
    if family == "qwen2_5_vl":
        saved = {re.sub(r"^model\.", "model.language_model.", n): x for n, x in names.items()}
        save_file(
            {re.sub(r"^visual\.", "model.visual.", n): x for n, x in saved.items()}, tmp_path / hf_checkpoint.SINGLE
        )
        got = loading.load_weights(
            hf_checkpoint.open_folder(tmp_path), shapes(params), jax.tree.map(lambda _: replicated(), params)
        )
        jax.tree.map(np.testing.assert_array_equal, got, params)


def replicated():
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


MEMORY = """
import sys
import jax, jax.numpy as jnp
from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import hf_checkpoint, loading

def kilobytes(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

checkpoint = hf_checkpoint.open_folder(sys.argv[1])
shape = spec.from_hf(checkpoint.config)
tree = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))
here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
jnp.zeros(3).block_until_ready()
before = kilobytes("VmRSS")
params = loading.load_weights(checkpoint, tree, jax.tree.map(lambda _: here, tree), jnp.bfloat16)
print(1024 * (kilobytes("VmHWM") - before) - sum(x.nbytes for x in jax.tree.leaves(params)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory of a process from /proc")
def test_host_memory_stays_under_one_and_a_half_shards(tmp_path):
    """On a CPU device the weights are in host memory too, so the test counts the memory besides them."""
    values = published_sizes.CONFIGS["qwen2_5_0_5b"] | {"num_hidden_layers": 16, "vocab_size": 64_000}
    tree = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec.from_hf(values)))
    folder(tmp_path, jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), tree), values, 2**28, "bfloat16")
    largest = max(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    # one device and no compilation cache, so that only the memory of loading is measured
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    assert 0 < int(process.stdout) < 1.5 * largest, f"{int(process.stdout) / largest:.2f} of the largest shard"
    print(f"{int(process.stdout) / largest:.2f} of the largest shard")
