"""The policy as functions over a dict of weights: prefill, score completions, and decode.

    prefix       = policy.prefill(params, lora, spec, prompt)                     # once for each query
    logp_bgs     = policy.logprobs(params, lora, spec, prefix, token_bgs, ...)    # score G completions of each query
    split, cache = policy.start(params, lora, spec, prefix, group, slots)         # or sample them
    state, cache = policy.decode(params, spec, split, prefix, cache, ...)

With `lora=None` these functions compute the policy without its adapters. That is the reference policy, which then needs
no memory of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dtr1_jax import layout
from dtr1_jax.models import decoder, layers, output_head, vision
from dtr1_jax.models.layers import KV
from dtr1_jax.models.spec import Spec
from dtr1_jax.models.weights import native
from dtr1_jax.types import Prompt


class Prefix(NamedTuple):
    """The prompts of B queries after prefill.

    Attributes:
      kv: KV [layers, B, K, P, H], keys and values of the prompt tokens.
      mask_bp: bool[B, P], True at real tokens. Example row of a prompt of 3 tokens: [1 1 1 0].
      last_bd: [B, D], normed hidden state of the last prompt token.
      next_b: int32[B], rotary position of the first completion token.
    """

    kv: KV
    mask_bp: jax.Array
    last_bd: jax.Array
    next_b: jax.Array


class Decoding(NamedTuple):
    """Inputs that all steps of a decode loop share, each a list by layer.

    Attributes:
      weights: weights of the decoder (decoder.weights_by_layer).
      lora: adapters of the decoder.
      prefix: KV of the prompts as decoding holds it (layers.KV).
    """

    weights: list
    lora: list
    prefix: list


def init(key: jax.Array, spec: Spec) -> dict:
    """Random float32 weights of a policy with the sizes of `spec`."""
    k_embed, k_decoder, k_head, k_vision = jax.random.split(key, 4)
    params = {
        "embed": {"table": spec.width**-0.5 * jax.random.normal(k_embed, (spec.vocab, spec.width))},
        "decoder": decoder.init(k_decoder, spec),
        "norm": {"scale": jnp.ones((spec.width,))},
    }
    if not spec.tied:
        params["head"] = {"kernel": spec.width**-0.5 * jax.random.normal(k_head, (spec.width, spec.vocab))}
    if spec.vision is not None:
        params["vision"] = vision.init(k_vision, spec.vision, spec.width)
    return params


def init_lora(key: jax.Array, params: dict, rank: int, targets: str) -> dict:
    """Initial adapters for all projections whose whole path matches the regular expression `targets`.

    Paths are as in `decoder/q` and `vision/blocks/qkv`. a is normal / sqrt(inputs) and b is 0, so the adapters do not
    change the policy at first (Hu et al. 2021). They are stacked on the layer axis like the weights. The output
    projection never has an adapter. Raises ValueError if nothing matches or `targets` is no regular expression, or one
    that might take exponential time: `targets` may come with a run of others.
    """
    if len(targets) > 500 or len(re.findall(r"[*+{]", targets)) > 6 or re.search(r"\)\s*[*+{]", targets):
        raise ValueError(
            f"lora targets {targets[:80]!r}: expected at most 500 characters and 6 of the signs * + {{, and none of "
            "them behind a closing parenthesis"
        )
    kernels = {n.removesuffix("/kernel"): x for n, x in native.flatten(params).items() if n.endswith("/kernel")}
    kernels.pop("head", None)
    try:
        paths = [path for path in kernels if re.fullmatch(targets, path)]
    except re.error as error:
        raise ValueError(f"lora targets {targets!r} are not a regular expression: {error}") from error
    if not paths:
        raise ValueError(f"lora targets {targets!r} match no projection; there are: {', '.join(kernels)}")
    flat = {}
    for path, sub in zip(paths, jax.random.split(key, len(paths))):
        *stack, inputs, outputs = kernels[path].shape
        flat[f"{path}/a"] = inputs**-0.5 * jax.random.normal(sub, (*stack, inputs, rank))
        flat[f"{path}/b"] = jnp.zeros((*stack, rank, outputs))
    return native.unflatten(flat)


def encode(
    params: dict, lora: dict | None, spec: Spec, prompt: Prompt, dtype: Any = jnp.float32, key: jax.Array | None = None
) -> jax.Array:
    """Vision tokens of each query's pictures: dtype[B, n / merge**2, D * (1 + DeepStack levels)].

    Each token's D values are followed by its DeepStack features, level by level. `key` is the random key of the
    adapters' dropout, or None for no dropout. Raises ValueError if the policy has no tower, or where the pictures
    were laid out for another tower.
    """
    if spec.vision is None:
        raise ValueError("the prompts have pictures, but the policy has no vision tower: expected images = None")
    return vision.encode(
        params["vision"], spec.vision, spec.width, prompt.images, lora=(lora or {}).get("vision"),
        lora_scale=spec.lora_scale, dtype=dtype, remat=spec.remat, unroll=spec.unroll, lora_dropout=spec.lora_dropout,
        key=key, attention=spec.attention,
    )  # fmt: skip


def embed(
    params: dict, spec: Spec, prompt: Prompt, vision_bme: jax.Array | None, dtype: Any = jnp.float32
) -> tuple[jax.Array, jax.Array | None]:
    """Embeds the prompts' tokens. A token with a slot >= 0 gets the vision token of that number instead.

    `vision_bme` is the result of `encode`, or None if the prompts have no pictures.

    Returns:
      (dtype[B, P, D] embeddings, dtype[levels, B, P, D] DeepStack features with 0 at text, or None without DeepStack).
    """
    x_bpd = _look_up(params, spec, prompt.token_bp, dtype)
    if vision_bme is None:
        return x_bpd, None
    slot_bp = prompt.slot_bp
    feature_bpe = jnp.take_along_axis(vision_bme, jnp.maximum(slot_bp, 0)[..., None], 1)
    vision_bpd, *deep = jnp.split(feature_bpe, vision_bme.shape[-1] // spec.width, -1)
    is_vision = (slot_bp >= 0)[..., None]
    x_bpd = jnp.where(is_vision, vision_bpd, x_bpd)
    return x_bpd, jnp.stack([jnp.where(is_vision, d, 0) for d in deep]) if deep else None


def prefill(
    params: dict, lora: dict | None, spec: Spec, prompt: Prompt, dtype: Any = jnp.float32,
    vision_bmd: jax.Array | None = None, key: jax.Array | None = None,
) -> Prefix:  # fmt: skip
    """Runs the prompts through the policy once; the G completions of each query share the result.

    Args:
      params: weights.
      lora: adapters, or None.
      spec: sizes of the policy.
      prompt: the prompts of B queries.
      dtype: compute dtype.
      vision_bmd: the result of `encode`, if the caller has it already.
      key: random key of the adapters' dropout, or None for no dropout. All completions of a query share the dropout
        masks of their prompt.

    Raises ValueError if the prompts are longer than a sliding window of the policy, as `hidden` and `start` do.
    """
    k_vision, k_decoder = (None, None) if key is None else jax.random.split(key)
    if vision_bmd is None and prompt.images is not None:
        vision_bmd = encode(params, lora, spec, prompt, dtype, k_vision)
    x_bpd, deep_lbpd = embed(params, spec, prompt, vision_bmd, dtype)
    deep_lbgpd = None if deep_lbpd is None else deep_lbpd[:, :, None]
    length = prompt.mask_bp.shape[1]
    _check_window(spec, length)
    # A token sees itself and the real tokens before it. Padding may stand anywhere.
    mask = prompt.mask_bp[:, None, None, :]
    angle = _angle(spec, prompt.position_bp3, prompt.mask_bp)[:, None]
    adapters = (lora or {}).get("decoder")
    x_bgpd, kv = decoder.scan(
        params["decoder"], adapters, spec, x_bpd[:, None], angle, mask, deep_lbgqd=deep_lbgpd, key=k_decoder
    )
    index_b = (prompt.mask_bp * jnp.arange(length)).argmax(1)
    last_bd = layout.token_at(x_bgpd[:, 0], index_b)
    return Prefix(KV(kv.k[:, :, 0], kv.v[:, :, 0]), prompt.mask_bp, _norm(params, spec, last_bd), prompt.next_b)


def hidden(
    params: dict, lora: dict | None, spec: Spec, prefix: Prefix, token_bgs: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """Hidden states of completions: [B, G, S, D], the normed state from which completion token s is predicted.

    The state for s = 0 is that of the last prompt token. `token_bgs` is int32[B, G, S]. `key` is the random key of the
    adapters' dropout, or None for no dropout.
    """
    b, g, s = token_bgs.shape
    first = jnp.broadcast_to(prefix.last_bd[:, None, None], (b, g, 1, spec.width))
    if s == 1:
        return first
    _check_window(spec, prefix.mask_bp.shape[1] + s)
    count = decoder.tokens_read(s, layout.parts("sequence", s), layout.platform())
    x_bgsd = _look_up(params, spec, token_bgs[:, :, :count], first.dtype)
    position_bs = prefix.next_b[:, None] + jnp.arange(count)
    angle = _angle(spec, jnp.repeat(position_bs[..., None], 3, -1))[:, None]
    mask = jnp.ones((1, 1, 1, count), bool)
    adapters = (lora or {}).get("decoder")
    x_bgsd, _ = decoder.scan(params["decoder"], adapters, spec, x_bgsd, angle, mask, prefix.kv, prefix.mask_bp, key=key)
    x_bgsd = layout.gather_tokens(_norm(params, spec, x_bgsd), *decoder.STATES)
    return jnp.concatenate([first, x_bgsd[:, :, : s - 1]], 2)


def logprobs(
    params: dict,
    lora: dict | None,
    spec: Spec,
    prefix: Prefix,
    token_bgs: jax.Array,
    temper: Callable[[jax.Array, jax.Array], jax.Array] = lambda logits, token_v: logits,
    key: jax.Array | None = None,
) -> jax.Array:
    """float32[B, G, S]: log-probability of each completion token under softmax(temper(logits)).

    `temper` must change the logits as the sampler does (temperature, banned tokens), so that scoring and sampling use
    the same distribution; output_head.token_logprobs says what it gets, and how the logits are computed. `key` is the
    random key of the adapters' dropout, or None for no dropout.
    """
    x_bgsd = hidden(params, lora, spec, prefix, token_bgs, key)
    return output_head.token_logprobs(params, spec, x_bgsd, token_bgs, temper)


def logits(params: dict, spec: Spec, x: jax.Array) -> jax.Array:
    """Logits float32[..., V] of normed hidden states [..., D]."""
    return output_head.logits(params, spec, x)


def _look_up(params, spec, token, dtype):
    """Embeddings [B, ..., D] of tokens int32[B, ...].

    Where the table is cut over fsdp, each device looks up its part of the width for the tokens of all devices, and the
    devices exchange these parts for the whole embeddings of their own rows. That sends less than gathering the table.
    """
    table, rest = params["embed"]["table"].astype(dtype), (None,) * (token.ndim - 1)
    if layout.gathers():
        x = layout.place(table[layout.place(token, "data", *rest)], "data", *rest, "width")
    else:
        table = layout.gathered({"embed": {"table": table}}, spec.head_counts)["embed"]["table"]
        x = table[layout.place(token, "batch", *rest)]
    return layout.place(x, "batch", *rest, None)


def start(params: dict, lora: dict | None, spec: Spec, prefix: Prefix, group: int, slots: int) -> tuple[Decoding, list]:
    """Prepares a decode loop: (the inputs that all steps of `decode` share, an empty cache for each layer).

    Args:
      params: weights.
      lora: adapters, or None.
      spec: sizes of the policy.
      prefix: the prompts after `prefill`.
      group: completions of each query (G).
      slots: completion tokens that a cache has room for.
    """
    _check_window(spec, prefix.mask_bp.shape[1] + slots)
    shared = KV(prefix.kv.k.swapaxes(-2, -1), prefix.kv.v) if layers.transposes_keys() else prefix.kv
    shared = KV(*(layout.place(x, None, "batch", "heads", None, None) for x in shared))
    split = Decoding(
        decoder.weights_by_layer(params["decoder"], spec.layers, prefix.kv.k.dtype),
        decoder.unstack((lora or {}).get("decoder"), spec.layers),
        decoder.unstack(shared, spec.layers),
    )
    _, b, kv_heads, _, h = prefix.kv.k.shape
    empty = decoder.empty_cache(b, group, kv_heads, slots, h, prefix.kv.k.dtype)
    return split, [empty for _ in range(spec.layers)]


def decode(
    params: dict, spec: Spec, split: Decoding, prefix: Prefix, cache: list, token_bgq: jax.Array,
    position_bgq: jax.Array, seen_bgt: jax.Array, slot: jax.Array,
) -> tuple[jax.Array, list]:  # fmt: skip
    """Runs q new tokens of each row through the decoder and writes them into the caches, from `slot` on.

    Args:
      params: weights; the decoder's own come from `split`.
      spec: sizes of the policy.
      split: from `start`.
      prefix: the prompts after `prefill`.
      cache: caches from `start` or from the last call.
      token_bgq: int32[B, G, q], the new tokens.
      position_bgq: int32[B, G, q], their rotary positions.
      seen_bgt: bool[B, G, slots], True at cache slots that hold a token of the row, including the q new ones. Example
        row with 2 tokens behind an unused slot: [0 1 1 0].
      slot: int32 scalar, first slot of the new tokens; slot + q <= slots.

    Returns:
      ([B, G, q, D] normed hidden states of the new tokens, cut as `decoder.step` says; the new caches).
    """
    x_bgqd = _look_up(params, spec, token_bgq, prefix.last_bd.dtype)
    b, g, q = token_bgq.shape
    angle = _angle(spec, jnp.repeat(position_bgq.reshape(b, g * q, 1), 3, -1)).reshape(b, g, q, -1)
    slots = seen_bgt.shape[-1]
    mask = seen_bgt[:, :, None] & (jnp.arange(slots) <= slot + jnp.arange(q)[:, None])
    x_bgqd, cache = decoder.step(
        split.weights, split.lora, spec, x_bgqd, angle, mask, split.prefix, prefix.mask_bp, cache, slot
    )
    return _norm(params, spec, x_bgqd), cache


def _check_window(spec, tokens):
    """Raises ValueError where a sliding window, which is not computed, would hide some of so many tokens."""
    if spec.window and tokens > spec.window:
        raise ValueError(
            f"prompts and completions have up to {tokens} tokens, but some layers of the policy see only the last "
            f"{spec.window} (sliding_window), which is not implemented; lower policy.prompt_tokens or "
            "rollout.new_tokens"
        )


def _norm(params, spec, x):
    return layers.RMSNorm(spec.eps).apply({"params": params["norm"]}, x)


def _angle(spec, position_bl3, mask_bl=None):
    """Rotary angles of a prompt with its mask, or, without a mask, of tokens of a completion.

    A prompt is read at once, so its sequence is as long as the prompt; at a token of a completion it ends at the token.
    Sampler and scorer thus agree under the scaling "dynamic", and both agree with transformers' `generate`.
    """
    axes = layers.rotary_axes(spec.head_dim, spec.sections, spec.interleaved)
    length_bl = position_bl3.max(-1) + 1
    if mask_bl is not None:
        length_bl = jnp.where(mask_bl, length_bl, 0).max(-1, keepdims=True)
    return layers.rotary_angles(position_bl3, spec.head_dim, spec.theta, axes, spec.rotary, length_bl)
