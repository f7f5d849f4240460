"""The pixels of the objects of a given twin: those that the data bring with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dtr1_jax.rewards.mask_cells import resize_mask
from dtr1_jax.types import Example


@dataclasses.dataclass(frozen=True)
class GivenMasks:
    """The masks of a scene's objects, in the form of answer_regions.RealMasks.

    Attributes:
      masks: id -> bool[h, w] at the example's own size; for a video bool[T, h, w]. Objects of which the data have only
        the box are left out.
      looked: bool[T], all True; None = a picture.
    """

    masks: Mapping[int, np.ndarray]
    looked: np.ndarray | None = None


def given_masks(example: Example) -> GivenMasks:
    """The masks of the objects in the scene of an example."""
    shape, outlined = example.image.shape[:2], [x for x in example.scene if x.outlined]
    if example.video is None:
        return GivenMasks({x.id: resize_mask(x.mask, shape) for x in outlined})
    masks = {x.id: np.stack([resize_mask(mask, shape) for mask in x.masks]) for x in outlined if x.masks is not None}
    return GivenMasks(masks, np.ones(len(example.video.index), bool))
