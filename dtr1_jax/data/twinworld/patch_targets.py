"""The object that each patch of a TwinWorld picture shows: targets of the dense loss on the vision tower."""

from __future__ import annotations

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import patches
from dtr1_jax.data.queries import attributes
from dtr1_jax.data.twinworld import categories

MOST = 9  # ids and depths run from 1 to this number
CLASSES = (len(categories.LABELS), *map(len, attributes.VALUES), MOST, MOST)
COUNTS = tuple(n + 1 for n in CLASSES)  # class 0 of each field means "no object"


def targets(example: types.Example, geometry: patches.Geometry, frames: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the classes and the box of the object that covers each patch.

    An object counts if it covers at least a quarter of the patch, and more of it than each other object. Patches are in
    merge-block order, frame by frame, and padded to n = `frames` x `geometry.patches`.

    Returns:
      (int32[n, 6] label, colour, size, material, id, depth, each counted from 1, and 0 for no object;
      float32[n, 4] box of the object's whole visible part in the patch's frame, unit frame, and 0 for no object).

    Raises:
      ValueError: the policy would resize the picture, or a patch covers several frames.
    """
    height, width = example.image.shape[:2]
    is_video = bool(example.visuals)
    if is_video:
        size = patches.video_size(frames, width, height, geometry)
    else:
        size = patches.picture_size(width, height, geometry)
    if size != (width, height):
        raise ValueError(
            f"{example.uid}: the dense loss needs pictures that the policy does not resize, got {width} x {height}; "
            "change config.data.image_size, or set config.sft.dense to 0"
        )
    if is_video and geometry.temporal_patch != 1:
        raise ValueError(f"{example.uid}: the dense loss needs patches of 1 frame, got {geometry.temporal_patch}")
    table = np.zeros((len(example.scene) + 1, len(CLASSES)), np.int32)
    for row, instance in enumerate(example.scene, 1):
        words = zip(attributes.VALUES, instance.attributes)
        table[row] = 1 + np.array(
            [categories.LABELS.index(instance.label), *(values.index(word) for values, word in words),
             instance.id - 1, instance.depth - 1]
        )  # fmt: skip
    classes, boxes = [], []
    for frame in range(len(example.scene[0].masks) if is_video else 1):
        owner = _patch_owner(np.stack([i.masks[frame] if is_video else i.mask for i in example.scene]), geometry)
        box_table = np.array([(0,) * 4, *(i.boxes[frame] if is_video else i.box for i in example.scene)], np.float32)
        classes.append(table[owner])
        boxes.append(box_table[owner])
    pad = frames * geometry.patches - sum(map(len, classes))
    return tuple(np.pad(np.concatenate(rows), [(0, pad), (0, 0)]) for rows in (classes, boxes))


def _patch_owner(masks: np.ndarray, geometry: patches.Geometry) -> np.ndarray:
    """Maps bool[M, h, w] to int[rows * columns]: 1 + the index of the object that covers a patch, 0 for none."""
    p, m = geometry.patch, geometry.merge
    rows, columns = masks.shape[1] // p, masks.shape[2] // p
    cover = masks.reshape(len(masks), rows // m, m, p, columns // m, m, p).mean((3, 6))
    cover = cover.transpose(0, 1, 3, 2, 4).reshape(len(masks), rows * columns)
    return np.where(cover.max(0) >= 0.25, cover.argmax(0) + 1, 0)
