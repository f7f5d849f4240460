"""Runs the specialists on pictures: each on each picture once, with a memory of what was found before."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from dtr1_jax import config
from dtr1_jax.specialists.embedding_cache import EmbeddingCache
from dtr1_jax.specialists.findings import DepthMap
from dtr1_jax.specialists.model_calls import Failed, each
from dtr1_jax.specialists.sightings import Sighting, of_detections
from dtr1_jax.specialists.toolbox import Toolbox

Pictures = Mapping[Hashable, np.ndarray]  # key of its content -> uint8[h, w, 3]
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Sized:
    """A value with its size in bytes, as the cache counts it."""

    value: Any
    nbytes: int


def sightings(
    tools: Toolbox, c: config.Specialists, pictures: Pictures, asked: Sequence[tuple[Hashable, tuple[str, ...]]],
    cache: EmbeddingCache,
) -> dict[tuple[Hashable, tuple[str, ...]], list[Sighting] | Failed]:  # fmt: skip
    """What the detector sees for each (key of a picture, phrases); for a detector with classes phrases are ().

    A picture is looked at once for each set of phrases, so that its objects depend on no other request.
    """
    options = {"threshold": c.threshold} if c.threshold > 0 else {}
    found, missing = _remembered("detect", asked, cache)
    name = tools.names.get("detector", "detector")

    def call(batch: list) -> list:
        images = [pictures[key] for key, _ in batch]
        phrases = [list(words) for _, words in batch]
        given = [phrases] if phrases[0] else []
        results = tools.detector.detect(images, *given, **options)
        sizes = [image.shape[:2] for image in images]
        return [of_detections(one, height, width, name) for one, (height, width) in zip(results, sizes, strict=True)]

    for item, seen in zip(missing, each(call, missing, c.batch)):
        found[item] = seen
        if not isinstance(seen, Failed):
            size = sum(200 + (one.mask.nbytes if one.mask is not None else 0) for one in seen)
            cache.put(("detect", item), Sized(seen, size))
    return found


def masks(
    tools: Toolbox, c: config.Specialists, pictures: Pictures, asked: Sequence[tuple[Hashable, Box]],
    cache: EmbeddingCache,
) -> dict[tuple[Hashable, Box], tuple[np.ndarray, float | None] | Failed]:  # fmt: skip
    """(mask bool[h, w], expected IoU or None) of each (key of a picture, box of the unit frame)."""
    found, missing = _remembered("segment", asked, cache)
    for item, bits in found.items():
        packed, score = bits
        height, width = pictures[item[0]].shape[:2]
        found[item] = np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool), score
    computed = _learned(tools, c, pictures, missing) if tools.segmenter is not None else {}
    if tools.segmenter is None and tools.grabcut is not None and missing:
        computed = dict(zip(missing, each(lambda batch: _grabcut(tools, pictures, batch), missing, len(missing))))
    for item, result in computed.items():
        found[item] = result
        if not isinstance(result, Failed):
            packed = np.packbits(result[0])
            cache.put(("segment", item), Sized((packed, result[1]), packed.nbytes))
    return found


def depths(
    tools: Toolbox, c: config.Specialists, pictures: Pictures, asked: Sequence[Hashable], cache: EmbeddingCache
) -> dict[Hashable, DepthMap | Failed]:
    """The depth of each picture by its key."""
    found, missing = _remembered("depth", asked, cache)

    def call(batch: list) -> list:
        maps = tools.depth.estimate([pictures[key] for key in batch])
        for key, one in zip(batch, maps, strict=True):
            if one.nearness.shape != pictures[key].shape[:2] or not np.isfinite(one.nearness).all():
                raise ValueError(f"expected finite depth of {pictures[key].shape[:2]}, got {one.nearness.shape}")
        return maps

    for key, one in zip(missing, each(call, missing, c.batch)):
        found[key] = one
        if not isinstance(one, Failed):
            cache.put(
                ("depth", key), Sized(one, one.nearness.nbytes + (0 if one.metres is None else one.metres.nbytes))
            )
    return found


def _remembered(op: str, asked: Sequence[Any], cache: EmbeddingCache) -> tuple[dict, list]:
    """(what the cache has, what it lacks), each once."""
    found, missing = {}, []
    for item in dict.fromkeys(asked):
        kept = cache.get((op, item))
        if kept is None:
            missing.append(item)
        else:
            found[item] = kept.value
    return found, missing


def _learned(
    tools: Toolbox, c: config.Specialists, pictures: Pictures, missing: Sequence[tuple[Hashable, Box]]
) -> dict:
    by_picture: dict[Hashable, list[Box]] = {}
    for key, box in missing:
        by_picture.setdefault(key, []).append(box)

    def call(batch: list) -> list:
        images = [pictures[key] for key in batch]
        boxes = [np.asarray(by_picture[key], np.float32) for key in batch]
        results = tools.segmenter.segment(images, boxes=boxes)
        for image, of_picture, one in zip(images, boxes, results, strict=True):
            if one.masks.shape != (len(of_picture), *image.shape[:2]) or len(one.scores) != len(of_picture):
                raise ValueError(f"expected {len(of_picture)} masks of {image.shape[:2]}, got {one.masks.shape}")
        return results

    computed: dict = {}
    for key, result in zip(by_picture, each(call, list(by_picture), c.batch)):
        for i, box in enumerate(by_picture[key]):
            if isinstance(result, Failed):
                computed[key, box] = result
            elif not result.masks[i].any():
                computed[key, box] = Failed("the mask is empty")
            else:
                score = float(result.scores[i])
                computed[key, box] = result.masks[i].astype(bool), score if np.isfinite(score) else None
    return computed


def _grabcut(tools: Toolbox, pictures: Pictures, batch: Sequence[tuple[Hashable, Box]]) -> list:
    found = tools.grabcut([pictures[key] for key, _ in batch], [np.array([box]) for _, box in batch])
    return [Failed("GrabCut took too long or crashed") if mask is None else (mask, None) for mask in found]
