"""What a policy takes: counted by hand, held against arrays on a mesh, and against XLA's own analysis."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import small
from plan_settings import settings

from dtr1_jax import config, mesh
from dtr1_jax.models import published_sizes
from dtr1_jax.modes import plan
from dtr1_jax.policies import rollout_layout

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


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
    assert none["evaluation"] == {} and none["peak"] == stays + sum(none["rollout"].values())


def test_the_rollout_without_pictures_by_hand():
    """A prompt for each of the B x G completions, with room for the twin, and no tokens that they share."""

    def found(weight):
        c = settings("qwen2_5_vl_3b", rollout_queries=4, rollout_group=8)
        c.reward.weights["vqa"]["blind"] = weight
        return plan.plan(c, plan.policy_spec(c))

    off, on = found(0.0), found(0.5)
    assert on["rollout"]["kv_cache"] == 2 * 36 * 2 * 128 * 2 * (4 * 8) * (1024 + 512 + 512)
    assert on["rollout"]["kv_cache"] > off["rollout"]["kv_cache"] and on["peak"] >= off["peak"]
    assert on["update"] == off["update"]


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("rollout, rank, tensor", [(0, 2, 1), (4, 2, 4), (2, 0, 2), (-1, 2, 1)])
def test_a_rollout_holds_the_copy_that_is_counted(rollout, rank, tensor):
    """The arrays that a rollout works with besides the update's, on one of 8 devices."""
    c = settings(
        lora_rank=rank, lora_targets="decoder/(q|v|down)", mesh_fsdp=8, mesh_rollout=rollout, policy_dtype="bfloat16"
    )
    m, spec = mesh.make(c.mesh, jax.devices()[:8]), small.SPEC
    weights = {"base": small.params(), "lora": small.lora(small.params()) if rank else {}}
    there = mesh.put(weights, mesh.shardings(m, weights, spec.head_counts))
    sampling_mesh, params, lora = rollout_layout.copy(
        rollout, m, spec, there["base"], there["lora"] or None, jnp.bfloat16
    )
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((params, lora)))
    planned = plan.plan(c, spec)
    assert planned["rollout"]["weights_copy"] == planned["evaluation"]["weights_copy"] == (held if rollout >= 0 else 0)
    assert planned["rollout_mesh"] == dict(sampling_mesh.shape) and planned["rollout_mesh"]["tensor"] == tensor
    text = "\n".join(plan._table(planned))
    assert (f"copy of the weights, cut over {tensor} device(s)" in text) == (rollout >= 0) and "Not counted" not in text


def test_rows_and_heads_of_a_rollout_follow_its_mesh():
    """16 queries on 16 shards in the update; on 4 shards in the rollout, each of 4 devices with a quarter of heads."""
    c = settings("qwen2_5_vl_7b", mesh_fsdp=16, mesh_rollout=4, train_eval_examples=0)
    planned = plan.plan(c, plan.policy_spec(c))
    assert planned["per_device"]["queries"] == 1 and planned["rollout_mesh"] == {"data": 1, "fsdp": 4, "tensor": 4}
    # 4 kv heads on 4 devices: one each
    assert planned["rollout"]["kv_cache"] == 2 * 28 * 1 * 128 * 2 * 4 * (1024 + 8 * 512)


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
    (tmp_path / "config.json").write_text(json.dumps(published_sizes.CONFIGS["smollm2_135m"]))
    c = settings("auto", policy_path=str(tmp_path))
    assert plan.policy_spec(c) == published_sizes.get_spec("smollm2_135m")
    assert plan.policy_spec(settings("smollm2_135m", policy_path=str(tmp_path))) == published_sizes.get_spec(
        "smollm2_135m"
    )
    with pytest.raises(config.ConfigError, match=r"'qwen3_4b' differs in size from the files at config\.policy\.path"):
        plan.policy_spec(settings("qwen3_4b", policy_path=str(tmp_path)))
    with pytest.raises(
        config.ConfigError, match=r"config\.policy\.path is empty, but policy 'auto' takes its sizes from there"
    ):
        plan.policy_spec(settings("auto"))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(config.ConfigError, match=r"config\.policy\.path: .*config\.json: model_type 'gpt2'"):
        plan.policy_spec(c)


def test_nothing_but_sizes_is_fetched_from_the_hub(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(published_sizes.CONFIGS["smollm2_135m"]))
    fetched = []

    def snapshot_download(name, *, allow_patterns, **_):
        fetched.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert (
        plan.policy_spec(settings("qwen3_4b", policy_path="Qwen/Qwen3-4B")) == published_sizes.get_spec("qwen3_4b")
        and not fetched
    )
    assert plan.policy_spec(settings("auto", policy_path="HF/SmolLM2")) == published_sizes.get_spec("smollm2_135m")
    assert fetched == [("HF/SmolLM2", ["config.json"])]


def test_patches_of_what_is_shown():
    """Also where the data brings the twins, and of what JSON lines may show as much as a prompt can hold."""

    def patches(**changes):
        c = settings("qwen2_5_vl_3b", **changes)
        return plan.device_share(c, published_sizes.get_spec("qwen2_5_vl_3b"), plan.abstract_mesh(c.mesh)).patches

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


def test_what_the_page_says_of_remat():
    peaks = []
    for remat in ("off", "on"):
        c = settings("qwen2_5_vl_3b", policy_remat=remat)
        peaks.append(f"{plan.plan(c, plan.policy_spec(c))['peak'] / plan.GIB:.1f}")
    assert "by LoRA on one device {} in place of {}), in less time".format(*peaks) in " ".join(
        PAGE.read_text("utf-8").split()
    )


def test_table_of_the_page():
    rows = re.findall(r"^\| (\w+) \| ([\d. |]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == list(published_sizes.CONFIGS)
    for name, cells in rows:
        assert cells.split(" | ") == row(name), name


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


def test_twins_of_specialists_are_counted():
    """The cache has room for whole chunks of the longest twin, and a chunk passes the decoder in all rows."""
    asks = {"policy_prompt": "full", "rollout_twin_tokens": 100}

    def planned(constructor):
        c = settings(**asks, policy_constructor=constructor)
        return plan.plan(c, plan.policy_spec(c))

    given, asking = planned("policy"), planned("specialists")
    assert (given["per_device"]["new"], asking["per_device"]["new"]) == (160, 160 + 128)
    assert (given["per_device"]["inserted"], asking["per_device"]["inserted"]) == (0, 32)
    assert asking["rollout"]["kv_cache"] > given["rollout"]["kv_cache"]
    assert asking["rollout"]["activations"] > given["rollout"]["activations"]
    assert asking["update"]["activations"] > given["update"]["activations"]
