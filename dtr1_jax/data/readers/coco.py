"""A folder in COCO's format (coco_annotations.py) as a source of generated queries (queries/photos.py).

Objects are listed from left to right. Crowd regions are not objects: their pixels are ignored in queries about their
label. So are the pixels without a label in panoptic files, in all queries. COCO's own evaluation does the same.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtr1_jax.data import image_files
from dtr1_jax.data.queries import photos
from dtr1_jax.data.readers import coco_annotations
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Instance, Target

PER_PICTURE = 4  # queries
SMALL, LARGE = 0.01, 0.1  # shares of the picture's area: an object below SMALL is "small", one from LARGE on is "large"


@dataclasses.dataclass(frozen=True, repr=False)
class Coco:
    """PER_PICTURE queries about each picture; example i is query i % 4 about picture i // 4."""

    annotations: coco_annotations.AnnotationFile
    split: str
    task: str
    seed: int
    max_objects: int
    max_pixels: int = image_files.MAX_PIXELS  # a larger photo is shrunk while it is decoded; the masks are not

    def __repr__(self) -> str:
        path, pictures = self.annotations.path.as_posix(), len(self.annotations.pictures)
        return (
            f"Coco({path!r}, split={self.split!r}, task={self.task!r}, seed={self.seed}, "
            f"max_objects={self.max_objects}, pictures={pictures})"
        )

    def __len__(self) -> int:
        return PER_PICTURE * len(self.annotations.pictures)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if its photo, segments or a mask cannot be read; IndexError."""
        number, k = divmod(range(len(self))[index], PER_PICTURE)
        picture = self.annotations.pictures[number]
        pixels = coco_annotations.load_pixels(self.annotations.path, picture, self.max_pixels)
        scene = _scene(pixels.objects, self.max_objects)
        query = photos.photo_query(self._facts(scene, pixels), seed=self.seed, picture=picture.id, k=k)
        answer = [instance for instance in scene if instance.id in query.ids]
        boxes = np.array([instance.box for instance in answer], np.float32).reshape(-1, 4)
        h, w = next((m.shape for _, m in pixels.objects + pixels.crowds), pixels.image.shape[:2])
        mask = masks.union([instance.mask for instance in answer], h, w)
        ignore = masks.union([crowd for label, crowd in pixels.crowds if label in query.labels], h, w)
        if pixels.void is not None:
            ignore |= pixels.void
        ignore &= ~mask
        return Example(
            uid=f"coco/{picture.id}/{k}", image=pixels.image, query=query.text, task=self.task,
            target=Target(mask, boxes, ignore if ignore.any() else None), scene=scene, answer_ids=query.ids,
            thought=query.thought, category=query.category, level=query.level, program=query.program,
        )  # fmt: skip

    def _facts(self, scene: Sequence[Instance], pixels: coco_annotations.Pixels) -> photos.Facts:
        crowds = {label for label, _ in pixels.crowds}
        counts = collections.Counter(dict.fromkeys(sorted(crowds), 0))
        counts.update(label for label, _ in pixels.objects)
        return photos.Facts(scene, self.annotations.labels, counts, crowds, self.annotations.stuff)


def open_coco_source(root: str, split: str, task: str, *, seed: int, max_objects: int) -> Coco:
    """Reads the annotations of a split and returns its examples; each photo is read when its example is indexed.

    Args:
      root: the folder.
      split: beginning of the name of an annotation file, such as "train"; see coco_annotations.find_annotation_file.
      task: segmentation or grounding.
      seed: of the queries.
      max_objects: most objects of a scene; the largest are kept.

    Raises DataError: there is no such annotation file, or none of its pictures can be used.
    """
    file, share = coco_annotations.find_annotation_file(Path(root), split)
    return Coco(coco_annotations.read_annotations(file, share), split, task, seed, max_objects)


def _scene(objects: Sequence[tuple[str, np.ndarray]], max_objects: int) -> tuple[Instance, ...]:
    """The objects with the largest masks, from left to right by the centre of their box, numbered 1, 2, ..."""
    largest = sorted(objects, key=lambda item: -masks.area(item[1]))[:max_objects]
    boxed = [(masks.bbox(mask), label, mask) for label, mask in largest]
    boxed.sort(key=lambda row: (row[0][0] + row[0][2], row[0][1] + row[0][3]))
    return tuple(
        Instance(i, label, box, mask, attributes=_attributes(mask)) for i, (box, label, mask) in enumerate(boxed, 1)
    )


def _attributes(mask: np.ndarray) -> tuple[str, ...]:
    share = masks.area(mask) / mask.size
    return ("small",) if share < SMALL else ("large",) if share >= LARGE else ()
