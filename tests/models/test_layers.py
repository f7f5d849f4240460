"""Leaf blocks against loops written by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax.models import layers

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_rms_norm():
    x, scale = normal(3, 5), normal(5)
    got = layers.RMSNorm(1e-3).apply({"params": {"scale": scale}}, x)
    for row, out in zip(x, got):
        rms = math.sqrt(sum(float(v) ** 2 for v in row) / 5 + 1e-3)
        np.testing.assert_allclose(out, row / rms * scale, rtol=1e-5)


def test_layer_norm():
    x, scale, bias = 3 + normal(3, 5), normal(5), normal(5)
    got = layers.LayerNorm(1e-3).apply({"params": {"scale": scale, "bias": bias}}, x)
    for row, out in zip(x.astype(np.float64), got):
        std = math.sqrt(sum((v - row.mean()) ** 2 for v in row) / 5 + 1e-3)
        np.testing.assert_allclose(out, (row - row.mean()) / std * scale + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [layers.RMSNorm(1e-6), layers.LayerNorm(1e-6)])
def test_norms_compute_in_float32(norm):
    x = jnp.full((1, 2), 2.0**-12, jnp.bfloat16).at[0, 1].set(2.0**10)
    weights = norm.init(jax.random.key(0), x)
    out = norm.apply(weights, x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), norm.apply(weights, x.astype(jnp.float32)), rtol=2**-8)


def test_projection():
    x, kernel, bias, a, b = normal(2, 3, 4), normal(4, 5), normal(5), normal(4, 2), normal(2, 5)
    weights = {"params": {"kernel": kernel, "bias": bias}}
    layer = layers.Projection(5, bias=True, lora_scale=3.0)
    np.testing.assert_allclose(layer.apply(weights, x), x @ kernel + bias, atol=1e-5)
    got = layer.apply(weights | {"lora": {"a": a, "b": b}}, x)
    np.testing.assert_allclose(got, x @ kernel + bias + 3 * (x @ a @ b), atol=1e-4)


def test_rotary_axes_in_blocks():
    """Qwen2.5-VL: mrope_section frequencies follow time, then row, then column."""
    got = layers.rotary_axes(128, (16, 24, 24), interleaved=False)
    assert got.tolist() == [0] * 16 + [1] * 24 + [2] * 24


@pytest.mark.parametrize(("head_dim", "sections"), [(128, (24, 20, 20)), (32, (6, 5, 5)), (8, (2, 1, 1))])
def test_rotary_axes_interleaved(head_dim, sections):
    """Qwen3-VL: frequency i follows the row if i % 3 == 1 and the column if i % 3 == 2, up to 3 x the section."""
    wanted = []
    for i in range(head_dim // 2):
        if i % 3 == 1 and i < 3 * sections[1]:
            wanted.append(1)
        elif i % 3 == 2 and i < 3 * sections[2]:
            wanted.append(2)
        else:
            wanted.append(0)
    got = layers.rotary_axes(head_dim, sections, interleaved=True).tolist()
    assert got == wanted
    assert [got.count(axis) for axis in range(3)] == list(sections)


@pytest.mark.parametrize("interleaved", [True, False])
def test_text_positions_are_plain_rope(interleaved):
    position = np.repeat(RNG.integers(0, 500, (2, 7, 1)), 3, -1)
    plain = layers.rotary_angles(position, 32, 1e4, layers.rotary_axes(32, None, interleaved))
    axes = layers.rotary_axes(32, (6, 5, 5), interleaved)
    np.testing.assert_array_equal(layers.rotary_angles(position, 32, 1e4, axes), plain)
    np.testing.assert_allclose(plain[0, 3], [position[0, 3, 0] * 1e4 ** (-i / 16) for i in range(16)], rtol=1e-5)


def test_rotate():
    """Pair (i, i + H / 2) is rotated by angle i."""
    x, angle = normal(2, 3, 8), normal(2, 4)
    got = np.asarray(layers.rotate(x, angle))
    for l, n, i in np.ndindex(2, 3, 4):
        z = complex(x[l, n, i], x[l, n, i + 4]) * complex(math.cos(angle[l, i]), math.sin(angle[l, i]))
        np.testing.assert_allclose([got[l, n, i], got[l, n, i + 4]], [z.real, z.imag], atol=1e-6)


def test_scores_depend_on_distance_alone():
    q, k = normal(1, 1, 8), normal(1, 1, 8)

    def score(at_q, at_k):
        rotated = [
            layers.rotate(x, layers.rotary_angles(np.full((1, 3), at), 8, 100.0, np.zeros(4, int)))
            for x, at in ((q, at_q), (k, at_k))
        ]
        return float((rotated[0] * rotated[1]).sum())

    assert score(7, 3) == pytest.approx(score(24, 20), abs=1e-5)
    assert abs(score(7, 3) - score(7, 4)) > 1e-3


def naive_attention(q, own, own_mask, prefix, prefix_mask):
    """One softmax over the visible keys of [prefix, own], row by row and head by head, in float64."""
    b, g, n_q, heads, h = q.shape
    rep = heads // own.k.shape[2]
    out = np.zeros((b, g, n_q, heads, h))
    for i, j, l, n in np.ndindex(b, g, n_q, heads):
        visible = own_mask[i % own_mask.shape[0], j % own_mask.shape[1], l % own_mask.shape[2]]
        keys, values = own.k[i, j, n // rep][visible], own.v[i, j, n // rep][visible]
        if prefix is not None:
            keys = np.concatenate([prefix.k[i, n // rep][prefix_mask[i]], keys])
            values = np.concatenate([prefix.v[i, n // rep][prefix_mask[i]], values])
        score = keys.astype(np.float64) @ q[i, j, l, n] / math.sqrt(h)
        weight = np.exp(score - score.max())
        out[i, j, l, n] = weight @ values / weight.sum()
    return out.reshape(b, g, n_q, heads * h)


@pytest.mark.parametrize(
    ("group", "queries", "heads", "kv_heads", "prefixed"),
    [
        (3, 4, 6, 2, True),  # scoring
        (3, 1, 4, 4, True),  # decoding
        (1, 5, 4, 1, False),  # prefill
        (1, 5, 4, 2, True),
        (4, 3, 2, 2, False),
    ],
)
def test_attention_is_one_softmax_over_prefix_and_own(group, queries, heads, kv_heads, prefixed):
    b, t, p, h = 2, 5, 7, 4
    q = 2 * normal(b, group, queries, heads, h)
    own = layers.KV(2 * normal(b, group, kv_heads, t, h), normal(b, group, kv_heads, t, h))
    own_mask = RNG.random((b, group, queries, t)) < 0.6
    own_mask[..., 0] = True
    prefix = layers.KV(2 * normal(b, kv_heads, p, h), normal(b, kv_heads, p, h)) if prefixed else None
    prefix_mask = np.array([[1, 1, 0, 1, 0, 1, 1], [0, 0, 1, 1, 1, 1, 0]], bool) if prefixed else None
    got = layers.attend(q, own, own_mask, prefix, prefix_mask)
    np.testing.assert_allclose(got, naive_attention(q, own, own_mask, prefix, prefix_mask), atol=1e-5)
    narrow = own_mask[:1, :1]  # masks broadcast over queries and branches
    got = layers.attend(q, own, narrow, prefix, prefix_mask)
    np.testing.assert_allclose(got, naive_attention(q, own, narrow, prefix, prefix_mask), atol=1e-5)
    own, prefix = (x and layers.KV(x.k.swapaxes(-2, -1), x.v) for x in (own, prefix))
    np.testing.assert_allclose(layers.attend(q, own, narrow, prefix, prefix_mask, transposed=True), got, atol=1e-6)


def test_attention_of_large_scores_is_finite():
    """The softmax subtracts the maximum of both parts: the part with far larger scores wins, and nothing overflows."""
    q = np.full((1, 1, 1, 1, 4), 100.0, np.float32)
    high, low = np.full((1, 1, 1, 2, 4), 100.0, np.float32), np.full((1, 1, 1, 2, 4), -100.0, np.float32)
    one, two = np.ones((1, 1, 1, 2, 4), np.float32), np.full((1, 1, 1, 2, 4), 2.0, np.float32)
    mask, prefix_mask = np.ones((1, 1, 1, 2), bool), np.ones((1, 2), bool)
    for own, prefix, wanted in ((high, low, 1.0), (low, high, 2.0), (high, high, 1.5)):
        got = layers.attend(q, layers.KV(own, one), mask, layers.KV(prefix[0], two[0]), prefix_mask)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_attention_without_any_key_is_finite_and_so_is_its_gradient():
    q, own = normal(1, 1, 2, 2, 4), layers.KV(normal(1, 1, 2, 3, 4), normal(1, 1, 2, 3, 4))
    mask = np.array([[0, 0, 0], [1, 0, 1]], bool)[None, None]
    value, grad = jax.value_and_grad(lambda q: layers.attend(q, own, mask).sum())(q)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_attention_gradients_equal_those_of_the_concatenation():
    b, g, l, n, kv, t, p, h = 2, 2, 3, 4, 2, 3, 4, 4
    q, own = normal(b, g, l, n, h), layers.KV(normal(b, g, kv, t, h), normal(b, g, kv, t, h))
    prefix = layers.KV(normal(b, kv, p, h), normal(b, kv, p, h))
    own_mask = np.tril(np.ones((l, t), bool))[None, None]
    prefix_mask = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)
    weight = normal(b, g, l, n * h)

    def shared(q, own, prefix):
        return (layers.attend(q, own, own_mask, prefix, prefix_mask) * weight).sum()

    def joined(q, own, prefix):
        tiled = [jnp.repeat(x[:, None], g, 1) for x in prefix]
        k, v = (jnp.repeat(jnp.concatenate([x, y], 3), n // kv, 2) for x, y in zip(tiled, own))
        mask = jnp.concatenate(
            [jnp.broadcast_to(prefix_mask[:, None, None], (b, g, l, p)), jnp.broadcast_to(own_mask, (b, g, l, t))], -1
        )
        score = jnp.einsum("bglnh,bgnth->bgnlt", q, k) / math.sqrt(h)
        out = jnp.einsum("bgnlt,bgnth->bglnh", jax.nn.softmax(score, where=mask[:, :, None]), v)
        return (out.reshape(b, g, l, n * h) * weight).sum()

    got, wanted = (jax.grad(f, argnums=(0, 1, 2))(q, own, prefix) for f in (shared, joined))
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_attention_in_bfloat16_keeps_the_dtype_and_sums_in_float32():
    """512 equal keys: a sum kept in bfloat16 would stop growing at 256."""
    q = jnp.ones((1, 1, 1, 1, 4), jnp.bfloat16)
    own = layers.KV(jnp.ones((1, 1, 1, 512, 4), jnp.bfloat16), jnp.ones((1, 1, 1, 512, 4), jnp.bfloat16))
    got = layers.attend(q, own, np.ones((1, 1, 1, 512), bool))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got.astype(np.float32), 1.0)


@pytest.mark.parametrize(
    ("queries", "scores", "devices", "count"),
    [
        (512, 2**28, 1, 512),  # as many as a device holds: all at once
        (512, 2**28 + 1, 1, 256),
        (512, 2**28 + 1, 2, 512),  # half of them on each device
        (500, 3 * 2**28, 1, 167),  # the last piece is smaller
        (512, 2**40, 1, 16),
        (7, 2**40, 1, 7),
        (7, 0, 1, 7),
    ],
)
def test_queries_at_once(queries, scores, devices, count):
    assert layers.queries_at_once(queries, scores, devices) == count


def test_attention_takes_as_many_queries_at_once_as_the_rule_says(monkeypatch):
    """2 rows of 40 queries, 3 heads and 5 keys are 1200 scores: with room for 600, two pieces of 20 queries each."""
    q, own = normal(2, 1, 40, 3, 4), layers.KV(normal(2, 1, 3, 5, 4), normal(2, 1, 3, 5, 4))
    monkeypatch.setattr(layers, "SCORES", 600)
    pieces = []
    actual = layers._attend
    monkeypatch.setattr(layers, "_attend", lambda q, *args: pieces.append(q.shape[2]) or actual(q, *args))
    jax.eval_shape(lambda q: layers.attend(q, own, np.ones((1, 1, 1, 5), bool)), q)
    assert set(pieces) == {20} == {layers.queries_at_once(40, 2 * 40 * 3 * 5, 1)}  # one device, since there is no mesh


@pytest.mark.parametrize("in_pieces", [False, True])
def test_causal_attention_in_blocks_is_the_same(monkeypatch, in_pieces):
    """Values and gradients of 37 queries in blocks of 10; the products of keys that no query sees are left out."""
    b, g, q, n, kv, p, h = 2, 2, 37, 4, 2, 3, 4
    query, own = normal(b, g, q, n, h), layers.KV(normal(b, g, kv, q, h), normal(b, g, kv, q, h))
    prefix, prefix_mask = layers.KV(normal(b, kv, p, h), normal(b, kv, p, h)), np.array([[1, 1, 0], [0, 1, 1]], bool)
    mask = np.tril(np.ones((q, q), bool)) & (RNG.random((b, 1, 1, q)) < 0.8) | np.eye(q, dtype=bool)
    weight = normal(b, g, q, n * h)

    def loss(query, own, prefix, causal):
        return (layers.attend(query, own, mask, prefix, prefix_mask, causal=causal) * weight).sum()

    whole, grads = jax.value_and_grad(loss, argnums=(0, 1, 2))(query, own, prefix, False)
    monkeypatch.setattr(layers, "LEAST_BLOCK", 9)
    if in_pieces:
        monkeypatch.setattr(layers, "SCORES", 1)
    keys, actual = [], layers._attend
    monkeypatch.setattr(layers, "_attend", lambda q, own, *rest: keys.append(own.k.shape[3]) or actual(q, own, *rest))
    blocks, block_grads = jax.value_and_grad(loss, argnums=(0, 1, 2))(query, own, prefix, True)
    assert set(keys) == {10, 20, 30, 37}
    np.testing.assert_allclose(blocks, whole, atol=1e-4)
    for x, y in zip(jax.tree.leaves(block_grads), jax.tree.leaves(grads)):
        np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize(("queries", "blocks"), [(1, 1), (127, 1), (128, 2), (256, 4), (512, 8), (4096, 8)])
def test_blocks_of_causal_attention(queries, blocks):
    assert layers.causal_blocks(queries) == blocks


@pytest.mark.parametrize("narrow", [False, True])
def test_attention_in_pieces_is_the_same(monkeypatch, narrow):
    """Values and gradients of 37 queries, 16 at a time, with a mask for each of them or one for all."""
    b, g, l, n, kv, t, p, h = 2, 2, 37, 2, 1, 5, 4, 4
    q, own = normal(b, g, l, n, h), layers.KV(normal(b, g, kv, t, h), normal(b, g, kv, t, h))
    prefix = layers.KV(normal(b, kv, p, h), normal(b, kv, p, h))
    mask = RNG.random((1, g, 1 if narrow else l, t)) < 0.6
    prefix_mask = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)
    weight = normal(b, g, l, n * h)

    def loss(q, own, prefix):
        return (layers.attend(q, own, mask, prefix, prefix_mask) * weight).sum()

    def both():
        return jax.jit(jax.value_and_grad(lambda *x: loss(*x), argnums=(0, 1, 2)))(q, own, prefix)

    whole = both()
    monkeypatch.setattr(layers, "SCORES", 1)
    assert "scan" in str(jax.make_jaxpr(loss)(q, own, prefix))
    for x, y in zip(jax.tree.leaves(both()), jax.tree.leaves(whole)):
        np.testing.assert_allclose(x, y, atol=1e-4)
