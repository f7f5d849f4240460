"""Writes our weights as a Hugging Face folder: all weights with the adapters merged in, or the adapters for PEFT."""

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

SHARD = 5 * 2**30  # largest size of a shard in bytes; a larger tensor gets a shard of its own
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def tensors(
    params: dict, lora: dict | None, scale: float, config: dict[str, Any]
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Yields every tensor of a checkpoint as (name on disk, shape, function that returns the float32 numpy array).

    Args:
      params: weights.
      lora: adapters to merge into the weights, or None.
      scale: factor on the product of an adapter (config.Lora.scale).
      config: values of config.json; its model_type decides the names.

    Raises WeightsError if the family has no name for a weight, or config.json has another patch size.
    """
    family = config.get("model_type")
    flat, adapters = native.flatten(params), native.flatten(lora or {})
    for path, array in flat.items():
        try:
            leaf = hf_names.leaf(path, array.shape, family)
        except hf_names.NamingError as error:
            raise WeightsError(f"the weights cannot be written in this form: {error}") from None
        shape = array.shape[1:] if leaf.stacked else array.shape
        shape = shape if leaf.kind == hf_names.SAME else shape[::-1]
        if leaf.kind == hf_names.PATCH:
            shape = (shape[0], *patch_shape(config))
            if math.prod(shape[1:]) != array.shape[-2]:
                raise WeightsError(
                    f"{path}: expected patches of {shape[1:]} by config.json, got patches of {array.shape[-2]} values"
                )
        branch = [adapters[f"{path.removesuffix('/kernel')}/{n}"] for n in ("a", "b")] if _has(adapters, path) else None
        for layer, name in enumerate(leaf.names):

            def make_array(array=array, leaf=leaf, layer=layer, shape=shape, branch=branch):
                pick = (lambda x: x[layer]) if leaf.stacked else (lambda x: x)
                value = np.asarray(jax.device_get(pick(array)), np.float32)
                if branch:
                    a, b = (np.asarray(jax.device_get(pick(x)), np.float32) for x in branch)
                    value = value + np.float32(scale) * (a @ b)
                return (value if leaf.kind == hf_names.SAME else value.T).reshape(shape)

            yield name, shape, make_array


def patch_shape(config: dict[str, Any]) -> tuple[int, int, int, int]:
    """(channels, frames, rows, columns) of a patch, from the values of config.json."""
    vision = config["vision_config"]
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    return channels, vision["temporal_patch_size"], vision["patch_size"], vision["patch_size"]


def write_folder(folder: Path, parts: Iterator, dtype: str, shard: int = SHARD) -> None:
    """Writes the tensors that `tensors` yields as `dtype`, in shards of at most `shard` bytes.

    Several shards get an index file. Host memory holds one shard at a time. An interrupted call never leaves half a
    file.
    """
    kind = np.dtype(DTYPES[dtype])
    groups, size = [[]], 0
    total = 0
    for name, shape, make_array in parts:
        bytes_ = math.prod(shape) * kind.itemsize
        if groups[-1] and size + bytes_ > shard:
            groups.append([])
            size = 0
        groups[-1].append((name, make_array))
        size, total = size + bytes_, total + bytes_
    shard_of = {}
    for number, group in enumerate(groups, 1):
        file = SINGLE if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_tensors(folder / file, {name: make_array().astype(kind) for name, make_array in group})
        shard_of |= dict.fromkeys((name for name, _ in group), file)
    if len(groups) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": shard_of})


def write_adapter(
    folder: Path, lora: dict, settings: Lora, config: dict[str, Any], base: str, revision: str | None = None
) -> None:
    """Writes adapters for PEFT: adapter_config.json and adapter_model.safetensors (LoRA, Hu et al. 2021).

    PEFT adds (alpha / r) * B A (rsLoRA: alpha / sqrt(r)) to a weight [outputs, inputs]. A is our `a` transposed, and B
    is our `b` transposed.

    Args:
      folder: folder for the two files.
      lora: adapters by path, as `policy.init_lora` makes them.
      settings: the settings that the adapters were trained with.
      config: config.json of the base model; its model_type decides the names of the modules.
      base: name or path of the base model, for adapter_config.json.
      revision: revision of the base model on the hub, for adapter_config.json.

    Raises WeightsError as `modules` does.
    """
    arrays, module_of = {}, modules(lora, config)
    for path, array in native.flatten(lora).items():
        parent, _, factor = path.rpartition("/")
        pattern, letter = module_of[parent], {"a": "lora_A", "b": "lora_B"}[factor]
        host = np.asarray(jax.device_get(array), np.float32)
        for layer, part in enumerate(host if "{}" in pattern else [host]):
            arrays[f"base_model.model.{pattern.format(layer)}.{letter}.weight"] = np.ascontiguousarray(part.T)
    save_tensors(folder / "adapter_model.safetensors", arrays)
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
            "target_modules": _targets([*module_of.values()], config),
        },
    )


def modules(lora: dict, config: dict[str, Any]) -> dict[str, str]:
    """{path of an adapter: name of its module in transformers, with {} for the layer}.

    `lora` holds adapters as arrays or as shapes. Raises WeightsError if the family of `config` has no such module,
    or where PEFT has no adapter for it.
    """
    module_of = {}
    for path in dict.fromkeys(path.rpartition("/")[0] for path in native.flatten(lora)):
        if path == "vision/patch":
            raise WeightsError(f"{path}: PEFT has no such adapter for a convolution; export the merged weights instead")
        try:
            module_of[path] = hf_names.module(path, config.get("model_type"))
        except hf_names.NamingError as error:
            raise WeightsError(f"the adapter cannot be written for PEFT: {error}") from None
    return module_of


def _targets(modules: list[str], config: dict) -> list[str] | str:
    """PEFT's target_modules: the last part of each module's name, or for models with a tower a regular expression.

    With a tower, modules of decoder and tower share last parts such as up_proj, so only full names are unambiguous.
    """
    if "vision_config" not in config:
        return sorted({m.rpartition(".")[2] for m in modules})
    return "|".join(sorted(m.replace(".", r"\.").replace("{}", r"\d+") for m in modules))


def save_tensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file that transformers accepts. An interrupted call never leaves half a file."""
    with atomic.replacing(path) as partial:
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, partial, metadata={"format": "pt"})


def write_json(path: Path, value: dict) -> None:
    """Writes a JSON file. An interrupted call never leaves half a file."""
    with atomic.replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _has(adapters: dict, path: str) -> bool:
    return path.endswith("/kernel") and f"{path.removesuffix('/kernel')}/a" in adapters
