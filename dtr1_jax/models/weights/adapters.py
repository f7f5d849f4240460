"""Reads LoRA adapters in the form of PEFT, and adds them to the weights of a policy (LoRA, Hu et al. 2021).

A folder has adapter_config.json and adapter_model.safetensors, as exporting.write_adapter and PEFT write them. What
changes the meaning of the two matrices and is not known here is refused by name.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models.weights import hf_checkpoint, hf_names, native
from dtr1_jax.models.weights.native import FLOATS, WeightsError, shortened

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
# Fields of adapter_config.json that must have one of these values (or be missing): others mean another computation.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",), "bias": ("none", None), "fan_in_fan_out": (False, None), "use_dora": (False, None),
    "use_qalora": (False, None), "lora_bias": (False, None), "modules_to_save": (None, []), "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None), "layer_replication": (None, []), "trainable_token_indices": (None, []),
    "target_parameters": (None, []), "alora_invocation_tokens": (None, []),
}  # fmt: skip
_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(\.default)?\.weight")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Adapters that were read from a folder.

    Attributes:
      lora: by path, as policy.init_lora makes them, as numpy float32: a [..., inputs, rank] and b [..., rank, outputs].
        Layers that the folder has no adapter for are 0.
      scale: factor on the product of the two matrices.
      base: the name of the model that they were trained on, as the folder says it; "" if it does not.
    """

    lora: dict
    scale: float
    base: str


def read_adapter(folder: str | Path, template: dict, config: Mapping[str, Any]) -> Adapter:
    """Reads the adapters of a folder.

    Args:
      folder: of the two files.
      template: the weights of the policy as arrays or shapes.
      config: values of the policy's config.json; its model_type decides the names of the modules.

    Raises WeightsError naming the file and the fault: a file is missing or damaged, the adapters are of a kind that is
    not known here, or they do not fit the policy.
    """
    folder = Path(folder)
    settings = hf_checkpoint.read_json(folder / CONFIG, "the settings of a LoRA adapter")
    scale = _scale(settings, folder / CONFIG)
    if not (folder / TENSORS).is_file():
        raise WeightsError(
            f"{folder}: expected {TENSORS}, got no such file; a pickled adapter_model.bin is never loaded"
        )
    checkpoint = hf_checkpoint.open_file(folder / TENSORS, dict(config))
    places = _places(template, config)
    factors: dict[tuple[str, int | None], dict[str, str]] = {}
    faults = []
    for name, tensor in checkpoint.tensors.items():
        found = _TENSOR.fullmatch(name)
        place = places.get(hf_names.canonical(f"{found['module']}.weight", config.get("model_type"))) if found else None
        if place is None:
            faults.append(f"{name}: no projection of this policy has such an adapter")
        elif tensor.dtype not in FLOATS or len(tensor.shape) != 2:
            faults.append(f"{name}: expected a matrix of floats, got {tensor.dtype}{list(tensor.shape)}")
        else:
            factors.setdefault(place, {})[found["factor"]] = name
    shapes = {path: x.shape for path, x in native.flatten(template).items()}
    faults += [fault for place, names in factors.items() for fault in _misfits(place, names, shapes, checkpoint)]
    if not factors and not faults:
        faults = ["it holds no adapters"]
    if faults:
        raise WeightsError(f"{folder / TENSORS} does not fit the policy:\n  " + shortened(faults))
    base = settings.get("base_model_name_or_path")
    return Adapter(_stacked(factors, shapes, checkpoint), scale, base if isinstance(base, str) else "")


def merge(params: dict, adapter: Adapter) -> dict:
    """The weights plus the adapters' products: kernel + scale * a b, in float32, rounded to the kernel's dtype.

    Layers are taken one by one, so that little memory is needed besides the weights. Arrays on a mesh stay as they are
    cut; the buffers of their kernels are reused, so `params` must not be used again.
    """
    flat, lora = dict(native.flatten(params)), native.flatten(adapter.lora)
    for path in dict.fromkeys(path.rpartition("/")[0] for path in lora):
        kernel = flat[f"{path}/kernel"]
        a, b = lora[f"{path}/a"], np.float32(adapter.scale) * lora[f"{path}/b"]
        if isinstance(kernel, jax.Array):
            flat[f"{path}/kernel"] = jax.jit(_added, donate_argnums=0, out_shardings=kernel.sharding)(kernel, a, b)
        else:
            flat[f"{path}/kernel"] = (kernel.astype(np.float32) + a @ b).astype(kernel.dtype)
    return native.unflatten(flat)


def joined(first: Adapter, lora: dict, scale: float) -> dict:
    """One tree of adapters whose product is that of both together, at a scale of 1.

    Ranks add up: [a1 a2] [s1 b1; s2 b2] = s1 a1 b1 + s2 a2 b2. A projection that only one has gets zeros of the other's
    rank, so that all have one rank, as PEFT expects.
    """
    flat, new = native.flatten(first.lora), native.flatten(jax.device_get(lora))
    ranks = [next(x.shape[-1] for path, x in tree.items() if path.endswith("/a")) for tree in (flat, new)]
    out = {}
    for path in sorted({path.rpartition("/")[0] for path in (*flat, *new)}):
        known = next(tree for tree in (flat, new) if f"{path}/a" in tree)
        shape_a, shape_b = known[f"{path}/a"].shape, known[f"{path}/b"].shape
        parts_a, parts_b = [], []
        for tree, factor, rank in ((flat, first.scale, ranks[0]), (new, scale, ranks[1])):
            zeros = (
                np.zeros((*shape_a[:-1], rank), np.float32),
                np.zeros((*shape_b[:-2], rank, shape_b[-1]), np.float32),
            )
            a, b = (tree[f"{path}/{n}"] if f"{path}/{n}" in tree else zero for n, zero in zip("ab", zeros))
            parts_a.append(np.asarray(a, np.float32))
            parts_b.append(np.float32(factor) * np.asarray(b, np.float32))
        out[f"{path}/a"], out[f"{path}/b"] = np.concatenate(parts_a, -1), np.concatenate(parts_b, -2)
    return native.unflatten(out)


def _added(kernel: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    def add(matrices):
        kernel, a, b = matrices
        product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        return (kernel.astype(jnp.float32) + product).astype(kernel.dtype)

    return add((kernel, a, b)) if kernel.ndim == 2 else jax.lax.map(add, (kernel, a, b))


def _scale(settings: Mapping[str, Any], where: Path) -> float:
    """alpha / rank, or with rsLoRA alpha / sqrt(rank). Raises WeightsError for settings that mean something else."""
    for name, values in _NEUTRAL.items():
        value = settings.get(name, values[0] if name != "peft_type" else None)
        if value not in values:
            raise WeightsError(
                f"{where}: {name} = {reprlib.repr(value)} is not supported, expected {values[0]!r}; merge the adapter "
                "with PEFT (merge_and_unload, then save_pretrained) and set config.policy.path to that folder"
            )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise WeightsError(f"{where}: r: expected a rank of 1 or more, got {reprlib.repr(rank)}")
    if type(alpha) not in (int, float) or not 0 < alpha < math.inf:
        raise WeightsError(f"{where}: lora_alpha: expected a positive number, got {reprlib.repr(alpha)}")
    if settings.get("use_rslora") not in (True, False, None):
        raise WeightsError(f"{where}: use_rslora: expected true or false, got {reprlib.repr(settings['use_rslora'])}")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _places(template: dict, config: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """{name of a kernel on disk: (path of the projection, its layer or None)}."""
    places: dict[str, tuple[str, int | None]] = {}
    for path, x in native.flatten(template).items():
        if path.endswith("/kernel"):
            try:
                leaf = hf_names.leaf(path, x.shape, config.get("model_type"))
            except hf_names.NamingError as error:
                raise WeightsError(f"adapters cannot be read for this policy: {error}") from None
            for layer, name in enumerate(leaf.names):
                places[name] = (path.removesuffix("/kernel"), layer if leaf.stacked else None)
    return places


def _misfits(place: tuple[str, int | None], names: dict[str, str], shapes: dict, checkpoint) -> list[str]:
    """What is wrong with the two matrices of one projection."""
    if len(names) < 2:
        (name,) = names.values()
        return [f"{name}: expected lora_A and lora_B of this projection, got one of them"]
    rows, columns = shapes[f"{place[0]}/kernel"][-2:]
    (rank, inputs), (outputs, rank_b) = (checkpoint.tensors[names[factor]].shape for factor in "AB")
    if (inputs, outputs) != (rows, columns) or rank != rank_b:
        return [
            f"{names['A']}: expected [rank, {rows}] and lora_B [{columns}, rank], got [{rank}, {inputs}] and "
            f"[{outputs}, {rank_b}]; is it an adapter of another model?"
        ]
    return []


def _stacked(factors: dict, shapes: dict, checkpoint) -> dict:
    """The matrices of all layers as arrays, with zeros for layers without an adapter."""
    flat: dict[str, np.ndarray] = {}
    with checkpoint.reading(checkpoint.where) as read:
        for (path, layer), names in factors.items():
            a, b = (np.asarray(read(names[f], slice(None), slice(None)), np.float32).T for f in "AB")
            for key, part in ((f"{path}/a", a), (f"{path}/b", b)):
                if layer is None:
                    flat[key] = part
                    continue
                stack = flat.setdefault(key, np.zeros((shapes[f"{path}/kernel"][0], *part.shape), np.float32))
                if stack.shape[1:] != part.shape:
                    raise WeightsError(
                        f"{names['A']}: expected the rank of the other layers, {min(stack.shape[1:])}, got "
                        f"{min(part.shape)}; adapters whose rank differs by layer are not supported"
                    )
                stack[layer] = part
    return native.unflatten(flat)
