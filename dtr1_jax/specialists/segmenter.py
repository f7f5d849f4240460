"""Masks from boxes, without learned weights.

GrabCut (Rother, Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts",
SIGGRAPH 2004) models the colours inside and outside the box by two mixtures and cuts between them. `Segmenter` runs it
for whole batches in worker processes with a deadline, so that no picture or box can hold up the run.
Boxes are x1,y1,x2,y2 in the unit frame. A model may have written them, so any numbers are accepted.
"""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Sequence

import cv2
import numpy as np

from dtr1_jax.run.worker_pool import Failure, Pool

# Chosen on annotated boxes. Mean IoU on TwinWorld's training scenes: 0.93 (plain GrabCut with 3 rounds
# and a margin of 0.5: 0.80, filled box: 0.56). On COCO photos: 0.59, no better than plain GrabCut or the filled box.
_SIDE = 96  # longest side of the patch around a box, pixels
_ENLARGE = 2  # most by which a small patch is enlarged, so that fewer thin parts are lost
_MARGIN = 0.15  # background around the box, as a share of its sides
_ROUNDS = 1
_BINS = 8  # of the colour histogram, for each channel
_SMOOTH = np.array([[0.25], [0.5], [0.25]])
_LEAST = 0.05  # share of the box below which a mask is rejected
_CACHE = 64 << 20  # bytes of masks

DESCRIPTIONS = {
    "grabcut": f"GrabCut (OpenCV {cv2.__version__}) from the answer's boxes; classical colour segmentation, no learned"
    " weights: poor on textures, thin parts and neighbours of the same colour, on photos hardly better than the box",
    "box": "the filled boxes of the answer; no segmentation",
}


def box_mask(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The pixels of a box as a mask, all False if the box is not finite or has no area.

    Args:
      image: uint8[h, w, 3].
      box: x1,y1,x2,y2, unit frame.

    Returns bool[h, w].
    """
    height, width = image.shape[:2]
    mask = np.zeros((height, width), bool)
    span = _span(box, height, width)
    if span is not None:
        y1, y2, x1, x2 = span
        mask[y1:y2, x1:x2] = True
    return mask


def grabcut(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Segments the object that fills a box; a pure function.

    Returns the filled box if its side has fewer than 3 pixels, there is no background around it, or the mask would be
    less than 5 % of it.

    Args:
      image: uint8[h, w, 3].
      box: x1,y1,x2,y2, unit frame.

    Returns bool[h, w].
    """
    patch = _patch_around(image, box)
    return box_mask(image, box) if patch is None else _paste(image, box, segment_patch(patch))


class Segmenter:
    """Masks of many boxes on many pictures: `segmenter(images, boxes)`.

    Attributes:
      description: the method and its limits, for reports.
      failures: {"timeouts": int, "crashes": int, "errors": int}, counted by box since the start.
    """

    def __init__(self, name: str, workers: int = 2, deadline: float = 2.0):
        """Starts the workers.

        Args:
          name: "grabcut" or "box".
          workers: number of processes; "box" needs none.
          deadline: seconds for one box.

        Raises ValueError: another name.
        """
        if name not in DESCRIPTIONS:
            raise ValueError(f'unknown segmenter "{name}" (known: {", ".join(DESCRIPTIONS)})')
        self.description = DESCRIPTIONS[name]
        self._pool = Pool(f"{__name__}:segment_patch", workers, deadline) if name == "grabcut" else None
        self._cache: collections.OrderedDict[tuple, np.ndarray] = collections.OrderedDict()
        self._cache_bytes = 0

    @property
    def failures(self) -> dict[str, int]:
        """How many masks failed so far, by cause."""
        return dict.fromkeys(("timeouts", "crashes", "errors"), 0) if self._pool is None else dict(self._pool.failures)

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Segments all boxes of each picture and joins their masks.

        Boxes are rounded to 4 decimals. The same box on the same picture is segmented once, in this call and later
        ones.

        Args:
          images: uint8[h, w, 3] each.
          boxes: float[n, 4] for each picture, unit frame.

        Returns bool[h, w] for each picture; None if one of its boxes failed. Raises ValueError if there are not as many
        pictures as sets of boxes.
        """
        if len(images) != len(boxes):
            raise ValueError(f"expected as many pictures as sets of boxes, got {len(images)} and {len(boxes)}")
        if self._pool is None:
            return [_union(image, [box_mask(image, b) for b in rows]) for image, rows in zip(images, boxes)]
        digests = {id(image): _digest(image) for image in {id(i): i for i in images}.values()}
        queries: dict[tuple, tuple[np.ndarray, tuple]] = {}  # key -> (picture, box)
        keys = []
        for image, rows in zip(images, boxes):
            rounded = [tuple(round(float(v), 4) for v in b) for b in rows]
            keys.append([(digests[id(image)], b) for b in rounded])
            queries.update(((digests[id(image)], b), (image, b)) for b in rounded)
        masks = self._masks(queries)
        return [
            None if any(masks[k] is None for k in image_keys) else _union(image, [masks[k] for k in image_keys])
            for image, image_keys in zip(images, keys)
        ]

    def _masks(self, queries: dict) -> dict:
        """key -> bool[h, w], or None if a worker failed; from the cache or the workers."""
        masks, patches = {}, {}
        for key, (image, box) in queries.items():
            if key in self._cache:
                self._cache.move_to_end(key)
                height, width = image.shape[:2]
                masks[key] = np.unpackbits(self._cache[key], count=height * width).reshape(height, width).astype(bool)
            elif (patch := _patch_around(image, box)) is None:
                masks[key] = box_mask(image, box)
            else:
                patches[key] = patch
        for key, result in zip(patches, self._pool.map(list(patches.values()))):
            image, box = queries[key]
            masks[key] = None if isinstance(result, Failure) else _paste(image, box, result)
            if masks[key] is not None:
                self._remember(key, np.packbits(masks[key]))
        return masks

    def _remember(self, key: tuple, bits: np.ndarray) -> None:
        self._cache[key] = bits
        self._cache_bytes += bits.nbytes
        while self._cache_bytes > _CACHE:
            self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def segment_patch(patch: tuple[np.ndarray, Sequence[int]]) -> np.ndarray:
    """Runs GrabCut on a patch; the function that the workers run.

    Args:
      patch: (uint8[h, w, 3], [y1, y2, x1, x2] of the box in it, pixels).

    Returns bool[h, w].
    """
    pixels, (y1, y2, x1, x2) = patch
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)  # the mixtures start from a random k-means
    inside = np.zeros(pixels.shape[:2], bool)
    inside[y1:y2, x1:x2] = True
    colours = _colours(pixels)
    likely = inside & _stands_out(colours, inside)
    if likely.sum() < _LEAST * inside.sum():
        likely = inside
    seeds = np.where(likely, cv2.GC_PR_FGD, np.where(inside, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    cv2.grabCut(colours, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3], the HSV cylinder in Cartesian axes: shading changes one axis only, and hue does not wrap."""
    hue, saturation, value = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    angle = hue * (np.pi / 90)  # OpenCV counts hue in steps of 2 degrees
    axes = 127.5 + 0.5 * saturation * np.cos(angle), 127.5 + 0.5 * saturation * np.sin(angle), value
    return np.stack(axes, axis=-1).astype(np.uint8)


def _stands_out(colours: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """bool[h, w], True if the share of a pixel's colour inside the box is at least its share around the box."""
    r, g, b = np.moveaxis(colours.astype(np.int32) * _BINS >> 8, -1, 0)
    bins = (r * _BINS + g) * _BINS + b

    def share(region: np.ndarray) -> np.ndarray:
        counts = (np.bincount(bins[region], minlength=_BINS**3) / region.sum()).reshape((_BINS,) * 3)
        for _ in range(3):  # a pass smooths the first axis and moves it to the end; three passes smooth all
            counts = cv2.filter2D(counts.reshape(_BINS, -1), -1, _SMOOTH, borderType=cv2.BORDER_CONSTANT)
            counts = counts.reshape((_BINS,) * 3).transpose(1, 2, 0)
        return counts.ravel()

    return (share(inside) >= share(~inside))[bins]


def _span(box: Sequence[float], height: int, width: int) -> tuple[int, int, int, int] | None:
    """Pixel rows and columns y1, y2, x1, x2 of a unit box (ends excluded, at least one pixel), or None without area."""
    if not all(math.isfinite(v) for v in box):
        return None
    x1, y1, x2, y2 = (min(max(float(v), 0.0), 1.0) for v in box)
    if x1 >= x2 or y1 >= y2:
        return None
    left, top = min(round(x1 * width), width - 1), min(round(y1 * height), height - 1)
    return top, max(round(y2 * height), top + 1), left, max(round(x2 * width), left + 1)


def _window(span: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """Rows and columns of a box with its margin, clipped to the picture."""
    y1, y2, x1, x2 = span
    dy, dx = math.ceil((y2 - y1) * _MARGIN), math.ceil((x2 - x1) * _MARGIN)
    return max(y1 - dy, 0), min(y2 + dy, height), max(x1 - dx, 0), min(x2 + dx, width)


def _patch_around(image: np.ndarray, box: Sequence[float]) -> tuple[np.ndarray, list[int]] | None:
    """The patch around a box, as `segment_patch` takes it; None if GrabCut has no object or no background."""
    span = _span(box, *image.shape[:2])
    if span is None:
        return None
    top, bottom, left, right = _window(span, *image.shape[:2])
    patch = image[top:bottom, left:right]
    scale = min(_ENLARGE, _SIDE / max(patch.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in patch.shape[:2])
    patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
    y1, y2, x1, x2 = (round((edge - start) * scale) for edge, start in zip(span, (top, top, left, left)))
    area = (y2 - y1) * (x2 - x1)
    if min(y2 - y1, x2 - x1) < 3 or area >= patch.shape[0] * patch.shape[1]:
        return None
    return patch, [y1, y2, x1, x2]


def _paste(image: np.ndarray, box: Sequence[float], patch_mask: np.ndarray) -> np.ndarray:
    """The mask of a patch as bool[h, w] of the picture, clipped to the box; the filled box if less than _LEAST of it
    remains."""
    span = _span(box, *image.shape[:2])
    top, bottom, left, right = _window(span, *image.shape[:2])
    shrinks = patch_mask.shape[0] > bottom - top
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    large = cv2.resize(patch_mask.astype(np.float32), (right - left, bottom - top), interpolation=interpolation) > 0.5
    filled = box_mask(image, box)
    mask = np.zeros_like(filled)
    mask[top:bottom, left:right] = large
    mask &= filled
    return mask if mask.sum() >= _LEAST * filled.sum() else filled


def _union(image: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    return np.any(masks, axis=0) if masks else np.zeros(image.shape[:2], bool)


def _digest(image: np.ndarray) -> tuple:
    return image.shape, hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
