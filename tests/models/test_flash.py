"""The kernel of long attention, interpreted on the CPU, against the einsum of layers.py and against masks by hand."""

import functools

import jax
import numpy as np
import pytest

from dtr1_jax.models import layers

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def arrays():
    """Queries, own and shared keys and values, and masks: lengths that no block divides, a hidden key in each part."""

    def make(b=2, g=2, q=150, n=4, kv=2, p=70, h=16):
        prefix = layers.KV(normal(b, kv, p, h), normal(b, kv, p, h)) if p else None
        mask = np.ones((b, g, 1, q), bool)
        mask[0, 0, 0, 5:9] = mask[-1, -1, 0, :2] = False
        prefix_mask = RNG.random((b, p)) < 0.7 if p else None
        own = layers.KV(normal(b, g, kv, q, h), normal(b, g, kv, q, h))
        return normal(b, g, q, n, h), own, prefix, mask, prefix_mask

    return make


def value_and_gradients(attention, query, own, prefix, mask, prefix_mask, causal=True):
    weight = np.random.default_rng(1).normal(size=(*query.shape[:3], query.shape[3] * query.shape[4]))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def loss(query, own, prefix):
        out = layers.attend(query, own, mask, prefix, prefix_mask, causal=causal, attention=attention)
        return (out * weight.astype(np.float32)).sum(), out

    (_, out), gradients = loss(query, own, prefix)
    return [out, *jax.tree.leaves(gradients)]


def assert_same(*args, **kwargs):
    flashed, wanted = (value_and_gradients(name, *args, **kwargs) for name in ("flash", "einsum"))
    assert len(flashed) == len(wanted)
    for x, y in zip(flashed, wanted):
        np.testing.assert_allclose(x, y, atol=1e-5)
    return flashed


@pytest.mark.parametrize(
    "sizes",
    [
        {},  # scoring: groups, grouped heads, and a prefix
        {"g": 1, "p": 0, "h": 80, "n": 2, "kv": 1},  # prefill
        {"b": 1, "g": 3, "q": 20, "n": 3, "kv": 3, "h": 64, "p": 300},  # fewer queries than a block
    ],
)
def test_values_and_gradients_are_those_of_the_einsum(arrays, sizes):
    query, own, prefix, mask, prefix_mask = arrays(**sizes)
    if prefix is None:
        mask[-1, -1, 0, 0] = True  # the einsum returns another value where a query sees nothing
    assert_same(query, own, prefix, mask, prefix_mask)
