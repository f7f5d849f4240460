"""The size at which training holds pictures and masks: large photos are shrunk, small ones stay as they are.

A policy sees far less than a photo of twelve million pixels, and the reward compares masks on a coarse grid. Evaluation
does not shrink pictures and targets: its figures count pixels of the original.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np

from dtr1_jax.data.image_files import shrunk_size
from dtr1_jax.data.patches import Geometry
from dtr1_jax.types import Example, Instance, Target, Video

PIXELS = (
    1 << 20
)  # a picture of up to this many pixels is never shrunk; photos of COCO and frames of 480 rows are smaller
OBJECTWISE = ("vrt",)  # benchmarks whose figures compare the answer with each object of the target
DRAWN = 1 << 18  # pixels of pictures that are kept only to be drawn


def working_pixels(geometry: Geometry | None) -> int:
    """The most pixels of a picture in training: at least PIXELS and what the policy sees.

    It is four times the policy's pixels (twice each side), so that its own resizing decides what it sees, unless that
    is above 4 * PIXELS.
    """
    seen = geometry.max_pixels if geometry else 0
    return max(PIXELS, min(4 * seen, max(seen, 4 * PIXELS)))


def fit(example: Example, pixels: int) -> Example:
    """The example with pictures, frames and masks of at most `pixels` pixels; the same object if it is small enough.

    Boxes are in the unit frame and do not change. Pictures keep their shape, up to the rounding of their sides.
    """
    size = _shrunk_shape(example.image.shape[:2], pixels)
    target, scene = _fit_target(example.target, size), _fit_scene(example.scene, size)
    visuals = tuple(_fit_visual(visual, pixels) for visual in example.visuals)
    image = shrink_picture(example.image, size)
    if example.visuals and isinstance(visuals[0], Video):
        image = visuals[0].frames[0]  # no second copy of the first frame
    elif example.visuals and example.visuals[0] is example.image:
        visuals = (image, *visuals[1:])
    same = (
        image is example.image
        and target is example.target
        and all(a is b for a, b in zip((*scene, *visuals), (*example.scene, *example.visuals)))
    )
    return example if same else dataclasses.replace(example, image=image, target=target, scene=scene, visuals=visuals)


def fit_scene(example: Example, pixels: int = PIXELS) -> Example:
    """The example with masks of the scene of at most `pixels` pixels; pictures and target keep their size.

    No metric reads these masks, except that of OBJECTWISE benchmarks, and a photo with seven of them would take three
    times its memory.
    """
    if example.benchmark in OBJECTWISE:
        return example
    scene = _fit_scene(example.scene, _shrunk_shape(example.image.shape[:2], pixels))
    same = all(a is b for a, b in zip(scene, example.scene))
    return example if same else dataclasses.replace(example, scene=scene)


def shrink_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8[h, w, 3] averaged to `size` (height, width), which is not larger; the same array if it has that size."""
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool[h, w] at `size` (height, width), which is not larger; the same array if it has that size.

    A pixel is in the mask if at least half of its area is. Where less than half of the mask's area would remain, as of
    a thin or tiny object, the pixels with the largest shares stay, as many as the area is worth, and at least one: an
    object must not vanish, since an empty target means that nothing fits the query.
    """
    if mask.shape == size:
        return mask
    cover = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    inside, area = cover >= 0.5, float(cover.sum())
    if 2 * np.count_nonzero(inside) < area or (mask.any() and not inside.any()):
        count = max(1, round(area))
        largest = np.argsort(-cover, axis=None, kind="stable")[:count]
        inside = np.zeros(size, bool)
        inside.flat[largest] = cover.flat[largest] > 0
    return inside


def _shrunk_shape(shape: tuple[int, ...], pixels: int) -> tuple[int, int]:
    height, width = shape
    return shrunk_size(height, width, pixels)


def _fit_target(target: Target, size: tuple[int, int]) -> Target:
    found = {
        name: fitted
        for name in ("mask", "ignore", "masks")
        if (fitted := fit_masks(getattr(target, name), size)) is not getattr(target, name)
    }
    return dataclasses.replace(target, **found) if found else target


def _fit_scene(scene: tuple[Instance, ...], size: tuple[int, int]) -> tuple[Instance, ...]:
    return tuple(
        dataclasses.replace(item, mask=fit_masks(item.mask, size), masks=fit_masks(item.masks, size))
        if item.mask.shape != size
        else item
        for item in scene
    )


def fit_masks(mask: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    """A mask bool[h, w], or one for each frame bool[T, h, w], at `size` as by `shrink_mask`; None stays None."""
    if mask is None or mask.shape[-2:] == size:
        return mask
    return shrink_mask(mask, size) if mask.ndim == 2 else np.stack([shrink_mask(frame, size) for frame in mask])


def _fit_visual(visual: np.ndarray | Video, pixels: int) -> np.ndarray | Video:
    if not isinstance(visual, Video):
        return shrink_picture(visual, _shrunk_shape(visual.shape[:2], pixels))
    size = _shrunk_shape(visual.frames.shape[1:3], pixels)
    if visual.frames.shape[1:3] == size:
        return visual
    shrink = functools.partial(shrink_picture, size=size)
    return dataclasses.replace(visual, frames=np.stack([shrink(frame) for frame in visual.frames]))
