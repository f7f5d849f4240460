"""What a policy takes: counted by hand, held against arrays on a mesh, and against XLA's own analysis."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import small

from configs import seg
from dtr1_jax import config, mesh
from dtr1_jax.models import policy, published, vision
from dtr1_jax.modes import plan
from dtr1_jax.policies import memory, pretrained
from dtr1_jax.rl import optim, rollout, update
from dtr1_jax.types import Images, Prompt, Rollout

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def settings(name: str = "tiny", **changes) -> config.Config:
    """The settings of a policy on one device; names as `rollout_queries`."""
    values = seg.get_config(name)
    values.mesh.data = 1
    for path, value in changes.items():
        group, _, key = path.partition("_")
        values[group][key] = value
    return config.from_configdict(values)


def test_what_stays_is_counted_by_hand():
    c = settings(lora_rank=2, lora_targets="decoder/(q|down)")
    stays, count = memory.resident(c, small.TEXT, plan.abstract_mesh(c.mesh))
    d, f, v, heads, kv, h = 16, 32, 32, 4, 2, 8
    layer = 2 * d * heads * h + 2 * d * kv * h + 3 * d * f + 2 * d + 2 * h
    lora = 2 * 2 * (d + heads * h + f + d)
    assert count == {"parameters": v * d + d + 2 * layer, "trainable": lora}
    # of Adam's state two moments are large; besides there are step counts of 4 bytes
    assert stays == {
        "weights": 4 * count["parameters"], "adapters": 4 * lora, "optimizer": 8 * lora + 8, "frozen_copies": 0,
    }  # fmt: skip


def test_a_reference_is_kept_only_for_the_kl_of_full_training():
    def copies(grpo_beta=0.0, **changes):
        c = settings(grpo_beta=grpo_beta, **changes)
        return memory.resident(c, small.TEXT, plan.abstract_mesh(c.mesh))[0]

    assert copies()["frozen_copies"] == copies(grpo_beta=0.1, lora_rank=2)["frozen_copies"] == 0
    assert copies(grpo_beta=0.1)["frozen_copies"] == copies()["weights"]


def test_the_share_of_a_device_is_what_it_holds():
    c = settings(mesh_data=2, mesh_fsdp=2, mesh_tensor=2)
    device_mesh = mesh.make(c.mesh)
    params = small.params()
    trainable = {"base": params}
    tree = {"base": params, "opt": optim.optimizer(c.optim, 10).init(trainable)}
    arrays = mesh.put(tree, mesh.shardings(device_mesh, tree))
    held = {
        name: sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(part)) for name, part in arrays.items()
    }
    stays, _ = memory.resident(c, small.SPEC, plan.abstract_mesh(c.mesh))
    assert stays["weights"] == held["base"] and stays["optimizer"] == held["opt"]
    assert held["base"] < sum(x.nbytes for x in jax.tree.leaves(params)) / 2


def test_caches_by_hand():
    todo = memory.DeviceShare(
        queries=3, group=4, part_queries=1, part_group=2, prompt=7, new=5, patches=0, branches=0, item=2
    )  # fmt: skip
    found = memory.rollout_parts(small.TEXT, todo, layers_bytes=1000)
    layers, kv, h = 2, 2, 8
    assert found["kv_cache"] == 2 * layers * kv * h * 2 * (3 * 4 * 5 + 3 * 7) and found["weights_by_layer"] == 1000
    halves = memory.rollout_parts(small.TEXT, dataclasses.replace(todo, tensor=2), layers_bytes=1000)
    assert halves["kv_cache"] == found["kv_cache"] / 2


def test_evaluation_by_hand():
    """All queries of a batch at once, one completion each; also what is the most of all then."""

    def found(**changes):
        c = settings("qwen2_5_0_5b", rollout_queries=4, mesh_fsdp=4, **changes)
        return plan.plan(c, plan.policy_spec(c))

    usual, none = found(), found(train_eval_examples=0)
    assert usual["evaluation"]["kv_cache"] == 2 * 24 * 2 * 64 * 2 * (32 // 4) * (1024 + 512)
    assert usual["evaluation"]["weights_by_layer"] == usual["rollout"]["weights_by_layer"]
    assert found(train_eval_examples=5)["evaluation"]["kv_cache"] == usual["evaluation"]["kv_cache"] / 8 * 2
    stays = sum(usual["resident"].values())
    assert usual["peak"] == stays + sum(usual["evaluation"].values()) > none["peak"]
    assert none["evaluation"] == {} and none["peak"] == stays + sum(none["update"].values())


def test_an_adapter_lies_beside_its_projection():
    def activations(targets):
        c = settings("qwen2_5_0_5b", lora_targets=targets, policy_prompt_tokens=192)
        return plan.plan(c, plan.policy_spec(c))["evaluation"]["activations"]

    hidden = 32 * 192 * 4864 * 2
    one, other, both = (activations(f"decoder/({names})") for names in ("q|down", "q|up", "gate|up"))
    assert (other - one, both - one) == (hidden, 2 * hidden)


def test_more_work_takes_more():
    def update_of(**changes):
        c = settings("qwen2_5_vl_3b", **changes)
        return plan.plan(c, plan.policy_spec(c))["update"]["activations"]

    usual = update_of()
    assert update_of(grpo_micro_group=2) < usual < update_of(grpo_micro_queries=2)
    assert usual < update_of(policy_prompt_tokens=2048)
    # the tower keeps its states for the way back, wherever in it the adapters are
    decoder = update_of(lora_targets="decoder/q")
    for place in ("blocks/out", "blocks/down", "patch"):
        assert decoder < update_of(lora_targets=f"decoder/q|vision/{place}"), place


def test_a_mesh_of_more_devices_than_are_here():
    c = settings("qwen2_5_vl_7b", mesh_fsdp=16)
    found = plan.plan(c, plan.policy_spec(c))
    assert found["devices"] == 16 > jax.device_count() and found["per_device"]["queries"] == 1
    with pytest.raises(config.ConfigError, match=r"rollout\.queries = 16 is not a multiple of mesh data x fsdp = 32"):
        plan.run(settings("qwen2_5_vl_7b", mesh_fsdp=32))
    with pytest.raises(config.ConfigError, match=r"train\.eval_batch = 32 is not a multiple of mesh data x fsdp = 64"):
        plan.run(settings("qwen2_5_vl_7b", mesh_fsdp=64, rollout_queries=64))
    assert plan.abstract_mesh(config.Mesh(-1, 2, 1)).shape["data"] == jax.device_count() // 2


def test_sizes_of_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(published.CONFIGS["smollm2_135m"]))
    c = settings("auto", policy_path=str(tmp_path))
    assert plan.policy_spec(c) == published.get("smollm2_135m")
    assert plan.policy_spec(settings("smollm2_135m", policy_path=str(tmp_path))) == published.get("smollm2_135m")
    with pytest.raises(config.ConfigError, match=r"'qwen3_4b' is not what config\.policy\.path = .* holds"):
        plan.policy_spec(settings("qwen3_4b", policy_path=str(tmp_path)))
    with pytest.raises(config.ConfigError, match=r"config\.policy\.path: 'auto' takes the sizes of .* it is empty"):
        plan.policy_spec(settings("auto"))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(config.ConfigError, match=r"config\.policy\.path: .*config\.json: model_type 'gpt2'"):
        plan.policy_spec(c)


def test_nothing_but_sizes_is_fetched_from_the_hub(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(published.CONFIGS["smollm2_135m"]))
    fetched = []

    def snapshot_download(name, *, allow_patterns, **_):
        fetched.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert (
        plan.policy_spec(settings("qwen3_4b", policy_path="Qwen/Qwen3-4B")) == published.get("qwen3_4b") and not fetched
    )
    assert plan.policy_spec(settings("auto", policy_path="HF/SmolLM2")) == published.get("smollm2_135m")
    assert fetched == [("HF/SmolLM2", ["config.json"])]


def test_patches_of_what_is_shown():
    """Also where the data brings the twins, and of what JSON lines may show as much as a prompt can hold."""

    def patches(**changes):
        c = settings("qwen2_5_vl_3b", **changes)
        return plan.device_share(c, published.get("qwen2_5_vl_3b"), plan.abstract_mesh(c.mesh)).patches

    assert patches() == patches(policy_constructor="given") == 2 * 28**2 * 512 // 28**2 * 2
    assert patches(data_source="jsonl", data_root="x") == patches(policy_max_pixels=0) == 1024 * 4
    assert patches(data_source="davis", data_root="x") == min(1024 * 4, 128 * 4 * plan.sources.davis.FRAMES)


def test_the_last_line_is_one_json_object():
    *table, last = plan.run(settings("smollm2_135m")).splitlines()
    found = json.loads(last)
    assert found["parameters"] == 134_515_008 and found["peak"] > found["resident"]["weights"] > 0
    assert {"kv_cache", "activations"} <= set(found["rollout"]) and set(found["update"]) >= {"activations"}
    assert set(found["evaluation"]) == set(found["rollout"])
    assert {"stays", "update", "rollout", "evaluation", "peak"} <= {line.split()[0] for line in table if line}


def row(name: str) -> list[str]:
    """The row in docs/memory.md: parameters, then GiB for LoRA and full training on one device and on eight."""
    cells = [f"{plan.plan(c := settings(name), plan.policy_spec(c))['parameters'] / 1e9:.2f}"]
    for changes in ({}, {"lora_rank": 0, "policy_weights_dtype": "float32"}):
        for devices in (1, 8):
            c = settings(name, mesh_fsdp=devices, **changes)
            cells.append(f"{plan.plan(c, plan.policy_spec(c))['peak'] / plan.GIB:.1f}")
    return cells


def test_what_the_readme_says_of_remat():
    peaks = []
    for remat in ("off", "on"):
        c = settings("qwen2_5_vl_3b", policy_remat=remat)
        peaks.append(f"{plan.plan(c, plan.policy_spec(c))['peak'] / plan.GIB:.1f}")
    assert "by LoRA on one device {} in place of {}), in less time".format(*peaks) in PAGE.read_text("utf-8")


def test_table_of_the_page():
    rows = re.findall(r"^\| (\w+) \| ([\d. |]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == list(published.CONFIGS)
    for name, cells in rows:
        assert cells.split(" | ") == row(name), name


S = jax.ShapeDtypeStruct


def shapes(c: config.Config, spec) -> tuple[dict, dict | None, Prompt]:
    """Weights, adapters and prompts without any data."""
    base = memory._base(c, spec)
    lora = jax.eval_shape(lambda w: policy.init_lora(jax.random.key(0), w, c.lora.rank, c.lora.targets), base)
    b, p = c.rollout.queries, c.policy.prompt_tokens
    prompt = Prompt(
        S((b, p), jnp.int32), S((b, p), bool), S((b, p, 3), jnp.int32), S((b, p), jnp.int32), S((b,), jnp.int32), None
    )
    return base, lora, prompt


def compiled_update(c: config.Config, spec):
    base, lora, prompt = shapes(c, spec)
    trainable, frozen = ({"lora": lora}, {"base": base}) if c.lora.rank else ({"base": base}, {})
    tx = optim.optimizer(c.optim, 10)
    b, g, s = c.rollout.queries, c.rollout.group, c.rollout.new_tokens
    sampled = Rollout(S((b, g, s), jnp.int32), S((b, g, s), bool), S((b, g, s), jnp.float32), S((b, g), bool))
    return update.update.lower(
        update.State(trainable, jax.eval_shape(tx.init, trainable)), frozen,
        update.Minibatch(prompt, sampled, S((b, g), jnp.float32)), S((spec.vocab,), bool), spec=spec, tx=tx,
        knobs=c.grpo, temperature=1.0, micro=c.grpo.micro_queries,
    ).compile()  # fmt: skip


def compiled_rollout(c: config.Config, spec):
    base, lora, prompt = shapes(c, spec)
    return rollout.sample.lower(
        base, lora if c.lora.rank else None, prompt, jax.eval_shape(lambda: jax.random.key(0)),
        S((spec.vocab,), bool), spec=spec, group=c.rollout.group, new_tokens=c.rollout.new_tokens, end=1, pad=0,
        temperature=1.0,
    ).compile()  # fmt: skip


def compiled_evaluation(c: config.Config, spec):
    """As evaluate.ask samples: the rollout's program for one greedy completion of each query of a batch."""
    base, lora, prompt = shapes(c, spec)
    prompt = jax.tree.map(lambda x: S((c.train.eval_batch, *x.shape[1:]), x.dtype), prompt)
    return rollout.sample.lower(
        base, lora if c.lora.rank else None, prompt, jax.eval_shape(lambda: jax.random.key(0)),
        S((spec.vocab,), bool), spec=spec, group=1, new_tokens=c.rollout.new_tokens, end=1, pad=0,
        temperature=c.train.eval_temperature,
    ).compile()  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what, rank, dtype, remat", [
    ("update", 0, "float32", "on"), ("update", 16, "float32", "on"), ("rollout", 0, "float32", "on"),
    ("update", 16, "int8", "on"), ("rollout", 16, "int8", "on"), ("evaluation", 0, "float32", "on"),
    ("evaluation", 16, "float32", "on"), ("evaluation", 16, "int8", "on"), ("update", 0, "float32", "off"),
    ("update", 16, "float32", "off"),
])  # fmt: skip
def test_plan_is_what_xla_reports(what, rank, dtype, remat):
    c = settings(
        "qwen2_5_0_5b", lora_rank=rank, policy_dtype="float32", policy_weights_dtype=dtype, rollout_queries=2,
        rollout_group=4, policy_prompt_tokens=256 if what == "evaluation" else 128, rollout_new_tokens=64,
        policy_remat=remat,
    )  # fmt: skip
    spec = pretrained.adjusted(c, plan.policy_spec(c))
    found = plan.plan(c, spec)
    compiled = {"update": compiled_update, "rollout": compiled_rollout, "evaluation": compiled_evaluation}[what]
    analysis = compiled(c, spec).memory_analysis()
    assert sum(found[what].values()) == pytest.approx(analysis.temp_size_in_bytes, rel=0.1)
    stays = sum(size for name, size in found["resident"].items() if what == "update" or name != "optimizer")
    assert stays == pytest.approx(analysis.argument_size_in_bytes, rel=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("name, queries, patches", [("qwen3_vl_2b", 2, 512), ("qwen2_5_vl_3b", 1, 1024)])
def test_what_a_trained_tower_keeps_without_remat(name, queries, patches):
    spec = published.get(name)
    deep, full = (tuple(n for n in layers if n < 12) for layers in (spec.vision.deepstack, spec.vision.full_layers))
    tower = dataclasses.replace(spec.vision, layers=12, deepstack=deep, full_layers=full)
    spec = dataclasses.replace(spec, vision=tower, remat=False)
    weights = jax.eval_shape(lambda: vision.init(jax.random.key(0), tower, spec.width))
    n, numbers = (queries, patches), S((queries, patches, 4), jnp.int32)
    images = Images(
        S((*n, tower.values), jnp.float32), S((*n, 2), jnp.int32), numbers if tower.side else None,
        S((*n, 4), jnp.float32) if tower.side else None, S(n, jnp.int32), S(n, jnp.int32) if tower.window else None,
    )  # fmt: skip

    def loss(weights, images):
        knobs = {"lora": None, "lora_scale": 1.0, "dtype": jnp.float32, "remat": False, "unroll": 1}
        return (vision.encode(weights, tower, spec.width, images, **knobs) ** 2).sum()

    analysis = jax.jit(jax.grad(loss)).lower(weights, images).compile().memory_analysis()
    c = settings(name, policy_dtype="float32", policy_remat="off")
    todo = dataclasses.replace(plan.device_share(c, spec, plan.abstract_mesh(c.mesh)), patches=patches)
    assert sum(memory._tower(spec, todo, queries, trained=True)) == pytest.approx(analysis.temp_size_in_bytes, rel=0.1)


def test_without_remat_an_update_keeps_more():
    found = [
        plan.plan(c, plan.policy_spec(c))
        for c in (settings("qwen3_vl_2b", policy_remat=x) for x in ("auto", "on", "off"))
    ]
    assert found[0] == found[1]
    assert found[2]["update"]["activations"] > 2 * found[1]["update"]["activations"]
    assert {n: found[2][n] for n in ("resident", "rollout", "evaluation")} == {
        n: found[1][n] for n in ("resident", "rollout", "evaluation")
    }
