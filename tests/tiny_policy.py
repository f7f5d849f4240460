"""A policy small enough for exact tests: sizes, weights without trivial values, and prompts with pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import types
from dtr1_jax.models import policy
from dtr1_jax.models.spec import Spec, VisionSpec

TOWER = VisionSpec(width=16, layers=2, heads=2, hidden=24, patch=2, temporal_patch=1, merge=2, side=3)
SPEC = Spec(
    vocab=64,
    width=16,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    hidden=24,
    theta=100.0,
    sections=(2, 1, 1),
    remat=False,
    vision=TOWER,
)
# The two prompts: tokens, or ("see", index of a vision token, row, column). They show two pictures and one picture.
ROWS = (
    (5, ("see", 0, 0, 0), ("see", 1, 0, 1), 9, ("see", 2, 0, 0), 33, 12),
    (5, ("see", 0, 0, 0), ("see", 1, 1, 0), 61),
)
GRIDS = (((1, 2), (1, 1)), ((2, 1),))  # tokens (rows, columns) of each picture
PATCHES = 16


def params(spec: Spec = SPEC, seed: int = 0) -> dict:
    """Random weights. No scale is 1 and no bias is 0, so a test sees it when one is left out."""
    rng = np.random.default_rng(seed)
    base = policy.init(jax.random.key(seed), spec)
    return jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32), base)


def images(grids=GRIDS, patches: int = PATCHES, seed: int = 0) -> types.Images:
    """Random pictures. The padding is filled with garbage, which must not change any result."""
    rng = np.random.default_rng(seed)
    b, m = len(grids), TOWER.merge
    position = rng.integers(0, 9, (b, patches, 2))
    segment = np.zeros((b, patches), np.int32)
    for row, pictures in enumerate(grids):
        at = 0
        for number, (high, wide) in enumerate(pictures):
            for r, c in np.ndindex(high, wide):
                position[row, at : at + m * m] = [(r * m + i, c * m + j) for i, j in np.ndindex(m, m)]
                segment[row, at : at + m * m] = number + 1
                at += m * m
    weight = rng.random((b, patches, 4))
    return types.Images(
        patch_bnc=rng.standard_normal((b, patches, TOWER.values)).astype(np.float32),
        position_bn2=position.astype(np.int32),
        corner_bn4=rng.integers(0, TOWER.side**2, (b, patches, 4)).astype(np.int32),
        corner_weight_bn4=(weight / weight.sum(-1, keepdims=True)).astype(np.float32),
        segment_bn=segment,
    )


def prompt(padding: str = "right", length: int = 10, pictures: bool = True, seed: int = 0) -> types.Prompt:
    """The two prompts of ROWS, padded at the "right", "left" or "middle" with garbage that `seed` draws."""
    rng = np.random.default_rng(seed)
    b = len(ROWS)
    token, mask = rng.integers(0, 64, (b, length)), np.zeros((b, length), bool)
    position, slot = rng.integers(0, 50, (b, length, 3)), rng.integers(-1, 3, (b, length))
    following = np.zeros(b, np.int32)
    for row, parts in enumerate(ROWS):
        gap = length - len(parts)
        start = {"right": len(parts), "left": 0, "middle": len(parts) // 2}[padding]
        for i, part in enumerate(parts):
            at = i if i < start else i + gap
            mask[row, at] = True
            vision = part[1:] if isinstance(part, tuple) and pictures else None
            slot[row, at] = vision[0] if vision else -1
            token[row, at] = 63 if isinstance(part, tuple) else part
            position[row, at] = [i, i + vision[1], i + vision[2]] if vision else [i] * 3
        following[row] = position[row][mask[row]].max() + 1
    return types.Prompt(
        token_bp=token.astype(np.int32),
        mask_bp=mask,
        position_bp3=position.astype(np.int32),
        slot_bp=slot.astype(np.int32) if pictures else np.full((b, length), -1, np.int32),
        next_b=following,
        images=images() if pictures else None,
    )


def completions(group: int = 3, length: int = 6, seed: int = 0) -> np.ndarray:
    """int32[2, group, length] random tokens."""
    return np.random.default_rng(seed).integers(0, 64, (len(ROWS), group, length)).astype(np.int32)


prefill = jax.jit(policy.prefill, static_argnames=("spec", "dtype"))
encode = jax.jit(policy.encode, static_argnames=("spec", "dtype"))


@functools.partial(jax.jit, static_argnames=("spec", "dtype", "temper"))
def logprobs(params, lora, prompt, token_bgs, *, spec=SPEC, dtype=jnp.float32, temper=None):
    """float32[B, G, S] of prompts and completions in one call."""
    prefix = policy.prefill(params, lora, spec, prompt, dtype)
    return policy.logprobs(params, lora, spec, prefix, token_bgs, **({"temper": temper} if temper else {}))


@functools.partial(jax.jit, static_argnames=("spec", "wrt_lora"))
def gradients(params, lora, prompt, token_bgs, *, spec=SPEC, wrt_lora=False):
    """Gradients of a weighted sum of log-probabilities, with a different weight for each token."""

    def total(x):
        base, adapters = (params, x) if wrt_lora else (x, lora)
        logp = policy.logprobs(base, adapters, spec, policy.prefill(base, adapters, spec, prompt), token_bgs)
        weight = jnp.cos(jnp.arange(logp.size / logp.shape[0])).reshape(1, -1)
        return (logp.reshape(logp.shape[0], -1) * weight).sum()

    return jax.grad(total)(lora if wrt_lora else params)


def assert_trees_close(actual, expected, atol=1e-5, rtol=1e-5):
    """Checks that two trees are nearly equal; the error names the leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected)):
        np.testing.assert_allclose(x, y, atol=atol, rtol=rtol, err_msg=jax.tree_util.keystr(path))
