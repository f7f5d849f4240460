"""The depth of the sky, which has none: it becomes the depth below which 99 % of the other pixels lie."""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.3  # sky from here on
QUANTILE = 0.99
LEAST = 10  # pixels of sky, and of other things, at most which the depth stays


def fill_sky(depth: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Fills the sky as `_process_mono_sky_estimation` of ByteDance-Seed/Depth-Anything-3 does.

    That code takes the quantile of 100,000 random pixels where there are more; here it is that of all pixels, so that
    the result is the same each time.

    Args:
      depth: float32[h, w].
      sky: float32[h, w], the model's output for the sky.

    Returns float32[h, w].
    """
    other = sky < THRESHOLD
    if min(other.sum(), other.size - other.sum()) <= LEAST:
        return depth
    return np.where(other, depth, np.quantile(depth[other], QUANTILE)).astype(np.float32)
