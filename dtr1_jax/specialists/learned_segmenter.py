"""Masks from boxes by a learned model, with the calls of `segmenter.Segmenter`: `reward.segmenter = "sam:PATH"`.

The model runs on the devices of this process, each of which holds its weights. So no process waits for another: each
scores its own queries, whose numbers of pictures and boxes differ.
Boxes are x1,y1,x2,y2 in the unit frame. A policy may have written them, so any numbers are accepted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from dtr1_jax import config, mesh
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.hub import HubError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import catalogue
from dtr1_jax.specialists.embedding_cache import EmbeddingCache, content_key
from dtr1_jax.specialists.segmenter import Segmenter

PREFIX = "sam:"
_CACHE = 64 << 20  # bytes of masks


class LearnedSegmenter:
    """Masks of many boxes on many pictures: `segmenter(images, boxes)`.

    Attributes:
      description: the model, for reports.
      model: the specialist; it has `segment(images, boxes=...)`.
    """

    def __init__(self, path: str, device_mesh: jax.sharding.Mesh | None = None):
        """Loads the model.

        Args:
          path: a folder, hub id or file of SAM, SAM 2 or MobileSAM, as `specialists.load` takes it.
          device_mesh: devices of this process; None = all of them, which share the pictures and boxes.

        Raises WeightsError, SpecError or HubError as `specialists.load` does, and ValueError if the model does not make
        masks from boxes.
        """
        devices = mesh.make(config.Mesh(data=-1, fsdp=1, tensor=1), jax.local_devices())
        self.model: Any = catalogue.load(path, mesh=devices if device_mesh is None else device_mesh)
        if not hasattr(self.model, "segment"):
            raise ValueError(f"{path}: expected a model that makes masks from boxes, such as SAM or MobileSAM")
        self.description = f"{type(self.model).__name__} of {path} from the answer's boxes"
        self._cache = EmbeddingCache(_CACHE)

    @property
    def failures(self) -> dict[str, int]:
        """How many masks failed so far, by cause: none, because the model answers every box."""
        return dict.fromkeys(("timeouts", "crashes", "errors"), 0)

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Segments all boxes of each picture and joins their masks.

        Boxes are rounded to 4 decimals. The same box on the same picture is segmented once, in this call and later
        ones, and a picture is encoded once. A box that is not finite or has no area gives no pixels.

        Args:
          images: uint8[h, w, 3] each.
          boxes: float[n, 4] for each picture, unit frame.

        Returns bool[h, w] for each picture. Raises ValueError if there are not as many pictures as sets of boxes.
        """
        if len(images) != len(boxes):
            raise ValueError(f"expected as many pictures as sets of boxes, got {len(images)} and {len(boxes)}")
        digests = {id(image): content_key(image) for image in {id(i): i for i in images}.values()}
        pictures = {digests[id(image)]: image for image in images}
        keys = [
            [(digests[id(image)], tuple(round(float(v), 4) for v in box)) for box in rows if np.isfinite(box).all()]
            for image, rows in zip(images, boxes)
        ]
        masks = self._masks(pictures, list(dict.fromkeys(key for row in keys for key in row)))
        return [
            np.any([masks[key] for key in row], axis=0) if row else np.zeros(image.shape[:2], bool)
            for image, row in zip(images, keys)
        ]

    def _masks(self, pictures: dict, keys: list[tuple[Hashable, tuple]]) -> dict[tuple, np.ndarray]:
        """key -> bool[h, w], from the cache or the model."""
        masks = {}
        missing: dict[Hashable, list[tuple]] = {}
        for key in keys:
            height, width = pictures[key[0]].shape[:2]
            bits = self._cache.get(key)
            if bits is None:
                missing.setdefault(key[0], []).append(key)
            else:
                masks[key] = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
        if missing:
            found = self.model.segment(
                [pictures[digest] for digest in missing],
                boxes=[np.asarray([box for _, box in of_picture], np.float32) for of_picture in missing.values()],
            )
            for of_picture, result in zip(missing.values(), found):
                for key, mask in zip(of_picture, result.masks):
                    masks[key] = mask
                    self._cache.put(key, np.packbits(mask))
        return masks

    def close(self) -> None:
        """Does nothing; there are no workers. For the same calls as `Segmenter`."""

    def __enter__(self) -> LearnedSegmenter:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def open_segmenter(name: str, workers: int, deadline: float) -> Segmenter | LearnedSegmenter:
    """The segmenter that the setting reward.segmenter names.

    Args:
      name: "grabcut", "box" or "sam:PATH".
      workers, deadline: of GrabCut, see `Segmenter`; a learned model has neither.

    Raises ConfigError, which names the setting, if the model of "sam:PATH" cannot be loaded.
    """
    if not name.startswith(PREFIX):
        return Segmenter(name, workers, deadline)
    try:
        return LearnedSegmenter(name.removeprefix(PREFIX))
    except HubError as error:
        raise config.ConfigError(f"config.reward.segmenter = {name!r}: {error} and set it to sam:DIR") from error
    except (WeightsError, SpecError, ValueError) as error:
        raise config.ConfigError(f"config.reward.segmenter = {name!r}: {error}") from error
