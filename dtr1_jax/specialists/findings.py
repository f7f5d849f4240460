"""What specialists return: masks, detections and depth of a picture, tracks of a video. All are numpy arrays.

Boxes are x1,y1,x2,y2 in the unit frame of the picture at its own size; masks and depth have its height and width.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dtr1_jax.twin import masks as mask_codes


@dataclasses.dataclass(frozen=True)
class Masks:
    """The masks of n objects on one picture.

    Attributes:
      masks: bool[n, h, w] at the picture's own size.
      scores: float32[n], the IoU with the truth that the model expects of each mask.
      logits: float32[n, low, low], the masks at the model's own low resolution, above 0 inside; a later call takes them
        as a prompt. None if the model has none.
    """

    masks: np.ndarray
    scores: np.ndarray
    logits: np.ndarray | None = None

    @property
    def boxes(self) -> np.ndarray:
        """float32[n, 4], unit frame: the tight box of each mask; all 0 where a mask is empty."""
        height, width = self.masks.shape[1:]
        boxes = np.zeros((len(self.masks), 4), np.float32)
        for i, mask in enumerate(self.masks):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                boxes[i] = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
        return boxes

    def rle(self) -> list[dict[str, Any]]:
        """The masks as packed RLEs of COCO (twin/masks.py)."""
        return [mask_codes.encode(mask) for mask in self.masks]


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects that a detector found in one picture, best score first.

    Attributes:
      boxes: float32[n, 4], unit frame.
      scores: float32[n] in [0, 1].
      labels: n names: a class of the detector, or the phrase that was asked for.
      masks: bool[n, h, w] of an instance segmenter; None if the model has no masks.
      objectness: float32[n] in [0, 1], how likely each box holds any object; None if the model does not predict it.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    masks: np.ndarray | None = None
    objectness: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DepthMap:
    """The depth of one picture.

    Attributes:
      nearness: float32[h, w], finite, larger = nearer. Only its order is comparable between models: it is disparity
        where the model gives disparity, and minus the depth where it gives depth.
      metres: float32[h, w], the distance from the camera; None if the model's depth has no unit.
    """

    nearness: np.ndarray
    metres: np.ndarray | None = None

    def ranks(self, masks: np.ndarray) -> list[int]:
        """Depth ranks of n objects, 1 = nearest, by the median nearness inside each mask bool[n, h, w].

        Objects with equal medians share a rank. An object with an empty mask ranks last.
        """
        medians = [float(np.median(self.nearness[mask])) if mask.any() else -np.inf for mask in masks]
        order = sorted(set(medians), reverse=True)
        return [order.index(median) + 1 for median in medians]


@dataclasses.dataclass(frozen=True)
class PictureFeatures:
    """What a vision transformer makes of one picture.

    Attributes:
      whole: float32[D], the features of the picture (the class token).
      patches: float32[h, w, D], the features of each patch, by rows and columns.
    """

    whole: np.ndarray
    patches: np.ndarray


@dataclasses.dataclass(frozen=True)
class Track:
    """One object over the T frames of a video.

    Attributes:
      label: its name, one for all frames.
      boxes: float32[T, 4], unit frame; all 0 in a frame in which it was not found.
      scores: float32[T] in [0, 1]; 0 where it was not found.
    """

    label: str
    boxes: np.ndarray
    scores: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """bool[T], the frames in which it was found."""
        return (self.boxes[:, 2:] > self.boxes[:, :2]).all(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedMasks(Masks):
    """The masks of n objects on one frame of a video.

    Attributes:
      frame: index of the frame.
      objects: n names, as the prompts have them.
      present: float32[n], the logit that the object can be seen; at most 0 = hidden, and its mask is empty.
    """

    frame: int
    objects: tuple[Any, ...]
    present: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """bool[n], whether each object can be seen."""
        return self.present > 0
