"""Pads a picture to a square, resizes it as OWLv2's processor does, and carries boxes between the two frames.

The square's unit frame has the picture in its upper left corner; a side of 1 is the picture's longer side.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import sparse

from dtr1_jax.specialists.owlv2.spec import Owlv2Spec
from dtr1_jax.specialists.pictures import normalised

_STRIP = 2**22  # values of a picture that are resized at once


def prepared(image: np.ndarray, spec: Owlv2Spec) -> np.ndarray:
    """The model's input for a picture uint8[h, w, 3]: float32[side, side, 3].

    The picture is scaled to [0, 1], padded by black pixels below and to the right to a square, smoothed by a Gaussian
    if it shrinks, resized by linear interpolation, and normalised. The steps are those of transformers'
    `Owlv2ImageProcessorPil`, which calls scipy.ndimage's `gaussian_filter` and `zoom`. Both are linear and act on rows
    and columns apart, so they are one sparse matrix for rows and one for columns. Black pixels add nothing, so the
    square itself is never made.
    """
    height, width = image.shape[:2]
    square, side = max(height, width), spec.side
    matrix = _resizing(square, side)
    rows = matrix[:, :height]
    columns = matrix[:, :width]
    narrow = np.empty((width, side, 3), np.float32)  # rows resized, columns first
    strip = max(1, _STRIP // (3 * height))
    for start in range(0, width, strip):
        part = image[:, start : start + strip].astype(np.float32)
        count = part.shape[1]
        resized = (rows @ part.reshape(height, count * 3)).reshape(side, count, 3)
        narrow[start : start + count] = resized.transpose(1, 0, 2)
    across = (columns @ narrow.reshape(width, side * 3)).reshape(side, side, 3)
    return normalised(across.transpose(1, 0, 2), spec.mean, spec.std, spec.scale)


@functools.lru_cache(maxsize=64)
def _resizing(old: int, new: int) -> sparse.csr_matrix:
    """float32[new, old]: smoothing and linear interpolation along an axis, as scipy.ndimage computes them.

    `gaussian_filter` has the deviation (old / new - 1) / 2 and reaches 4 deviations far. `zoom(grid_mode=True)` takes
    the value at (i + 0.5) * old / new - 0.5. Both mirror the axis at the centres of its first and last pixel.
    """
    factor = old / new
    sigma = max(0.0, (factor - 1) / 2)
    radius = int(4 * sigma + 0.5)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2) if radius else np.ones(1)
    weight /= weight.sum()
    at = (np.arange(new) + 0.5) * factor - 0.5
    low = np.floor(at).astype(np.int64)
    share = at - low
    taps = np.concatenate([low[:, None] + offset, low[:, None] + 1 + offset], 1)
    values = np.concatenate([(1 - share)[:, None] * weight, share[:, None] * weight], 1)
    target = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    mirrored = _mirrored(taps, old)
    return (
        sparse.coo_matrix((values.ravel(), (target.ravel(), mirrored.ravel())), (new, old)).tocsr().astype(np.float32)
    )


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Indices outside 0 .. size - 1 mirrored at the first and the last pixel, which are not repeated."""
    if size == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * size - 2)
    return np.minimum(index, 2 * size - 2 - index)


def picture_corners(box_n4: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes of the model as x1,y1,x2,y2 in the picture's unit frame, clipped to the picture.

    Args:
      box_n4: float32[n, 4], centre x, centre y, width, height, in the square's unit frame.
      height, width: of the picture, in pixels.

    Returns float32[n, 4]; a box that lies in the padding has no area.
    """
    square = max(height, width)
    return np.clip(corners(box_n4) * np.float32([square / width, square / height] * 2), 0, 1)


def square_corners(box_n4: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes x1,y1,x2,y2 in the picture's unit frame as x1,y1,x2,y2 in the square's unit frame, float32[n, 4]."""
    square = max(height, width)
    return np.asarray(box_n4, np.float32) * np.float32([width / square, height / square] * 2)


def corners(box_n4: np.ndarray) -> np.ndarray:
    """float32[n, 4]: centre x, centre y, width, height -> x1,y1,x2,y2."""
    centre, half = box_n4[..., :2], box_n4[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], -1)
