"""A policy of a few thousand weights and prompts for it, with pictures, small enough to compile in a moment."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models import policy
from dtr1_jax.models.spec import Spec, VisionSpec
from dtr1_jax.rl import rollout
from dtr1_jax.types import Images, Prompt

VOCAB, PAD = 32, 0
TOWER = VisionSpec(width=16, layers=1, heads=2, hidden=16, patch=2, temporal_patch=1, merge=2, side=4)
SPEC = Spec(
    vocab=VOCAB, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=32, theta=1e4, sections=(2, 1, 1),
    lora_scale=2.0, vision=TOWER,
)  # fmt: skip
TEXT = dataclasses.replace(SPEC, vision=None)


def params(seed: int = 0, spec: Spec = SPEC) -> dict:
    """Random numpy weights, norms and biases too, the same for the same seed; nothing is compiled."""
    rng = np.random.default_rng(seed)

    def leaf(path, x):
        noise = rng.normal(size=x.shape).astype(np.float32)
        if path[-1].key in ("kernel", "table"):
            return noise / np.float32(np.sqrt(x.shape[-2] if path[-1].key == "kernel" else x.shape[-1]))
        return np.float32(path[-1].key == "scale") + np.float32(0.1) * noise

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(lambda: policy.init(jax.random.key(0), spec)))


def lora(weights: dict, seed: int = 1) -> dict:
    """Numpy adapters of the decoder that are not the identity."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda w: policy.init_lora(jax.random.key(0), w, 2, "decoder/(q|v|down)"), weights)
    return jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(np.float32), shapes)


def prompt(b: int, p: int = 7, seed: int = 0, pictures: bool = True) -> Prompt:
    """B prompts of 4 to P tokens in numpy; with pictures, two of the tokens are vision tokens of 8 patches."""
    rng = np.random.default_rng(seed)
    token = rng.integers(1, VOCAB, (b, p))
    length = rng.integers(4, p + 1, b)
    mask = np.arange(p) < length[:, None]
    slot = np.where(np.isin(np.arange(p), (1, 2)), np.arange(p) - 1, -1)
    position = np.repeat(np.arange(p)[:, None], 3, 1)
    position[2] = [1, 1, 2]  # the second vision token: same time, next column
    images = Images(
        patch_bnc=rng.normal(size=(b, 8, TOWER.values)).astype(np.float32),
        position_bn2=np.broadcast_to(np.stack(np.divmod(np.arange(8), 4), -1), (b, 8, 2)).astype(np.int32),
        corner_bn4=rng.integers(0, TOWER.side**2, (b, 8, 4)).astype(np.int32),
        corner_weight_bn4=np.full((b, 8, 4), 0.25, np.float32),
        segment_bn=np.ones((b, 8), np.int32),
    )
    return Prompt(
        token_bp=np.where(mask, token, PAD).astype(np.int32),
        mask_bp=mask,
        position_bp3=np.broadcast_to(position, (b, p, 3)).astype(np.int32),
        slot_bp=np.broadcast_to(slot if pictures else -1, (b, p)).astype(np.int32),
        next_b=length.astype(np.int32),
        images=images if pictures else None,
    )


def without_sharing(
    weights: dict, adapters: dict | None, spec: Spec, prompt: Prompt, token_bgs: jax.Array, temper
) -> jax.Array:
    """float32[B, G, S] log-probabilities by one forward pass for each token: no shared prefix, no cache.

    Token s of a completion is predicted from the last state of a prompt that is the query and the s tokens before it.
    """
    b, g, s = token_bgs.shape
    p = prompt.token_bp.shape[1]
    rows = np.arange(b).repeat(g * s)
    part = jax.tree.map(lambda x: jnp.asarray(x)[rows], prompt)
    before = jnp.broadcast_to(token_bgs[:, :, None], (b, g, s, s)).reshape(-1, s)
    seen = np.broadcast_to(np.arange(s) < np.arange(s)[:, None], (b, g, s, s)).reshape(-1, s)
    position = part.next_b[:, None] + jnp.arange(s)
    longer = Prompt(
        token_bp=jnp.concatenate([part.token_bp, before], 1),
        mask_bp=jnp.concatenate([part.mask_bp, seen], 1),
        position_bp3=jnp.concatenate([part.position_bp3, jnp.repeat(position[..., None], 3, -1)], 1),
        slot_bp=jnp.concatenate([part.slot_bp, jnp.full((len(rows), s), -1)], 1),
        next_b=part.next_b,
        images=part.images,
    )
    assert longer.token_bp.shape == (b * g * s, p + s)
    last = policy.prefill(weights, adapters, spec, longer).last_bd
    logp = jax.nn.log_softmax(temper(policy.logits(weights, spec, last)))
    return jnp.take_along_axis(logp, jnp.asarray(token_bgs).reshape(-1, 1), 1).reshape(b, g, s)


def compiled_loops(spec: Spec, b: int, g: int, new_tokens: int, end: int | tuple[int, ...]) -> str:
    """What XLA compiles of a rollout, as text without the entry computation, which runs once."""
    weights = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec))
    compiled = rollout.sample.lower(
        weights, None, prompt(b, pictures=False), jax.random.key(0), None, spec=spec, group=g, new_tokens=new_tokens,
        end=end, pad=PAD, temperature=0.0,
    ).compile()  # fmt: skip
    return compiled.as_text().partition("\nENTRY")[0]
