"""Features of the towers of Qwen2.5-VL and Qwen3-VL in one small tower: windows, DeepStack, RMS norms and gates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from towers import PATCHES, SPEC, TOWER, encode, images, params

from dtr1_jax import config, layout, mesh
from dtr1_jax.models import decoder, policy, vision


def test_runs_equal_the_whole_square():
    """attend_runs equals attention with a mask, even where a run lies across two pieces."""
    rng = np.random.default_rng(1)
    q, k, v = rng.standard_normal((3, 2, 30, 2, 4)).astype(np.float32)
    number = np.stack([np.repeat([1, 2, 3, 4, 5, 6, 7, 0], [5, 1, 6, 6, 3, 2, 4, 3]), np.repeat([9, 8, 0], [6, 4, 20])])
    got = vision.attend_runs(q, k, v, jnp.asarray(number), longest=6)
    wanted = vision.attend_same(q, k, v, jnp.asarray(number))
    np.testing.assert_allclose(got[number > 0], wanted[number > 0], atol=1e-5)
    assert got.shape == (2, 30, 8) and np.isfinite(got).all()


def test_shapes_gradients_and_adapters():
    base, adapters = params()["vision"], policy.init_lora(jax.random.key(1), params(), 2, "vision/.*")["vision"]
    adapters = jax.tree.map(lambda x: 0.2 * jnp.ones_like(x), adapters)
    picture = images()

    @functools.partial(jax.jit, static_argnames="remat")
    def loss(base, adapters, remat):
        out = encode(base, picture, lora=adapters, remat=remat)
        assert out.shape == (1, PATCHES // 4, 3 * SPEC.width)
        return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape))[:, :6].sum()

    plain, recomputed = (
        jax.grad(functools.partial(loss, remat=remat), argnums=(0, 1))(base, adapters) for remat in (0, 1)
    )
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(recomputed)):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(x, y, atol=1e-4, rtol=1e-4, err_msg=name)
        assert np.abs(x).max() > 0, f"{name} is not used"


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("sizes", [(1, 1, 8), (1, 4, 2)])
def test_patches_cut_over_tensor_give_the_same_tokens(sizes):
    base, picture = params()["vision"], jax.tree.map(lambda x: np.repeat(x, 4, 0), images())

    @functools.partial(jax.jit, static_argnames="m")
    def tokens(base, picture, m):
        with layout.use(m):
            return encode(base, picture)

    m = mesh.make(config.Mesh(*sizes), jax.devices()[:8])
    weights = mesh.put({"vision": base}, mesh.shardings(m, {"vision": base}, SPEC.head_counts))["vision"]
    got = tokens(weights, mesh.put_batch(m, picture), m)
    np.testing.assert_allclose(got, tokens(base, picture, None), atol=1e-5, rtol=1e-5)


def test_a_patch_attends_to_its_window_and_in_full_layers_to_its_frame():
    base = params()["vision"]
    picture = images(((1, 4, 4), (1, 2, 4)))
    patch = picture.patch_bnc.copy()
    patch[:, 0] += 1.0
    changed = dataclasses.replace(picture, patch_bnc=patch)
    moved = np.abs(np.asarray(encode(base, changed) - encode(base, picture)))[0]
    moved = moved.reshape(8, 3, SPEC.width).max(-1) > 1e-4
    # token by token: [merged after the last layer, level 0 after a window layer, level 1 after a full layer]
    assert moved[0].tolist() == [True, True, True]
    assert moved[1].tolist() == [True, False, True]  # another window of the same picture
    assert not moved[4:6].any()  # another picture; the values at padding do not matter


@pytest.mark.parametrize("field", ["window_bn", "corner_bn4"])
def test_pictures_laid_out_for_another_tower_are_refused(field):
    with pytest.raises(ValueError, match=f"images.{field} is missing, but the tower has side = 3 and window = 1"):
        encode(params()["vision"], dataclasses.replace(images(), **{field: None}))
    plain = dataclasses.replace(TOWER, window=0, full_layers=(), side=0)
    with pytest.raises(ValueError, match=r"images\.\w+ is there"):
        encode(params()["vision"], images(), spec=plain)


def test_features_are_added_after_the_first_layers_at_vision_tokens():
    """With a decoder whose layers add nothing, the state is the token plus all its features."""
    base = params()
    quiet = jax.tree.map(jnp.zeros_like, base["decoder"])
    b, p, levels = 1, 5, 2
    rng = np.random.default_rng(3)
    x, deep = rng.standard_normal((b, 1, p, 8)), rng.standard_normal((levels, b, 1, p, 8))
    mask = np.tril(np.ones((p, p), bool))[None, None]
    out, _ = decoder.scan(
        quiet, None, SPEC, jnp.asarray(x), jnp.zeros((b, 1, p, 4)), mask, deep_lbgqd=jnp.asarray(deep)
    )
    np.testing.assert_allclose(out, x + deep.sum(0), atol=1e-5)
