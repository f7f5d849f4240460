"""The memory that an update or a rollout takes: counted by hand, and compared with XLA's own analysis."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
import small
from plan_settings import settings

from dtr1_jax import config, mesh
from dtr1_jax.models import policy, published_sizes, vision
from dtr1_jax.modes import plan
from dtr1_jax.policies import ahead_of_time, memory, phase_memory, pretrained
from dtr1_jax.rl import optim, rollout, update
from dtr1_jax.types import Images, Prompt, Rollout


@pytest.mark.parametrize(("rank", "tied", "devices", "beta", "copies"), [
    (2, False, 1, 0.0, 0), (2, True, 1, 0.0, 1), (2, False, 8, 0.0, 1), (2, True, 8, 0.0, 1), (0, False, 1, 0.0, 0),
    (0, False, 8, 0.0, 2), (2, True, 8, 0.1, 2), (0, False, 8, 0.1, 3), (0, True, 1, 0.1, 1),
])  # fmt: skip
def test_the_output_projection_is_gathered_and_so_is_its_gradient(rank, tied, devices, beta, copies, monkeypatch):
    c = settings(lora_rank=rank, mesh_data=1, mesh_fsdp=devices, grpo_beta=beta)
    spec, asked = dataclasses.replace(small.TEXT, tied=tied), []
    monkeypatch.setattr(
        phase_memory, "_logits", lambda spec, share, rows, length, copies: (asked.append(copies), (0, 0))[1]
    )
    plan.plan(c, spec, plan.abstract_mesh(c.mesh))
    assert asked == [copies]


def test_each_batch_shard_has_whole_adapters():
    """They are cut over fsdp where they stay; an update holds a copy, the sum of its gradients and the newest ones."""

    def planned(**sizes):
        c = settings(lora_rank=2, **sizes)
        found = plan.plan(c, small.TEXT, plan.abstract_mesh(c.mesh))
        return found["resident"]["adapters"], found["update"]["gradients"]

    whole, gradients = planned()
    assert gradients == 2 * whole
    cut, gradients = planned(mesh_data=1, mesh_fsdp=8)
    assert cut < whole and gradients == 3 * whole
    assert planned(mesh_data=8)[1] == 3 * whole


def test_logits_of_a_device():
    """One slice forward and backward, of 4096 columns for 4098 tokens; tensor cuts the vocabulary into two parts."""
    c, spec = settings("tiny"), dataclasses.replace(small.TEXT, vocab=150_000, width=2, hidden=4, layers=1)

    def logits(spec=spec, tensor=1, new=2049, gathers=False):
        share = phase_memory.DeviceShare(
            queries=1, group=2, part_queries=1, part_group=2, prompt=8, new=new, patches=0, branches=0, item=2,
            shards=16, tensor=tensor, platform="tpu", gathers=gathers,
        )  # fmt: skip
        return phase_memory.update_parts(c, spec, share, 1000)["activations"]

    assert logits() == pytest.approx(3 * 4 * 4098 * 4096, rel=0.01)
    assert logits(tensor=2) == pytest.approx(3 * 4 * 4098 * 3968, rel=0.01)  # 19 slices of 75,000
    assert logits(new=32) == pytest.approx(3 * 4 * 64 * 150_000, rel=0.02)  # all columns at once
    wide = dataclasses.replace(spec, width=2048)
    assert logits(wide) > 3 * 4 * 4098 * 4096 + 4 * 4098 * 2048  # and the gradient of the hidden states
    assert logits(wide, new=32) / logits(wide, new=32, gathers=True) > 3  # of 150,000 columns, 16,384 at most


def test_caches_by_hand():
    todo = phase_memory.DeviceShare(
        queries=3, group=4, part_queries=1, part_group=2, prompt=7, new=5, patches=0, branches=0, item=2
    )  # fmt: skip
    found = phase_memory.rollout_parts(small.TEXT, todo, layers_bytes=1000)
    layers, kv, h = 2, 2, 8
    assert found["kv_cache"] == 2 * layers * kv * h * 2 * (3 * 4 * 5 + 3 * 7) and found["weights_by_layer"] == 1000
    halves = phase_memory.rollout_parts(small.TEXT, dataclasses.replace(todo, tensor=2), layers_bytes=1000)
    assert halves["kv_cache"] == found["kv_cache"] / 2


def test_a_rollout_without_a_copy_holds_what_it_gathers():
    """By hand: all layers by layer, cut and whole, and the output projection, which is the embedding too."""
    c = settings("qwen2_5_0_5b", mesh_fsdp=4, mesh_rollout=-1, rollout_queries=4, train_eval_batch=4)
    spec = plan.policy_spec(c)
    found = plan.plan(c, spec, plan.abstract_mesh(c.mesh))["rollout"]
    layers = memory.layer_bytes(c, spec, plan.abstract_mesh(config.Mesh(1, 1, 1)))
    assert found["weights_copy"] == 0 and found["projection_copy"] == 2 * spec.vocab * spec.width * 2
    assert found["weights_by_layer"] == pytest.approx(1.25 * layers, rel=0.01)  # norms and biases are whole
    copied = plan.plan(
        dataclasses.replace(c, mesh=config.Mesh(1, 4, 1)), spec, plan.abstract_mesh(config.Mesh(1, 4, 1))
    )
    assert copied["rollout"]["projection_copy"] == 0 and copied["rollout"]["weights_by_layer"] == layers


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
@pytest.mark.parametrize("layers", [2, 4])
def test_a_rollout_without_a_copy_is_what_xla_reports(layers):
    c = settings(
        "qwen2_5_1_5b", mesh_fsdp=4, mesh_rollout=-1, policy_dtype="float32", policy_weights_dtype="float32",
        policy_prompt_tokens=32, rollout_new_tokens=32, rollout_queries=4, rollout_group=2, train_eval_batch=4,
    )  # fmt: skip
    device_mesh = mesh.make(c.mesh, jax.devices()[:4])
    sizes = dataclasses.replace(plan.policy_spec(c), layers=layers)
    program = ahead_of_time.lower_rollout(c, pretrained.adjusted(c, sizes), device_mesh, 0, copied=False).compile()
    counted = sum(plan.plan(c, sizes, device_mesh)["rollout"].values())
    assert counted == pytest.approx(program.memory_analysis().temp_size_in_bytes, rel=0.1)


@pytest.mark.parametrize(("prompt", "new", "kept"), [(256, 128, 128 + 2 * 64), (255, 127, 255 + 2 * 63)])
def test_inputs_of_layers_are_cut_over_tensor(prompt, new, kept):
    """By hand: with remat an update keeps the input of each layer, of half of the tokens where tensor = 2 divides them.

    The last of the `new` tokens is read only where the tokens before it cannot be divided.
    """
    c, spec = settings("tiny"), dataclasses.replace(small.TEXT, remat=True, layers=1000)

    def growth(tensor):  # of what is kept for a layer
        share = phase_memory.DeviceShare(
            queries=1, group=2, part_queries=1, part_group=2, prompt=prompt, new=new, patches=0, branches=0, item=2,
            tensor=tensor,
        )  # fmt: skip
        more = dataclasses.replace(spec, layers=2000)
        one, two = (phase_memory.update_parts(c, each, share, 1000)["activations"] for each in (spec, more))
        kv = 3 * 2 * spec.kv_heads // tensor * spec.head_dim * prompt * 2  # for the gradient and the reference too
        return (two - one) / 1000 - kv

    assert growth(1) == (prompt + 2 * (new - 1)) * spec.width * 2
    assert growth(2) == kept * spec.width * 2


def test_updates_on_a_tpu_by_hand():
    """Half more for gaps; whole tiles of 8 tokens; the keys' and values' gradients summed over the parts of a group."""
    c, spec = settings("tiny"), dataclasses.replace(small.TEXT, attention="einsum")

    def parts(platform="tpu", new=15, group=4, **other):
        share = phase_memory.DeviceShare(
            queries=3, group=group, part_queries=1, part_group=4, prompt=16, new=new, patches=0, branches=0, item=2,
            platform=platform,
        )  # fmt: skip
        return phase_memory.update_parts(c, other.pop("spec", spec), dataclasses.replace(share, **other), 1000)

    there = parts()
    assert there.pop("gaps") == sum(there.values()) // 2 and "gaps" not in parts("cpu")
    saved = small.TEXT.layers * 4 * spec.width * 2  # the inputs of a layer for one more token of 4 completions
    assert parts(new=16)["activations"] - parts(new=15)["activations"] > 2 * saved  # 16 tokens in place of 14
    kv = 2 * spec.layers * 16 * spec.kv_heads * spec.head_dim * 2
    assert parts(group=8)["activations"] - parts()["activations"] == kv
    assert parts()["gradients"] == 2 * 1000 and parts(queries=1)["gradients"] == 1000  # one part needs no sum
    assert parts("cpu", queries=1)["gradients"] == 2 * 1000
    seeing = parts(spec=dataclasses.replace(small.SPEC, attention="einsum"), patches=16)
    assert seeing["pictures"] == 2 * 4 * 3 * 16 * small.SPEC.vision.values and "pictures" not in there


@pytest.mark.parametrize("attention, platform, linear", [
    ("auto", "tpu", True), ("flash", "cpu", True), ("auto", "cpu", False), ("einsum", "tpu", False),
])  # fmt: skip
def test_the_kernel_takes_memory_that_is_linear_in_the_length(attention, platform, linear):
    c, spec = settings("tiny"), dataclasses.replace(small.TEXT, attention=attention)

    def activations(length):
        share = phase_memory.DeviceShare(
            queries=1, group=4, part_queries=1, part_group=4, prompt=length, new=length + 1, patches=0, branches=0,
            item=2, platform=platform,
        )  # fmt: skip
        return phase_memory.update_parts(c, spec, share, 1000)["activations"]

    one, two, four = map(activations, (512, 1024, 2048))
    assert ((four - two) == pytest.approx(2 * (two - one), rel=0.01)) == linear
    if not linear:
        assert four - two > 3 * (two - one)


def test_an_adapter_lies_beside_its_projection():
    def activations(targets):
        c = settings("qwen2_5_0_5b", lora_targets=targets, policy_prompt_tokens=192)
        return plan.plan(c, plan.policy_spec(c))["evaluation"]["activations"]

    hidden = 32 * 192 * 4864 * 2
    one, other, both = (activations(f"decoder/({names})") for names in ("q|down", "q|up", "gate|up"))
    assert (other - one, both - one) == (hidden, 2 * hidden)


S = jax.ShapeDtypeStruct


def shapes(c: config.Config, spec) -> tuple[dict, dict | None, Prompt]:
    """Weights, adapters and prompts without any data."""
    base = memory.base_shapes(c, spec)
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
    """With one loop, which needs more memory than loops that shrink."""
    base, lora, prompt = shapes(c, spec)
    return rollout.sample.lower(
        base, lora if c.lora.rank else None, prompt, jax.eval_shape(lambda: jax.random.key(0)),
        S((spec.vocab,), bool), spec=spec, group=c.rollout.group, new_tokens=c.rollout.new_tokens, end=1, pad=0,
        temperature=1.0, shrink=False,
    ).compile()  # fmt: skip


def compiled_evaluation(c: config.Config, spec):
    """As evaluate.ask samples: the rollout's program for one greedy completion of each query of a batch."""
    base, lora, prompt = shapes(c, spec)
    prompt = jax.tree.map(lambda x: S((c.train.eval_batch, *x.shape[1:]), x.dtype), prompt)
    return rollout.sample.lower(
        base, lora if c.lora.rank else None, prompt, jax.eval_shape(lambda: jax.random.key(0)),
        S((spec.vocab,), bool), spec=spec, group=1, new_tokens=c.rollout.new_tokens, end=1, pad=0,
        temperature=c.train.eval_temperature, shrink=False,
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
@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("name, rank, sizes, new, beta", [
    ("qwen2_5_0_5b", 16, (1, 4, 1), 64, 0.0),  # all tokens' logits at once
    ("qwen2_5_0_5b", 16, (1, 4, 1), 512, 0.0),
    ("qwen2_5_0_5b", 16, (1, 2, 2), 512, 0.0),
    ("qwen2_5_0_5b", 0, (1, 4, 1), 512, 0.1),
    ("qwen2_5_3b", 16, (1, 8, 1), 256, 0.1),
])  # fmt: skip
def test_plan_is_what_xla_reports_on_a_mesh(name, rank, sizes, new, beta):
    """Two layers: there the logits and the output projection are most of the memory, as with long completions."""
    c = settings(
        name, lora_rank=rank, policy_dtype="float32", policy_weights_dtype="float32", policy_remat="on",
        policy_prompt_tokens=128, rollout_queries=8, rollout_group=4, rollout_new_tokens=new, grpo_micro_queries=1,
        grpo_micro_group=4, grpo_beta=beta, **dict(zip(("mesh_data", "mesh_fsdp", "mesh_tensor"), sizes)),
    )  # fmt: skip
    spec = dataclasses.replace(pretrained.adjusted(c, plan.policy_spec(c)), layers=2)
    device_mesh = mesh.make(c.mesh, jax.devices()[: math.prod(sizes)])
    found = plan.plan(c, spec, device_mesh)
    analysis = ahead_of_time.lower_update(c, spec, device_mesh, 0).compile().memory_analysis()
    assert sum(found["update"].values()) == pytest.approx(analysis.temp_size_in_bytes, rel=0.1)
    assert sum(found["resident"].values()) == pytest.approx(analysis.argument_size_in_bytes, rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name, queries, patches", [("qwen3_vl_2b", 2, 512), ("qwen2_5_vl_3b", 1, 1024)])
def test_what_a_trained_tower_keeps_without_remat(name, queries, patches):
    spec = published_sizes.get_spec(name)
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
    assert sum(phase_memory._tower(spec, todo, queries, trained=True)) == pytest.approx(
        analysis.temp_size_in_bytes, rel=0.1
    )
