"""Our weights written as a Hugging Face folder: whole, with the adapters added in, or the adapters alone for PEFT."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from dtr1_jax.config import Lora
from dtr1_jax.models.weights import hf_names, native
from dtr1_jax.models.weights.hf_checkpoint import INDEX, SINGLE
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.run import atomic

SHARD = 5 * 2**30  # bytes of a shard, at most (a larger tensor has one of its own)
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def tensors(
    params: dict, lora: dict | None, scale: float, config: dict[str, Any]
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Name on disk, shape and a function that makes the array (float32 numpy), for each tensor of a checkpoint.

    Args:
      params: weights; `lora`: adapters to add in, times `scale` (config.Lora.scale), or None.
      config: as in config.json; its model_type names the tensors.

    Raises WeightsError where the family has no name for a weight.
    """
    family = config.get("model_type")
    flat, adapters = native.flatten(params), native.flatten(lora or {})
    for path, array in flat.items():
        try:
            leaf = hf_names.leaf(path, array.shape, family)
        except hf_names.NamingError as error:
            raise WeightsError(f"can not be written: {error}") from None
        shape = array.shape[1:] if leaf.stacked else array.shape
        shape = shape if leaf.kind == hf_names.SAME else shape[::-1]
        if leaf.kind == hf_names.PATCH:
            shape = (shape[0], *patch_shape(config))
            if math.prod(shape[1:]) != array.shape[-2]:
                raise WeightsError(f"{path}: {array.shape[-2]} values in a patch, but config.json says {shape[1:]}")
        branch = [adapters[f"{path.removesuffix('/kernel')}/{n}"] for n in ("a", "b")] if _has(adapters, path) else None
        for layer, name in enumerate(leaf.names):

            def make(array=array, leaf=leaf, layer=layer, shape=shape, branch=branch):
                pick = (lambda x: x[layer]) if leaf.stacked else (lambda x: x)
                value = np.asarray(jax.device_get(pick(array)), np.float32)
                if branch:
                    a, b = (np.asarray(jax.device_get(pick(x)), np.float32) for x in branch)
                    value = value + np.float32(scale) * (a @ b)
                return (value if leaf.kind == hf_names.SAME else value.T).reshape(shape)

            yield name, shape, make


def patch_shape(config: dict[str, Any]) -> tuple[int, int, int, int]:
    """(channels, frames, rows, columns) of a patch, from config.json."""
    vision = config["vision_config"]
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    return channels, vision["temporal_patch_size"], vision["patch_size"], vision["patch_size"]


def write_folder(folder: Path, parts: Iterator, dtype: str, shard: int = SHARD) -> None:
    """Writes the parts of `tensors` as `dtype`, in shards of at most `shard` bytes, with an index if several.

    One shard is in host memory at a time. A file is there whole or not at all.
    """
    kind = np.dtype(DTYPES[dtype])
    groups, size = [[]], 0
    total = 0
    for name, shape, make in parts:
        bytes_ = math.prod(shape) * kind.itemsize
        if groups[-1] and size + bytes_ > shard:
            groups.append([])
            size = 0
        groups[-1].append((name, make))
        size, total = size + bytes_, total + bytes_
    placed = {}
    for number, group in enumerate(groups, 1):
        file = SINGLE if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        save(folder / file, {name: make().astype(kind) for name, make in group})
        placed |= dict.fromkeys((name for name, _ in group), file)
    if len(groups) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": placed})


def write_adapter(
    folder: Path, lora: dict, settings: Lora, config: dict[str, Any], base: str, revision: str | None = None
) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, which PEFT reads (LoRA, Hu et al. 2021).

    PEFT adds (alpha / r) * B A (rsLoRA: alpha / sqrt(r)) to a weight [outputs, inputs]: A is our `a` transposed, B our
    `b` transposed.

    Args:
      lora: adapters by path, as `policy.init_lora` makes them.
      settings: by which they were trained.
      config: of the base model; its model_type gives the names of the modules.
      base, revision: name or path of the base model, and its revision on the hub; both go into adapter_config.json.

    Raises WeightsError as `modules` does.
    """
    out, named = {}, modules(lora, config)
    for path, array in native.flatten(lora).items():
        parent, _, which = path.rpartition("/")
        pattern, letter = named[parent], {"a": "lora_A", "b": "lora_B"}[which]
        host = np.asarray(jax.device_get(array), np.float32)
        for layer, part in enumerate(host if "{}" in pattern else [host]):
            out[f"base_model.model.{pattern.format(layer)}.{letter}.weight"] = np.ascontiguousarray(part.T)
    save(folder / "adapter_model.safetensors", out)
    write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "revision": revision,
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "lora_dropout": settings.dropout,
            "use_rslora": settings.rslora,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": _targets([*named.values()], config),
        },
    )


def modules(lora: dict, config: dict[str, Any]) -> dict[str, str]:
    """Path of each adapter -> name of its module in transformers, with {} for the layer; of arrays or their shapes.

    Raises WeightsError where the family of `config` has no module for it, or PEFT no adapter.
    """
    named = {}
    for path in dict.fromkeys(path.rpartition("/")[0] for path in native.flatten(lora)):
        if path == "vision/patch":
            raise WeightsError(f"{path}: PEFT knows no adapter like this of a convolution; export it merged instead")
        try:
            named[path] = hf_names.module(path, config.get("model_type"))
        except hf_names.NamingError as error:
            raise WeightsError(f"can not be written as an adapter: {error}") from None
    return named


def _targets(modules: list[str], config: dict) -> list[str] | str:
    """Last names of the modules where these mean no others (models without a tower), else an expression over all."""
    if "vision_config" not in config:
        return sorted({m.rpartition(".")[2] for m in modules})
    return "|".join(sorted(m.replace(".", r"\.").replace("{}", r"\d+") for m in modules))


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A safetensors file in the form that transformers accepts; there whole or not at all."""
    with atomic.replacing(path) as partial:
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, partial, metadata={"format": "pt"})


def write_json(path: Path, value: dict) -> None:
    """A JSON file, there whole or not at all."""
    with atomic.replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _has(adapters: dict, path: str) -> bool:
    return path.endswith("/kernel") and f"{path.removesuffix('/kernel')}/a" in adapters
