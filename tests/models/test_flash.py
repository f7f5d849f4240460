"""The kernel of long attention, interpreted on the CPU, against the einsum of layers.py, and its masks by hand."""

import dataclasses
import functools
import logging
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask

from dtr1_jax import config, layout, mesh
from dtr1_jax.models import flash, layers, policy

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def arrays(b=2, g=2, q=150, n=4, kv=2, p=70, h=16):
    """Queries, own and shared keys and values, masks with hidden keys, and weights of a loss.

    No block divides the lengths. The first query of a row sees no own key.
    """
    own = layers.KV(normal(b, g, kv, q, h), normal(b, g, kv, q, h))
    mask = np.ones((b, g, 1, q), bool)
    mask[0, 0, 0, 5:9] = mask[-1, -1, 0, :2] = False
    prefix = layers.KV(normal(b, kv, p, h), normal(b, kv, p, h)) if p else None
    prefix_mask = RNG.random((b, p)) < 0.7 if p else None
    return normal(b, g, q, n, h), own, mask, prefix, prefix_mask


def value_and_gradients(attention, query, own, mask, prefix=None, prefix_mask=None, causal=True, m=None):
    """[the output, gradients of queries, own and shared keys and values], where each output has a weight of its own."""
    sizes = (*query.shape[:3], query.shape[3] * query.shape[4])
    weight = np.random.default_rng(1).normal(size=sizes).astype(np.float32)
    if m is not None:  # queries that see no key: the kernel returns 0 for them, and the einsum another value
        weight[m] = 0

    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def loss(query, own, prefix):
        out = layers.attend(query, own, mask, prefix, prefix_mask, causal=causal, attention=attention)
        return (out * weight).sum(), out

    (_, out), gradients = jax.jit(loss)(query, own, prefix)
    return [out if m is None else jnp.where(m[..., None], 0, out), *jax.tree.leaves(gradients)]


def assert_same(got, wanted):
    assert len(got) == len(wanted)
    for x, y in zip(got, wanted):
        np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("sizes", [
    {}, pytest.param({"b": 1, "g": 3, "q": 20, "n": 3, "kv": 3, "h": 64, "p": 300}, marks=pytest.mark.slow),
])  # fmt: skip
def test_scoring_is_that_of_the_einsum(sizes):
    """Groups behind a prefix, grouped heads or not, values and all gradients."""
    inputs = arrays(**sizes)
    assert_same(value_and_gradients("flash", *inputs), value_and_gradients("einsum", *inputs))


def test_a_prompt_whose_first_token_is_padding():
    """Prefill, with a head dimension of 80. Tokens before the first real one see nothing, and change nothing."""
    inputs = arrays(g=1, p=0, h=80, n=2, kv=1, q=40)
    blind = np.cumsum(inputs[2][:, :, 0], -1) == 0
    assert blind.sum() == 2
    flashed = value_and_gradients("flash", *inputs)
    np.testing.assert_array_equal(np.asarray(flashed[0])[blind], 0)
    wanted = value_and_gradients("einsum", *inputs, m=blind)
    assert_same([jnp.where(blind[..., None], 0, flashed[0]), *flashed[1:]], wanted)


def test_places_of_the_same_number_see_each_other():
    """Pictures in a vision tower: both directions, and padding that nobody sees."""
    query, own, *_ = arrays(b=2, g=1, q=140, n=2, kv=2, p=0, h=8)
    number = np.repeat([[1, 2, 0], [3, 0, 1]], [60, 50, 30], 1)[:, None]
    inputs = query, own, layers.SameNumber(number)
    flashed = value_and_gradients("flash", *inputs, causal=False)
    np.testing.assert_array_equal(np.asarray(flashed[0])[number == 0], 0)
    wanted = value_and_gradients("einsum", *inputs, causal=False, m=number == 0)
    assert_same(flashed, wanted)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("sizes, rows, each", [
    ((2, 2, 2), 4, [(1, 2, 20, 2, 8), (1, 2, 1, 20, 8), (1, 1, 9, 8)]),
    pytest.param((1, 2, 4), 3, [(3, 2, 20, 1, 8), (3, 2, 1, 20, 8), (3, 1, 9, 8)], marks=pytest.mark.slow),
])  # fmt: skip
def test_on_a_mesh_each_device_has_its_own_rows_and_heads(monkeypatch, sizes, rows, each):
    """Four devices repeat the 2 kv heads, because each has one of the 4 query heads; two do not divide 3 rows."""
    inputs, found = arrays(b=rows, g=2, q=20, n=4, kv=2, p=9, h=8), []
    device_mesh = mesh.make(config.Mesh(*sizes), jax.devices()[:8])
    actual = flash._attend

    def recorded(*args, **kwargs):
        found.append([args[i].shape for i in (0, 1, 4)])
        return actual(*args, **kwargs)

    monkeypatch.setattr(flash, "_attend", recorded)
    with layout.use(device_mesh):
        got = value_and_gradients("flash", *inputs)
    assert found[0] == each
    assert_same(got, value_and_gradients("einsum", *inputs))


def test_decoding_equals_scoring_by_the_kernel():
    """Prefill and scoring by the kernel, and the same tokens behind the same prompts through a cache."""
    spec = dataclasses.replace(small.TEXT, attention="flash", layers=1)
    prompt, params = small.prompt(2, pictures=False), small.params(spec=spec)
    token = np.random.default_rng(0).integers(1, small.VOCAB, (2, 2, 4))

    @jax.jit
    def both(params):
        prefix = policy.prefill(params, None, spec, prompt)
        scored = policy.logprobs(params, None, spec, prefix, token)
        split, cache = policy.start(params, None, spec, prefix, 2, 3)
        position = jnp.broadcast_to(prompt.next_b[:, None, None] + np.arange(3), (2, 2, 3))
        seen = np.ones((2, 2, 3), bool)
        state, _ = policy.decode(params, spec, split, prefix, cache, token[..., :3], position, seen, jnp.int32(0))
        logp = jax.nn.log_softmax(policy.logits(params, spec, state))
        return scored[..., 1:], jnp.take_along_axis(logp, token[..., 1:, None], -1)[..., 0]

    np.testing.assert_allclose(*both(params), atol=1e-5)


def test_branches_by_hand():
    mask = flash.Branches(2, 2, 1, causal=True)
    wanted = [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    assert mask.shape == (4, 5) and (mask[:, :] == np.array(wanted, bool)).all()
    assert (mask[1:3, 2:] == np.array(wanted, bool)[1:3, 2:]).all()
    both = flash.Branches(2, 2, 0, causal=False)
    assert (both[:, :] == np.kron(np.eye(2), np.ones((2, 2)))).all()


@pytest.mark.parametrize("mask", [(3, 256, 384, True), (1, 512, 0, True), (2, 256, 128, False)])
def test_the_kernel_computes_as_many_blocks_as_counted(mask):
    mask = flash.Branches(*mask)
    sizes = splash.BlockSizes(*[128] * 8)
    kernel = splash.make_splash_mha(
        splash_mask.MultiHeadMask([mask] * 2), block_sizes=sizes, head_shards=1, q_seq_shards=1
    )
    for info in (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info):
        assert (np.asarray(info.block_mask) > 0).sum() == mask.blocks(128)


@pytest.mark.parametrize("lengths, size", [
    ((4, 1023, 2048), 512), ((4, 600, 2048), 128), ((1, 700, 0), 256), ((8, 20, 0), 128), ((1, 5000, 0), 512),
])  # fmt: skip
def test_blocks_add_an_eighth_at_most(lengths, size):
    assert flash.block_size(*lengths) == size


@pytest.mark.parametrize("setting, queries, platform, used", [
    ("auto", 128, "tpu", True), ("auto", 127, "tpu", False), ("auto", 4096, "cpu", False), ("auto", 4096, "gpu", False),
    ("flash", 1, "tpu", True), ("flash", 1, "cpu", True), ("einsum", 4096, "tpu", False), ("einsum", 1, "gpu", False),
])  # fmt: skip
def test_where_the_kernel_is_used(setting, queries, platform, used):
    assert layers.uses_kernel(setting, queries, platform) == used


def test_a_gpu_has_no_such_kernel():
    with pytest.raises(config.ConfigError, match=r"config\.policy\.attention = 'flash': expected TPUs .*, got gpu"):
        layers.uses_kernel("flash", 4096, "gpu")


@pytest.mark.parametrize("head_dim", [64, 72, 80, 128])
def test_a_program_for_tpus_has_the_kernel(monkeypatch, caplog, head_dim):
    """Lowered for TPUs on this CPU, because the devices of the mesh are TPUs; without the kernel where it is short."""
    tpu = types.SimpleNamespace(size=1, devices=np.array([types.SimpleNamespace(platform="tpu")]))
    caplog.set_level(logging.INFO)
    layers.log_kernel.cache_clear()

    def lowered(queries):
        query, own, mask, prefix, prefix_mask = arrays(q=queries, h=head_dim)

        def loss(query, own, prefix):
            with layout.use(tpu):
                return layers.attend(query, own, mask, prefix, prefix_mask, causal=True).sum()

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        return gradient.trace(query, own, prefix).lower(lowering_platforms=("tpu",)).as_text()

    assert lowered(128).count("@tpu_custom_call") == 3  # forward, and two backward
    assert "attend by a kernel that writes no scores (on tpu)" in caplog.text
    assert "tpu_custom_call" not in lowered(127)
    assert layout.platform() == jax.default_backend()
