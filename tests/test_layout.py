"""Activations and weights on the mesh inside jitted functions: where they are, and that their values stay the same."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from dtr1_jax import config, layout, mesh
from dtr1_jax.models import policy

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
HEADS = {"q": 4, "k": 2}


def device_mesh(*sizes):
    return mesh.make(config.Mesh(*sizes), jax.devices()[:8])


def on(m, function, *args, resident=False):
    """function(*args), jitted, with the layout of a mesh."""

    @jax.jit
    def jitted(*args):
        with layout.use(m, resident):
            return function(*args)

    return jitted(*args)


def test_without_a_mesh_nothing_is_done():
    x, tree = jnp.ones((4, 6)), {"q": {"kernel": jnp.ones((4, 8)), "bias": jnp.ones(8)}}
    for m in (None, mesh.make(config.Mesh(1, 1, 1), jax.devices()[:1])):
        with layout.use(m):
            assert layout.place(x, "batch", None) is x and layout.gathered(tree, HEADS, jnp.bfloat16) is tree
            assert layout.spread(tree, HEADS) is tree and layout.parts("batch", 8) == 1 and not layout.gathers()
            assert layout.kv_copies(4, 2) == 1 and layout.checkpointed(len, False) is len


def test_places_by_hand():
    m = device_mesh(2, 2, 2)
    x = jnp.ones((8, 3, 6, 5))
    for names, shape in (
        (("batch", None, None, None), (2, 3, 6, 5)), (("batch", None, "hidden", None), (2, 3, 3, 5)),
        (("rows", None, None, None), (1, 3, 6, 5)), (("data", None, None, None), (4, 3, 6, 5)),
        ((None, "batch", None, "heads"), (8, 3, 6, 5)),  # 3 and 5 do not divide
        (("batch", None, ("heads", 3), None), (2, 3, 6, 5)),  # 3 heads of 2 values
    ):  # fmt: skip
        got = on(m, functools.partial(lambda names, x: layout.place(x, *names), names), x)
        assert got.addressable_shards[0].data.shape == shape, names
    with pytest.raises(AssertionError), layout.use(m):
        layout.place(x, "batch")


@pytest.mark.parametrize("sizes, heads, kv_heads, copies", [
    ((1, 4, 2), 4, 2, 1), ((1, 2, 4), 4, 2, 2), ((1, 1, 8), 16, 2, 4), ((1, 1, 8), 12, 4, 1),  # 12 heads stay whole
    ((1, 2, 4), 12, 6, 2),  # 12 kv heads, 3 on each device
    ((8, 1, 1), 4, 2, 1),
])  # fmt: skip
def test_kv_heads_are_repeated_as_often_as_tensor_needs(sizes, heads, kv_heads, copies):
    with layout.use(device_mesh(*sizes)):
        assert layout.kv_copies(heads, kv_heads) == copies


def test_weights_are_gathered_and_their_gradients_cut():
    m = device_mesh(1, 4, 2)
    rng = np.random.default_rng(0)
    tree = {"q": {"kernel": rng.normal(size=(8, 16)).astype(np.float32)}, "o": {"kernel": rng.normal(size=(16, 8))}}
    tree = jax.tree.map(lambda x: 0.1 * x.astype(np.float32), tree)
    x = rng.normal(size=(8, 8)).astype(np.float32)
    there = mesh.put(tree, mesh.shardings(m, tree, HEADS))

    def loss(tree, x):
        used = layout.gathered(tree, HEADS)
        return jnp.sin(layout.place(x, "batch", None) @ used["q"]["kernel"] @ used["o"]["kernel"]).sum()

    gathered = on(m, lambda t: layout.gathered(t, HEADS), there)
    shapes = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, gathered)
    assert shapes == {"q": {"kernel": (8, 8)}, "o": {"kernel": (8, 8)}}  # whole over fsdp, cut over tensor
    got, want = on(m, jax.grad(loss), there, x), jax.grad(loss)(tree, x)
    for a, b, place in zip(*map(jax.tree.leaves, (got, want, mesh.shardings(m, tree, HEADS)))):
        assert a.sharding.is_equivalent_to(place, 2)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_kernels_are_gathered_in_the_compute_dtype():
    m, tree = (
        device_mesh(1, 8, 1),
        {"q": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}, "norm": {"scale": jnp.ones(8)}},
    )
    got = on(m, lambda t: layout.gathered(t, HEADS, jnp.bfloat16), tree)
    assert jax.tree.map(lambda x: str(x.dtype), got) == {
        "q": {"kernel": "bfloat16", "bias": "float32"}, "norm": {"scale": "float32"}
    }  # fmt: skip


def test_each_batch_shard_has_the_gradient_of_its_rows():
    m = device_mesh(2, 4, 1)
    rng = np.random.default_rng(1)
    kernel, x = rng.normal(size=(3, 4, 5)).astype(np.float32), rng.normal(size=(8, 2, 4)).astype(np.float32)
    there = {"lora": {"q": {"a": kernel}}}
    spread = on(m, lambda t: layout.spread(t, HEADS), there)["lora"]["q"]["a"]
    assert spread.shape == (3, 8, 4, 5) and spread.addressable_shards[0].data.shape == (3, 1, 4, 5)

    def product(kernel, x):
        return layout.by_shard(layout.place(x, "batch", None, None), kernel)

    np.testing.assert_allclose(on(m, product, spread[1], x), x @ kernel[1], rtol=1e-5, atol=1e-6)
    weight = rng.normal(size=(8, 2, 5)).astype(np.float32)
    got = on(m, jax.grad(lambda k, x: (product(k, x) * weight).sum()), spread[1], x)
    np.testing.assert_allclose(got, np.einsum("bgi,bgo->bio", x, weight), rtol=1e-5, atol=1e-5)  # one row each
    whole = on(
        m,
        jax.grad(
            lambda k: (product(layout.spread({"lora": {"q": {"a": k}}}, HEADS)["lora"]["q"]["a"], x) * weight).sum()
        ),
        kernel[1],
    )
    np.testing.assert_allclose(whole, np.einsum("bgi,bgo->io", x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "sizes, remat, length, new", [((2, 2, 2), True, 8, 4), ((1, 2, 4), False, 8, 4), ((1, 2, 4), True, 7, 3)]
)
def test_cut_tokens_change_neither_values_nor_gradients(sizes, remat, length, new):
    """8 tokens of a prompt, 8 patches and 4 of a completion are cut over tensor; 7 and 3 tokens stay whole."""
    spec = dataclasses.replace(small.SPEC, remat=remat)
    weights = {"base": small.params(), "lora": small.lora(small.params())}
    prompt = small.prompt(8, length)
    token_bgs = np.random.default_rng(1).integers(1, small.VOCAB, (8, 2, new)).astype(np.int32)

    @functools.partial(jax.jit, static_argnames="m")
    def loss(weights, prompt, token_bgs, m):
        with layout.use(m):
            lora = layout.spread({"lora": weights["lora"]}, spec.head_counts)["lora"]
            prefix = policy.prefill(weights["base"], lora, spec, prompt)
            logp_bgs = policy.logprobs(weights["base"], lora, spec, prefix, token_bgs)
            return (logp_bgs * jnp.cos(jnp.arange(logp_bgs.size)).reshape(logp_bgs.shape)).sum()

    def on_devices(m):
        placed = mesh.put(weights, mesh.shardings(m, weights, spec.head_counts))
        rows = mesh.put_batch(m, (prompt, token_bgs))
        return jax.tree.map(np.asarray, jax.value_and_grad(loss)(placed, *rows, m))

    wanted, got = on_devices(mesh.make(config.Mesh(1, 1, 1), jax.devices()[:1])), on_devices(device_mesh(*sizes))
    assert abs(wanted[0]) > 1
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(got)):
        np.testing.assert_allclose(y, x, atol=1e-4, rtol=1e-4, err_msg=jax.tree_util.keystr(path))
