"""The log-probabilities of tokens by slices of the vocabulary: the same numbers and gradients, in bounded memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from dtr1_jax import config, layout, mesh
from dtr1_jax.models import int8, output_head
from dtr1_jax.rl import sampling

VOCAB, WIDTH = 1000, 16
SPECS = {tied: dataclasses.replace(small.TEXT, vocab=VOCAB, width=WIDTH, tied=tied) for tied in (True, False)}
BANNED = np.isin(np.arange(VOCAB), (3, 130)) | (np.arange(VOCAB) >= 700)  # whole slices are banned
TEMPER = functools.partial(sampling.temper, temperature=0.7, banned_v=jnp.asarray(BANNED))
EVERY = np.where(BANNED, 5, np.arange(VOCAB)).reshape(8, 5, 25).astype(np.int32)  # chosen in all slices


def weights(tied, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32)
    return {"embed": {"table": table}} if tied else {"head": {"kernel": np.ascontiguousarray(table.T)}}


def states(dtype=np.float32):
    return np.random.default_rng(1).normal(size=(*EVERY.shape, WIDTH)).astype(dtype)


def scored(params, x, tied, temper=TEMPER):
    """(log-probabilities, gradients of a sum of them, with weights, with respect to the weights and the states)."""

    def total(params, x):
        logp = output_head.token_logprobs(params, SPECS[tied], x, EVERY, temper)
        return (logp * jnp.cos(jnp.arange(EVERY.size)).reshape(EVERY.shape)).sum(), logp

    (_, logp), grads = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True, allow_int=True))(params, x)
    return logp, grads


def by_slices(monkeypatch, columns):
    monkeypatch.setattr(output_head, "in_slices", lambda shards, platform: True)
    monkeypatch.setattr(output_head, "slice_columns", lambda tokens, vocab, width, gathers: min(columns, vocab))


@pytest.mark.parametrize("tied", [True, False])
def test_by_hand(tied):
    logit = states() @ (weights(tied)["embed"]["table"].T if tied else weights(tied)["head"]["kernel"]) / 0.7
    logit[..., BANNED] = -np.inf
    most = logit.max(-1, keepdims=True)
    want = logit - most - np.log(np.exp(logit - most).sum(-1, keepdims=True))
    got, _ = scored(weights(tied), states(), tied)
    np.testing.assert_allclose(got, np.take_along_axis(want, EVERY[..., None], -1)[..., 0], atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("columns", [128, 384, 500, 999])  # 128 and 999 leave a last slice that overlaps another
def test_slices_change_nothing(monkeypatch, tied, columns):
    want, want_grads = scored(weights(tied), states(), tied)
    by_slices(monkeypatch, columns)
    got, grads = scored(weights(tied), states(), tied)
    np.testing.assert_allclose(got, want, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        assert np.abs(b).max() > 0.1
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 4, 13, 25])
def test_chunks_change_nothing(monkeypatch, size):
    """Chunks of `size` of the 25 tokens of 40 rows, of which only 1 and 25 divide them."""
    want, want_grads = scored(weights(True), states(), True)
    monkeypatch.setattr(output_head, "CHUNK", 40 * VOCAB * size)
    got, grads = scored(weights(True), states(), True)
    np.testing.assert_allclose(got, want, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows, length, vocab, count", [
    (2, 512, 2**14, 512),  # CHUNK logits: one chunk
    (2, 513, 2**14, 257),
    (3, 512, 2**14, 256),
    (64, 100, 151936, 2),
    (2**12, 6, 2**14, 1),  # more than CHUNK logits for a single token of each row
    (1, 1, 1, 1),
])  # fmt: skip
def test_chunk_length(rows, length, vocab, count):
    assert output_head.chunk_length(rows, length, vocab) == count


def test_chunks_bound_the_logits_held(monkeypatch):
    seen = []

    def temper(z, token_v):
        seen.append(z.shape)
        return z

    monkeypatch.setattr(output_head, "CHUNK", 40 * VOCAB * 7)
    jax.eval_shape(lambda: output_head.token_logprobs(weights(True), SPECS[True], states(), EVERY, temper))
    assert set(seen) == {(8, 5, 7, VOCAB)}


@pytest.mark.parametrize("shards, platform, slices", [(1, "cpu", False), (2, "cpu", True), (1, "gpu", True)])
def test_one_cpu_device_takes_chunks_of_tokens(shards, platform, slices):
    assert output_head.in_slices(shards, platform) == slices


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (1, 2, 4)])
def test_slices_change_nothing_on_a_mesh(monkeypatch, tied, sizes):
    """The parts of the vocabulary have 1000, 500 and 250 columns, slices 128 of each."""
    want, want_grads = scored(weights(tied), states(), tied)
    by_slices(monkeypatch, 128)
    m = mesh.make(config.Mesh(*sizes), jax.devices()[:8])
    there = mesh.put(weights(tied), mesh.shardings(m, weights(tied)))

    def on_mesh(params, x):
        with layout.use(m):
            return scored(params, x, tied)

    got, grads = jax.jit(on_mesh)(there, mesh.put_batch(m, states()))
    np.testing.assert_allclose(got, want, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_an_int8_projection_has_no_gradient_of_its_own(monkeypatch):
    kernel, scale = int8.quantise(jnp.asarray(weights(False)["head"]["kernel"]))
    params = {"head": {"kernel": kernel, int8.SCALE: scale}}
    want, (_, want_dx) = scored({"head": {"kernel": kernel * scale}}, states(), False)
    for columns in (VOCAB, 128):
        by_slices(monkeypatch, columns)
        got, (_, dx) = scored(params, states(), False)
        np.testing.assert_allclose(got, want, atol=1e-4)
        np.testing.assert_allclose(dx, want_dx, atol=1e-4)


def test_a_banned_token_has_no_probability(monkeypatch):
    by_slices(monkeypatch, 128)
    token = np.full(EVERY.shape, 3, np.int32)
    got = output_head.token_logprobs(weights(True), SPECS[True], states(), token, TEMPER)
    assert (np.asarray(got) == -np.inf).all()


def test_the_gradient_of_bfloat16_states_is_summed_up_in_float32(monkeypatch):
    """With bfloat16 sums, the error would grow with the number of slices."""
    x, exact = jnp.asarray(states(), jnp.bfloat16), weights(False)
    errors = []
    for columns in (VOCAB, 128):
        by_slices(monkeypatch, columns)
        _, (_, dx) = scored(exact, x, False)
        _, (_, want) = scored(jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(np.float32), exact),
                              x.astype(jnp.float32), False)  # fmt: skip
        errors.append(np.abs(np.asarray(dx, np.float32) - want).mean() / np.abs(want).mean())
    assert errors[1] < 1.5 * errors[0] < 0.01


@pytest.mark.parametrize("tokens, vocab, width, columns", [
    (1024, 2**14, 64, 2**14),  # CHUNK logits: all columns at once
    (1024, 2**14 + 1, 64, 8320),  # two slices
    (4096, 152064, 3584, 6912),  # LEAST x width is more than CHUNK has for each token: 22 slices
    (1, 100, 8, 100), (2**25, 1000, 8, 128),  # never less than 128 columns
])  # fmt: skip
def test_the_columns_of_a_slice(tokens, vocab, width, columns):
    assert output_head.slice_columns(tokens, vocab, width) == columns


def test_a_slice_that_devices_gather_is_smaller_than_a_layer():
    assert output_head.slice_columns(64, 152064, 2048) == 152064
    assert output_head.slice_columns(64, 152064, 2048, gathers=True) == 15232 < 8 * 2048


def test_the_backward_pass_holds_one_slice_of_logits(monkeypatch):
    params = weights(True)

    def held(columns):
        by_slices(monkeypatch, columns)
        run = jax.jit(jax.grad(lambda x: output_head.token_logprobs(params, SPECS[True], x, EVERY, TEMPER).sum()))
        return run.lower(states()).compile().memory_analysis().temp_size_in_bytes

    logits = 4 * EVERY.size * VOCAB
    assert held(VOCAB) > logits and held(128) < logits / 2
