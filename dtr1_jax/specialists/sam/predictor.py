"""SAM and MobileSAM for users: masks from boxes, points and masks.

sam = specialists.load("facebook/sam-vit-base")          # or mobile_sam.pt
masks = sam.segment([photo], boxes=[[[0.1, 0.2, 0.5, 0.9]]])[0].masks
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import batching, pictures
from dtr1_jax.specialists.embedding_cache import EmbeddingCache, content_key
from dtr1_jax.specialists.findings import Masks
from dtr1_jax.specialists.sam import model, object_prompts, spec, square, weights
from dtr1_jax.specialists.sam.spec import SamSpec
from dtr1_jax.specialists.tensors import Params

_OBJECTS = 16  # objects that a device decodes at once; a power of two
_PICTURES = 32  # pictures whose embeddings are held at once


class Sam:
    """Masks of objects that are shown by boxes, points or masks.

    Attributes:
      spec: the sizes of the model.
      params: its weights by name, on every device of the mesh.
      cache: the embeddings of pictures; `cache.hits` and `cache.misses` count.
    """

    def __init__(
        self,
        sizes: SamSpec,
        params: Params,
        device_mesh: jax.sharding.Mesh,
        dtype: Any,
        cache_bytes: int = 256 << 20,
        encoder_batch: int = 1,
    ):
        """Holds a model whose weights are on the devices.

        Args:
          sizes: the sizes of the model.
          params: its weights.
          device_mesh: the devices over which pictures and objects are cut.
          dtype: in which the model computes. Positions, softmaxes, norms and the masks' logits are float32 always.
          cache_bytes: bytes of embeddings that are kept in the host's memory; SAM's are 4 MiB a picture in float32.
          encoder_batch: pictures that a device encodes at once.
        """
        self.spec, self.params = sizes, params
        self.cache = EmbeddingCache(cache_bytes)
        self._mesh, self._encoder_batch = device_mesh, encoder_batch
        place, whole = meshes.batch(device_mesh), meshes.replicated(device_mesh)
        embed = functools.partial(model.embed, spec=sizes, dtype=jnp.dtype(dtype))
        self._embed = jax.jit(
            lambda w, image, size: embed(w, image_bhw3=image, size_b2=size),
            in_shardings=(whole, place, place), out_shardings=place,
        )  # fmt: skip
        self._segment = jax.jit(self._candidates, static_argnames=("multimask",), out_shardings=place)

    def segment(
        self,
        images: Any,
        boxes: Sequence[Any] | None = None,
        points: Sequence[Any] | None = None,
        labels: Sequence[Any] | None = None,
        masks: Sequence[Any] | None = None,
        multimask: bool | None = None,
    ) -> list[Masks]:
        """The masks of the objects on each picture.

        An object is shown by a box, by points, by a mask, or by several of these; all objects of a picture by the same
        kinds. Boxes are cut to the picture; a box that then has no area gives an empty mask with score 0. Any numbers
        of pictures and objects are taken; few shapes are compiled.

        Args:
          images: uint8[h, w, 3] each, of any sizes; one array is one picture (see pictures.checked).
          boxes: float32[n, 4] for each picture: x1, y1, x2, y2 in the unit frame.
          points: float32[n, k, 2] for each picture: x, y in the unit frame.
          labels: int[n, k] for each picture: 1 = on the object, 0 = beside it, -1 = no point, which fills the rows of
            objects with fewer points; None = all 1.
          masks: for each picture bool[n, h, w] at its own size, or float32[n, low, low] logits (`Masks.logits` of an
            earlier call, to refine it).
          multimask: False = the single mask, for clear prompts; True = the best of three candidates by expected IoU,
            for ambiguous ones; None = True for a single point alone, as SAM's authors advise.

        Returns Masks for each picture, in the order of the prompts. Raises ValueError: no prompts, other shapes, points
        outside the picture, or not as many sets of prompts as pictures; the message names the picture.
        """
        checked = pictures.checked(images)
        asked = [
            object_prompts.checked(self.spec, i, image.shape[:2], *of_picture)
            for i, (image, of_picture) in enumerate(
                zip(checked, _by_picture(len(checked), boxes, points, labels, masks))
            )
        ]
        results = []
        for start in range(0, len(checked), _PICTURES):
            part = slice(start, start + _PICTURES)
            results += self._masks(checked[part], asked[part], multimask)
        return results

    def embed(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The embeddings [grid * grid, D] of pictures uint8[h, w, 3], from the cache or the encoder."""
        keys = [content_key(image) for image in images]
        found = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        missing = {key: image for key, image in zip(keys, images) if found[key] is None}
        squares = [square.squared(image, self.spec.image) for image in missing.values()]
        if squares:
            rows = tuple(np.stack(parts) for parts in zip(*squares))
            most = self._encoder_batch * meshes.batch_shards(self._mesh)
            computed = batching.run(functools.partial(self._embed, self.params), rows, self._mesh, most)
            for key, value in zip(missing, computed):
                found[key] = value
                self.cache.put(key, value)
        return [found[key] for key in keys]

    def _masks(
        self, images: list[np.ndarray], asked: list[object_prompts.Prompts], multimask: bool | None
    ) -> list[Masks]:
        """The masks of at most _PICTURES pictures."""
        wanted = [i for i, prompt in enumerate(asked) if not prompt.empty.all()]
        cells = dict(zip(wanted, self.embed([images[i] for i in wanted])))
        low = self.spec.low
        logits = [np.full((len(p.empty), low, low), -1.0, np.float32) for p in asked]
        scores = [np.zeros(len(p.empty), np.float32) for p in asked]
        groups: dict[Any, list[tuple[int, np.ndarray]]] = {}
        for i in wanted:
            prompt = asked[i]
            chosen = _is_ambiguous(prompt) if multimask is None else bool(multimask)
            kind = prompt.labels.shape[1], prompt.boxes is not None, prompt.masks is not None, chosen
            for objects in _powers_of_two(np.flatnonzero(~prompt.empty)):
                groups.setdefault((len(objects), *kind), []).append((i, objects))
        for (count, *_, chosen), rows in groups.items():
            inputs = [_row(cells[i], asked[i], objects) for i, objects in rows]
            batch = {name: np.stack([row[name] for row in inputs]) for name in inputs[0]}
            most = _OBJECTS // count * meshes.batch_shards(self._mesh)
            function = lambda *arrays, names=tuple(batch), chosen=chosen: self._segment(  # noqa: E731
                self.params, dict(zip(names, arrays)), multimask=chosen
            )
            for (i, objects), logit, score in zip(
                rows, *batching.run(function, tuple(batch.values()), self._mesh, most)
            ):
                logits[i][objects], scores[i][objects] = logit, score
        sizes = [image.shape[:2] for image in images]
        return [
            Masks(square.to_masks(logit, height, width, self.spec.image), score, logit)
            for (height, width), logit, score in zip(sizes, logits, scores)
        ]

    def _candidates(self, w: Params, batch: dict[str, jax.Array], multimask: bool) -> tuple[jax.Array, jax.Array]:
        return model.best(*model.segment(
            w, self.spec, batch["cells"], batch["points"], batch["labels"], batch.get("boxes"), batch.get("masks"),
            multimask,
        ))  # fmt: skip


def _row(cells: np.ndarray, prompt: object_prompts.Prompts, objects: np.ndarray) -> dict[str, np.ndarray]:
    row = {"cells": cells, "points": prompt.points[objects], "labels": prompt.labels[objects]}
    if prompt.boxes is not None:
        row["boxes"] = prompt.boxes[objects]
    if prompt.masks is not None:
        row["masks"] = prompt.masks[objects]
    return row


def _is_ambiguous(prompt: object_prompts.Prompts) -> bool:
    alone = prompt.boxes is None and prompt.masks is None
    return alone and bool(((prompt.labels >= 0).sum(1) == 1).all())


def _powers_of_two(objects: np.ndarray) -> list[np.ndarray]:
    """Cuts a list into parts of at most _OBJECTS whose lengths are powers of two: 21 -> 16, 4, 1."""
    parts, start = [], 0
    while start < len(objects):
        count = min(2 ** ((len(objects) - start).bit_length() - 1), _OBJECTS)
        parts.append(objects[start : start + count])
        start += count
    return parts


def _by_picture(count: int, boxes: Any, points: Any, labels: Any, masks: Any) -> list[tuple[Any, Any, Any, Any]]:
    given = {"boxes": boxes, "points": points, "labels": labels, "masks": masks}
    if boxes is None and points is None and masks is None:
        raise ValueError("expected boxes, points or masks that show the objects, got none of them")
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{name}: expected one set for each of the {count} pictures, got {len(values)}")
    return [tuple(None if values is None else values[i] for values in given.values()) for i in range(count)]


def open_checkpoint(checkpoint: HfCheckpoint, device_mesh: jax.sharding.Mesh, dtype: Any, **options: Any) -> Sam:
    """SAM from an opened folder of transformers; `options` as `Sam` takes them.

    Raises SpecError or WeightsError, as `spec.from_config` and `weights.load` do.
    """
    file = checkpoint.where / "preprocessor_config.json"
    colours = hf_checkpoint.read_json(file, "the sizes and colours of pictures") if file.is_file() else {}
    sizes = spec.from_config(checkpoint.config, colours)
    params = weights.load(checkpoint, sizes, meshes.replicated(device_mesh), dtype)
    return Sam(sizes, params, device_mesh, dtype, **options)
