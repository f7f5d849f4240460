"""From a box to a mask, without learned weights.

GrabCut (Rother, Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts",
SIGGRAPH 2004) models the colours inside and outside the box by two mixtures and cuts between them. `Segmenter` runs it
for whole batches in worker processes with a deadline, so that no picture or box can hold up the run.
Boxes are unit frame x1,y1,x2,y2; they may come from a model and so may be anything.
"""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Sequence

import cv2
import numpy as np

from dtr1_jax.run.workers import Failure, Pool

# Chosen on boxes of the annotation. Mean IoU on TwinWorld's training scenes 0.93 (plain GrabCut with 3 rounds and a
# margin of 0.5: 0.80, filled box: 0.56); on COCO photos 0.59, no better than plain GrabCut or the filled box.
_SIDE = 96  # longest side of the patch that is cut, pixels
_ENLARGE = 2  # small patches are enlarged by at most this: the cut is less eager to shave off thin parts
_MARGIN = 0.15  # background around the box, in sides of the box
_ROUNDS = 1
_BINS = 8  # of the colour histogram, for each channel
_SMOOTH = np.array([[0.25], [0.5], [0.25]])
_LEAST = 0.05  # share of the box below which a cut is not believed
_CACHE = 64 << 20  # bytes of masks that are remembered

DESCRIPTIONS = {
    "grabcut": f"GrabCut (OpenCV {cv2.__version__}) from the answer's boxes; classical colour segmentation, no learned"
    " weights: poor on textures, thin parts and neighbours of the same colour, on photos hardly better than the box",
    "box": "the filled boxes of the answer; no segmentation",
}


def box(image: np.ndarray, box_unit: Sequence[float]) -> np.ndarray:
    """bool[h, w], the pixels of a box on uint8[h, w, 3]. Nothing where the box is not finite or has no area."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), bool)
    span = _span(box_unit, height, width)
    if span is not None:
        y1, y2, x1, x2 = span
        mask[y1:y2, x1:x2] = True
    return mask


def grabcut(image: np.ndarray, box_unit: Sequence[float]) -> np.ndarray:
    """bool[h, w], the object that fills the box on uint8[h, w, 3]; a pure function.

    Falls back to the filled box where there is nothing to cut: fewer than 3 pixels a side, no background around, or
    a cut that leaves less than 5 % of the box.
    """
    cut = _cut(image, box_unit)
    return box(image, box_unit) if cut is None else _paste(image, box_unit, solve(cut))


class Segmenter:
    """Masks of many boxes on many pictures: `segmenter(images, boxes)`.

    Attributes:
      description: the method and its limits, for reports.
      failures: {"timeouts": int, "crashes": int, "errors": int} over its life, counted by box.
    """

    def __init__(self, name: str, workers: int = 2, deadline: float = 2.0):
        """`name` is "grabcut" or "box"; `workers` processes; `deadline` in seconds for one box. Raises ValueError."""
        if name not in DESCRIPTIONS:
            raise ValueError(f'unknown segmenter "{name}" (known: {", ".join(DESCRIPTIONS)})')
        self.description = DESCRIPTIONS[name]
        self._pool = Pool(f"{__name__}:solve", workers, deadline) if name == "grabcut" else None
        self._cache: collections.OrderedDict[tuple, np.ndarray] = collections.OrderedDict()
        self._cached = 0

    @property
    def failures(self) -> dict[str, int]:
        """How many masks were lost so far, by cause."""
        return dict.fromkeys(("timeouts", "crashes", "errors"), 0) if self._pool is None else dict(self._pool.failures)

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Union masks bool[h, w] of the boxes float[n, 4] of each picture uint8[h, w, 3]; None where one failed.

        The same box on the same picture is cut once, here and in later calls (boxes count as the same up to 1e-4).
        """
        if len(images) != len(boxes):
            raise ValueError(f"expected as many pictures as sets of boxes, got {len(images)} and {len(boxes)}")
        if self._pool is None:
            return [_union(image, [box(image, b) for b in set_]) for image, set_ in zip(images, boxes)]
        digests = {id(image): _digest(image) for image in {id(i): i for i in images}.values()}
        wanted: dict[tuple, tuple[np.ndarray, tuple]] = {}
        keys = []
        for image, set_ in zip(images, boxes):
            rounded = [tuple(round(float(v), 4) for v in b) for b in set_]
            keys.append([(digests[id(image)], b) for b in rounded])
            wanted.update(((digests[id(image)], b), (image, b)) for b in rounded)
        masks = self._masks(wanted)
        return [
            None if any(masks[k] is None for k in group) else _union(image, [masks[k] for k in group])
            for image, group in zip(images, keys)
        ]

    def _masks(self, wanted: dict) -> dict:
        """key -> bool[h, w], or None where it failed; from the cache, or by the workers."""
        masks, cuts = {}, {}
        for key, (image, b) in wanted.items():
            if key in self._cache:
                self._cache.move_to_end(key)
                height, width = image.shape[:2]
                masks[key] = np.unpackbits(self._cache[key], count=height * width).reshape(height, width).astype(bool)
            elif (cut := _cut(image, b)) is None:
                masks[key] = box(image, b)
            else:
                cuts[key] = cut
        for key, result in zip(cuts, self._pool.map(list(cuts.values()))):
            masks[key] = None if isinstance(result, Failure) else _paste(*wanted[key], result)
            if masks[key] is not None:
                self._remember(key, np.packbits(masks[key]))
        return masks

    def _remember(self, key: tuple, bits: np.ndarray) -> None:
        self._cache[key] = bits
        self._cached += bits.nbytes
        while self._cached > _CACHE:
            self._cached -= self._cache.popitem(last=False)[1].nbytes

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def solve(cut: Sequence) -> np.ndarray:
    """The work of a worker: bool[h, w] on a patch (uint8[h, w, 3], [y1, y2, x1, x2] of the box in it, pixels)."""
    patch, (y1, y2, x1, x2) = cut
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)  # the mixtures start from a random k-means
    inside = np.zeros(patch.shape[:2], bool)
    inside[y1:y2, x1:x2] = True
    colours = _colours(patch)
    likely = inside & _stands_out(colours, inside)
    if likely.sum() < _LEAST * inside.sum():
        likely = inside
    seeds = np.where(likely, cv2.GC_PR_FGD, np.where(inside, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    cv2.grabCut(colours, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)


def _colours(patch: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3], the HSV cylinder in Cartesian axes: shading and stripes move one axis, hue does not wrap."""
    hue, saturation, value = cv2.split(cv2.cvtColor(patch, cv2.COLOR_RGB2HSV))
    angle = hue * (np.pi / 90)  # OpenCV counts hue in steps of 2 degrees
    axes = 127.5 + 0.5 * saturation * np.cos(angle), 127.5 + 0.5 * saturation * np.sin(angle), value
    return np.stack(axes, axis=-1).astype(np.uint8)


def _stands_out(colours: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """bool[h, w], where a colour takes a larger share inside the box than around it."""
    r, g, b = np.moveaxis(colours.astype(np.int32) * _BINS >> 8, -1, 0)
    bins = (r * _BINS + g) * _BINS + b

    def share(where: np.ndarray) -> np.ndarray:
        counts = (np.bincount(bins[where], minlength=_BINS**3) / where.sum()).reshape((_BINS,) * 3)
        for _ in range(3):  # smooths the first axis and makes it the last: after three turns all are done
            counts = cv2.filter2D(counts.reshape(_BINS, -1), -1, _SMOOTH, borderType=cv2.BORDER_CONSTANT)
            counts = counts.reshape((_BINS,) * 3).transpose(1, 2, 0)
        return counts.ravel()

    return (share(inside) >= share(~inside))[bins]


def _span(box_unit: Sequence[float], height: int, width: int) -> tuple[int, int, int, int] | None:
    """Pixel rows and columns y1, y2, x1, x2 of a unit box (ends excluded, at least one pixel), or None without area."""
    if not all(math.isfinite(v) for v in box_unit):
        return None
    x1, y1, x2, y2 = (min(max(float(v), 0.0), 1.0) for v in box_unit)
    if x1 >= x2 or y1 >= y2:
        return None
    left, top = min(round(x1 * width), width - 1), min(round(y1 * height), height - 1)
    return top, max(round(y2 * height), top + 1), left, max(round(x2 * width), left + 1)


def _window(span: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """The rows and columns of a box with its margin, inside the picture."""
    y1, y2, x1, x2 = span
    dy, dx = math.ceil((y2 - y1) * _MARGIN), math.ceil((x2 - x1) * _MARGIN)
    return max(y1 - dy, 0), min(y2 + dy, height), max(x1 - dx, 0), min(x2 + dx, width)


def _cut(image: np.ndarray, box_unit: Sequence[float]) -> tuple[np.ndarray, list[int]] | None:
    """The patch around a box and the box in it, as `solve` takes them; None where there is nothing to cut."""
    span = _span(box_unit, *image.shape[:2])
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


def _paste(image: np.ndarray, box_unit: Sequence[float], found: np.ndarray) -> np.ndarray:
    """The mask of a patch as bool[h, w] of the picture, kept to the box; the filled box where that is next to none."""
    span = _span(box_unit, *image.shape[:2])
    top, bottom, left, right = _window(span, *image.shape[:2])
    shrinks = found.shape[0] > bottom - top
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    large = cv2.resize(found.astype(np.float32), (right - left, bottom - top), interpolation=how) > 0.5
    filled = box(image, box_unit)
    mask = np.zeros_like(filled)
    mask[top:bottom, left:right] = large
    mask &= filled
    return mask if mask.sum() >= _LEAST * filled.sum() else filled


def _union(image: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    return np.any(masks, axis=0) if masks else np.zeros(image.shape[:2], bool)


def _digest(image: np.ndarray) -> tuple:
    return image.shape, hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
