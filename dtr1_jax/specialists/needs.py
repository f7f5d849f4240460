"""The memory that a specialist takes on each device, computed from its configuration before any weight is read.

The program that looks at pictures is compiled with shapes alone, and the compiler says how much memory it needs besides
the weights. It is the compiler of the backend in use: on another kind of device the figure differs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.specialists import catalogue

Shapes = dict[str, tuple[int, ...]]
# (shapes of the weights, function of the weights and the inputs, shapes of the inputs for a number of pictures)
Program = tuple[Shapes, Callable[..., Any], tuple[jax.ShapeDtypeStruct, ...]]


@dataclasses.dataclass(frozen=True)
class Needs:
    """The memory of one specialist on each device.

    Attributes:
      model: its kind, such as "sam2_video".
      parameters: number of its weights.
      weights: bytes of the weights. Every device holds all of them.
      activations: bytes that the program needs besides the weights while it looks at `pictures` pictures; None = not
        known, because the model runs in a process of its own.
      pictures: pictures at once on one device.
    """

    model: str
    parameters: int
    weights: int
    activations: int | None
    pictures: int


def needs(path: str | Path, dtype: str = "float32", pictures: int = 1) -> Needs:
    """What `specialists.load(path, dtype=dtype)` will take on each device; reads configurations, not weights.

    Args:
      path: as `specialists.load` takes it. Of a hub id only the configuration files are downloaded.
      dtype: in which the model computes.
      pictures: pictures at once on one device; those of models that take any size are 518 x 518 pixels.

    Raises WeightsError, SpecError and HubError as `specialists.load` does.
    """
    where = catalogue.local_path(str(path), ("*.json",))
    kind, program = _program(where, jnp.dtype(dtype), pictures)
    if program is None:
        size = sum(file.stat().st_size for file in ([where] if where.is_file() else where.iterdir()) if file.is_file())
        return Needs(kind, size // 4, size, None, pictures)
    shapes, function, inputs = program
    params = {name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, shape in shapes.items()}
    count = sum(math.prod(shape) for shape in shapes.values())
    compiled = jax.jit(function).lower(params, *inputs).compile()
    held = compiled.memory_analysis()
    activations = held.temp_size_in_bytes + held.output_size_in_bytes + sum(x.size * x.dtype.itemsize for x in inputs)
    return Needs(kind, count, count * jnp.dtype(dtype).itemsize, int(activations), pictures)


def _program(where: Path, dtype: jnp.dtype, pictures: int) -> tuple[str, Program | None]:
    """(kind of the model, the program that looks at pictures); None for models in a process of their own."""
    module = catalogue.module_of_files(where)
    if module == "sam.mobile_sam":
        from dtr1_jax.specialists.sam.spec import MOBILE_SAM

        return "mobile_sam", _sam(MOBILE_SAM, dtype, pictures)
    if module is not None:
        return module.partition(".")[0], None
    config = hf_checkpoint.read_json(where / "config.json", "the sizes of the model")
    kind = catalogue.kind_of(config, where)
    family = catalogue.BY_TYPE[kind].partition(".")[0]
    return kind, _OF_FAMILY[family](where, config, dtype, pictures)


def _pixels(pictures: int, side: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((pictures, side, side, 3), dtype)


def _sam(sizes: Any, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.sam import model, weights

    inputs = _pixels(pictures, sizes.image, jnp.uint8), jax.ShapeDtypeStruct((pictures, 2), jnp.int32)
    return dict(weights.shapes(sizes)), lambda w, image, size: model.embed(w, sizes, image, size, dtype), inputs


def _sam_folder(where: Path, config: dict, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.sam import spec

    file = where / "preprocessor_config.json"
    colours = hf_checkpoint.read_json(file, "the sizes and colours of pictures") if file.is_file() else {}
    return _sam(spec.from_config(config, colours), dtype, pictures)


def _sam2(where: Path, config: dict, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.sam2 import model, picture_input, spec, weights

    sizes = spec.from_config(config)
    rules = picture_input.read(where, sizes.image_size)
    inputs = (_pixels(pictures, sizes.image_size, jnp.uint8),)
    return dict(weights.shapes(sizes)), lambda w, image: model.embed(w, sizes, rules, image), inputs


def _owlv2(where: Path, config: dict, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.owlv2 import model, spec, weights

    sizes = spec.read(where, config)
    inputs = (_pixels(pictures, sizes.side, dtype),)
    return weights.shapes(sizes), lambda w, image: model.embed_pictures(w, sizes, image), inputs


def _depth(where: Path, config: dict, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.depth_anything import model, spec, weights

    sizes = spec.from_config(config)
    inputs = (_pixels(pictures, 37 * sizes.backbone.patch, dtype),)
    return _fused(weights.shapes(sizes)), lambda w, image: model.forward(w, sizes, image), inputs


def _depth_3(where: Path, config: dict, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.depth_anything_3 import model, spec, weights

    sizes = spec.from_config(config)
    inputs = (_pixels(pictures, 37 * sizes.backbone.patch, dtype),)
    return weights.shapes(sizes), lambda w, image: model.forward(w, sizes, image), inputs


def _dinov2(where: Path, config: dict, dtype: jnp.dtype, pictures: int) -> Program:
    from dtr1_jax.specialists.dinov2 import model, spec, weights

    sizes = spec.from_config(config)
    inputs = (_pixels(pictures, 37 * sizes.patch, dtype),)
    taps = (sizes.layers,)
    return _fused(weights.shapes(sizes)), lambda w, image: model.encode(w, sizes, image, taps), inputs


def _fused(shapes: Shapes) -> Shapes:
    """The shapes of DINOv2's weights after queries, keys and values are joined."""
    from dtr1_jax.specialists.dinov2.weights import fused

    found = jax.eval_shape(fused, {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()})
    return {name: x.shape for name, x in found.items()}


_OF_FAMILY: dict[str, Callable[[Path, dict, Any, int], Program]] = {
    "sam": _sam_folder, "sam2": _sam2, "owlv2": _owlv2, "depth_anything": _depth, "depth_anything_3": _depth_3,
    "dinov2": _dinov2,
}  # fmt: skip
