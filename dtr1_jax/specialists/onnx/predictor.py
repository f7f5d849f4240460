"""The specialist that a user gets for an ONNX file: `detect` for detectors and segmenters, `estimate` for depth."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.checked_fields import ConfigError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.run.worker_pool import Failure, Pool
from dtr1_jax.specialists import pictures
from dtr1_jax.specialists.findings import DepthMap, Detections
from dtr1_jax.specialists.onnx import box_outputs, session_process
from dtr1_jax.specialists.onnx import spec as specs

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class OnnxError(RuntimeError):
    """A model did not answer for a picture; the message says which picture and why."""


class OnnxModel:
    """An ONNX file in a worker process of its own, on CPUs.

    The process has a deadline for each picture and limited memory, it reads only files of the model's folder, and it
    is ended with this object (`close`, or a with statement).

    Attributes:
      spec: the description.
    """

    def __init__(self, spec: specs.OnnxSpec, pool: Pool, kind: np.dtype):
        """`kind` is the dtype of the graph's input; `open_path` makes these objects."""
        self.spec, self._pool, self._kind = spec, pool, kind

    def close(self) -> None:
        """Ends the process. May be called twice."""
        self._pool.close()

    def __enter__(self) -> OnnxModel:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _outputs(
        self, images: Any, names: list[str]
    ) -> Iterator[tuple[int, tuple[int, int], box_outputs.Place, dict[str, np.ndarray]]]:
        """(number, size, place in the input, outputs by name) of each picture."""
        for i, image in enumerate(pictures.checked(images)):
            value, place = prepared(self.spec.input, image)
            item = {"input": self.spec.input.name, "value": value.astype(self._kind), "outputs": names}
            (result,) = self._pool.map([item])
            if isinstance(result, Failure):
                raise OnnxError(f"picture {i}: {self.spec.file} gave no answer ({result.kind}): {result.message}")
            yield i, image.shape[:2], place, dict(zip(names, result))


class OnnxDetector(OnnxModel):
    """A detector, or an instance segmenter, whose detections have masks."""

    def detect(self, images: Any, threshold: float | None = None, most: int = 100) -> list[Detections]:
        """Finds objects.

        Args:
          images: uint8[h, w, 3] pictures of any sizes, or as pictures.checked takes them.
          threshold: score in [0, 1) that a detection must exceed; None = that of the description.
          most: largest number of detections of a picture.

        Returns the detections of each picture, best score first; with masks for a model of kind "segment".

        Raises OnnxError: the model hung, crashed or gave other outputs than the description says. ValueError: pictures
        that are none, or a threshold or `most` out of its bounds.
        """
        threshold = self.spec.boxes.threshold if threshold is None else threshold
        if not 0 <= threshold < 1 or most < 1:
            raise ValueError(f"expected a threshold in [0, 1) and most >= 1, got {threshold} and {most}")
        boxes, masks = self.spec.boxes, self.spec.masks
        names = [n for n in (boxes.predictions, boxes.boxes, boxes.scores, boxes.labels) if n]
        names += [masks.output] if self.spec.kind == "segment" else []
        results = []
        for i, size, place, outputs in self._outputs(images, names):
            try:
                results.append(box_outputs.detections(self.spec, outputs, place, size, threshold, most))
            except ValueError as error:
                raise OnnxError(f"picture {i}: {self.spec.file}: {error}") from None
        return results


class OnnxDepth(OnnxModel):
    """A depth model."""

    def estimate(self, images: Any) -> list[DepthMap]:
        """The depth of each picture at its own size.

        Args:
          images: uint8[h, w, 3] pictures of any sizes, or as pictures.checked takes them.

        Raises OnnxError: the model hung, crashed or gave no depth. ValueError: pictures that are none.
        """
        depth = self.spec.depth
        results = []
        for i, size, place, outputs in self._outputs(images, [depth.output]):
            value = np.squeeze(outputs[depth.output])
            if value.ndim != 2 or value.dtype.kind != "f" or not np.isfinite(value).any():
                raise OnnxError(
                    f"picture {i}: {self.spec.file}: output {depth.output}: expected finite floats [h, w], got "
                    f"{value.dtype} {list(value.shape)}"
                )
            value = value.astype(np.float32)
            finite = value[np.isfinite(value)]
            far = finite.max() if depth.meaning == "depth" else finite.min()
            value = box_outputs.cropped(self.spec, np.where(np.isfinite(value), value, far), place, size)
            metres = value * np.float32(depth.metres) if depth.meaning == "depth" and depth.metres else None
            results.append(DepthMap(value if depth.meaning == "disparity" else -value, metres))
        return results


def open_path(
    path: Path,
    device_mesh: jax.sharding.Mesh,
    dtype: Any,
    *,
    description: dict[str, Any] | str | Path | None = None,
    deadline: float = 30.0,
    threads: int = 2,
) -> OnnxDetector | OnnxDepth:
    """Opens an ONNX model.

    Args:
      path: a .onnx file, a specialist.json or its folder.
      device_mesh: not used; the model runs on CPUs.
      dtype: float32; a graph has its own dtypes.
      description: the fields of specialist.json or the path of such a file; None = specialist.json beside the model.
      deadline: seconds in which the model must open, and answer for a picture.
      threads: threads that it computes with.

    Raises ConfigError: there is no description, it has faults, or it does not fit the graph. WeightsError: the file
    cannot be opened. ModuleNotFoundError: onnxruntime is not installed.
    """
    if jnp.dtype(dtype) != jnp.float32:
        raise ValueError(f"{path}: an ONNX graph computes in its own dtype; load it with dtype='float32'")
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModuleNotFoundError(f"{path} needs onnxruntime: pip install 'dtr1_jax[onnx]'")
    file, spec = _described(path, description)
    if not file.is_file():
        raise WeightsError(f"{file}: no such file, but the description names it")
    argument = json.dumps({"file": str(file.absolute()), "threads": threads})
    pool = Pool(f"{session_process.__name__}:open_later", 1, deadline, argument)
    try:
        (graph,) = pool.map([None])
        if isinstance(graph, Failure):
            raise WeightsError(f"{file}: cannot be opened ({graph.kind}): {graph.message}")
        if spec is None:
            raise ConfigError(
                f"{file}: expected a description beside it, {file.parent / specs.FILE}, or the option `description`; "
                f"for a depth model, for example:\n{specs.minimal(file.name, graph['inputs'], graph['outputs'])}"
            )
        kind = _checked(spec, graph, file)
    except BaseException:
        pool.close()
        raise
    return (OnnxDepth if spec.kind == "depth" else OnnxDetector)(spec, pool, kind)


def prepared(settings: specs.Input, image: np.ndarray) -> tuple[np.ndarray, box_outputs.Place]:
    """The model's input of a picture uint8[h, w, 3], with an axis of 1 in front, and where the picture lies in it."""
    height, width = settings.height, settings.width
    left = top = 0
    if settings.resize != "stretch":
        scale = min(height / image.shape[0], width / image.shape[1])
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        if settings.resize == "letterbox":
            left, top = (settings.width - width) // 2, (settings.height - height) // 2
    canvas = np.full((settings.height, settings.width, 3), settings.fill, np.uint8)
    canvas[top : top + height, left : left + width] = pictures.resized(image, height, width, settings.filter)
    canvas = canvas if settings.channels == "RGB" else canvas[..., ::-1]
    value = pictures.normalised(canvas, settings.mean, settings.std, settings.scale)
    return (value if settings.layout == "NHWC" else value.transpose(2, 0, 1))[None], (left, top, width, height)


def _described(path: Path, description: Any) -> tuple[Path, specs.OnnxSpec | None]:
    """The model's file and its description, None if there is none."""
    folder = path if path.is_dir() else path.parent
    beside = path if path.name == specs.FILE else folder / specs.FILE
    if isinstance(description, dict):
        spec = specs.from_dict({"file": path.name} | description if path.is_file() else description, "description")
    elif description is not None:
        spec = specs.read(Path(description))
    else:
        spec = specs.read(beside) if beside.is_file() else None
    if path.is_file() and path.suffix.lower() == ".onnx":
        if spec is not None and spec.file != path.name:
            raise ConfigError(f"{beside}: file: expected {path.name!r}, got {spec.file!r}")
        return path, spec
    if spec is None:
        raise ConfigError(f"{folder}: expected a description {specs.FILE}")
    return folder / spec.file, spec


def _checked(spec: specs.OnnxSpec, graph: dict[str, Any], file: Path) -> np.dtype:
    """The dtype of the graph's input. Raises ConfigError if the description does not fit the graph."""
    given = spec.input
    inputs = {name: (shape, kind) for name, shape, kind in graph["inputs"]}
    if list(inputs) != [given.name]:
        raise ConfigError(
            f"{file}: input.name: expected the graph's only input, one of {list(inputs)}, got {given.name!r}"
        )
    shape, kind = inputs[given.name]
    sides = (1, 3, given.height, given.width) if given.layout == "NCHW" else (1, given.height, given.width, 3)
    if len(shape) != 4 or any(a is not None and a != b for a, b in zip(shape, sides)):
        raise ConfigError(f"{file}: input: the graph takes {shape}, the description says {list(sides)}")
    if kind not in _TYPES:
        raise ConfigError(f"{file}: input: expected one of {', '.join(_TYPES)}, the graph takes {kind}")
    known = [name for name, _, _ in graph["outputs"]]
    boxes = spec.boxes
    named = {"depth.output": spec.depth.output} if spec.kind == "depth" else {
        "boxes.predictions": boxes.predictions, "boxes.boxes": boxes.boxes, "boxes.scores": boxes.scores,
        "boxes.labels": boxes.labels, "masks.output": spec.masks.output,
    }  # fmt: skip
    faults = [
        f"{file}: {field}: expected one of {known}, got {n!r}" for field, n in named.items() if n and n not in known
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    return np.dtype(_TYPES[kind])
