"""Masks in picture files: one object, or the number of the object at each pixel.

A mask is exact in a PNG of two values, of grey values or palette indices, or of few colours. JPEG blurs its edges, and
so does smoothing. Such a mask is cut at half of its largest value if nearly all its pixels are far from that; it is
refused otherwise, and where its values are numbers of objects.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtr1_jax.data import image_files
from dtr1_jax.data.image_files import ImageError

LOSSY = (".jpg", ".jpeg")  # suffixes of masks with blurred edges
MAX_COLOURS = 64  # colours of the masks of one video; more come from a lossy file
_SOFT_VALUES = 4  # a mask of fewer values above 0 has no smooth edge
_MANY_VALUES = 100  # a mask of more values is a photo or a map of probabilities
_BETWEEN = 0.25  # share of a mask with values between, at most
_FEW = 64  # pixels: in a small mask, most pixels are at the edge

log = logging.getLogger(__name__)


def load_mask(path: str | os.PathLike) -> np.ndarray:
    """Loads a mask file of one object as bool[h, w]: True where it is neither black nor transparent.

    A mask with smooth edges is cut at half of its largest value, with a warning. Raises ImageError.
    """
    values, kind = image_files.load_values(path)
    opaque = np.True_
    if values.ndim == 3:
        opaque = values[..., 3] >= 128
        values = values[..., :3].max(axis=-1)
    if not np.issubdtype(values.dtype, np.integer):
        values = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    lossy, smooth = kind in ("JPEG", "MPO"), _is_smooth(values)
    if (lossy or smooth) and opaque.all():
        return _cut(path, values, lossy)
    return (values > 0) & opaque


def load_numbers(path: Path, video: Sequence[Path]) -> np.ndarray:
    """Loads a mask file of a video as uint8[h, w], the number of the object at each pixel, 0 for background.

    Grey values and palette indices are the numbers. 255 is background too, or object 1 if it is the only value above 0.
    In masks with colours, black is background, and each other colour is an object: number 1 is the first in the order
    of red, green and blue.

    Args:
      path: one of the mask files of the video.
      video: all of them: an object has the same number in all masks.

    Raises ImageError, also where the values are no numbers of objects.
    """
    values, kind = image_files.load_values(path)
    if kind in ("JPEG", "MPO"):
        raise ImageError(f"{path}: expected a palette or grey PNG, got a JPEG, which blurs numbers; save masks as PNG")
    if values.ndim == 3:
        colours = _packed(values)
        known = _colours(tuple(video))
        if known is not None:
            return (np.searchsorted(known, colours) + 1).astype(np.uint8) * (colours > 0)
        values = (colours & 255).astype(np.uint8)
    return _grey_numbers(path, values)


def _grey_numbers(path: Path, values: np.ndarray) -> np.ndarray:
    present = np.unique(values)
    present = present[present != 0]
    if len(present) == 1 and present[0] in (1, 255, 65535):
        return (values > 0).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.integer) or (len(present) and not 0 < present[0] <= present[-1] <= 255):
        raise ImageError(f"{path}: expected numbers of objects from 1 to 254, got other values; save a palette PNG")
    others = present[present != 255]
    spread = len(others) >= 2 * _SOFT_VALUES and others[-1] > 2 * len(others) + _SOFT_VALUES  # numbers have few gaps
    if len(others) > _MANY_VALUES or (spread and _are_few(values)):
        raise ImageError(
            f"{path}: expected a palette or grey PNG of object numbers, got {len(present)} grey values, as a lossy or "
            "smoothed mask has; save the mask without smoothing"
        )
    return np.where(values == 255, 0, values).astype(np.uint8)


@functools.lru_cache(maxsize=256)
def _colours(video: tuple[Path, ...]) -> np.ndarray | None:
    """int32[n], the colours of the masks of a video in ascending order; None if all are grey. Raises ImageError."""
    present: set[int] = set()
    for path in video:
        try:
            values, _ = image_files.load_values(path)
        except ImageError:  # it costs the examples that show this frame
            continue
        packed = _packed(values) if values.ndim == 3 else values.astype(np.int32) * 0x010101
        present |= set(np.unique(packed).tolist())
        if len(present) > MAX_COLOURS:
            raise ImageError(
                f"{path}: expected a palette or grey PNG of object numbers, got a mask of more than {MAX_COLOURS} "
                "colours, as a lossy or smoothed mask has; save it with one colour for each object"
            )
    present.discard(0)
    if all(colour == (colour & 255) * 0x010101 for colour in present):
        return None
    return np.array(sorted(present), np.int32)


def _packed(rgba: np.ndarray) -> np.ndarray:
    """int32[h, w], red, green and blue of uint8[h, w, 4] as one number; 0 where it is transparent."""
    weights = np.array([65536, 256, 1], np.int32)
    return (rgba[..., :3].astype(np.int32) @ weights) * (rgba[..., 3] >= 128)


def _is_smooth(values: np.ndarray) -> bool:
    """Whether a mask has values between its largest and 0, mostly at edges, or too many values for numbers."""
    present = np.unique(values)
    present = present[present > 0]
    if len(present) < _SOFT_VALUES:
        return False
    return len(present) > _MANY_VALUES or (present[-1] >= 128 and _are_few(values))


def _are_few(values: np.ndarray) -> bool:
    """Whether few pixels have a value between a fifth and four fifths of the largest."""
    top = float(values.max())
    between = np.count_nonzero((values > 0.2 * top) & (values < 0.8 * top))
    return between <= max(_FEW, _BETWEEN * np.count_nonzero(values > 0.2 * top))


def _cut(path: str | os.PathLike, values: np.ndarray, lossy: bool) -> np.ndarray:
    top = values.max()
    if top and (top < 64 or not _are_few(values)):
        cause = "a JPEG, which blurs values" if lossy else "a mask of many values"
        raise ImageError(f"{path}: expected a mask of two values, got {cause}; save it as a PNG of 0 and 255")
    _warn_of_smooth_edges("JPEG" if lossy else "smoothed", str(path))
    return values > top / 2


_WARNED: set[str] = set()


def _warn_of_smooth_edges(kind: str, path: str) -> None:
    if kind not in _WARNED:  # once in a process
        _WARNED.add(kind)
        log.warning(
            "%s: a %s mask is cut at half of its largest value, as all such masks are from here on; save masks as PNG "
            "of 0 and 255 to have exact edges",
            path, kind,
        )  # fmt: skip
