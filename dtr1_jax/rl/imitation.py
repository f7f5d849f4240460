"""Cold start: the policy imitates oracle transcripts, with the same prefill and log-probabilities as in training.

A transformer that learns to read pictures from the transcripts alone stays at the marginal distribution of the text for
very long. So a linear head on the vision tokens, the *dense head*, also predicts for each patch the object that covers
it. It is dropped after the cold start.

Weights live in two dicts, `trainable` and `frozen`. Together they have "policy", its weights, and may have "head", the
dense head, and "lora", adapters. Where there are adapters, they are trained and "policy" is frozen.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dtr1_jax import config, layout
from dtr1_jax.models import policy
from dtr1_jax.models.policy import Spec
from dtr1_jax.types import Demonstration


def optimizer(settings: config.Sft) -> optax.GradientTransformation:
    """Muon on the policy's matrices, Adam at a tenth of its rate on the rest; warm-up, then cosine to 0; no decay.

    Adam is the variant with Nesterov's momentum (Dozat 2016), as optax pairs it with Muon.
    One run each on the vision tower's dense loss, with batches of 32 on a CPU: after 160 steps Muon (Jordan 2024) at
    1e-2 predicted the colour of 87 % of the patches, AdamW at 1e-3, a rate that was not tuned, of 24 %. A step of Muon
    took 1.2 times as long.
    """

    # Axes of each array that Muon trains, None for Adam. Kernels are stacked on layer axes, so the last two are the
    # matrix.
    def matrices(params):
        def axes(path, x):
            if path[0].key != "policy" or path[-1].key != "kernel":
                return None
            return optax.contrib.MuonDimensionNumbers(reduction_axis=x.ndim - 2, output_axis=x.ndim - 1)

        return jax.tree_util.tree_map_with_path(axes, params)

    muon = optax.contrib.muon(
        schedule(settings, settings.lr),
        adam_learning_rate=schedule(settings, settings.lr / 10),
        muon_weight_dimension_numbers=matrices,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), muon)


def adapter_optimizer(settings: config.Sft) -> optax.GradientTransformation:
    """Adam at settings.lr for adapters, clipped to a global norm of 1; warm-up, then cosine to 0; no decay."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule(settings, settings.lr)))


def schedule(settings: config.Sft, peak: float) -> optax.Schedule:
    """Step -> learning rate: from 0 to `peak` over settings.warmup steps, then a cosine to 0 at step settings.steps."""
    warmup = min(settings.warmup, settings.steps // 2)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(settings.steps, 1))


def init_head(key: jax.Array, spec: Spec, counts: tuple[int, ...]) -> dict:
    """Weights of the dense head, which maps a vision token to the classes and the box of its merge x merge patches.

    Args:
      key: for the kernel.
      spec: sizes of the policy.
      counts: the number of classes of each field, with class 0 (no object).
    """
    outputs = spec.vision.merge**2 * (sum(counts) + 4)
    return {"kernel": spec.width**-0.5 * jax.random.normal(key, (spec.width, outputs)), "bias": jnp.zeros((outputs,))}


def dense_loss(
    head: dict, vision_bmd: jax.Array, batch: Demonstration, counts: tuple[int, ...]
) -> tuple[jax.Array, dict]:
    """Mean cross entropy over the fields plus twice the L1 distance of the boxes: (loss, metrics).

    A patch without an object counts a quarter, since background is most of a picture and is learned quickly. Boxes
    count only at patches with an object, and padding does not count.

    Args:
      head: from `init_head`.
      vision_bmd: [B, vision tokens, D], from policy.encode.
      batch: its dense classes and boxes, and which patches are padding.
      counts: as in `init_head`.

    Returns:
      loss float32[], and the metrics "dense_right_<field>", the share of patches with an object whose class is right,
      and "dense_box_l1", the mean distance of a box's side in the unit frame.
    """
    out = (vision_bmd @ head["kernel"] + head["bias"]).reshape(*batch.dense_bnf.shape[:2], -1)
    *fields, box = jnp.split(out, np.cumsum(counts), -1)
    real_bn = batch.prompt.images.segment_bn > 0
    object_bn = (batch.dense_bnf[..., 0] > 0) & real_bn
    weight_bn = jnp.where(object_bn, 1.0, 0.25) * real_bn
    weight_bn = weight_bn / weight_bn.sum()
    losses, metrics = [], {}
    for f, z in enumerate(fields):
        losses.append((optax.softmax_cross_entropy_with_integer_labels(z, batch.dense_bnf[..., f]) * weight_bn).sum())
        right = (z.argmax(-1) == batch.dense_bnf[..., f]) & object_bn
        metrics[f"dense_right_{f}"] = right.sum() / jnp.maximum(object_bn.sum(), 1)
    gap = jnp.abs(jax.nn.sigmoid(box) - batch.box_bn4).sum(-1)
    gap = (gap * object_bn).sum() / jnp.maximum(object_bn.sum(), 1)
    metrics["dense_box_l1"] = gap / 4
    return sum(losses) / len(losses) + 2.0 * gap, metrics


def loss(
    trainable: dict, spec: Spec, batch: Demonstration, practice: Demonstration | None = None,
    frozen: dict | None = None, *, reasoning: float, dense: float, counts: tuple[int, ...], text: bool,
    dtype: Any = jnp.float32, key: jax.Array | None = None,
) -> tuple[jax.Array, dict]:  # fmt: skip
    """Weighted mean negative log-probability of the transcript's tokens plus `dense` times the dense loss.

    With `practice`, the mean negative log-probability of its thoughts and answers is added. All queries about a twin
    share one pass over it.

    Args:
      trainable: {"policy": weights, "head": dense head}, or {"lora": adapters}.
      spec: sizes of the policy.
      batch: transcripts of pictures.
      practice: thoughts and answers to several queries about each given twin, or None.
      frozen: {"policy": weights} where only adapters are trained, else None.
      reasoning: weight of a token after the twin, relative to a token of the twin. The former are few, and they decide
        whether the answer is right.
      dense: weight of the dense loss.
      counts: as in `init_head`.
      text: False leaves the decoder out, to train the vision tower alone.
      dtype: compute dtype.
      key: random key of the adapters' dropout; None = no dropout.

    Returns:
      (loss, metrics for the log); "nll_twin" and "nll_reasoning" are means per token, in nats.
    """
    parts = {**(frozen or {}), **trainable}
    weights, lora = parts["policy"], parts.get("lora")
    k_prompt, k_text = (None, None) if key is None else jax.random.split(key)
    total, metrics, vision_bmd = jnp.float32(0), {}, None
    if dense:
        vision_bmd = policy.encode(weights, lora, spec, batch.prompt, dtype)
        value, metrics = dense_loss(parts["head"], vision_bmd, batch, counts)
        total = total + dense * value
        metrics["dense"] = value
    if text:
        prefix = policy.prefill(weights, lora, spec, batch.prompt, dtype, vision_bmd, k_prompt)
        logp_bgs = policy.logprobs(weights, lora, spec, prefix, batch.token_bgs, key=k_text)
        weight_bgs = jnp.where(batch.reason_bgs, reasoning, 1.0) * batch.mask_bgs
        total = total - (logp_bgs * weight_bgs).sum() / weight_bgs.sum()
        for name, mask_bgs in (("twin", batch.mask_bgs & ~batch.reason_bgs), ("reasoning", batch.reason_bgs)):
            metrics[f"nll_{name}"] = -(logp_bgs * mask_bgs).sum() / jnp.maximum(mask_bgs.sum(), 1)
    if text and practice is not None:
        prefix = policy.prefill(weights, lora, spec, practice.prompt, dtype)
        logp_bgs = policy.logprobs(weights, lora, spec, prefix, practice.token_bgs)
        value = -(logp_bgs * practice.reason_bgs).sum() / practice.reason_bgs.sum()
        total, metrics["nll_practice"] = total + value, value
    return total, metrics | {"loss": total}


@functools.partial(
    jax.jit, static_argnames=("tx", "spec", "reasoning", "dense", "counts", "text", "dtype", "mesh"),
    donate_argnums=(0, 1),
)  # fmt: skip
def update(
    trainable: dict, opt_state: optax.OptState, batch: Demonstration, practice: Demonstration | None = None,
    frozen: dict | None = None, *, tx: optax.GradientTransformation, spec: Spec, reasoning: float, dense: float,
    counts: tuple[int, ...], text: bool, dtype: Any = jnp.float32, key: jax.Array | None = None,
    mesh: Mesh | None = None,
) -> tuple[dict, optax.OptState, dict[str, jax.Array]]:  # fmt: skip
    """One optimizer step on `loss`: (trainable, opt_state, metrics). The first two arguments are donated."""
    with layout.use(mesh):
        (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(
            trainable, spec, batch, practice, frozen, reasoning=reasoning, dense=dense, counts=counts, text=text,
            dtype=dtype, key=key,
        )  # fmt: skip
    updates, opt_state = tx.update(grads, opt_state, trainable)
    return optax.apply_updates(trainable, updates), opt_state, metrics | {"grad_norm": optax.global_norm(grads)}
