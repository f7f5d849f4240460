"""The memory that stays on a device: counted by hand, and compared with arrays on a mesh."""

import dataclasses

import jax
import small
from plan_settings import settings

from dtr1_jax import config, mesh
from dtr1_jax.modes import plan
from dtr1_jax.policies import memory
from dtr1_jax.rl import optim


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


def test_a_step_ahead_keeps_the_weights_that_sampled_it():
    ahead = {"rollout_ahead": 1, "grpo_importance": "token_truncate", "grpo_beta": 0.0}

    def planned(**changes):
        c = settings(**changes)
        return plan.plan(c, small.TEXT, plan.abstract_mesh(c.mesh))

    for rank in (0, 2):
        trained = planned(**ahead, lora_rank=rank)["resident"]
        assert trained["frozen_copies"] == trained["adapters" if rank else "weights"] > 0
    cut = ahead | {"lora_rank": 2, "mesh_data": 1, "mesh_fsdp": 2}
    assert planned(**cut)["update"]["weights_copy"] == planned(**cut)["rollout"]["weights_copy"] > 0
    assert "weights_copy" not in planned(lora_rank=2, mesh_data=1, mesh_fsdp=2)["update"]


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


def test_the_copy_by_layer_is_small_where_the_loop_reads_the_stack():
    """By hand: on TPUs the four widest matrices of each layer are read in the stack, so they are not copied."""
    c, spec = settings(lora_rank=2, policy_dtype="bfloat16", policy_weights_dtype="bfloat16"), small.TEXT
    one = plan.abstract_mesh(config.Mesh(1, 1, 1))
    wide = spec.layers * (spec.heads * spec.head_dim + 3 * spec.hidden) * spec.width
    whole, part = (memory.layer_bytes(c, spec, one, platform=name) for name in ("cpu", "tpu"))
    assert whole - part == 2 * wide
    held = dataclasses.replace(c, policy=dataclasses.replace(c.policy, weights_dtype="float32"))  # converted once
    assert memory.layer_bytes(held, spec, one, platform="tpu") == whole
    assert memory.layer_bytes(held, spec, one, copied=True, platform="tpu") == part  # the copy is in bfloat16
    rounded = dataclasses.replace(c, policy=dataclasses.replace(c.policy, weights_dtype="int8"))
    assert len({memory.layer_bytes(rounded, spec, one, platform=name) for name in ("cpu", "tpu")}) == 1
