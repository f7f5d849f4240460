"""SAM 2.1 as a user gets it: `segment` on pictures, `track` on videos."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint
from dtr1_jax.specialists import pictures
from dtr1_jax.specialists.batching import padded_count
from dtr1_jax.specialists.embedding_cache import EmbeddingCache, content_key
from dtr1_jax.specialists.findings import Masks, TrackedMasks
from dtr1_jax.specialists.sam2 import (
    model,
    picture_input,
    picture_prompts,
    tracking,
    two_way_decoder,
    video_prompts,
    video_tracker,
    weights,
)
from dtr1_jax.specialists.sam2.mask_sizes import at_picture_size
from dtr1_jax.specialists.sam2.spec import Sam2Spec, from_config
from dtr1_jax.specialists.sam2.video_prompts import Prompt
from dtr1_jax.specialists.tensors import Params


def open_checkpoint(
    checkpoint: HfCheckpoint, device_mesh: jax.sharding.Mesh, dtype: Any, *, batch: int = 4, objects: int = 32,
    cache_bytes: int = 512 << 20,
) -> Sam2:  # fmt: skip
    """Reads a checkpoint of `sam2` (pictures) or `sam2_video` (pictures and videos; all published ones).

    Args:
      checkpoint: the opened folder.
      device_mesh: the devices; pictures and tracked objects are cut over its batch axes.
      dtype: in which the model computes.
      batch: most pictures or frames that one device encodes at a time.
      objects: most objects of one picture in one call of the mask decoder; it is rounded up to a power of two.
      cache_bytes: most bytes of feature maps of pictures that stay on the devices; 4 million numbers for each picture
        at the published size.

    Raises SpecError and WeightsError: the files do not fit.
    """
    spec = from_config(checkpoint.config)
    rules = picture_input.read(checkpoint.where, spec.image_size)
    params = weights.load(checkpoint, spec, meshes.replicated(device_mesh), dtype)
    return Sam2(spec, rules, params, device_mesh, batch, objects, cache_bytes)


class Sam2:
    """Segments objects on pictures and tracks them through videos.

    Every method takes pictures as specialists.pictures.checked documents them. A picture is resized to one square size
    (1024 pixels) without keeping its aspect; results have the picture's own size. Programs are compiled for a bounded
    number of shapes: numbers of pictures, objects and points are padded to powers of two, and padding changes nothing.

    Attributes:
      spec: sizes.
      cache: the feature maps of pictures by their content.
    """

    def __init__(
        self, spec: Sam2Spec, rules: picture_input.PictureInput, params: Params, device_mesh: jax.sharding.Mesh,
        batch: int, objects: int, cache_bytes: int,
    ):  # fmt: skip
        self.spec, self.cache = spec, EmbeddingCache(cache_bytes)
        self._rules, self._params, self._mesh = rules, params, device_mesh
        self._batch, self._objects = batch, padded_count(objects)
        everywhere, rows = meshes.replicated(device_mesh), meshes.batch(device_mesh)
        self._embed = jax.jit(lambda w, pixels: model.embed(w, spec, rules, pixels))
        # Feature maps stay on the devices; each picture's are kept apart, so that the cache can let one go.
        self._apart = jax.jit(_apart, out_shardings=everywhere)
        self._together = jax.jit(lambda parts: jax.tree.map(lambda *x: jnp.concatenate(x), *parts), out_shardings=rows)
        self._segment = jax.jit(functools.partial(_segmented, spec))
        self._advance = jax.jit(lambda w, f, bank, step: tracking.advance(w, spec, f, bank, step))

    def preprocess(self, images: Any) -> np.ndarray:
        """uint8[B, S, S, 3]: the pictures as the model reads them, before the colours are normalised on the device."""
        return self._rules.resized(pictures.checked(images))

    def segment(
        self, images: Any, boxes: Sequence[Any] | None = None, points: Sequence[Any] | None = None,
        labels: Sequence[Any] | None = None, masks: Sequence[Any] | None = None, multimask: bool | None = None,
    ) -> list[Masks]:  # fmt: skip
        """Masks of any number of objects on each picture.

        Each picture is encoded once; its feature maps are cached by its content. Prompts that are given together belong
        together: object i of a picture has box i, the points of row i and mask i.

        Args:
          images: pictures.
          boxes: for each picture float[n, 4], x1,y1,x2,y2 in the unit frame. Parts outside the picture are cut off. A
            box that is not finite or has no area inside the picture gets an empty mask with score 0.
          points: for each picture n objects with float[p, 2] each, x and y in the unit frame.
          labels: for each picture n objects with p numbers each: 1 = on the object, 0 = not on it, -1 = no point,
            which fills the rows of objects with fewer points; None = all on it.
          masks: for each picture n masks [h, w]: logits, such as Masks.logits, or bool. They are hints, not
            results, and may have any size.
          multimask: True = predict several masks and take the one with the highest expected IoU, which suits a single
            point; False = predict one mask; None = True for objects with one point and no box.

        Returns the masks of each picture, in the order of its prompts; none for a picture without prompts. Raises
        ValueError: no prompts at all, other numbers of pictures or objects, or a prompt that has no meaning.
        """
        checked = pictures.checked(images)
        asked = picture_prompts.checked(len(checked), boxes, points, labels, masks, self.spec.mask_size)
        results = []
        step = self._batch * meshes.batch_shards(self._mesh)
        for start in range(0, len(checked), step):
            some, prompts = checked[start : start + step], asked[start : start + step]
            features = self._features([image if p.rows else None for image, p in zip(some, prompts)])
            results += self._decoded(some, features, prompts, multimask)
        return results

    def track(
        self, frames: Iterable[np.ndarray], prompts: Sequence[Prompt], *, feed_previous: bool = True,
        corrections_condition: bool = False, remember: bool = False,
    ) -> Iterator[TrackedMasks]:  # fmt: skip
        """Masks of objects on every frame of a video, one frame after another.

        Frames are taken from `frames` and encoded in small batches, and an object keeps the memories of its
        conditioning frames, of the few last frames (num_maskmem - 1) and the pointers of the last 15: memory does not
        grow with the length of the video, and `frames` may be a generator. To track backwards, pass the frames in
        reverse order and number the prompts accordingly. An object has an empty mask before its first prompt.

        A prompt on a later frame corrects the track, see Prompt. As in the reference, the result depends on the length
        of a video that is shorter than 16 frames, which is known only if `frames` has a length.

        Args:
          frames: pictures of one size.
          prompts: at least one, with frames numbered from 0.
          feed_previous: whether the mask that tracking found on a frame goes, with the correcting points, into the mask
            decoder. SAM 2 does so; transformers does not.
          corrections_condition: whether a corrected frame is remembered for the rest of the video, like the frame of
            the first prompt, or like any other frame, for as long as the memory reaches.
          remember: whether feature maps of frames are taken from `cache` and kept there, for several calls about the
            same frames. With False, no frame stays on the devices.

        Returns an iterator over the frames. Raises ValueError at once: a model of pictures only, or a prompt without
        meaning; and while it runs: a frame of another size, or a video that ends before a prompt.
        """
        if self.spec.memory is None:
            raise ValueError(
                "this checkpoint has no video memory (model_type sam2); for track load a checkpoint with model_type "
                "sam2_video, such as facebook/sam2.1-hiera-tiny"
            )
        length = len(frames) if isinstance(frames, Sized) else None
        named = video_prompts.checked(prompts, length)
        places = video_prompts.places_needed([video_prompts.points_of(p) for p in prompts])
        tracker = video_tracker.Tracker(
            self.spec, self._mesh, functools.partial(self._advance, self._params), named, length, places,
            self._objects, feed_previous, corrections_condition,
        )  # fmt: skip
        encode = self._features if remember else self._encode
        return video_tracker.tracked(tracker, self._encoded(frames, min(tracker.prompts), max(tracker.prompts), encode))

    def _encoded(
        self, frames: Iterable[np.ndarray], first: int, last: int, encode: Callable[[list], list]
    ) -> Iterator[tuple[tuple[int, int], model.Features | None]]:  # fmt: skip
        """The size and the feature maps of each frame; no maps before the first prompt."""
        window: list[np.ndarray] = []
        size, count, full = None, 0, self._batch * meshes.batch_shards(self._mesh)
        for index, frame in enumerate(frames):
            image = pictures.checked([frame])[0]
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise ValueError(
                    f"frame {index}: expected {size[0]} x {size[1]} pixels as frame 0 has, got "
                    f"{image.shape[0]} x {image.shape[1]}"
                )
            count += 1
            if index < first:
                yield size, None
                continue
            window.append(image)
            if len(window) == full:
                yield from ((size, maps) for maps in encode(window))
                window = []
        yield from ((size, maps) for maps in encode(window))
        if count <= last:
            raise ValueError(f"a prompt is on frame {last}, but the video has {count} frames")

    def _encode(self, images: list[np.ndarray]) -> list[model.Features]:
        """The feature maps of each picture, on the devices."""
        if not images:
            return []
        pixels = self._rules.resized(images)
        fill = padded_count(len(images), meshes.batch_shards(self._mesh)) - len(images)
        pixels = np.concatenate([pixels, np.repeat(pixels[:1], fill, axis=0)])
        return self._apart(self._embed(self._params, meshes.put_batch(self._mesh, pixels)))[: len(images)]

    def _features(self, images: list[np.ndarray | None]) -> list[model.Features | None]:
        """The feature maps of each picture, from the cache or computed; None stays None."""
        keys = [None if image is None else content_key(image) for image in images]
        found = {key: self.cache.get(key) for key in dict.fromkeys(keys) if key is not None}
        missing = [key for key, value in found.items() if value is None]
        for key, maps in zip(missing, self._encode([images[keys.index(key)] for key in missing])):
            found[key] = maps
            self.cache.put(key, maps)
        return [found.get(key) for key in keys]

    def _decoded(
        self, images: list[np.ndarray], features: list[model.Features | None],
        prompts: list[picture_prompts.PicturePrompts], multimask: bool | None,
    ) -> list[Masks]:  # fmt: skip
        """The masks of each picture; objects of one picture go in chunks of at most `objects`."""
        chunks = [
            (picture, rows[start : start + self._objects])
            for picture, rows in enumerate(prompt.rows for prompt in prompts)
            for start in range(0, len(rows), self._objects)
        ]
        masks = [np.zeros((p.count, *image.shape[:2]), bool) for p, image in zip(prompts, images)]
        scores = [np.zeros(p.count, np.float32) for p in prompts]
        low = [np.full((p.count, *[self.spec.mask_size] * 2), tracking.HIDDEN, np.float32) for p in prompts]
        shards = meshes.batch_shards(self._mesh)
        padded = padded_count(max((len(rows) for _, rows in chunks), default=1))
        most = max(1, 2 * self._objects // padded) * shards
        for start in range(0, len(chunks), most):
            some = chunks[start : start + most]
            some += some[:1] * (padded_count(len(some), shards) - len(some))
            maps = self._together([features[picture] for picture, _ in some])
            arrays = picture_prompts.arrays([rows for _, rows in some], padded, self.spec, multimask)
            out = self._segment(self._params, maps, *meshes.put_batch(self._mesh, arrays))
            logits, ious = np.asarray(out.logits), np.asarray(out.ious)
            for row, (picture, rows) in enumerate(chunks[start : start + most]):
                height, width = images[picture].shape[:2]
                for column, prompt in enumerate(rows):
                    masks[picture][prompt.index] = at_picture_size(logits[row, column], height, width)
                    scores[picture][prompt.index] = ious[row, column]
                    low[picture][prompt.index] = logits[row, column]
        return [Masks(*parts) for parts in zip(masks, scores, low)]


def _apart(features: model.Features) -> list[model.Features]:
    """The feature maps of each picture of a batch."""
    return [jax.tree.map(operator.itemgetter(slice(i, i + 1)), features) for i in range(len(features.coarse))]


def _segmented(
    spec: Sam2Spec, w: Params, features: model.Features, points: jax.Array, labels: jax.Array, several: jax.Array,
    masks: model.MaskPrompts | None,
) -> two_way_decoder.Candidates:  # fmt: skip
    """The chosen mask of each object, without its tokens."""
    found = two_way_decoder.choose(spec.decoder, model.segment(w, spec, features, points, labels, masks), several)
    return two_way_decoder.Candidates(found.logits.astype(jnp.float32), found.ious, None, found.present)
