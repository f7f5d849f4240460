"""The SSD detector that a user gets: pictures in, detections of the COCO classes out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import batching, box_suppression, pictures, tensors
from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.ssd import coco_classes, model, tfjs_graph
from dtr1_jax.specialists.ssd import spec as specs
from dtr1_jax.specialists.ssd import weights as names

IOU = 0.6  # the largest overlap of two boxes of a class, as in the published pipeline.config
_CLASSES = max(coco_classes.NAMES)


class SsdDetector:
    """SSDLite-MobileNetV2 for the 80 classes of COCO.

    A fast and small detector (4.5 million weights): it finds large objects, and misses most that are smaller than a
    tenth of the picture, because it looks at pictures of 300 x 300 pixels.

    Attributes:
      spec: the sizes of the network.
      classes: the names that `detect` can give.
    """

    def __init__(
        self, spec: specs.SsdSpec, params: tensors.Params, device_mesh: jax.sharding.Mesh, batch_size: int = 16
    ):
        """
        Args:
          spec: sizes.
          params: weights on the devices.
          device_mesh: the devices over which batches are cut.
          batch_size: pictures that are computed at once.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1 picture, got {batch_size}")
        self.spec, self.classes = spec, tuple(coco_classes.NAMES.values())
        self._params, self._mesh, self._most = params, device_mesh, batch_size
        self._predict = jax.jit(functools.partial(_predict, spec=spec))

    def detect(
        self, images: Any, threshold: float = 0.5, most: int = 100, classes: Sequence[str] | None = None
    ) -> list[Detections]:
        """Finds objects.

        Args:
          images: uint8[h, w, 3] pictures of any sizes, or as pictures.checked takes them.
          threshold: the score in [0, 1) that a detection must exceed.
          most: the largest number of detections of a picture.
          classes: names of COCO classes to look for; None = all 80.

        Returns the detections of each picture, best score first. Two of one class overlap by at most an IoU of 0.6.

        Raises ValueError: pictures that are none, a threshold outside [0, 1), `most` below 1, or an unknown class.
        """
        if not 0 <= threshold < 1 or most < 1:
            raise ValueError(f"expected a threshold in [0, 1) and most >= 1, got {threshold} and {most}")
        unknown = sorted(set(classes or ()) - set(self.classes))
        if isinstance(classes, str) or unknown:
            raise ValueError(
                f"classes: expected names of COCO classes such as 'dining table', got {unknown or classes}"
            )
        ids = [i for i, name in coco_classes.NAMES.items() if classes is None or name in classes]
        columns = np.array(ids, np.int64) - 1
        return [self._detections(box, score[:, columns], threshold, most, ids) for box, score in zip(*self.raw(images))]

    def raw(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """The boxes and scores of all anchors, before any choice.

        Returns (float32[B, anchors, 4] y1,x1,y2,x2 in the unit frame, not clipped; float32[B, anchors, 90] in [0, 1],
        column i for COCO's category id i + 1).
        """
        side = self.spec.side
        rows = [resized(image, side) for image in pictures.checked(images)]
        if not rows:
            return np.zeros((0, self.spec.anchors, 4), np.float32), np.zeros((0, self.spec.anchors, self.spec.classes))
        return batching.run(functools.partial(self._predict, self._params), (np.stack(rows),), self._mesh, self._most)

    def _detections(
        self, box: np.ndarray, score: np.ndarray, threshold: float, most: int, ids: list[int]
    ) -> Detections:
        boxes, scores, columns, _ = box_suppression.per_class(box[:, [1, 0, 3, 2]], score, threshold, IOU, most)
        return Detections(boxes, scores, tuple(coco_classes.NAMES[ids[c]] for c in columns))


def open_path(path: Path, device_mesh: jax.sharding.Mesh, dtype: Any, **options: Any) -> SsdDetector:
    """Loads a graph model of TensorFlow.js (model.json or its folder).

    Raises WeightsError if the files are not an SSDLite-MobileNetV2 for COCO.
    """
    checkpoint, constants = tfjs_graph.open_graph(path)
    spec = specs.from_graph(checkpoint, constants)
    if spec.classes != _CLASSES:
        raise WeightsError(f"{checkpoint.where}: expected {_CLASSES} classes with COCO's ids, got {spec.classes}")
    params = tensors.load_params(checkpoint, names.shapes(spec), meshes.replicated(device_mesh))
    kernels = {name: x.astype(dtype) for name, x in params.items() if x.ndim == 4}
    return SsdDetector(spec, params | kernels, device_mesh, **options)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """float32[side, side, 3], values 0 to 255, as TensorFlow's ResizeBilinear resizes without aligned corners.

    Row i is sampled at i * height / side, between two rows of the picture and without antialiasing, so the picture is
    not resized about its centre.
    """
    height, width = image.shape[:2]
    top, bottom, down = _samples(height, side)
    left, right, across = _samples(width, side)
    across, down = across[None, :, None], down[:, None, None]
    rows = []
    for index in (top, bottom):
        row = image[index]
        a, b = row[:, left].astype(np.float32), row[:, right].astype(np.float32)
        rows.append(a + (b - a) * across)
    return rows[0] + (rows[1] - rows[0]) * down


def _samples(size: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = np.arange(side) * (size / side)
    low = np.minimum(at.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (at - low).astype(np.float32)


def _predict(params: tensors.Params, image: jax.Array, *, spec: specs.SsdSpec) -> tuple[jax.Array, jax.Array]:
    return model.predict(params, spec, image.astype(jnp.float32))
