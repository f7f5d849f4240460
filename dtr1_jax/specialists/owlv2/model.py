"""OWLv2 as functions: embeddings of phrases and pictures, and the logits of phrases at the patches of a picture.

The model predicts one box for each of the P = grid * grid patches of a picture. The formulas are those of transformers'
`Owlv2ForObjectDetection`, and of OWL-ViT (Minderer et al. 2022, arXiv 2205.06230).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.specialists import operations
from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.owlv2 import clip_towers
from dtr1_jax.specialists.owlv2.spec import Owlv2Spec


def embed_phrases(w: Weights, spec: Owlv2Spec, token_nl: jax.Array) -> jax.Array:
    """Embeddings of n phrases: token ids int32[n, l] -> float32[n, d] in rows of length 1."""
    states = clip_towers.phrase_states(w, spec, token_nl)
    embed_nd = operations.linear(w, "owlv2.text_projection", states).astype(jnp.float32)
    return embed_nd / jnp.linalg.norm(embed_nd, axis=-1, keepdims=True)


def picture_features(w: Weights, spec: Owlv2Spec, pixel_bhwc: jax.Array) -> jax.Array:
    """Features of the patches, [B, P, width], from normalised pixels float32[B, side, side, 3]."""
    x = clip_towers.picture_states(w, spec, pixel_bhwc.astype(w["layer_norm.weight"].dtype))
    return operations.layer_norm(w, "layer_norm", x[:, 1:] * x[:, :1], spec.vision.eps)


def embed_pictures(w: Weights, spec: Owlv2Spec, pixel_bhwc: jax.Array) -> dict[str, jax.Array]:
    """All that detection needs of B pictures.

    Args:
      w: the weights.
      spec: the model.
      pixel_bhwc: float32[B, side, side, 3], normalised, of the padded and resized pictures.

    Returns, as float32:
      embeds: [B, P, d], the class embedding of each patch.
      shift, scale: [B, P], of the logits of each patch.
      objectness: [B, P], logits of being an object.
      boxes: [B, P, 4], centre x, centre y, width, height, in the unit frame of the padded square.
    """
    x = picture_features(w, spec, pixel_bhwc)

    def number(name: str) -> jax.Array:
        return operations.linear(w, name, x)[..., 0].astype(jnp.float32)

    return {
        "embeds": operations.linear(w, "class_head.dense0", x).astype(jnp.float32),
        "shift": number("class_head.logit_shift"),
        "scale": jax.nn.elu(number("class_head.logit_scale")) + 1,
        "objectness": _head(w, "objectness_head", x)[..., 0].astype(jnp.float32),
        "boxes": jax.nn.sigmoid(_head(w, "box_head", x).astype(jnp.float32) + box_bias(spec.grid)),
    }


def logits(embed_bpd: jax.Array, shift_bp: jax.Array, scale_bp: jax.Array, query_bqd: jax.Array) -> jax.Array:
    """float32[B, P, q]: how well each of q queries fits each patch; the sigmoid is the score.

    Args:
      embed_bpd, shift_bp, scale_bp: of the pictures, from `embed_pictures`.
      query_bqd: float32[B, q, d], embeddings of phrases, or of patches of other pictures, for each picture.
    """
    cosine = jnp.einsum("bpd,bqd->bpq", _unit(embed_bpd), _unit(query_bqd), precision="highest")
    return (cosine + shift_bp[..., None]) * scale_bp[..., None]


def best_queries(
    embed_bpd: jax.Array, shift_bp: jax.Array, scale_bp: jax.Array, query_bqd: jax.Array, mask_bq: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The best query of each patch: its logit float32[B, P] and its index int32[B, P].

    Args:
      embed_bpd, shift_bp, scale_bp, query_bqd: as in `logits`.
      mask_bq: bool[B, q], True at real queries. Example row of 3 phrases: [1 1 1 0].
    """
    logit_bpq = logits(embed_bpd, shift_bp, scale_bp, query_bqd)
    logit_bpq = jnp.where(mask_bq[:, None], logit_bpq, jnp.finfo(jnp.float32).min)
    return logit_bpq.max(-1), jnp.argmax(logit_bpq, -1)


def box_bias(grid: int) -> np.ndarray:
    """float32[P, 4] added to the box head's output: it makes the default box one patch, at the patch's far corner."""
    corner = np.arange(1, grid + 1, dtype=np.float32) / np.float32(grid)
    columns, rows = np.meshgrid(corner, corner)
    centre = np.stack([columns, rows], -1).reshape(-1, 2)
    box = np.concatenate([centre, np.full_like(centre, 1 / grid)], -1)
    return np.log(box + np.float32(1e-4)) - np.log1p(-box + np.float32(1e-4))


def _head(w: Weights, name: str, x: jax.Array) -> jax.Array:
    for part in ("dense0", "dense1"):
        x = jax.nn.gelu(operations.linear(w, f"{name}.{part}", x), approximate=False)
    return operations.linear(w, f"{name}.dense2", x)


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)
