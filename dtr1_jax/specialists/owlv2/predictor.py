"""OWLv2 as a user calls it: detection by phrases and by examples, on pictures of any size."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from scipy.special import expit

from dtr1_jax import mesh as meshes
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import batching, pictures, tensors
from dtr1_jax.specialists.embedding_cache import EmbeddingCache, content_key
from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.owlv2 import (
    detected_boxes,
    model,
    padded_square,
    phrase_lists,
    phrase_tokens,
    query_choice,
    spec,
    weights,
)
from dtr1_jax.specialists.owlv2.phrase_tokens import PhraseTokenizer

_PHRASE_CACHE = 32 << 20  # bytes; 16,000 phrases of the base model
_PHRASE_BATCH = 64
_PHRASES_AT_ONCE = 512  # phrases of a picture that are scored together
_OF_LOGITS = "embeds", "shift", "scale"
Row = dict[str, np.ndarray]  # a picture's row of model.embed_pictures
LIKE = "like the query"  # label of what `detect_like` finds


@dataclasses.dataclass(frozen=True)
class PhraseScores:
    """All that OWLv2 says about one picture, for each of its P patches.

    Attributes:
      boxes: float32[P, 4], unit frame, clipped to the picture; a box in the padding has no area.
      logits: float32[P, q], of each phrase; the sigmoid is the score of `detect`.
      objectness: float32[P] in [0, 1], how likely the box holds any object.
    """

    boxes: np.ndarray
    logits: np.ndarray
    objectness: np.ndarray


def open_checkpoint(
    checkpoint: HfCheckpoint,
    device_mesh: jax.sharding.Mesh,
    dtype: Any,
    *,
    batch: int = 4,
    cache_bytes: int = 512 << 20,
) -> Owlv2:
    """Loads `google/owlv2-*`.

    Args:
      checkpoint: the opened folder.
      device_mesh: the devices; pictures of a batch are cut over them.
      dtype: jnp.float32 or jnp.bfloat16.
      batch: pictures that the model sees at once.
      cache_bytes: bound on the embeddings of pictures that are kept on the host; a picture of the base model takes
        7.5 MB. 0 = none are kept.

    Raises SpecError or WeightsError if the files do not fit together, and ValueError for a bad option.
    """
    if batch < 1 or cache_bytes < 0:
        raise ValueError(f"expected batch >= 1 and cache_bytes >= 0, got {batch} and {cache_bytes}")
    found = spec.read(checkpoint.where, checkpoint.config)
    tokenizer = phrase_tokens.load(checkpoint.where, found)
    place = meshes.replicated(device_mesh)
    params = tensors.load_params(checkpoint, weights.shapes(found), place, dtype, ignored=weights.IGNORED)
    return Owlv2(found, params, tokenizer, device_mesh, batch, EmbeddingCache(cache_bytes))


class Owlv2:
    """Finds objects by phrases (`detect`, `score`) or by an example (`detect_like`).

    Pictures are as `pictures.checked` takes them: uint8[h, w, 3] (or floats in [0, 1], grey, RGBA) of any sizes, alone,
    as a batch or in a list. What the model computes of a picture is kept and used again for an equal picture, and so
    are the embeddings of phrases. Phrases such as "a photo of a cat" serve the published weights best; they are read in
    lower case. The weights know English; other scripts are read byte by byte and seldom find anything.

    Attributes:
      spec: the sizes of the model.
      params: its weights, by their names in the checkpoint.
      cache: what the model computed of pictures; `cache.hits` and `cache.misses` count.
    """

    def __init__(
        self, model_spec: spec.Owlv2Spec, params: tensors.Params, tokenizer: PhraseTokenizer,
        device_mesh: jax.sharding.Mesh, batch: int, cache: EmbeddingCache,
    ):  # fmt: skip
        """As `open_checkpoint` calls it."""
        self.spec, self.params, self.cache = model_spec, params, cache
        self._tokenizer, self._mesh, self._batch = tokenizer, device_mesh, batch
        self._phrases = EmbeddingCache(_PHRASE_CACHE)
        place = meshes.batch(device_mesh)

        def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
            return jax.jit(function, out_shardings=place)

        encode = jitted(lambda w, pixel_bhwc: model.embed_pictures(w, model_spec, pixel_bhwc))
        self._embed_pictures = functools.partial(encode, params)
        encode = jitted(lambda w, token_nl: model.embed_phrases(w, model_spec, token_nl))
        self._embed_phrases = functools.partial(encode, params)
        self._best, self._logits = jitted(model.best_queries), jitted(model.logits)
        self._most_objectlike, self._in_box = jitted(query_choice.most_objectlike), jitted(query_choice.in_box)

    def detect(
        self, images: Any, phrases: Sequence[str] | Sequence[Sequence[str]], threshold: float = 0.1,
        nms: float | None = None, most: int | None = None,
    ) -> list[Detections]:  # fmt: skip
        """Finds the objects that phrases describe.

        Each patch of a picture has one box, and its label is the phrase that fits best. The defaults are those of
        transformers' `post_process_grounded_object_detection`. Boxes are clipped to the picture, and boxes that lie in
        the padding beside it are left out.

        Args:
          images: the pictures.
          phrases: one list for all pictures, or a list for each picture.
          threshold: scores in [0, 1] must be above it.
          nms: IoU above which the box with the lower score is dropped, whatever the phrases; None = all are kept.
          most: number of detections of a picture, the best first; None = all.

        Returns the detections of each picture, best score first, with their objectness.

        Raises ValueError: no phrases, an empty phrase, not as many lists as pictures, or a bad option.
        """
        detected_boxes.check_options(threshold, nms, most)
        found = []
        for images_b, lists, rows, table in self._parts(images, phrases):
            logit_bp, index_bp = self._best_of(rows, *phrase_lists.padded(lists, table))
            for image, asked, row, logit_p, index_p in zip(images_b, lists, rows, logit_bp, index_bp):
                labels = [asked[i] for i in index_p]
                size = image.shape[:2]
                found.append(detected_boxes.by_phrases(row, logit_p, labels, size, threshold, nms, most))
        return found

    def score(self, images: Any, phrases: Sequence[str] | Sequence[Sequence[str]]) -> list[PhraseScores]:
        """The boxes of all patches with the logits of every phrase, and their objectness.

        Args and errors are those of `detect`.
        """
        found = []
        for images_b, lists, rows, table in self._parts(images, phrases):
            query_bqd, _ = phrase_lists.padded(lists, table)
            logit_bpq = self._run(self._logits, *_stacked(rows, *_OF_LOGITS), query_bqd)
            for image, asked, row, logit_pq in zip(images_b, lists, rows, logit_bpq):
                boxes = padded_square.picture_corners(row["boxes"], *image.shape[:2])
                found.append(PhraseScores(boxes, logit_pq[:, : len(asked)], expit(row["objectness"])))
        return found

    def detect_like(
        self, images: Any, query_images: Any, query_boxes: Any = None, threshold: float = 0.0,
        nms: float | None = 0.3, most: int | None = None,
    ) -> list[Detections]:  # fmt: skip
        """Finds the objects that look like one object in another picture.

        The defaults are those of transformers' `post_process_image_guided_detection`, which keeps boxes with a score
        above a tenth of the picture's best. The scores here are the sigmoids of the logits, not those that it scales
        for display.

        Args:
          images: the pictures.
          query_images: one picture for all, or a picture for each.
          query_boxes: float[n, 4], the box of the object in each query picture, x1,y1,x2,y2 in its unit frame; None =
            the patch with the largest objectness describes the object, as in transformers.
          threshold: least score in [0, 1].
          nms, most: as in `detect`.

        Returns the detections of each picture, best score first, all with the label LIKE.

        Raises ValueError: another number of query pictures or boxes, a box without area in its picture, or a bad
        option.
        """
        detected_boxes.check_options(threshold, nms, most)
        targets, examples = pictures.checked(images), pictures.checked(query_images)
        if len(examples) not in (1, len(targets)):
            raise ValueError(f"expected one query picture, or one for each of {len(targets)}, got {len(examples)}")
        query_n1d = self._example_embeddings(examples, query_boxes)
        if len(examples) != len(targets):
            query_n1d = np.repeat(query_n1d, len(targets), axis=0)
        found = []
        for start in range(0, len(targets), self._batch):
            images_b = targets[start : start + self._batch]
            rows = self._rows(images_b)
            logit_bpq = self._run(self._logits, *_stacked(rows, *_OF_LOGITS), query_n1d[start : start + len(rows)])
            for image, row, logit_p1 in zip(images_b, rows, logit_bpq):
                size = image.shape[:2]
                found.append(detected_boxes.by_example(row, logit_p1[:, 0], LIKE, size, threshold, nms, most))
        return found

    def _example_embeddings(self, examples: list[np.ndarray], query_boxes: Any) -> np.ndarray:
        """float32[n, 1, d], the query of each example picture."""
        boxes = None if query_boxes is None else detected_boxes.checked_boxes(query_boxes, len(examples))
        queries = []
        for start in range(0, len(examples), self._batch):
            images_b = examples[start : start + self._batch]
            rows = self._rows(images_b)
            if boxes is None:
                patch_b = self._run(self._most_objectlike, *_stacked(rows, "objectness"))
            else:
                inside = [padded_square.square_corners(b, *i.shape[:2]) for b, i in zip(boxes[start:], images_b)]
                patch_b = self._run(self._in_box, *_stacked(rows, "embeds", "boxes"), np.stack(inside))
            queries += [row["embeds"][patch][None] for row, patch in zip(rows, patch_b)]
        return np.stack(queries) if queries else np.zeros((0, 1, self.spec.text.width), np.float32)

    def _parts(self, images: Any, phrases: Any) -> Iterator[tuple[list, list, list[Row], dict[str, np.ndarray]]]:
        """Batches of pictures with their phrases, their rows of embeddings, and the embeddings of all phrases."""
        checked = pictures.checked(images)
        lists = phrase_lists.per_picture(phrases, len(checked))
        table = self._phrase_table(lists)
        for start in range(0, len(checked), self._batch):
            end = start + self._batch
            yield checked[start:end], lists[start:end], self._rows(checked[start:end]), table

    def _phrase_table(self, lists: list) -> dict[str, np.ndarray]:
        """The embedding of every phrase in the lists, float32[d]."""
        unique = list(dict.fromkeys(phrase for asked in {id(a): a for a in lists}.values() for phrase in asked))
        table = {phrase: self._phrases.get(phrase) for phrase in unique}
        new = [phrase for phrase, embed in table.items() if embed is None]
        if new:
            embed_nd = batching.run(self._embed_phrases, (self._tokenizer.encode(new),), self._mesh, _PHRASE_BATCH)
            for phrase, embed_d in zip(new, embed_nd):
                table[phrase] = embed_d.copy()  # a view would hold the whole batch in memory
                self._phrases.put(phrase, table[phrase])
        return table

    def _rows(self, images: list[np.ndarray]) -> list[Row]:
        """The embeddings of each picture, from the cache or the model."""
        keys = [content_key(image) for image in images]
        rows = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        new = {key: image for key, image in zip(keys, images) if rows[key] is None}
        if new:
            pixels = np.stack([padded_square.prepared(image, self.spec) for image in new.values()])
            batch = self._run(self._embed_pictures, pixels)
            for i, key in enumerate(new):
                rows[key] = {name: array[i].copy() for name, array in batch.items()}
                self.cache.put(key, rows[key])
        return [rows[key] for key in keys]

    def _best_of(self, rows: list[Row], query_bqd: np.ndarray, mask_bq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`model.best_queries` over _PHRASES_AT_ONCE queries at a time."""
        arrays = _stacked(rows, *_OF_LOGITS)
        best, index = self._run(self._best, *arrays, query_bqd[:, :_PHRASES_AT_ONCE], mask_bq[:, :_PHRASES_AT_ONCE])
        for start in range(_PHRASES_AT_ONCE, query_bqd.shape[1], _PHRASES_AT_ONCE):
            part = slice(start, start + _PHRASES_AT_ONCE)
            logit, place = self._run(self._best, *arrays, query_bqd[:, part], mask_bq[:, part])
            best, index = np.maximum(best, logit), np.where(logit > best, place + start, index)
        return best, index

    def _run(self, function: Callable[..., Any], *rows: np.ndarray) -> Any:
        return batching.run(function, rows, self._mesh, self._batch)


def _stacked(rows: list[Row], *names: str) -> list[np.ndarray]:
    return [np.stack([row[name] for row in rows]) for name in names]
