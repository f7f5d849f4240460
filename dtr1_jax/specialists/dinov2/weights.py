"""The weights of DINOv2 by the names of the published checkpoints, and how they are read."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import tensors
from dtr1_jax.specialists.dinov2.spec import Dinov2Spec


def shapes(spec: Dinov2Spec, prefix: str = "", layers: int | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that the model uses, by its name in a file.

    Args:
      spec: the sizes.
      prefix: goes before every name, such as "backbone.".
      layers: number of layers that are used; None = all.
    """
    width, hidden = spec.width, spec.hidden
    result = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, spec.grid**2 + 1, width),
        **dense("embeddings.patch_embeddings.projection", width, spec.channels, spec.patch, spec.patch),
        **norm("layernorm", width),
    }
    if spec.registers:
        result["embeddings.register_tokens"] = (1, spec.registers, width)
    for i in range(spec.layers if layers is None else layers):
        at = f"encoder.layer.{i}"
        result |= norm(f"{at}.norm1", width) | norm(f"{at}.norm2", width)
        for part in ("query", "key", "value"):
            result |= dense(f"{at}.attention.attention.{part}", width, width, bias=spec.qkv_bias)
        result |= dense(f"{at}.attention.output.dense", width, width)
        result |= {f"{at}.layer_scale1.lambda1": (width,), f"{at}.layer_scale2.lambda1": (width,)}
        if not spec.gated:
            result |= dense(f"{at}.mlp.fc1", hidden, width) | dense(f"{at}.mlp.fc2", width, hidden)
            continue
        result |= dense(f"{at}.mlp.weights_in", 2 * hidden, width) | dense(f"{at}.mlp.weights_out", width, hidden)
    return {prefix + name: shape for name, shape in result.items()}


def dense(name: str, *shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    """The shapes of a linear layer or convolution, [outputs, inputs, ...], and of its bias."""
    weight = {f"{name}.weight": shape}
    return weight | {f"{name}.bias": shape[:1]} if bias else weight


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def fused(params: tensors.Params) -> tensors.Params:
    """Joins the weights of queries, keys and values as `attention.qkv`, so that one product serves them; other weights
    keep their names."""
    result: tensors.Params = {}
    for name, array in params.items():
        if ".attention.attention.query." in name:
            parts = [params[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            result[name.replace(".attention.attention.query.", ".attention.qkv.")] = jnp.concatenate(parts)
        elif not re.search(r"\.attention\.attention\.(key|value)\.", name):
            result[name] = array
    return result


def load(checkpoint: HfCheckpoint, spec: Dinov2Spec, place: jax.sharding.Sharding, dtype: Any) -> tensors.Params:
    """Reads the weights of a DINOv2 that stands alone, fused. Raises WeightsError as `tensors.load_params` does.

    The names may begin with "dinov2." or "dinov2_with_registers.", as in files with a classifier, which is ignored.
    """
    params = tensors.load_params(
        checkpoint, shapes(spec), place, dtype,
        rename=lambda name: re.sub(r"^dinov2(_with_registers)?\.", "", name),
        ignored=r"embeddings\.mask_token|classifier\..*",
    )  # fmt: skip
    return fused(params)
