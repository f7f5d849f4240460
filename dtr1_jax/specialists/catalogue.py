"""Opens a specialist by its hub id, folder or file: finds out which model it is and calls that model's predictor."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dtr1_jax import config
from dtr1_jax.models.weights import hf_checkpoint, hub
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.models.weights.published_files import GET_WEIGHTS
from dtr1_jax.run import local_copy
from dtr1_jax.specialists import batching, licences

log = logging.getLogger(__name__)

# model_type in config.json -> the module whose `open_checkpoint(checkpoint, device_mesh, dtype, **options)` returns the
# specialist. It is imported only when it is asked for.
BY_TYPE = {
    "sam2": "sam2.predictor",
    "sam2_video": "sam2.predictor",
    "sam": "sam.predictor",
    "owlv2": "owlv2.predictor",
    "depth_anything": "depth_anything.predictor",
    "depth_anything_3": "depth_anything_3.predictor",
    "dinov2": "dinov2.predictor",
    "dinov2_with_registers": "dinov2.predictor",
}
# A file by its suffix, or a folder by a file in it -> the module whose `open_path(path, device_mesh, dtype, **options)`
# returns the specialist.
BY_SUFFIX = {".pt": "sam.mobile_sam", ".pth": "sam.mobile_sam", ".onnx": "onnx.predictor"}
BY_FILE = {
    "specialist.json": "onnx.predictor",
    "model.json": "ssd.predictor",
    "mobile_sam.safetensors": "sam.mobile_sam",
}


def load(path: str | Path, *, mesh: jax.sharding.Mesh | None = None, dtype: str = "float32", **options: Any) -> Any:
    """Loads a specialist onto the devices.

    Args:
      path: a hub id such as "facebook/sam2.1-hiera-tiny" (also "org/name@revision"), a folder with config.json and
        safetensors, or a file: mobile_sam.pt, a detector's model.json of TensorFlow.js, or a .onnx file with its
        description beside it.
      mesh: the devices over which batches are cut; None = the first device of this process.
      dtype: "float32" or "bfloat16", in which the model computes.
      **options: as the model's predictor documents them.

    Returns the predictor, whose methods say what the model can do: `segment`, `track`, `detect`, `estimate`.

    Raises WeightsError: no such files, files of a model that is not supported, or files that do not fit it. Raises
    HubError if a download fails, and ValueError for an unknown dtype.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype: expected 'float32' or 'bfloat16', got {dtype!r}")
    device_mesh = batching.single_device_mesh() if mesh is None else mesh
    where = local_path(str(path))
    licence = licences.limits(str(path), where)
    if licence is not None:
        log.warning("%s: the licence of these weights is %s", path, licence)
    module = module_of_files(where)
    if module is not None:
        return _predictor(module).open_path(where, device_mesh, jnp.dtype(dtype), **options)
    checkpoint = hf_checkpoint.open_folder(where)
    module = BY_TYPE[kind_of(checkpoint.config, where)]
    return _predictor(module).open_checkpoint(checkpoint, device_mesh, jnp.dtype(dtype), **options)


def require_detector(c: config.Specialists) -> None:
    """Raises ConfigError, which says how to get one, if the settings name no detector."""
    if not c.detector:
        raise config.ConfigError(
            "config.specialists.detector: expected a detector, which finds the objects, got none; give the path of "
            f"SSDLite (model.json), OWLv2 or an ONNX detector. {GET_WEIGHTS}"
        )


def kind_of(sizes: Mapping[str, Any], where: Path) -> str:
    """The key of BY_TYPE for a config.json in the folder `where`. Raises WeightsError if there is none."""
    kind = sizes.get("model_type")
    if kind is None and str(sizes.get("model_name")).startswith("da3"):
        kind = "depth_anything_3"  # its config.json has a model_name and no model_type
    if kind not in BY_TYPE:
        raise WeightsError(
            f"{where / 'config.json'}: model_type {kind!r} is no specialist; expected one of {', '.join(BY_TYPE)}"
        )
    return kind


def local_path(path: str, patterns: Sequence[str] = hub.PATTERNS) -> Path:
    """The folder or file of a specialist; of a hub id, the files with names of these patterns are downloaded.

    Raises WeightsError if there is no such file or folder, and HubError if the download fails.
    """
    if hub.is_hub_id(path):
        try:
            return hub.download(path, patterns)
        except hub.HubError as error:
            raise hub.HubError(f"{error} and load DIR") from error
    where = local_copy.fetch(path, "the files of a specialist")
    if not where.exists():
        raise WeightsError(
            f"{path}: no such file or folder; expected a folder with config.json and safetensors, a file of a model "
            f"({', '.join(sorted(set(BY_SUFFIX)))}, model.json), or a hub id such as facebook/sam2.1-hiera-tiny. "
            f"{GET_WEIGHTS}"
        )
    return where


def module_of_files(where: Path) -> str | None:
    """The module that opens a file, or a folder without config.json, by BY_SUFFIX and BY_FILE; None for other folders.

    Raises WeightsError for a file of another kind.
    """
    if where.is_file():
        module = BY_SUFFIX.get(where.suffix.lower()) or BY_FILE.get(where.name)
        if module is None:
            raise WeightsError(
                f"{where}: expected one of {', '.join([*BY_SUFFIX, *BY_FILE])}, or a folder with config.json"
            )
        return module
    if (where / "config.json").is_file():
        return None
    return next((module for name, module in BY_FILE.items() if (where / name).is_file()), None)


def _predictor(module: str) -> Any:
    return importlib.import_module(f"dtr1_jax.specialists.{module}")
