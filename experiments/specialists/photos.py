"""The annotated COCO photos of the assets, with a box and a click for every object."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from dtr1_jax.data.readers import coco_annotations, coco_pixels

FILES = (
    "coco_mini/annotations/instances_train2017.json",
    "coco_mini/annotations/instances_val2017.json",
    "coco_panoptic_val100/panoptic_val2017.json",
)


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo and its annotated objects; crowd regions are left out.

    Attributes:
      image: uint8[h, w, 3].
      labels: the name of each object.
      masks: bool[n, h, w].
      boxes: float32[n, 4], unit frame: the tight box of each mask.
      clicks: float32[n, 2], unit frame: the pixel of each mask that is farthest from its edge.
    """

    image: np.ndarray
    labels: tuple[str, ...]
    masks: np.ndarray
    boxes: np.ndarray
    clicks: np.ndarray


def read_photos(assets: Path, every: int = 1, files: tuple[str, ...] = FILES) -> Iterator[Photo]:
    """Every `every`-th photo with objects of the files below `assets`."""
    for name in files:
        file = coco_annotations.read_annotations(assets / name)
        for picture in file.pictures[::every]:
            pixels = coco_pixels.load_pixels(file.path, picture)
            if pixels.objects:
                labels, masks = zip(*pixels.objects)
                boxes, clicks = zip(*map(_box_and_click, masks))
                yield Photo(pixels.image, labels, np.stack(masks), np.stack(boxes), np.stack(clicks))


def _box_and_click(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = mask.shape
    size = np.array([width, height], np.float32)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / np.tile(size, 2)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), mask.shape)
    return box.astype(np.float32), (np.array([x + 0.5, y + 0.5]) / size).astype(np.float32)


def ious(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float[n]: intersection over union of masks bool[n, h, w]."""
    return (found & truth).sum((1, 2)) / np.maximum((found | truth).sum((1, 2)), 1)
