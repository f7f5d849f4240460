"""Which mesh a run gets where its settings leave that open."""

import dataclasses
import logging
import types

import jax
import pytest
import small
from plan_settings import settings

from dtr1_jax import config, mesh
from dtr1_jax.modes import mesh_choice, plan

GIB = 2**30
needs_eight = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


def devices(count, each=4):
    return [types.SimpleNamespace(process_index=i // each, number=i) for i in range(count)]


def abstract(sizes, devices):
    return jax.sharding.AbstractMesh((sizes.data, sizes.fsdp, sizes.tensor), mesh.AXES)


@pytest.fixture
def planned(monkeypatch):
    """Plans without counting: `needs` has the bytes by (fsdp, tensor), and `asked` what was planned."""
    needs, asked = {}, []

    def plan_(c, sizes, device_mesh, memory):
        shape = tuple(device_mesh.shape.values())
        asked.append(shape)
        mesh.check_batch(device_mesh, "rollout.queries", c.rollout.queries)
        return {"peak": needs.get(shape[1:], 100 * GIB)}

    monkeypatch.setattr(mesh_choice.plan, "plan", plan_)
    monkeypatch.setattr(mesh_choice.mesh, "make", abstract)
    return types.SimpleNamespace(needs=needs, asked=asked)


def chosen(count=8, memory=16 * GIB, queries=32, **sizes):
    c = settings(rollout_queries=queries, **{"mesh_data": -1, **sizes})
    found, why = mesh_choice.choose(c, small.TEXT, devices(count), memory)
    assert found.rollout == c.mesh.rollout
    return (found.data, found.fsdp, found.tensor), why


def test_weights_are_cut_as_little_as_they_may(planned):
    planned.needs |= {(1, 1): 15 * GIB, (2, 1): 14 * GIB, (4, 1): 13.6 * GIB, (8, 1): 9 * GIB}
    assert chosen() == ((2, 4, 1), "13.6 of 16.0 GiB planned on each device")  # 15 and 14 leave less than 15 % free
    assert planned.asked == [(8, 1, 1), (4, 2, 1), (2, 4, 1)]
    planned.needs[1, 1] = 13.6 * GIB
    assert chosen()[0] == (8, 1, 1)


def test_tensor_is_for_what_fsdp_cannot_cut(planned):
    """It stays within a process of four devices."""
    planned.needs |= {(2, 4): 13 * GIB, (4, 2): 14 * GIB}
    assert chosen()[0] == (1, 2, 4)
    assert planned.asked[-1] == (1, 2, 4) and (8, 1, 1) in planned.asked and (1, 1, 8) not in planned.asked


def test_queries_that_do_not_divide_are_cut_over_fewer_devices(planned):
    planned.needs |= {(1, 2): GIB}
    assert chosen(queries=4)[0] == (4, 1, 2)


def test_what_the_settings_say_is_kept(planned):
    planned.needs |= {(2, 2): GIB}
    assert chosen(mesh_tensor=2)[0] == (2, 2, 2)
    planned.asked.clear()
    assert chosen(mesh_data=2) == ((2, 0, 0), "config.mesh")
    assert chosen(mesh_fsdp=2) == ((-1, 2, 0), "config.mesh")
    assert chosen(mesh_data=2, mesh_fsdp=-1, mesh_tensor=2) == ((2, -1, 2), "config.mesh")
    assert chosen(memory=None) == ((-1, 0, 0), "the memory of a device is not known")
    assert chosen(count=1) == ((-1, 0, 0), "there is one device")
    assert planned.asked == []


def test_where_nothing_fits_the_smallest_is_taken_with_a_warning(planned, caplog):
    planned.needs |= {(8, 1): 40 * GIB, (4, 2): 30 * GIB, (2, 4): 35 * GIB}
    assert chosen() == ((1, 4, 2), "the smallest, with 30.0 GiB planned on each device")
    assert (
        "planned to fit with 15 % of the memory to spare; with the best, a step needs 30.0 of 16.0 GiB" in caplog.text
    )


def test_what_cannot_be_planned_is_left_to_the_mode(planned):
    found, why = chosen(queries=3)
    assert found == (-1, 0, 0) and why.startswith("none could be planned: config.rollout.queries = 3 is not a multiple")


@needs_eight
def test_with_real_plans(monkeypatch, caplog):
    """A policy whose step needs more than a device has is cut, and less memory cuts it more."""
    c = settings(
        "qwen2_5_0_5b", rollout_queries=8, train_eval_batch=8, mesh_data=-1, lora_rank=0,
        policy_weights_dtype="float32",
    )  # fmt: skip
    sizes = plan.policy_spec(c)
    peaks = {}
    for fsdp in (1, 2, 4, 8):
        of_mesh = dataclasses.replace(c.mesh, data=8 // fsdp, fsdp=fsdp, tensor=1)
        peaks[fsdp] = plan.plan(c, sizes, mesh.make(of_mesh, jax.devices()[:8]), 100 * GIB)["peak"]
    assert peaks[1] > 1.5 * peaks[2] > 1.5 * peaks[4]
    for fsdp in (1, 2, 4):
        memory = int(peaks[fsdp] / mesh_choice.SHARE) + (1 << 20)
        monkeypatch.setattr(mesh_choice.rollout_layout, "device_memory", lambda memory=memory: memory)
        with caplog.at_level(logging.INFO, "dtr1_jax"):
            assert dict(mesh_choice.make(c, sizes).shape) == {"data": 8 // fsdp, "fsdp": fsdp, "tensor": 1}
        assert f"mesh: data {8 // fsdp}, fsdp {fsdp}, tensor 1" in caplog.text
        assert mesh_choice.settled(c).mesh == config.Mesh(8 // fsdp, fsdp, 1)
