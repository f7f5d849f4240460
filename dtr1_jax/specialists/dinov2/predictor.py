"""DINOv2 for a user: the features of pictures."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, read_json
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import batching, pictures, tensors
from dtr1_jax.specialists.dinov2 import crop_preprocessing, model, spec, weights
from dtr1_jax.specialists.dinov2.crop_preprocessing import CropPreprocessing
from dtr1_jax.specialists.dinov2.spec import Dinov2Spec
from dtr1_jax.specialists.findings import PictureFeatures


class Dinov2:
    """Features of pictures: `dino.embed(images)`.

    The picture's shortest side is resized and its centre is cut out as the checkpoint's preprocessor_config.json says,
    so all pictures have one size, and a program is compiled for batches of 1, 2, 4, ... pictures.

    Attributes:
      spec: the sizes of the model.
    """

    def __init__(
        self,
        params: tensors.Params,
        model_spec: Dinov2Spec,
        preprocessing: CropPreprocessing,
        device_mesh: jax.sharding.Mesh,
        *,
        batch: int = 32,
    ):
        """Takes weights that are on the devices.

        Args:
          params: the weights, as `weights.load` returns them.
          model_spec: the sizes.
          preprocessing: how pictures are resized, cut and normalised.
          device_mesh: the devices over which batches are cut.
          batch: most pictures in one batch.

        Raises ValueError: `batch` below 1.
        """
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        self.spec = model_spec
        self._params, self._preprocessing, self._mesh, self._batch = params, preprocessing, device_mesh, batch
        self._program = jax.jit(self._forward)

    def _forward(self, params: tensors.Params, pixels: jax.Array) -> jax.Array:
        x = self._preprocessing.scale(pixels).astype(params["embeddings.cls_token"].dtype)
        x = model.encode(params, self.spec, x, (self.spec.layers,))[self.spec.layers]
        return model.final_norm(params, self.spec, x).astype(jnp.float32)

    def embed(self, images: Any) -> list[PictureFeatures]:
        """The features of pictures.

        Args:
          images: as `pictures.checked` takes them: an array [h, w, 3] or a sequence of such arrays, uint8 or floats in
            [0, 1]; grey pictures too.

        Returns `PictureFeatures` for each picture, of the part in its centre that the model sees.

        Raises ValueError: a picture that is no picture, or one that is too long.
        """
        checked = pictures.checked(images)
        results = []
        for start in range(0, len(checked), self._batch):
            part = checked[start : start + self._batch]
            pixels = np.stack([self._preprocessing(image, start + i) for i, image in enumerate(part)])
            states = batching.run(lambda rows: self._program(self._params, rows), (pixels,), self._mesh, self._batch)
            grid = [side // self.spec.patch for side in pixels.shape[1:3]]
            results += [
                PictureFeatures(tokens[0], tokens[1 + self.spec.registers :].reshape(*grid, -1)) for tokens in states
            ]
        return results


def open_checkpoint(checkpoint: HfCheckpoint, device_mesh: jax.sharding.Mesh, dtype: Any, **options: Any) -> Dinov2:
    """Opens a Hugging Face checkpoint of DINOv2; `options` are those of `Dinov2`.

    Raises WeightsError: files that do not fit, with the name of the file and the field.
    """
    name = "config.json"
    try:
        model_spec = spec.from_config(checkpoint.config)
        if model_spec.channels != 3:
            raise SpecError(f"num_channels: expected 3, got {model_spec.channels}")
        name = "preprocessor_config.json"
        config = read_json(checkpoint.where / name, "the preparation of pictures")
        preprocessing = crop_preprocessing.from_config(config, model_spec.patch)
    except SpecError as error:
        raise WeightsError(f"{checkpoint.where / name}: {error}") from error
    params = weights.load(checkpoint, model_spec, meshes.replicated(device_mesh), dtype)
    return Dinov2(params, model_spec, preprocessing, device_mesh, **options)
