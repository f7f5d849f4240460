"""Which devices hold a copy of the weights in a rollout, why, and that the copy holds the same numbers."""

import dataclasses
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from dtr1_jax import config, mesh
from dtr1_jax.policies import rollout_layout
from dtr1_jax.rl import rollout

GIB = 2**30
SPEC = dataclasses.replace(small.SPEC, heads=8, kv_heads=2)


def fake_mesh(*sizes, devices_of_a_process=4, kind="unknown", chips_of_a_slice=64):
    devices = np.empty(sizes, object)
    for i in range(devices.size):
        devices.flat[i] = types.SimpleNamespace(
            process_index=i // devices_of_a_process, device_kind=kind, slice_index=i // chips_of_a_slice,
            platform="tpu" if kind.startswith("TPU") else "gpu",
        )  # fmt: skip
    return types.SimpleNamespace(devices=devices, size=devices.size, shape=dict(zip(mesh.AXES, sizes)))


@pytest.mark.parametrize("setting, sizes, gib, memory, size, why", [
    (0, (1, 16, 1), 15.2, 16, 4, "3.8 of 16.0 GiB"),  # 7B in bfloat16 on v5e: not on 1 or 2 chips
    (0, (1, 16, 1), 6.0, 16, 1, "6.0 of 16.0"), (0, (1, 16, 1), 12.0, 16, 2, "6.0 of 16.0"),
    (0, (1, 8, 2), 6.0, 16, 2, "3.0 of 16.0"),  # never fewer than tensor
    (0, (1, 16, 1), 64.0, 16, -1, r"no copy fits: 64.0 GiB over 4 devices are more than 50%"),
    (0, (1, 16, 1), 31.0, 16, 4, "7.8 of 16.0"), (0, (1, 16, 1), 33.0, 16, -1, "no copy fits"),  # half at most
    (0, (16, 1, 1), 15.2, 16, -1, "mesh.fsdp = 1"), (0, (1, 8, 1), 1.0, None, 1, "not known"),
    (0, (1, 2, 8), 72.0, 16, -1, "no copy fits: 72.0 GiB over 8 devices"),
    (4, (1, 16, 1), 6.0, 16, 4, "config.mesh.rollout = 4"), (-1, (1, 16, 1), 6.0, 16, -1, "config.mesh.rollout = -1"),
])  # fmt: skip
def test_the_choice(setting, sizes, gib, memory, size, why):
    got, reason = rollout_layout.choose(setting, fake_mesh(*sizes), SPEC, int(gib * GIB), memory and memory * GIB)
    assert got == size
    assert re.search(why, reason), reason


@pytest.mark.parametrize("sizes, gib, layers, kv_heads, size", [
    ((1, 16, 1), 6.0, 2, 4, 4),  # 2.0 ms of weights and 0.06 of messages, in place of 7.9 ms on one chip
    ((1, 16, 1), 6.0, 2, 2, 2),  # on 4 chips the two kv heads would be repeated
    ((1, 16, 1), 6.0, 250, 4, 1), ((1, 16, 1), 6.0, 60, 4, 4),  # 7.5 and 1.8 ms of messages
    ((1, 16, 1), 15.2, 60, 4, 4), ((1, 16, 1), 15.2, 60, 2, 4),  # on 1 and 2 chips there is no room
    ((16, 1, 1), 6.0, 2, 4, 4), ((16, 1, 1), 0.2, 60, 4, -1),  # whole weights are there, but reading them takes long
    ((16, 1, 1), 15.2, 60, 2, -1),
])  # fmt: skip
def test_the_choice_by_what_a_token_takes(sizes, gib, layers, kv_heads, size):
    """By hand, on chips that read 819 GB/s, with two messages of 15 us a layer."""
    spec = dataclasses.replace(SPEC, layers=layers, kv_heads=kv_heads)
    there = fake_mesh(*sizes, kind="TPU v5 lite")
    assert rollout_layout.choose(0, there, spec, int(gib * GIB), 16 * GIB)[0] == size


@pytest.mark.parametrize("kind, sizes, gib, heads, chips_of_a_slice, size", [
    ("TPU v5 lite", (1, 256, 1), 61.0, 40, 256, 8),  # 32B in bfloat16 on v5e: 7.6 of 16 GiB, and 16 do not cut 40 heads
    ("TPU v5 lite", (1, 64, 4), 61.0, 40, 256, 8), ("TPU v5 lite", (1, 16, 1), 61.0, 32, 16, 16),  # 8 take 48 %, 16 24
    ("TPU v5 lite", (1, 16, 1), 31.0, 32, 16, 4), ("TPU v5 lite", (1, 16, 1), 65.0, 40, 16, -1),
    ("TPU v5 lite", (2, 4, 1), 61.0, 40, 4, -1), ("TPU v5 lite", (4, 4, 1), 61.0, 40, 8, 8),  # within a slice only
    ("NVIDIA H100", (1, 16, 1), 61.0, 40, 16, -1),  # between processes, GPUs may have a slow network
])  # fmt: skip
def test_chips_of_several_processes_hold_a_copy_where_no_process_has_room(
    kind, sizes, gib, heads, chips_of_a_slice, size
):
    spec = dataclasses.replace(SPEC, heads=heads, kv_heads=8, layers=64)
    there = fake_mesh(*sizes, kind=kind, chips_of_a_slice=chips_of_a_slice)
    got, why = rollout_layout.choose(0, there, spec, int(gib * GIB), 16 * GIB)
    assert got == size
    assert re.search(rf"{gib / size:.1f} of 16.0 GiB on each device$" if size > 0 else "no copy fits", why), why


def test_devices_of_several_processes_hold_a_copy_where_the_setting_says_so():
    assert rollout_layout.choose(8, fake_mesh(1, 16, 1), SPEC, GIB, None)[0] == 8


@pytest.mark.parametrize("setting, sizes, of_a_process", [
    (3, (1, 12, 1), 4), (2, (1, 4, 4), 4), (16, (1, 8, 1), 4), (4, (1, 12, 1), 3), (2, (1, 12, 1), 3),
])  # fmt: skip
def test_groups_that_do_not_exist_are_refused(setting, sizes, of_a_process):
    """3 do not divide 8 heads; 2 is less than tensor; there are no 16; 4 and 2 do not fit 3 of a process."""
    there = fake_mesh(*sizes, devices_of_a_process=of_a_process)
    with pytest.raises(config.ConfigError, match=rf"config.mesh.rollout = {setting}: expected one of "):
        rollout_layout.choose(setting, there, SPEC, GIB, None)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize(
    "setting, sizes, kernel, of_copy",
    [
        (0, (1, 8, 1), (2, 16, 32), (1, 8, 1)), (4, (1, 8, 1), (2, 16, 8), (1, 2, 4)),
        (4, (2, 2, 2), (2, 16, 8), (2, 1, 4)), (4, (8, 1, 1), (2, 16, 8), (2, 1, 4)),
        (4, (4, 2, 1), (2, 16, 8), (2, 1, 4)),
    ],
)  # fmt: skip
def test_the_copy(setting, sizes, kernel, of_copy):
    m = mesh.make(config.Mesh(*sizes), jax.devices()[:8])
    weights = {"base": small.params(), "lora": small.lora(small.params())}
    there = mesh.put(weights, mesh.shardings(m, weights, small.SPEC.head_counts))
    rollout_mesh, params, lora = rollout_layout.copy(setting, m, small.SPEC, there["base"], there["lora"], jnp.bfloat16)
    assert tuple(rollout_mesh.shape.values()) == of_copy
    assert list(rollout_mesh.devices.flat) == list(m.devices.flat)
    q = params["decoder"]["q"]["kernel"]
    assert q.addressable_shards[0].data.shape == kernel and q.dtype == jnp.bfloat16
    assert params["norm"]["scale"].dtype == jnp.float32 and params["embed"]["table"].dtype == jnp.bfloat16
    got = mesh.whole(rollout_mesh, {"base": params, "lora": lora})
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(weights)):
        np.testing.assert_array_equal(a, b.astype(a.dtype))
    assert not any(x.is_deleted() for x in jax.tree.leaves(there))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("sizes, setting", [((8, 1, 1), 4), ((8, 1, 1), 2), ((2, 2, 2), 4)])
def test_the_samples_are_those_without_a_copy(sizes, setting):
    """Also where the devices that hold a copy together are several places on `data`."""
    m, weights, prompt = mesh.make(config.Mesh(*sizes), jax.devices()[:8]), small.params(), small.prompt(8)
    there = mesh.put(weights, mesh.shardings(m, weights, small.SPEC.head_counts))

    def sampled(setting):
        of_rollout, params, _ = rollout_layout.copy(setting, m, small.SPEC, there, None, jnp.float32)
        rows, resident = mesh.put_batch(of_rollout, prompt), setting != rollout_layout.AS_UPDATE
        assert of_rollout.shape["tensor"] == (setting if resident else m.shape["tensor"])
        got = rollout.sample(
            params, None, rows, jax.random.key(3), None, spec=small.SPEC, group=2, new_tokens=6, end=(), pad=0,
            temperature=1.0, mesh=of_rollout,
        )  # fmt: skip
        return mesh.whole(of_rollout, got)

    want, got = sampled(rollout_layout.AS_UPDATE), sampled(setting)
    np.testing.assert_array_equal(got.token_bgs, want.token_bgs)
    np.testing.assert_allclose(got.logp_bgs, want.logp_bgs, atol=1e-4)
    assert len(np.unique(want.token_bgs)) > 8


def test_one_device_needs_no_copy():
    m, params = mesh.make(config.Mesh(1, 1, 1), jax.devices()[:1]), small.params()
    got = rollout_layout.copy(0, m, small.SPEC, params, None, jnp.bfloat16)
    assert got[0] is m and got[1] is params and got[2] is None


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_mesh_for_rollouts_needs_a_size_that_divides():
    m = mesh.make(config.Mesh(1, 4, 2), jax.devices()[:8])
    assert dict(mesh.for_rollout(m, 8).shape) == {"data": 1, "fsdp": 1, "tensor": 8}
    assert mesh.for_rollout(jax.sharding.AbstractMesh((1, 16, 2), mesh.AXES), 8).shape["tensor"] == 8
    for size in (1, 3, 6, 16):
        with pytest.raises(ValueError, match=f"data, fsdp, tensor = 1, 4, 2: no tensor = {size} for a rollout"):
            mesh.for_rollout(m, size)
    wide = jax.sharding.AbstractMesh((4, 3, 1), mesh.AXES)
    assert [n for n in range(1, 13) if mesh.forms_groups(wide, n)] == [1, 3, 6, 12]  # 2 would mix places on data
