"""The weights of Depth Anything by the names of the published checkpoints, and how they are read."""

from __future__ import annotations

from typing import Any

import jax

from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import tensors
from dtr1_jax.specialists.depth_anything import dpt_head
from dtr1_jax.specialists.depth_anything.spec import DepthSpec
from dtr1_jax.specialists.dinov2 import weights as dinov2_weights

BACKBONE = "backbone."


def shapes(spec: DepthSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that an output depends on."""
    backbone = dinov2_weights.shapes(spec.backbone, BACKBONE, max(spec.taps))
    if not spec.normed:
        backbone = {name: shape for name, shape in backbone.items() if not name.startswith(f"{BACKBONE}layernorm.")}
    return backbone | dpt_head.shapes(spec.head, spec.backbone.width)


def ignored(spec: DepthSpec) -> str:
    """Expression for the tensors of a file that no output depends on: the mask token of pre-training, layers after the
    last one that is used, stages finer than the one that the output is made from, and the part of the coarsest fusion
    that would add a coarser map."""
    layers = "|".join(str(i) for i in range(max(spec.taps), spec.backbone.layers)) or "-"
    count, finest = len(spec.head.channels), -spec.head.index - 1  # stages, and the index of the finest one used
    fusions = "|".join(["0\\.residual_layer1", *(str(i) for i in range(count - finest, count))])
    finer = "|".join(str(i) for i in range(finest)) or "-"
    layernorm = "" if spec.normed else rf"|{BACKBONE}layernorm\..*"
    return (
        rf"{BACKBONE}embeddings\.mask_token|{BACKBONE}encoder\.layer\.({layers})\..*{layernorm}"
        rf"|neck\.fusion_stage\.layers\.({fusions})\..*|neck\.(reassemble_stage\.layers|convs)\.({finer})\..*"
    )


def load(checkpoint: HfCheckpoint, spec: DepthSpec, place: jax.sharding.Sharding, dtype: Any) -> tensors.Params:
    """Reads the weights, fused. Raises WeightsError as `tensors.load_params` does."""
    return dinov2_weights.fused(tensors.load_params(checkpoint, shapes(spec), place, dtype, ignored=ignored(spec)))
