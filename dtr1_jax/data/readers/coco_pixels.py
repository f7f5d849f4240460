"""One picture of a data set in COCO's format in pixels: its photo, and the masks of its annotations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dtr1_jax.data import image_files
from dtr1_jax.data.readers import coco_layout, coco_shapes, file_names, sized_photos
from dtr1_jax.data.readers.coco_annotations import Picture


@dataclasses.dataclass(frozen=True)
class Pixels:
    """One picture in pixels, all masks bool[h, w].

    Attributes:
      image: uint8[h, w, 3]; smaller than the masks where it was shrunk.
      objects, crowds: (label, mask) of each object or crowd region.
      boxes: the box of each object of which only the box is known, unit frame; None for the others.
      partial: Picture.partial, and the labels of objects that are thinner than a pixel.
      void: pixels to which a panoptic file gives no label; None in other files.
    """

    image: np.ndarray
    objects: list[tuple[str, np.ndarray]]
    crowds: list[tuple[str, np.ndarray]]
    void: np.ndarray | None
    boxes: list[tuple[float, float, float, float] | None]
    partial: frozenset[str]


def load_pixels(path: Path, picture: Picture, max_pixels: int = image_files.MAX_PIXELS) -> Pixels:
    """Reads a photo and draws the masks of its annotations. Raises ImageError, which names the faulty file.

    Args:
      path: the annotation file, from which the folders of the photos follow.
      picture: one of its pictures.
      max_pixels: the photo is shrunk to at most this many; the masks are not.
    """
    file = file_names.find_file(coco_layout.photo_folders(path), picture.file)
    image = sized_photos.load_sized(file, picture.size, path.name, max_pixels)
    segment_ids = None
    if picture.segments:
        segments = file_names.find_file(coco_layout.segment_folders(path), picture.segments)
        colours = sized_photos.load_sized(segments, picture.size, path.name)
        segment_ids = colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    objects, crowds, boxes, partial = [], [], [], set(picture.partial)
    for annotation in picture.annotations:
        try:
            mask = coco_shapes.draw(annotation.shape, segment_ids, picture.size)
        except ValueError as error:
            place = f"{path}: annotation {annotation.id} of picture {picture.id}"
            raise image_files.ImageError(f"{place}: {error}; correct or remove this annotation") from None
        if not mask.any():  # a polygon is thinner than a pixel
            partial.add(annotation.label)
        elif annotation.crowd:
            crowds.append((annotation.label, mask))
        else:
            objects.append((annotation.label, mask))
            boxes.append(coco_shapes.unit_box_of(annotation.shape, picture.size))
    void = None if segment_ids is None else segment_ids == 0
    return Pixels(image, objects, crowds, void, boxes, frozenset(partial))
