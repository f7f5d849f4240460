"""The vision tower against a float64 reference that takes one picture at a time."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_policy

from dtr1_jax.models import policy, vision

TOWER, WIDTH = tiny_policy.TOWER, tiny_policy.SPEC.width
PARAMS = tiny_policy.params()["vision"]


@functools.partial(jax.jit, static_argnames=("spec", "dtype", "remat", "unroll"))
def encode(params, images, lora=None, *, spec=TOWER, lora_scale=1.0, dtype=jnp.float32, remat=False, unroll=1):
    return vision.encode(
        params, spec, WIDTH, images, lora=lora, lora_scale=lora_scale, dtype=dtype, remat=remat, unroll=unroll
    )


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + TOWER.eps) * p["scale"] + p["bias"]


def project(x, p):
    return x @ p["kernel"] + p["bias"]


def rotate_2d(x, row, column):
    """One head's vector: of its H / 2 frequencies the first half turn by the row, the others by the column."""
    h = len(x)
    out = np.zeros(h)
    for i in range(h // 2):
        quarter = h // 4
        place, j = (row, i) if i < quarter else (column, i - quarter)
        z = complex(x[i], x[i + h // 2]) * np.exp(1j * place * TOWER.theta ** (-j / quarter))
        out[i], out[i + h // 2] = z.real, z.imag
    return out


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def reference(params, images, row, number):
    """float64[tokens, width] of picture `number` of a row."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    real = np.flatnonzero(images.segment_bn[row] == number)
    x = project(images.patch_bnc[row, real].astype(np.float64), params["patch"])
    for i, at in enumerate(real):
        for corner, weight in zip(images.corner_bn4[row, at], images.corner_weight_bn4[row, at]):
            x[i] += weight * params["position"]["table"][corner]
    h = TOWER.width // TOWER.heads
    for layer in range(TOWER.layers):
        p = jax.tree.map(lambda w: w[layer], params["blocks"])  # noqa: B023
        q, k, v = np.split(project(layer_norm(x, p["norm1"]), p["qkv"]), 3, -1)
        out = np.zeros_like(x)
        for n in range(TOWER.heads):
            own = slice(n * h, n * h + h)
            rotated_q, rotated_k = (
                np.stack([rotate_2d(y[i, own], *images.position_bn2[row, at]) for i, at in enumerate(real)])
                for y in (q, k)
            )
            weight = np.exp(rotated_q @ rotated_k.T / math.sqrt(h))
            out[:, own] = weight / weight.sum(-1, keepdims=True) @ v[:, own]
        x = x + project(out, p["out"])
        x = x + project(gelu_tanh(project(layer_norm(x, p["norm2"]), p["up"])), p["down"])
    merger = params["merger"]
    y = layer_norm(x, merger["norm"]).reshape(len(real) // 4, -1)  # 4 consecutive patches are one token
    y = project(y, merger["fc1"])
    y = 0.5 * y * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    return project(y, merger["fc2"])


def test_equals_the_reference_picture_by_picture():
    """Row 0 has two pictures, row 1 one, and both have garbage as padding: no picture attends to another."""
    images = tiny_policy.images()
    got = encode(PARAMS, images)
    assert got.shape == (2, tiny_policy.PATCHES // 4, WIDTH)
    for row, number, tokens in ((0, 1, slice(0, 2)), (0, 2, slice(2, 3)), (1, 1, slice(0, 2))):
        np.testing.assert_allclose(got[row, tokens], reference(PARAMS, images, row, number), atol=1e-4, rtol=1e-4)


def test_pictures_do_not_attend_to_others_or_to_padding():
    images = tiny_policy.images()
    before = np.asarray(encode(PARAMS, images))
    changed = images.patch_bnc.copy()
    changed[0, 8:12] += 5.0  # the second picture of row 0
    changed[:, 12:] = 1e3  # padding
    after = np.asarray(encode(PARAMS, dataclasses.replace(images, patch_bnc=changed)))
    np.testing.assert_array_equal(after[0, :2], before[0, :2])
    np.testing.assert_array_equal(after[1, :2], before[1, :2])
    assert np.abs(after[0, 2] - before[0, 2]).max() > 1e-2


def test_a_picture_attends_to_all_of_itself():
    images = tiny_policy.images()
    before = np.asarray(encode(PARAMS, images))
    changed = images.patch_bnc.copy()
    changed[0, 7] += 1.0  # last patch of the first picture moves its first token
    after = np.asarray(encode(PARAMS, dataclasses.replace(images, patch_bnc=changed)))
    assert np.abs(after[0, 0] - before[0, 0]).max() > 1e-3


def test_merger_groups_four_consecutive_patches():
    merger = vision.Merger(TOWER, WIDTH)
    x = np.random.default_rng(0).standard_normal((1, 8, TOWER.width)).astype(np.float32)
    before = np.asarray(merger.apply({"params": PARAMS["merger"]}, x))
    assert before.shape == (1, 2, WIDTH)
    for patch in range(8):
        changed = x.copy()
        changed[0, patch, 0] += 1.0
        moved = np.abs(np.asarray(merger.apply({"params": PARAMS["merger"]}, changed)) - before).max(-1)[0] > 1e-4
        assert moved.tolist() == [patch < 4, patch >= 4]


def test_position_table_is_interpolated():
    """Half of one row plus half of another equals a single row that holds their mean."""
    images = tiny_policy.images()
    corner, weight = np.zeros_like(images.corner_bn4), np.zeros_like(images.corner_weight_bn4)
    corner[..., :2], weight[..., :2] = (3, 5), 0.5
    between = encode(PARAMS, dataclasses.replace(images, corner_bn4=corner, corner_weight_bn4=weight))
    table = np.array(PARAMS["position"]["table"])
    table[7] = (table[3] + table[5]) / 2
    corner, weight = np.full_like(corner, 7), np.eye(4, dtype=np.float32)[0] + np.zeros_like(weight)
    moved_table = encode(
        PARAMS | {"position": {"table": table}},
        dataclasses.replace(images, corner_bn4=corner, corner_weight_bn4=weight),
    )
    np.testing.assert_allclose(between, moved_table, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_position_matters_by_distance(axis):
    """Moving a whole picture changes nothing; stretching it along one axis does."""
    images = tiny_policy.images()
    before = np.asarray(encode(PARAMS, images))[0, :3]
    moved, stretched = images.position_bn2.copy(), images.position_bn2.copy()
    moved[..., axis] += 4
    stretched[..., axis] *= 2
    after = encode(PARAMS, dataclasses.replace(images, position_bn2=moved))[0, :3]
    np.testing.assert_allclose(after, before, atol=1e-4)
    after = encode(PARAMS, dataclasses.replace(images, position_bn2=stretched))[0, :3]
    assert np.abs(after - before).max() > 1e-3


def test_row_without_pictures_is_finite():
    images = tiny_policy.images(grids=((), ((1, 1),)))
    assert np.isfinite(encode(PARAMS, images)).all()


@pytest.mark.parametrize("knobs", [{"remat": True}, {"unroll": 2}, {"unroll": 9, "remat": True}])
def test_remat_and_unroll_change_nothing(knobs):
    images = tiny_policy.images()

    def loss(params, **knobs):
        out = encode(params, images, **knobs)[images.segment_bn[:, ::4] > 0]
        return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum()

    value, grad = jax.jit(jax.value_and_grad(loss))(PARAMS)
    other, other_grad = jax.jit(jax.value_and_grad(functools.partial(loss, **knobs)))(PARAMS)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    tiny_policy.assert_trees_close(other_grad, grad, atol=1e-4)


def test_bfloat16_is_near_float32():
    params = policy.init(jax.random.key(0), tiny_policy.SPEC)["vision"]
    images = tiny_policy.images()
    exact, rough = encode(params, images), encode(params, images, dtype=jnp.bfloat16)
    assert rough.dtype == jnp.bfloat16
    real = images.segment_bn[:, ::4] > 0
    error = np.abs(np.asarray(rough, np.float32) - np.asarray(exact))[real].max() / np.abs(exact[real]).max()
    assert 0 < error < 0.03
