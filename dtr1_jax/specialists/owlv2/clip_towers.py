"""The two transformers of OWLv2, which are CLIP's (Radford et al. 2021, arXiv 2103.00020), without their heads."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists import long_attention, operations
from dtr1_jax.specialists.operations import Weights
from dtr1_jax.specialists.owlv2.spec import Owlv2Spec, Tower

TEXT, VISION = "owlv2.text_model", "owlv2.vision_model"


def phrase_states(w: Weights, spec: Owlv2Spec, token_nl: jax.Array) -> jax.Array:
    """The text tower's state of each phrase, at its end token: int32[n, l] -> [n, width].

    The end token has the largest id of a phrase. Each token sees itself and those before it, so padding behind the end
    token changes nothing.
    """
    length = token_nl.shape[1]
    x = w[f"{TEXT}.embeddings.token_embedding.weight"][token_nl]
    x = x + w[f"{TEXT}.embeddings.position_embedding.weight"][:length]
    seen = jnp.tril(jnp.ones((length, length), bool))
    bias = jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min)[None, None]
    for i in range(spec.text.layers):
        x = _layer(w, f"{TEXT}.encoder.layers.{i}", spec.text, x, bias)
    end = jnp.argmax(token_nl, axis=1)
    x = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
    return operations.layer_norm(w, f"{TEXT}.final_layer_norm", x, spec.text.eps)


def picture_states(w: Weights, spec: Owlv2Spec, pixel_bhwc: jax.Array) -> jax.Array:
    """The vision tower's states of a picture, normalised pixels [B, side, side, 3] -> [B, 1 + grid * grid, width].

    The first state is that of the class token; those of the patches follow row by row.
    """
    name = f"{VISION}.embeddings"
    x = _patches(w, f"{name}.patch_embedding", spec, pixel_bhwc)
    first = jnp.broadcast_to(w[f"{name}.class_embedding"], (len(x), 1, spec.vision.width))
    x = jnp.concatenate([first, x], axis=1) + w[f"{name}.position_embedding.weight"]
    x = operations.layer_norm(w, f"{VISION}.pre_layernorm", x, spec.vision.eps)
    for i in range(spec.vision.layers):
        x = _layer(w, f"{VISION}.encoder.layers.{i}", spec.vision, x)
    return operations.layer_norm(w, f"{VISION}.post_layernorm", x, spec.vision.eps)


def _patches(w: Weights, name: str, spec: Owlv2Spec, pixel_bhwc: jax.Array) -> jax.Array:
    """A convolution whose stride is its kernel, as one product; pixels beyond the last whole patch are not seen."""
    b, g, p = len(pixel_bhwc), spec.grid, spec.patch
    pixels = pixel_bhwc[:, : g * p, : g * p].reshape(b, g, p, g, p, 3).transpose(0, 1, 3, 2, 4, 5)
    kernel = w[f"{name}.weight"].transpose(0, 2, 3, 1).reshape(spec.vision.width, p * p * 3)
    return operations.linear({"k.weight": kernel}, "k", pixels.reshape(b, g * g, p * p * 3))


def _layer(w: Weights, name: str, tower: Tower, x: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    h = operations.layer_norm(w, f"{name}.layer_norm1", x, tower.eps)
    split = (*x.shape[:2], tower.heads, tower.width // tower.heads)
    q, k, v = (operations.linear(w, f"{name}.self_attn.{n}_proj", h).reshape(split) for n in "qkv")
    mixed = long_attention.attention(q, k, v) if bias is None else operations.attention(q, k, v, bias)
    x = x + operations.linear(w, f"{name}.self_attn.out_proj", mixed.reshape(x.shape))
    h = operations.layer_norm(w, f"{name}.layer_norm2", x, tower.eps)
    h = operations.ACTIVATIONS[tower.activation](operations.linear(w, f"{name}.mlp.fc1", h))
    return x + operations.linear(w, f"{name}.mlp.fc2", h)
