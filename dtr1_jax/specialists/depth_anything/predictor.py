"""Depth Anything for a user: pictures in, one `DepthMap` for each out."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, read_json
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import batching, pictures, tensors
from dtr1_jax.specialists.depth_anything import depth_preprocessing, model, spec, weights
from dtr1_jax.specialists.depth_anything.depth_preprocessing import DepthPreprocessing
from dtr1_jax.specialists.depth_anything.programs_by_shape import ProgramsByShape, indices_by_shape
from dtr1_jax.specialists.depth_anything.spec import DepthSpec
from dtr1_jax.specialists.findings import DepthMap


class DepthAnything:
    """Estimates the depth of pictures: `depth.estimate(images)`.

    A picture is resized as the checkpoint's preprocessor_config.json says. The released ones keep the aspect ratio and
    bring one side to 518 pixels, so pictures of different aspect ratios need different programs. Pictures of one call
    that get the same size are computed together, and batches have 1, 2, 4, ... `batch` pictures, so a size is compiled
    for few shapes. The programs of the `programs` sizes last used are kept; a size that returns after it was dropped is
    compiled again. The result of a picture never depends on the others.

    Attributes:
      spec: the sizes of the model; `spec.metric` says whether it gives metres.
      programs: the compiled sizes.
    """

    def __init__(
        self,
        params: tensors.Params,
        model_spec: DepthSpec,
        preprocessing: DepthPreprocessing,
        device_mesh: jax.sharding.Mesh,
        *,
        batch: int = 8,
        programs: int = 16,
    ):
        """Takes weights that are on the devices.

        Args:
          params: the weights, as `weights.load` returns them.
          model_spec: the sizes.
          preprocessing: how pictures are resized and normalised.
          device_mesh: the devices over which batches are cut.
          batch: most pictures in one batch.
          programs: most picture sizes whose programs are kept.

        Raises ValueError: `batch` or `programs` below 1.
        """
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        self.spec = model_spec
        self._params, self._preprocessing, self._mesh, self._batch = params, preprocessing, device_mesh, batch
        self.programs = ProgramsByShape(self._forward, programs)

    def _forward(self, params: tensors.Params, pixels: jax.Array) -> jax.Array:
        dtype = params[f"{weights.BACKBONE}embeddings.cls_token"].dtype
        return model.forward(params, self.spec, self._preprocessing.scale(pixels).astype(dtype))

    def estimate(self, images: Any) -> list[DepthMap]:
        """Estimates the depth of pictures, each at its own size.

        Args:
          images: as `pictures.checked` takes them: an array [h, w, 3] or a sequence of such arrays, uint8 or floats in
            [0, 1]; grey pictures too.

        Returns a `DepthMap` for each picture: `nearness` is the model's disparity (no unit, larger = nearer), and
        `metres` is None; of a metric model, `metres` is the distance and `nearness` is -metres. The bicubic resizing
        to the picture's own size may exceed the model's values a little beside sharp edges.

        Raises ValueError: a picture that is no picture, or one that is so long that the model would get more than
        16,384 patches.
        """
        checked = pictures.checked(images)
        patch, preprocessing = self.spec.backbone.patch, self._preprocessing
        sizes = [
            depth_preprocessing.checked_size(preprocessing.size(*image.shape[:2]), image, patch, i)
            for i, image in enumerate(checked)
        ]
        results: dict[int, DepthMap] = {}
        for size, indices in indices_by_shape(sizes, self._batch):
            program = self.programs.get(size)
            pixels = np.stack([depth_preprocessing.prepared(checked[i], size, preprocessing.resample) for i in indices])
            depths = batching.run(
                lambda rows, program=program: program(self._params, rows), (pixels,), self._mesh, self._batch
            )
            for i, depth in zip(indices, depths):
                results[i] = self._result(depth_preprocessing.at_own_size(depth, *checked[i].shape[:2]))
        return [results[i] for i in range(len(checked))]

    def _result(self, depth: np.ndarray) -> DepthMap:
        return DepthMap(-depth, depth) if self.spec.metric else DepthMap(depth)


def open_checkpoint(
    checkpoint: HfCheckpoint, device_mesh: jax.sharding.Mesh, dtype: Any, **options: Any
) -> DepthAnything:
    """Opens a Hugging Face checkpoint of Depth Anything; `options` are those of `DepthAnything`.

    Raises WeightsError: files that do not fit, with the name of the file and the field.
    """
    name = "config.json"
    try:
        model_spec = spec.from_config(checkpoint.config)
        name = "preprocessor_config.json"
        config = read_json(checkpoint.where / name, "the preparation of pictures")
        preprocessing = depth_preprocessing.from_config(config, model_spec.backbone.patch)
    except SpecError as error:
        raise WeightsError(f"{checkpoint.where / name}: {error}") from error
    params = weights.load(checkpoint, model_spec, meshes.replicated(device_mesh), dtype)
    return DepthAnything(params, model_spec, preprocessing, device_mesh, **options)
