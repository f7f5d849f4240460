"""What each patch of a TwinWorld picture shows: targets of the loss that teaches the vision tower to see."""

from __future__ import annotations

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import vision
from dtr1_jax.data.twinworld import categories

MOST = 9  # objects that are told apart by their id
CLASSES = (
    len(categories.LABELS),
    len(categories.COLOURS),
    len(categories.SIZES),
    len(categories.MATERIALS),
    MOST,
    MOST,
)
COUNTS = tuple(n + 1 for n in CLASSES)  # class 0 of each field: no object


def targets(example: types.Example, geometry: vision.Geometry) -> tuple[np.ndarray, np.ndarray]:
    """What covers each patch, in merge-block order and padded to `geometry.patches`.

    Returns:
      (int32[n, 6] label, colour, size, material, id, depth, each counted from 1, 0 where no object is;
      float32[n, 4] the whole object's box, unit frame, 0 where none is).

    An object counts where it covers at least a quarter of the patch, and more of it than the others. The picture must
    fit the policy without being resized; raises ValueError otherwise.
    """
    height, width = example.image.shape[:2]
    if vision.resized(width, height, geometry) != (width, height):
        raise ValueError(
            f"{example.uid}: the dense loss needs pictures of the policy's own size, got {width} x {height}"
        )
    p, m, n = geometry.patch, geometry.merge, geometry.patches
    rows, columns = height // p, width // p
    masks = np.stack([i.mask for i in example.scene])
    cover = masks.reshape(len(masks), rows // m, m, p, columns // m, m, p).mean((3, 6))
    cover = cover.transpose(0, 1, 3, 2, 4).reshape(len(masks), rows * columns)
    best = np.where(cover.max(0) >= 0.25, cover.argmax(0) + 1, 0)
    table = np.zeros((len(masks) + 1, len(CLASSES)), np.int32)
    boxes = np.zeros((len(masks) + 1, 4), np.float32)
    for row, instance in enumerate(example.scene, 1):
        colour, size, material = instance.attributes
        table[row] = 1 + np.array(
            [categories.LABELS.index(instance.label), categories.COLOURS.index(colour), categories.SIZES.index(size),
             categories.MATERIALS.index(material), instance.id - 1, instance.depth - 1]
        )  # fmt: skip
        boxes[row] = instance.box
    pad = n - rows * columns
    return np.pad(table[best], [(0, pad), (0, 0)]), np.pad(boxes[best], [(0, pad), (0, 0)])
