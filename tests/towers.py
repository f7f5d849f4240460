"""A small vision tower with the features of Qwen2.5-VL and Qwen3-VL, random weights and pictures for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.data import patch_layout
from dtr1_jax.models import policy, vision
from dtr1_jax.models.spec import Spec, VisionSpec
from dtr1_jax.types import Images

TOWER = VisionSpec(
    width=16, layers=3, heads=2, hidden=16, patch=2, temporal_patch=1, merge=2, side=3, norm="rms", gated=True,
    patch_bias=False, window=1, full_layers=(1,), deepstack=(0, 2),
)  # fmt: skip
SPEC = Spec(vocab=32, width=8, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=8, sections=(2, 1, 1), vision=TOWER)
PATCHES = 32


def images(grids=((1, 4, 6),), spec=TOWER, seed=0):
    """Random pictures of one query, from their grids (frames, rows, columns) in patches."""
    rng = np.random.default_rng(seed)
    layout = patch_layout.layout(grids, merge=spec.merge, side=spec.side, window=spec.window, patches=PATCHES)
    patch = rng.standard_normal((PATCHES, spec.values)).astype(np.float32)
    fields = {name: None if x is None else x[None] for name, x in layout.fields.items()}
    return Images(patch_bnc=patch[None], **fields)


@functools.cache
def params():
    """Random weights of the whole policy; no norm and no bias is at its initial value."""
    rng = np.random.default_rng(0)
    whole = policy.init(jax.random.key(0), SPEC)
    return jax.tree.map(lambda x: x + 0.2 * rng.standard_normal(x.shape).astype(np.float32), whole)


def encode(params, images, spec=TOWER, lora=None, remat=False):
    """The tower's tokens and DeepStack features in float32."""
    return vision.encode(
        params, spec, SPEC.width, images, lora=lora, lora_scale=1.0, dtype=jnp.float32, remat=remat, unroll=1
    )
