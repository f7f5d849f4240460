"""A folder in COCO's format (coco_annotations.py) as a source of generated queries (queries/photos.py).

Objects are listed from left to right. Crowd regions are not objects: their pixels are ignored in queries about their
label. So are the pixels without a label in panoptic files, in all queries. COCO's own evaluation does the same.

An object of which the file has only the box is an object of the scene. Grounding asks for it as for any other. For
segmentation its pixels are not known: in its picture, no query asks for its label.

In files of LVIS, a picture is only asked about labels that somebody looked for in it (lvis.py).
"""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries import photos
from dtr1_jax.data.readers import coco_annotations, coco_layout, coco_pixels, coco_records
from dtr1_jax.data.readers.coco_index import Pictures
from dtr1_jax.run import local_copy
from dtr1_jax.twin import masks, things
from dtr1_jax.types import Example, Instance, Target

log = logging.getLogger(__name__)

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
    phrases: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # of the user's, by label
    max_pixels: int = image_files.MAX_PIXELS  # a larger photo is shrunk while it is decoded; the masks are not

    def __repr__(self) -> str:
        path, pictures = local_copy.stable_name(self.annotations.path), len(self.annotations.pictures)
        return (
            f"Coco({path!r}, split={self.split!r}, task={self.task!r}, seed={self.seed}, "
            f"max_objects={self.max_objects}, pictures={pictures}"
            + f", phrases={self.phrases}" * bool(self.phrases)
            + ")"
        )

    def __len__(self) -> int:
        return PER_PICTURE * len(self.annotations.pictures)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if its photo, segments or a mask cannot be read; IndexError."""
        number, k = divmod(range(len(self))[index], PER_PICTURE)
        picture = self.annotations.pictures[number]
        pixels = coco_pixels.load_pixels(self.annotations.path, picture, self.max_pixels)
        scene = _scene(pixels, self.max_objects)
        try:
            query = photos.photo_query(
                self._facts(scene, pixels, picture.searched), seed=self.seed, picture=picture.id, k=k
            )
        except ValueError as error:
            raise image_files.ImageError(f"{self.annotations.path}: picture {picture.id}: {error}") from None
        answer = [instance for instance in scene if instance.id in query.ids]
        boxes = np.array([instance.box for instance in answer], np.float32).reshape(-1, 4)
        w, h = picture.size  # of the masks; the image may be shrunk
        mask = masks.union([instance.mask for instance in answer], h, w)
        ignore = masks.union([crowd for label, crowd in pixels.crowds if label in query.labels], h, w)
        if pixels.void is not None:
            ignore |= pixels.void
        ignore &= ~mask
        return Example(
            uid=f"coco/{picture.id}/{k}", image=pixels.image, query=query.text, task=self.task,
            target=Target(mask, boxes, ignore if ignore.any() else None), scene=scene, answer_ids=query.ids,
            thought=query.thought, category=query.category, level=query.level,
            hidden_objects=len(pixels.objects) - len(scene),
            program=query.program if self._one_label_each(scene, picture.searched) else (),
        )  # fmt: skip

    def _one_label_each(self, scene: Sequence[Instance], searched: frozenset[str] | None) -> bool:
        """Whether programs can tell the labels apart: to them, "Mug" and "mug" are the same (twin/things.py)."""
        labels = (self.annotations.labels if searched is None else searched) | {instance.label for instance in scene}
        return len({things.plain(label) for label in labels}) == len(labels)

    def _facts(
        self, scene: Sequence[Instance], pixels: coco_pixels.Pixels, searched: frozenset[str] | None
    ) -> photos.Facts:
        crowds = {label for label, _ in pixels.crowds}
        counts = collections.Counter(dict.fromkeys(sorted(crowds | pixels.partial), 0))
        counts.update(label for label, _ in pixels.objects)
        boxed = {label for (label, _), box in zip(pixels.objects, pixels.boxes) if box is not None}
        partial = pixels.partial | (boxed if self.task == "segmentation" else set())
        labels = self.annotations.labels if searched is None else self.annotations.labels & searched
        if not labels - partial and searched is not None:
            raise ValueError("LVIS has no label of which all objects are annotated here, and none that is absent")
        partial |= counts.keys() - labels
        own = {**self.annotations.names, **self.phrases}
        names = own if own or not self.annotations.of_coco else None
        return photos.Facts(scene, labels, counts, crowds, self.annotations.stuff, partial, boxed, names)


def open_coco_source(root: str, split: str, task: str, *, seed: int, max_objects: int, phrases: str = "") -> Coco:
    """Reads the annotations of a split and returns its examples; each photo is read when its example is indexed.

    Args:
      root: the folder.
      split: beginning of the name of an annotation file, such as "train"; see coco_layout.find_annotation_file.
      task: segmentation or grounding.
      seed: of the queries.
      max_objects: most objects of a scene; the largest are kept.
      phrases: a file with phrases for labels (coco_records.read_phrases); "" = COCO's own for COCO's labels, and the
        names of labels for others.

    Raises DataError: there is no such annotation file, or none of its pictures can be used.
    """
    file, share = coco_layout.find_annotation_file(Path(root), split)
    annotations = coco_annotations.read_annotations(file, share)
    boxed, count = _boxed(annotations)
    if boxed and task == "segmentation":
        annotations = _with_masks(annotations, boxed)
    elif boxed:
        log.warning("%s: %d of %d annotations have no outline: their boxes are used", file, boxed, count)
    own = coco_records.read_phrases(Path(phrases), annotations.labels) if phrases else {}
    return Coco(annotations, split, task, seed, max_objects, own)


def _boxed(file: coco_annotations.AnnotationFile) -> tuple[int, int]:
    """(number of annotations that have a box alone, number of all)."""
    if isinstance(file.pictures, Pictures):
        return file.pictures.boxed()
    notes = [note for picture in file.pictures for note in picture.annotations]
    return sum(note.boxed for note in notes), len(notes)


def _with_masks(file: coco_annotations.AnnotationFile, boxed: int) -> coco_annotations.AnnotationFile:
    """The pictures that have an outline. Raises DataError if none has."""
    pictures: Sequence[coco_annotations.Picture]
    if isinstance(file.pictures, Pictures):
        pictures = file.pictures.outlined()
    else:
        pictures = tuple(p for p in file.pictures if not all(note.boxed or note.crowd for note in p.annotations))
    if not pictures:
        raise DataError(
            f"{file.path}: expected polygons or RLE for segmentation, got {boxed} annotations with a box only; set "
            "config.data.task=grounding, or write JSON lines, where the masks of `boxes` are filled boxes"
        )
    alone = len(file.pictures) - len(pictures)
    log.warning(
        "%s: %d annotations have a box and no outline: segmentation does not ask for their labels in their pictures%s; "
        "config.data.task=grounding uses the boxes",
        file.path, boxed, f", and {alone} pictures with boxes alone are left out" if alone else "",
    )  # fmt: skip
    return dataclasses.replace(file, pictures=pictures)


def _scene(pixels: coco_pixels.Pixels, max_objects: int) -> tuple[Instance, ...]:
    """The objects with the largest masks, from left to right by the centre of their box, numbered 1, 2, ..."""
    rows = [(label, mask, box) for (label, mask), box in zip(pixels.objects, pixels.boxes)]
    largest = sorted(rows, key=lambda row: -masks.area(row[1]))[:max_objects]
    boxed = [
        (box or masks.bbox(mask), label, mask, _attributes(mask, box), box is None) for label, mask, box in largest
    ]
    boxed.sort(key=lambda row: (row[0][0] + row[0][2], row[0][1] + row[0][3]))
    return tuple(
        Instance(i, label, box, mask, attributes=words, outlined=outlined)
        for i, (box, label, mask, words, outlined) in enumerate(boxed, 1)
    )


def _attributes(mask: np.ndarray, box: tuple | None) -> tuple[str, ...]:
    """ "small" or "large"; an object of which only the box is known may be smaller than its box."""
    share = masks.area(mask) / mask.size
    return ("small",) if share < SMALL else ("large",) if share >= LARGE and box is None else ()
