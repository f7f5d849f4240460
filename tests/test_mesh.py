"""The mesh, the sharding table, and copies of arrays to the devices and back."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from configs import default
from dtr1_jax import config, device_order, mesh
from dtr1_jax.models import int8, policy
from dtr1_jax.models.spec import SPECS
from dtr1_jax.modes import learn as learning
from dtr1_jax.rl import advantages, imitation, optim, update
from dtr1_jax.rl import rollout as rl_rollout
from dtr1_jax.types import TASKS, Rollout

SETTINGS = config.from_configdict(default.get_config())
# pytest evaluates the string when a test starts: two processes must be joined before any use of jax.devices()
needs_8 = pytest.mark.skipif("jax.device_count() < 8", reason="needs 8 devices")


def device_mesh(*sizes):
    return mesh.make(config.Mesh(*sizes), jax.devices()[:8])


@needs_8
@pytest.mark.parametrize("sizes, shape", [
    ((8, 1, 1), (8, 1, 1)), ((-1, 4, 1), (2, 4, 1)), ((2, -1, 2), (2, 2, 2)), ((1, 1, -1), (1, 1, 8)),
])  # fmt: skip
def test_make(sizes, shape):
    m = device_mesh(*sizes)
    assert tuple(m.shape[a] for a in ("data", "fsdp", "tensor")) == shape
    assert mesh.batch_shards(m) == shape[0] * shape[1]
    assert all(t == jax.sharding.AxisType.Auto for t in m.axis_types)
    assert sorted(d.id for d in m.devices.flat) == list(range(8))


@needs_8
@pytest.mark.parametrize("sizes, product", [
    ((3, 1, 1), "3 x 1 x 1 = 3"), ((2, 2, 4), "2 x 2 x 4 = 16"), ((3, -1, 1), "3 x 2 x 1 = 6"),
    ((16, -1, 1), "16 x 1 x 1 = 16"),
])  # fmt: skip
def test_make_refuses_sizes_that_do_not_fit(sizes, product):
    with pytest.raises(config.ConfigError, match=f"data x fsdp x tensor = {product} devices, but there are 8"):
        device_mesh(*sizes)


@pytest.mark.parametrize("sizes, count, shape", [
    ((-1, 4, 1), 8, (2, 4, 1)), ((2, -1, 2), 64, (2, 16, 2)), ((2, 2, 2), 1, (2, 2, 2)), ((16, -1, 1), 8, (16, 1, 1)),
    ((3, -1, 1), 8, (3, 2, 1)),
])  # fmt: skip
def test_axis_sizes_need_no_devices(sizes, count, shape):
    assert mesh.axis_sizes(config.Mesh(*sizes), count) == shape


@pytest.mark.parametrize("sizes, owners, shares", [
    ((8, 1, 1), [0] * 4 + [1] * 4, [(0, 2), (1, 2)]), ((1, 2, 4), [0] * 4 + [1] * 4, [(0, 2), (1, 2)]),
    ((1, 1, 8), [0] * 4 + [1] * 4, [(0, 1), (0, 1)]),  # one tensor group in two processes: both prepare all rows
    ((1, 2, 4), [0, 0, 1, 1, 2, 2, 3, 3], [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ((2, 1, 4), [1, 1, 0, 0, 3, 3, 2, 2], [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ((2, 2, 2), [1, 1, 0, 0] * 2, [(1, 2), (0, 2)]),  # process 0 has the second rows of each half
])  # fmt: skip
def test_rows_belong_to_batch_shards(sizes, owners, shares):
    devices = [types.SimpleNamespace(id=i, process_index=process) for i, process in enumerate(owners)]
    m = types.SimpleNamespace(devices=np.array(devices).reshape(sizes))
    assert [mesh.share_of_rows(m, process) for process in range(len(shares))] == shares
    assert mesh.replicas(m) == len(shares) // shares[0][1]


@needs_8
def test_check_batch():
    m = device_mesh(2, 2, 2)
    mesh.check_batch(m, "rollout.queries", 8)
    with pytest.raises(config.ConfigError, match=r"config.rollout.queries = 6 .* data x fsdp = 4"):
        mesh.check_batch(m, "rollout.queries", 6)


def whole_state(spec):
    """Shapes of all trees that a run puts on a mesh: weights, adapters of every projection, optimizer states."""
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec))
    lora = jax.eval_shape(lambda p: policy.init_lora(jax.random.key(0), p, 4, ".*"), shapes)
    tree = {"base": shapes, "lora": lora, "reference": shapes, "rounded": int8.template(shapes, jnp.float32)}
    for name, trainable in (("base", shapes), ("lora", lora)):
        state = jax.eval_shape(lambda x: optim.optimizer(SETTINGS.optim, 10).init(x), {name: trainable})
        tree[f"grpo of {name}"] = {"opt": state}
    if spec.vision:
        head = jax.eval_shape(lambda: imitation.init_head(jax.random.key(0), spec, (3, 4)))
        cold = {"policy": shapes, "head": head}
        tree["sft"] = {"trainable": cold, "opt": jax.eval_shape(imitation.optimizer(SETTINGS.sft).init, cold)}
    return tree


@needs_8
@pytest.mark.parametrize("spec", [
    *SPECS.values(), dataclasses.replace(small.SPEC, tied=False, qkv_bias=True),
    dataclasses.replace(small.SPEC, vision=None),
])  # fmt: skip
def test_every_leaf_has_a_rule(spec):
    m, tree = device_mesh(2, 2, 2), whole_state(spec)
    places = mesh.shardings(m, tree)
    assert jax.tree.structure(places) == jax.tree.structure(tree)
    for (path, place), leaf in zip(jax.tree_util.tree_leaves_with_path(places), jax.tree.leaves(tree)):
        place.shard_shape(leaf.shape)  # raises where it does not divide
        name = jax.tree_util.keystr(path)
        if "kernel" in name or "table" in name:
            assert not place.is_fully_replicated or leaf.ndim < 2, (name, leaf.shape)
        elif "bias" not in name and "lora" not in name:
            assert place.is_fully_replicated, (name, place.spec)
    same = mesh.shardings(m, {"base": tree["base"], "reference": tree["reference"]})
    assert jax.tree.leaves(same["base"]) == jax.tree.leaves(same["reference"])


@needs_8
def test_the_table_by_hand():
    params = small.params()
    places = mesh.shardings(device_mesh(2, 2, 2), {"base": params, "lora": {"decoder": {"q": {
        "a": jnp.zeros((2, 16, 4)), "b": jnp.zeros((2, 4, 32))}}}})  # fmt: skip
    spec = jax.tree.map(lambda p: tuple(p.spec), places)
    decoder, tower = spec["base"]["decoder"], spec["base"]["vision"]
    assert decoder["q"]["kernel"] == decoder["gate"]["kernel"] == (None, "fsdp", "tensor")
    assert decoder["o"]["kernel"] == decoder["down"]["kernel"] == (None, "tensor", "fsdp")
    assert decoder["attn_norm"]["scale"] == decoder["q_norm"]["scale"] == (None, None)
    assert spec["base"]["embed"]["table"] == ("tensor", "fsdp")
    assert tower["blocks"]["qkv"]["kernel"] == (None, "fsdp", "tensor")
    assert tower["blocks"]["qkv"]["bias"] == (None, "tensor") and tower["blocks"]["out"]["bias"] == (None, None)
    assert tower["merger"]["fc2"]["kernel"] == ("tensor", "fsdp") and tower["merger"]["norm"]["bias"] == (None,)
    assert tower["patch"]["kernel"] == ("fsdp", "tensor") and tower["position"]["table"] == (None, "fsdp")
    assert spec["lora"]["decoder"]["q"] == {"a": (None, "fsdp", None), "b": (None, None, "tensor")}


@needs_8
def test_dimensions_that_do_not_divide_stay_whole():
    m = device_mesh(1, 4, 2)
    tree = {"q": {"kernel": jnp.zeros((6, 8))}, "k": {"kernel": jnp.zeros((8, 3))}, "o": {"kernel": jnp.zeros((7, 9))}}
    got = {name: tuple(p["kernel"].spec) for name, p in mesh.shardings(m, tree).items()}
    assert got == {"q": (None, "tensor"), "k": ("fsdp", None), "o": (None, None)}


@needs_8
def test_heads_are_cut_between_heads_only():
    m, heads = device_mesh(1, 2, 4), {"q": 8, "k": 2, "qkv": 6, "out": 6}
    tree = {name: {"kernel": jnp.zeros((16, 48)), "bias": jnp.zeros(48)} for name in ("q", "k", "qkv", "gate")}
    tree["out"] = {"kernel": jnp.zeros((48, 16))}
    got = jax.tree.map(lambda p: tuple(p.spec), mesh.shardings(m, tree, heads))
    assert got["q"] == got["gate"] == {"kernel": ("fsdp", "tensor"), "bias": ("tensor",)}
    assert got["k"] == got["qkv"] == {"kernel": ("fsdp", None), "bias": (None,)}  # 4 devices, 2 and 6 heads
    assert got["out"]["kernel"] == (None, "fsdp")
    used = jax.tree.map(lambda p: tuple(p.spec), mesh.shardings(m, tree, heads, resident=True))
    assert used["q"] == {"kernel": (None, "tensor"), "bias": ("tensor",)} and used["qkv"]["kernel"] == (None, None)
    lora = {"lora": {name: {"a": jnp.zeros((2, 16, 4)), "b": jnp.zeros((2, 4, 16))} for name in ("q", "k", "o", "up")}}
    used = jax.tree.map(lambda p: tuple(p.spec), mesh.shardings(m, lora, heads | {"o": 8}, resident=True))["lora"]
    assert used["q"] == used["up"] == {"a": (None, None, None), "b": (None, None, "tensor")}
    assert used["k"]["b"] == (None, None, None)
    assert used["o"] == {"a": (None, "tensor", None), "b": (None, None, None)}


@needs_8
@pytest.mark.parametrize("name", ["kernal", "xq/kernel"])
def test_an_unknown_path_is_an_error(name):
    tree = {"decoder": {name.split("/")[0]: {"kernel": jnp.zeros((4, 4))} if "/" in name else jnp.zeros((4, 4))}}
    with pytest.raises(
        KeyError, match=rf"no sharding rule for decoder/{name} \(4, 4\); add one to RULES in dtr1_jax.mesh"
    ):
        mesh.shardings(device_mesh(8, 1, 1), tree)


@needs_8
@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_arrays_come_back_from_the_devices(sizes):
    m = device_mesh(*sizes)
    prompt = small.prompt(8)
    there = mesh.put_batch(m, prompt)
    for x in jax.tree.leaves(there):
        assert x.sharding.is_equivalent_to(mesh.batch(m), x.ndim)
        assert {s.data.shape[0] for s in x.addressable_shards} == {8 // mesh.batch_shards(m)}
    back = mesh.local(there)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(back))
    assert all((x == y).all() for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(prompt)))
    weights = {"base": small.params()}
    put = mesh.put(weights, mesh.shardings(m, weights))
    assert all((np.asarray(x) == np.asarray(y)).all() for x, y in zip(jax.tree.leaves(put), jax.tree.leaves(weights)))
    gathered = mesh.whole(m, put)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(gathered))
    assert all((x == np.asarray(y)).all() for x, y in zip(jax.tree.leaves(gathered), jax.tree.leaves(weights)))
    assert all(x.is_fully_replicated for x in jax.tree.leaves(mesh.put(weights, mesh.replicated(m))))
    assert mesh.local({"a": np.arange(3)})["a"].tolist() == [0, 1, 2]


@needs_8
@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
def test_arrays_on_the_mesh_can_be_donated(sizes):
    m = device_mesh(*sizes)
    host = {"base": small.params()}
    before = jax.tree.map(np.copy, host)
    source = jax.tree.map(jnp.asarray, host)
    add = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)
    for place in (mesh.shardings(m, source), mesh.replicated(m)):
        jax.block_until_ready(add(mesh.put(source, place)))
        assert not any(x.is_deleted() for x in jax.tree.leaves(source))
        jax.block_until_ready(add(mesh.put(host, place)))
    for tree in (host, source):
        assert all((np.asarray(x) == y).all() for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(before)))


def test_long_messages_are_sent_in_pieces(monkeypatch):
    """Three processes, which are threads here; a device never holds more than mesh._GATHERED bytes."""
    count, sizes = 3, []
    here, barrier, arrays = threading.local(), threading.Barrier(count), [None] * count

    def gather(x):
        arrays[here.rank] = x
        barrier.wait(60)
        got = np.stack(arrays)
        sizes.append(got.nbytes)
        barrier.wait(60)
        return got

    monkeypatch.setattr(mesh, "_gather", gather)
    monkeypatch.setattr(mesh.jax, "process_count", lambda: count)
    monkeypatch.setattr(mesh, "_GATHERED", 1 << 18)
    devices = np.array([types.SimpleNamespace(process_index=rank) for rank in range(count)]).reshape(1, count, 1)
    fake = types.SimpleNamespace(devices=devices, shape={"tensor": 1})
    long = bytes(range(256)) * 600 + b"end"
    for messages in (
        [long, long[:70_000], b"\0"],
        [b"", b"a\0", b""],
        [b""] * 3,
        [long[: 1 << 16], b"", long[: 1 << 17]],
    ):
        results = [None] * count

        def act(rank, messages=messages, results=results):
            here.rank = rank
            results[rank] = mesh.of_shares(fake, messages[rank])

        threads = [threading.Thread(target=act, args=(rank,)) for rank in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == [messages] * count
    assert max(sizes) == count << 16


def test_numbers_of_one_process():
    assert mesh.least(3) == mesh.most(3) == 3 and mesh.largest((3, 5)) == (3, 5)
    assert mesh.of_shares(None, b"a\0") == [b"a\0"] and mesh.total_of_shares(None, 7) == 7


def learn(m, prompt, rollout, advantage):
    """One step of full training with every array on the mesh: (loss, all weights as numpy on every process)."""
    tx = optax.sgd(0.5)
    trainable = {"base": small.params()}
    trainable = mesh.put(trainable, mesh.shardings(m, trainable, small.SPEC.head_counts))
    knobs = dataclasses.replace(SETTINGS.grpo, variant="dapo", micro_group=0)
    batch = mesh.put_batch(m, update.Minibatch(prompt, rollout, advantage))
    state, metrics = update.update(
        update.State(trainable, tx.init(trainable)), {}, batch, None, spec=small.SPEC, tx=tx, knobs=knobs,
        temperature=1.0, mesh=m,
    )  # fmt: skip
    return float(metrics["loss"]), jax.tree.leaves(mesh.whole(m, state.trainable))


def sample(m, prompt):
    """The completions of the rows that this process prepared."""
    weights = {"base": small.params()}
    places = mesh.shardings(m, weights, small.SPEC.head_counts, resident=True)
    return mesh.local(rl_rollout.sample(
        mesh.put(weights, places)["base"], None, prompt, jax.random.key(0), None, spec=small.SPEC, group=2,
        new_tokens=6, end=-1, pad=0, temperature=1.0, mesh=m,
    ))  # fmt: skip


def tensor_over_processes(rank: int, sampled: Rollout, mine: slice) -> None:
    """Two tensor groups, each with devices of both processes, which prepare all rows; the second prepares others."""
    m = jax.sharding.Mesh(np.array(jax.devices())[[0, 1, 4, 5, 2, 3, 6, 7]].reshape(1, 2, 4), mesh.AXES)
    device_order.check_processes(m.devices)
    assert mesh.share_of_rows(m) == (0, 1) and mesh.replicas(m) == 2 and mesh.local_shards(m) == 2
    assert mesh.of_shares(m, b"ab"[rank : rank + 1]) == [b"a"] and mesh.total_of_shares(m, 5 + rank) == 5
    there = mesh.put_batch(m, small.prompt(8, seed=rank))
    for got, want in zip(jax.tree.leaves(mesh.local(there)), jax.tree.leaves(small.prompt(8))):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(sample(m, there).token_bgs[mine], sampled.token_bgs)


def work(rank: int, out: str) -> None:
    """The work of each of two processes with four devices. The second has longer completions than the first."""
    m = mesh.make(SETTINGS.mesh if jax.process_count() == 1 else config.Mesh(2, 2, 2))
    mine = slice(0, 8) if rank < 0 else slice(4 * rank, 4 * rank + 4)
    prompt = jax.tree.map(lambda x: x[mine], small.prompt(8))
    there = mesh.put_batch(m, prompt)
    assert there.token_bp.shape == (8, 7)
    back = mesh.local(there)
    assert all((x == y).all() for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(prompt)))
    assert (mesh.local(jax.jit(lambda x: x, out_shardings=mesh.replicated(m))(there.next_b)) == prompt.next_b).all()
    if rank >= 0:
        assert (mesh.least(5 - rank), mesh.most(5 - rank)) == (4, 5)
        assert mesh.largest((1 + rank, 8 - rank)) == (2, 8)
        assert mesh.of_shares(m, (b"a\0", b"bcde\0\0")[rank]) == [b"a\0", b"bcde\0\0"]
        assert mesh.total_of_shares(m, 2**40 + rank) == 2**41 + 1
        mesh._GATHERED = 1 << 17  # so that the longer message comes in three pieces
        long = bytes(range(256)) * 600
        assert mesh.of_shares(m, (long[:70_000], long)[rank]) == [long[:70_000], long]
        assert mesh.of_shares(m, b"") == [b"", b""]
    sampled = sample(m, there)
    length = np.where(np.arange(8) < 4, 2, 5)[mine]
    mask = np.broadcast_to(np.arange(6) < length[:, None, None], sampled.token_bgs.shape)
    rollout = Rollout(sampled.token_bgs, mask, sampled.logp_bgs, sampled.stopped_bg)
    advantage = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)[mine]
    loss, leaves = learn(m, prompt, rollout, advantage)
    if rank >= 0:
        tensor_over_processes(rank, sampled, mine)
    task, place = np.arange(8, dtype=np.int32)[mine] // 3, mesh.replicated(m)
    ema = mesh.put(advantages.initial_ema(), place)
    for _ in range(2):  # moments are those of all processes, and each gets its own rows back
        both, ema = learning.ema_advantages(*mesh.put_batch(m, (advantage, task)), ema, decay=0.9, place=place)
    assert list(learning.describe_ema(ema)) == [f"train/ema_std/{t}" for t in TASKS[:3]]
    np.savez(out, loss, sampled.token_bgs, mesh.local(both), *map(np.asarray, jax.tree.leaves(ema)), *leaves)


@pytest.mark.slow
def test_two_processes(tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    root = pathlib.Path(__file__).parents[1]
    flags = "--xla_force_host_platform_device_count={} --xla_cpu_collective_call_terminate_timeout_seconds=600"
    running = []
    for rank in (-1, 0, 1):
        env = os.environ | {"XLA_FLAGS": flags.format(1 if rank < 0 else 4), "PYTHONPATH": str(root)}
        command = [sys.executable, __file__, str(rank), str(port), str(tmp_path / f"{rank}.npz")]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    try:
        for process in running:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output[-4000:]
    finally:
        for process in running:
            process.kill()
    one, first, second = (list(np.load(tmp_path / f"{rank}.npz").values()) for rank in (-1, 0, 1))
    for rows in (1, 2):
        np.testing.assert_array_equal(np.concatenate([first[rows], second[rows]]), one[rows])
    for a, b, c in zip(one[3:] + one[:1], first[3:] + first[:1], second[3:] + second[:1]):
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(a, b, atol=2e-6)


if __name__ == "__main__":
    if int(sys.argv[1]) >= 0:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
    work(int(sys.argv[1]), sys.argv[3])
