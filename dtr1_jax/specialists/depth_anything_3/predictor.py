"""Depth Anything 3 for a user: pictures in, one `DepthMap` for each out."""

from __future__ import annotations

from typing import Any

import cv2
import jax
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import batching, pictures, tensors
from dtr1_jax.specialists.depth_anything.depth_preprocessing import check_length
from dtr1_jax.specialists.depth_anything.programs_by_shape import ProgramsByShape, indices_by_shape
from dtr1_jax.specialists.depth_anything_3 import da3_preprocessing, model, sky_filling, spec, weights
from dtr1_jax.specialists.depth_anything_3.spec import MonoSpec
from dtr1_jax.specialists.findings import DepthMap


class DepthAnything3:
    """Estimates the depth of pictures: `depth.estimate(images)`.

    The longest side of a picture becomes `longest` pixels, so pictures of different aspect ratios need different
    programs, at most `longest` / 14 for each orientation. Pictures of one call that get the same size are computed
    together, and batches have 1, 2, 4, ... `batch` pictures. The programs of the `programs` sizes last used are kept.
    The result of a picture never depends on the others.

    Attributes:
      spec: the sizes of the model.
      programs: the compiled sizes.
    """

    def __init__(
        self,
        params: tensors.Params,
        model_spec: MonoSpec,
        device_mesh: jax.sharding.Mesh,
        *,
        batch: int = 8,
        programs: int = 16,
        longest: int = da3_preprocessing.LONGEST,
    ):
        """Takes weights that are on the devices.

        Args:
          params: the weights, as `weights.load` returns them.
          model_spec: the sizes.
          device_mesh: the devices over which batches are cut.
          batch: most pictures in one batch.
          programs: most picture sizes whose programs are kept.
          longest: pixels of the longest side that the model sees; `process_res` of the authors' code.

        Raises ValueError: `batch` or `programs` below 1, or `longest` below a patch.
        """
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        if longest < model_spec.backbone.patch:
            raise ValueError(f"longest: expected at least a patch of {model_spec.backbone.patch}, got {longest}")
        self.spec = model_spec
        self._params, self._mesh, self._batch, self._longest = params, device_mesh, batch, longest
        self.programs = ProgramsByShape(self._forward, programs)

    def _forward(self, params: tensors.Params, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
        dtype = params[f"{weights.BACKBONE}embeddings.cls_token"].dtype
        return model.forward(params, self.spec, da3_preprocessing.SCALE(pixels).astype(dtype))

    def estimate(self, images: Any) -> list[DepthMap]:
        """Estimates the depth of pictures, each at its own size.

        Args:
          images: as `pictures.checked` takes them: an array [h, w, 3] or a sequence of such arrays, uint8 or floats in
            [0, 1]; grey pictures too.

        Returns a `DepthMap` for each picture: `nearness` is minus the model's depth, which has no unit, and `metres` is
        None. The sky gets the depth below which 99 % of the other pixels lie. The model's map is resized to the
        picture's own size by bilinear interpolation.

        Raises ValueError: a picture that is no picture, or one with a side of more than 32,000 pixels.
        """
        checked = pictures.checked(images)
        for i, image in enumerate(checked):
            check_length(image, i)
        patch, results = self.spec.backbone.patch, dict[int, DepthMap]()
        sizes = [da3_preprocessing.sizes(image.shape[0], image.shape[1], self._longest, patch)[1] for image in checked]
        for size, indices in indices_by_shape(sizes, self._batch):
            program = self.programs.get(size)
            pixels = np.stack([da3_preprocessing.prepared(checked[i], self._longest, patch) for i in indices])
            depths, skies = batching.run(
                lambda rows, program=program: program(self._params, rows), (pixels,), self._mesh, self._batch
            )
            for i, depth, sky in zip(indices, depths, skies):
                height, width = checked[i].shape[:2]
                filled = sky_filling.fill_sky(depth, sky)
                results[i] = DepthMap(-cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR))
        return [results[i] for i in range(len(checked))]


def open_checkpoint(
    checkpoint: HfCheckpoint, device_mesh: jax.sharding.Mesh, dtype: Any, **options: Any
) -> DepthAnything3:
    """Opens the checkpoint of Depth Anything 3 for single pictures; `options` are those of `DepthAnything3`.

    Raises WeightsError: another model of the family, or files that do not fit.
    """
    try:
        model_spec = spec.from_config(checkpoint.config)
    except SpecError as error:
        raise WeightsError(f"{checkpoint.where / 'config.json'}: {error}") from error
    params = weights.load(checkpoint, model_spec, meshes.replicated(device_mesh), dtype)
    return DepthAnything3(params, model_spec, device_mesh, **options)
