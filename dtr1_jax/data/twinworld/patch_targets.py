"""What each patch of a TwinWorld picture shows: targets of the loss that teaches the vision tower to see."""

from __future__ import annotations

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import patches
from dtr1_jax.data.queries import attributes
from dtr1_jax.data.twinworld import categories

MOST = 9  # objects that are told apart by their id
CLASSES = (
    len(categories.LABELS),
    *map(len, attributes.VALUES),
    MOST,
    MOST,
)
COUNTS = tuple(n + 1 for n in CLASSES)  # class 0 of each field: no object


def targets(example: types.Example, geometry: patches.Geometry, frames: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """What covers each patch, in merge-block order, frame by frame, and padded to `frames` x `geometry.patches`.

    Returns:
      (int32[n, 6] label, colour, size, material, id, depth, each counted from 1, 0 where no object is;
      float32[n, 4] the whole object's box, of a video in this frame, unit frame, 0 where none is).

    An object counts where it covers at least a quarter of the patch, and more of it than the others. The picture must
    fit the policy without being resized, and each frame must have patches of its own; raises ValueError otherwise.
    """
    height, width = example.image.shape[:2]
    film = bool(example.visuals)
    seen = (
        patches.video_size(frames, width, height, geometry) if film else patches.picture_size(width, height, geometry)
    )
    if seen != (width, height):
        raise ValueError(
            f"{example.uid}: the dense loss needs pictures of the policy's own size, got {width} x {height}"
        )
    if film and geometry.temporal_patch != 1:
        raise ValueError(f"{example.uid}: the dense loss needs patches of 1 frame, got {geometry.temporal_patch}")
    table = np.zeros((len(example.scene) + 1, len(CLASSES)), np.int32)
    for row, instance in enumerate(example.scene, 1):
        colour, size, material = instance.attributes
        table[row] = 1 + np.array(
            [categories.LABELS.index(instance.label), attributes.COLOURS.index(colour), attributes.SIZES.index(size),
             attributes.MATERIALS.index(material), instance.id - 1, instance.depth - 1]
        )  # fmt: skip
    classes, boxes = [], []
    for frame in range(len(example.scene[0].masks) if film else 1):
        best = _best(np.stack([i.masks[frame] if film else i.mask for i in example.scene]), geometry)
        corners = np.array([(0,) * 4, *(i.boxes[frame] if film else i.box for i in example.scene)], np.float32)
        classes.append(table[best])
        boxes.append(corners[best])
    pad = frames * geometry.patches - sum(map(len, classes))
    return tuple(np.pad(np.concatenate(rows), [(0, pad), (0, 0)]) for rows in (classes, boxes))


def _best(masks: np.ndarray, geometry: patches.Geometry) -> np.ndarray:
    """int[rows * columns] of bool[M, h, w]: 1 + the object that covers a patch, 0 where none does."""
    p, m = geometry.patch, geometry.merge
    rows, columns = masks.shape[1] // p, masks.shape[2] // p
    cover = masks.reshape(len(masks), rows // m, m, p, columns // m, m, p).mean((3, 6))
    cover = cover.transpose(0, 1, 3, 2, 4).reshape(len(masks), rows * columns)
    return np.where(cover.max(0) >= 0.25, cover.argmax(0) + 1, 0)
