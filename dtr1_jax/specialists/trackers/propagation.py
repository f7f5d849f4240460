"""Carries the box or the mask of the first frame through a video, without a detector and without learned weights.

The motion between two frames is dense optical flow (DIS: Kroeger et al. 2016, arXiv 1603.03590). Where the object moves
against the background, pixels that move with the camera (a homography) are taken out of its mask, and GrabCut moves
the edge of the mask to an edge of the colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from dtr1_jax.specialists import segmenter
from dtr1_jax.specialists.trackers import frame_motion

SIDE = 854  # longest side of the frames in which flow is computed, pixels
_LEAST = 50  # pixels of the smallest mask whose edge is moved
_MOVES = 1.0  # pixels by which an object moves against the background, so that its motion tells it from the background
_STILL = 0.35  # share of the object's motion below which a pixel moves with the background
_DOUBT = 0.5  # by which the probability of a pixel that moves with the background shrinks
_BAND = 0.06  # width of the band in which GrabCut moves the edge, as a share of the square root of the mask's area
_AROUND = 0.5  # background around the mask that GrabCut sees, as the same share
_SCALE = 0.5  # of the picture that GrabCut sees
_BLEND = 0.5  # weight of GrabCut's mask against the carried one
_SAME = 0.6  # least IoU of GrabCut's mask and the carried one; a flat picture has no edges to move to


def carry_box(frames: Sequence[np.ndarray], box: Sequence[float]) -> np.ndarray:
    """The box of an object in every frame: GrabCut finds its mask in the first one, and the box follows the mask.

    Args:
      frames: T pictures uint8[h, w, 3]; frames of other sizes are resized to that of the first one.
      box: x1,y1,x2,y2 in the first frame, unit frame.

    Returns float32[T, 4], unit frame, clipped to the picture; all 0 where the object is lost.

    Raises ValueError: no frames, or a box that is not finite or has no area inside the picture.
    """
    given = np.asarray(box, np.float64)
    if not len(frames):
        raise ValueError("expected at least one frame")
    inside = np.clip(given, 0, 1)
    if given.shape != (4,) or not np.isfinite(given).all() or (inside[2:] <= inside[:2]).any():
        raise ValueError(f"expected a box x1,y1,x2,y2 in the unit frame, with area inside the picture, got {box}")
    height, width = frames[0].shape[:2]
    same = [f if f.shape == frames[0].shape else cv2.resize(f, (width, height)) for f in frames]
    masks = carry_mask(same, segmenter.grabcut(frames[0], inside))
    first = _extent(masks[0])
    boxes = np.zeros((len(frames), 4), np.float32)
    boxes[0] = inside
    for t in range(1, len(frames)):
        now = _extent(masks[t])
        if now is not None:  # the box moves and grows as the extent of the mask does
            scale = (now[2:] - now[:2]) / (first[2:] - first[:2])
            moved = np.concatenate(
                [now[:2] + (inside[:2] - first[:2]) * scale, now[2:] + (inside[2:] - first[2:]) * scale]
            )
            boxes[t] = np.clip(moved, 0, 1)
    return boxes


def carry_mask(
    frames: Sequence[np.ndarray],
    mask: np.ndarray,
    segment: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """The mask of an object in every frame.

    Args:
      frames: T pictures uint8[h, w, 3] of one size.
      mask: bool[h, w], the object in the first frame.
      segment: segment(frame, box) -> bool[h, w], a segmenter that finds the object anew in each frame, from the unit
        box around its carried mask, and whose mask is carried on; None = GrabCut moves the edge of the carried mask.

    Returns bool[T, h, w]. Once the object is lost, the masks are empty.

    Raises ValueError: no frames, frames of different sizes, or a mask of another size or without pixels.
    """
    shapes = {frame.shape[:2] for frame in frames}
    if len(shapes) != 1:
        raise ValueError(f"expected frames of one size [h, w], at least one, got {sorted(shapes)}")
    ((height, width),) = shapes
    mask = np.asarray(mask, bool)
    if mask.shape != (height, width) or not mask.any():
        raise ValueError(f"expected a mask [{height}, {width}] with pixels, got {list(mask.shape)} with {mask.sum()}")
    size = frame_motion.working_size(frames[0], SIDE)
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    last = frame_motion.grey(frames[0], size)
    masks = np.zeros((len(frames), height, width), bool)
    masks[0] = mask
    for t in range(1, len(frames)):
        grey = frame_motion.grey(frames[t], size)
        share = _carried(share, last, grey)
        if segment is None:
            share = _sharpened(share, cv2.resize(frames[t], size, interpolation=cv2.INTER_AREA))
            masks[t] = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
        elif (share > 0.5).any():
            masks[t] = segment(frames[t], tight_box(share > 0.5))
            share = cv2.resize(masks[t].astype(np.float32), size, interpolation=cv2.INTER_AREA)
        last = grey
    return masks


def tight_box(mask: np.ndarray) -> np.ndarray:
    """float32[4], unit frame: the box around the pixels of a mask bool[h, w]; all 0 for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    return box / np.tile(np.array(mask.shape[::-1], np.float32), 2)


def _flow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """float32[h, w, 2], pixels: where each pixel of the grey picture `start` is in `end`, less its place."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(start, end, None)


def _places(size: tuple[int, int]) -> np.ndarray:
    """float32[h, w, 2], the x and y of each pixel."""
    return np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), -1).astype(np.float32)


def _camera_flow(motion: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32[h, w, 2], the flow that a homography of the unit frame gives."""
    scale = np.diag([*size, 1.0])
    pixels = (scale @ motion @ np.linalg.inv(scale)).astype(np.float32)
    places = _places(size)
    return cv2.perspectiveTransform(places.reshape(-1, 1, 2), pixels).reshape(places.shape) - places


def _extent(mask: np.ndarray) -> np.ndarray | None:
    """float64[4], unit frame: the middle 98 % of a mask along both axes, so that stray pixels do not count."""
    if not mask.any():
        return None
    sides = []
    for axis in (0, 1):
        share = np.cumsum(mask.sum(axis)) / mask.sum()
        sides.append((np.searchsorted(share, 0.01) / len(share), (np.searchsorted(share, 0.99) + 1) / len(share)))
    (x1, x2), (y1, y2) = sides
    return np.array([x1, y1, x2, y2])


def _carried(share: np.ndarray, last: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The probabilities float32[h, w] of the object's pixels in the next frame."""
    size = last.shape[::-1]
    back = _flow(now, last)
    places = _places(size) + back
    carried = cv2.remap(share, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = carried > 0.5
    if not inside.any():
        return carried
    camera = frame_motion.between(now, last, tight_box(inside)[None])
    against = np.hypot(*np.moveaxis(back - _camera_flow(camera, size), -1, 0))
    own = float(np.median(against[inside]))
    if own > _MOVES:
        still = np.clip(1 - cv2.blur(against, (5, 5)) / (_STILL * own), 0, 1)
        carried = carried * (1 - _DOUBT * np.minimum(2 * still, 1))
    return carried


def _sharpened(share: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Probabilities whose edge GrabCut has moved to an edge of the colours of the picture uint8[h, w, 3]."""
    inside = (share > 0.5).astype(np.uint8)
    area = int(inside.sum())
    if area < _LEAST:
        return share
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    margin = round(_AROUND * area**0.5) + 8
    y1, y2 = max(rows[0] - margin, 0), min(rows[-1] + 1 + margin, len(inside))
    x1, x2 = max(columns[0] - margin, 0), min(columns[-1] + 1 + margin, inside.shape[1])
    size = max(8, round((x2 - x1) * _SCALE)), max(8, round((y2 - y1) * _SCALE))
    patch = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[y1:y2, x1:x2], size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(inside[y1:y2, x1:x2], size, interpolation=cv2.INTER_AREA)
    depth = cv2.distanceTransform(small, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - small, cv2.DIST_L2, 3)
    band = max(2.0, _BAND * _SCALE * area**0.5)
    core = depth > min(band, 0.6 * depth.max())
    seeds = np.where(core, cv2.GC_FGD, np.where(depth > 0, cv2.GC_PR_FGD, cv2.GC_BGD))
    seeds = np.where((depth <= 0) & (depth > -band), cv2.GC_PR_BGD, seeds).astype(np.uint8)
    if not core.any() or not (seeds % 2 == 0).any():
        return share
    cv2.setRNGSeed(0)  # the mixtures start from a random k-means
    cv2.grabCut(patch, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    found = (seeds % 2 == 1).astype(np.float32)  # GC_FGD is 1, GC_PR_FGD is 3
    both, either = np.minimum(found, small).sum(), np.maximum(found, small).sum()
    if both < _SAME * either:
        return share
    moved = np.zeros_like(share)
    moved[y1:y2, x1:x2] = cv2.resize(found, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_LINEAR)
    return _BLEND * moved + (1 - _BLEND) * share
