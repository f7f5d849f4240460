"""The annotation files of COCO and of data sets in its format: pictures with their objects, crowds and labels.

coco_layout.py says where the files are, coco_shapes.py which shapes an annotation may have, and coco_records.py how
records are matched. Faulty records are skipped, and counted in one warning. An annotation that is skipped is an object
all the same: its label counts as `partial` in its picture, and queries about that picture do not ask for it.
Sources: cocodataset.org/#format-data; Kirillov et al. 2019, arXiv 1801.00868, for panoptic segments.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_index, coco_layout, coco_records, coco_shapes, file_names, lvis
from dtr1_jax.data.readers.coco_records import Faults

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One object or crowd region; its shape is one of coco_shapes.Shape."""

    id: Any
    label: str
    crowd: bool
    shape: coco_shapes.Shape

    @property
    def boxed(self) -> bool:
        """Whether only the box of the object is known."""
        return isinstance(self.shape, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A photo with its annotations.

    Attributes:
      id: its id in the file.
      file: its path, relative to one of coco_layout.photo_folders.
      size: (w, h) in pixels, of the photo upright or as it is stored.
      annotations: its usable annotations.
      segments: the name of its panoptic PNG, or None.
      partial: labels of which the photo may have objects that are not among the annotations.
      searched: the labels that somebody looked for in this photo, as LVIS says it; None = all of the file.
    """

    id: int | str
    file: str
    size: tuple[int, int]
    annotations: tuple[Annotation, ...]
    segments: str | None
    partial: frozenset[str] = frozenset()
    searched: frozenset[str] | None = None


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
    """A file.

    Attributes:
      path: of the file.
      pictures: its usable pictures.
      labels: the labels to ask for.
      stuff: those of them that are stuff.
      of_coco: whether all labels are COCO's own, so that COCO's phrases are true of them.
      names: label -> other names for it in the file.
    """

    path: Path
    pictures: Sequence[Picture]
    labels: frozenset[str]
    stuff: frozenset[str]
    of_coco: bool = True
    names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def read_annotations(path: Path, share: bool | None = None) -> AnnotationFile:
    """Reads an annotation file. Skips faulty records, and counts them in one warning.

    Args:
      path: the file.
      share: True = only the fifth of the pictures that is held out (json_files.held_out_part), False = only the others,
        None = all.

    Raises:
      DataError: the file is not in COCO's format, an id stands for two categories, no picture with a usable annotation
        is left, or its photos are missing.
    """
    index = coco_index.open_index(path)
    if index is not None:
        return _of_index(path, index, share)
    value = json_files.read_json(path)
    for name in ("images", "annotations", "categories"):
        if not isinstance(value, dict) or not isinstance(value.get(name), list):
            raise DataError(
                f'{path}: expected the lists "images", "annotations" and "categories", got no list "{name}"; take a '
                "file in COCO's format"
            )
    faults, remarks = Faults(), Faults()
    try:
        federated = lvis.is_lvis(value["images"], value["categories"])
        if federated:
            images, records = lvis.as_coco(value["images"], value["categories"], faults)
            value |= {"images": images, "categories": records}
        categories = coco_records.categories(value["categories"], faults, remarks)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    pictures = _pictures(value, categories, faults, remarks, path)
    if federated:
        lists = lvis.searched(value["images"], categories)
        pictures = [_searched(picture, *lists[picture.id], categories) for picture in pictures]
    used = {note.label for p in pictures for note in p.annotations}.union(
        *(p.partial for p in pictures), *(p.searched or () for p in pictures)
    )
    labels = coco_records.labels_to_ask(categories, used, faults)
    if str(faults):
        log.warning("%s: left out %s", path, faults)
    if str(remarks):
        log.warning("%s: kept %s", path, remarks)
    pictures = _part(pictures, share, path)
    if not pictures or not labels:
        counts = f"{len(value['images'])} pictures and {len(value['annotations'])} annotations, but none to use"
        raise _nothing_to_use(path, counts, str(faults))
    coco_layout.check_photos(path, [picture.file for picture in pictures])
    return _file(path, tuple(pictures), labels, categories, federated)


def _file(
    path: Path, pictures: Sequence[Picture], labels: frozenset[str], categories: Mapping, federated: bool
) -> AnnotationFile:
    stuff = frozenset(coco_records.label_of(c) for c in categories.values() if _is_stuff(c))
    if federated:
        log.info(
            "%s: a file of LVIS: a picture is asked about the labels that somebody looked for in it, %s",
            path,
            lvis.RULE,
        )
        return AnnotationFile(path, pictures, labels, stuff, False, lvis.phrases(categories))
    return AnnotationFile(path, pictures, labels, stuff, coco_records.are_of_coco(categories))


def _searched(picture: Picture, absent: Collection, incomplete: Collection, categories: Mapping) -> Picture:
    """The picture of LVIS with the labels that somebody looked for, from the ids in its two lists."""
    lists = ({coco_records.label_of(categories[number]) for number in ids} for ids in (absent, incomplete))
    asked, partial = lvis.labels_asked({note.label for note in picture.annotations}, *lists)
    return dataclasses.replace(picture, partial=picture.partial | partial, searched=asked)


def _nothing_to_use(path: Path, counts: str, faults: str) -> DataError:
    why = f"; left out were {faults}" if faults else ""
    return DataError(
        f"{path}: expected pictures with annotations, got {counts}{why}; check the file or take another split"
    )


def _of_index(path: Path, index: coco_index.Index, share: bool | None) -> AnnotationFile:
    """A large file: all records are matched, the shapes of a sample are checked now and the others when read."""
    categories = _table(index)
    pictures = coco_index.Pictures(path, index, functools.partial(_indexed_picture, path.as_posix(), categories))
    if index.left_out:
        log.warning("%s: left out %s", path, index.left_out)
    if index.odd:
        log.warning("%s: kept %s", path, index.odd)
    crowds = index.crowds
    _say_crowds(path, crowds["objects"], crowds["labels"], crowds["crowds"], crowds["alone"])
    sample = _check_sample(path, index)
    if sample.faults:
        log.warning(
            "%s: of a sample of %d pictures, left out %s; all are checked when read", path, sample.count, sample.faults
        )
    used = set(pictures.label_counts()) | set(crowds["labels"]) | index.searched_labels()
    labels = coco_records.labels_to_ask(categories, used, Faults())
    ids = pictures.ids()
    if share is not None and len(ids) > 1:
        pictures = pictures.of(np.flatnonzero(sample.held == share))
        if share:
            log.info("%s: %d of its %d pictures are held out for evaluation", path, len(pictures), len(ids))
    if sample.unusable == sample.count or not labels or not len(pictures):
        raise _nothing_to_use(path, f"{len(ids)} pictures, but none of a sample to use", sample.faults)
    coco_layout.check_photos(path, pictures.files())
    return _file(path, pictures, labels, categories, index.federated)


class _Sample(NamedTuple):
    """What the pictures of a sample lack, as a text; how many they are, and cannot be used; bool[n], the held-out."""

    faults: str
    count: int
    unusable: int
    held: np.ndarray


@functools.lru_cache(maxsize=2)  # the splits of a run are parts of one file
def _check_sample(path: Path, index: coco_index.Index) -> _Sample:
    """Makes coco_index.CHECKED pictures of a file, and divides all by json_files.held_out_part."""
    pictures = coco_index.Pictures(path, index, functools.partial(_indexed_picture, path.as_posix(), _table(index)))
    faults, unusable, sample = Faults(), 0, pictures[:: max(1, len(pictures) // coco_index.CHECKED)]
    boxes: list[tuple[dict, tuple[int, int]]] = []
    for i in range(len(sample)):
        try:
            sample.make(i, faults=faults, boxes=boxes)
        except image_files.ImageError:
            unusable += 1
    coco_shapes.check_boxes(path, boxes)
    ids = pictures.ids()
    held = json_files.held_out_part(ids)
    return _Sample(str(faults), len(sample), unusable, np.array([number in held for number in ids], bool))


def _table(index: coco_index.Index) -> dict[int | str | None, dict]:
    return {coco_records.parse_id(record["id"]): record for record in index.categories}


def _indexed_picture(
    path: str, categories: Mapping, index: coco_index.Index, row: int, records: Sequence,
    faults: Faults | None = None, boxes: list | None = None,
) -> Picture:  # fmt: skip
    """The picture in a row of an index, from (value, whether it is a crowd) of its annotations. Raises ImageError."""
    found = Faults() if faults is None else faults
    number, w, h = (int(index.pictures[name][row]) for name in ("id", "w", "h"))
    notes, partial = [], set()
    if boxes is not None:
        boxes += [(value, (w, h)) for value, _ in records if value.get("bbox") and not value.get("segmentation")]
    for value, crowd in records:
        label, annotation = _parse_annotation(value, categories, (w, h), False, found)
        partial |= label if annotation is None else set()
        notes += [dataclasses.replace(annotation, crowd=crowd)] if annotation else []
    if faults is None and str(found):
        _warn_of_shapes(path)
    if not notes:
        raise image_files.ImageError(f"{path}: picture {number}: no annotation of it can be used: {found}")
    by_picture, unknown = {number: notes}, {number: partial}
    _complete_partial(by_picture, unknown, categories)
    file = index.names[row].decode()
    picture = Picture(number, file, (w, h), tuple(notes), None, frozenset(unknown[number]))
    return _searched(picture, *index.searched_ids(row), categories) if index.federated else picture


@functools.cache  # once for each annotation file
def _warn_of_shapes(path: str) -> None:
    log.warning(
        "%s: an annotation was left out when its picture was read, and queries about that picture do not ask for its "
        "label; more may follow. --mode=check lists the faults of a sample", path,
    )  # fmt: skip


def _part(pictures: list[Picture], share: bool | None, path: Path) -> list[Picture]:
    """The pictures of a part (see `read_annotations`). A single picture is not held out: DataError if it is wanted."""
    if share is None:
        return pictures
    if len(pictures) == 1 and share:
        raise DataError(
            f"{path}: expected at least 2 usable pictures to hold one out for evaluation, got 1; add pictures, or an "
            "annotation file for validation"
        )
    held = json_files.held_out_part(picture.id for picture in pictures)
    part = [picture for picture in pictures if (picture.id in held) == share]
    if share:
        log.info("%s: %d of its %d pictures are held out for evaluation", path, len(part), len(pictures))
    return part


def _pictures(value: dict, categories: Mapping, faults: Faults, remarks: Faults, path: Path) -> list[Picture]:
    """The pictures that have usable annotations; counts records left out in `faults`, odd ones in `remarks`."""
    records = coco_records.pictures(value["images"], faults, remarks)
    same = coco_records.same_file(records, remarks)
    coco_shapes.check_boxes(path, coco_records.boxed_notes(value["annotations"], records))
    notes: dict[Any, list[Annotation]] = collections.defaultdict(list)
    partial: dict[Any, set[str]] = collections.defaultdict(set)
    segments, seen, ids = {}, set(), set()
    for note in value["annotations"]:
        number = coco_records.find_id(records, note.get("image_id")) if isinstance(note, dict) else None
        if number is None:
            faults.add("annotations that refer to no image", note.get("id") if isinstance(note, dict) else "")
            continue
        if number not in same:  # its id stands for two files
            continue
        number, parts, panoptic = same[number], [note], "segments_info" in note
        if panoptic:
            parts = note["segments_info"]
            if not isinstance(parts, list) or not _is_path(note.get("file_name")):
                faults.add("panoptic annotations without file_name or segments")
                continue
            segments[number] = note["file_name"]
        size = records[number]["width"], records[number]["height"]
        for part in parts:
            label, annotation = _parse_annotation(part, categories, size, panoptic, faults)
            if annotation is None:
                partial[number].update(label)
                continue
            key = (number, annotation.label, annotation.crowd, coco_shapes.fingerprint(annotation.shape))
            if key in seen and not panoptic:
                faults.add("annotations that stand twice", annotation.id)
                continue
            seen.add(key)
            if annotation.id in ids and annotation.id is not None and not panoptic:
                remarks.add("annotations with the id of another one", annotation.id)
            ids.add(annotation.id)
            notes[number].append(annotation)
    if not segments:
        _read_crowds(notes, path)
    _complete_partial(notes, partial, categories)
    empty = len(set(same.values())) - sum(map(bool, notes.values()))
    if empty:
        faults.add("pictures without a usable annotation", count=empty)
    found = []
    for number, usable in notes.items():
        if usable:
            record = records[number]
            size = record["width"], record["height"]
            found.append(
                Picture(
                    number, record["file_name"], size, tuple(usable), segments.get(number), frozenset(partial[number])
                )
            )
    return found


def _read_crowds(notes: dict[Any, list[Annotation]], path: Path) -> None:
    """Makes objects of the crowd regions that are single objects (coco_records.crowds_are_objects), and says so."""
    rows = [(number, note.label, note.crowd) for number, usable in notes.items() for note in usable]
    labels = coco_records.crowds_are_objects(rows)
    count = sum(crowd for _, label, crowd in rows if label in labels)
    kept = collections.Counter(label for _, label, crowd in rows if crowd and label not in labels)
    alone = sorted(set(kept) - {label for _, label, crowd in rows if not crowd})
    _say_crowds(path, count, sorted(labels), kept.total(), alone)
    for number, usable in notes.items():
        notes[number] = [dataclasses.replace(n, crowd=n.crowd and n.label not in labels) for n in usable]


def _say_crowds(path: Path, count: int, labels: Sequence[str], kept: int, alone: Sequence[str]) -> None:
    """Logs how iscrowd 1 is read: `count` objects of `labels`, `kept` crowds, and labels with crowds `alone`."""
    if count:
        log.warning(
            "%s: %d annotations with iscrowd 1 are read as single objects, since tools such as CVAT write brush masks "
            "so (labels: %s); if they are crowds, add the single objects or remove them",
            path, count, ", ".join(labels[:8]),
        )  # fmt: skip
    if kept:
        log.info("%s: %d crowd regions, whose pixels are ignored in queries about their labels", path, kept)
    if alone:
        log.warning(
            "%s: labels with crowd regions and no single object, such as %s: they are ignored and not asked about; "
            "set iscrowd to 0 if they are objects",
            path, ", ".join(alone[:8]),
        )  # fmt: skip


def _complete_partial(notes: Mapping, partial: dict[Any, set[str]], categories: Mapping) -> None:
    """Adds the labels below a label to `partial` where it stands for them: who draws a "kitchen" draws no mug."""
    below = coco_records.children(categories)
    for number, usable in notes.items():
        for note in usable:
            partial[number] |= below.get(note.label, set()) | ({note.label} if note.label in below else set())


def _parse_annotation(
    note: Any, categories: Mapping, size: tuple[int, int], panoptic: bool, faults: Faults
) -> tuple[set[str], Annotation | None]:
    """(its label, if it is known, as a set; the annotation, or None after counting its fault)."""
    category = coco_records.find_id(categories, note.get("category_id")) if isinstance(note, dict) else None
    if category is None:
        faults.add("annotations of no known category", note.get("category_id") if isinstance(note, dict) else "")
        return set(), None
    label = coco_records.label_of(categories[category])
    number = coco_records.parse_id(note.get("id"))
    if panoptic:
        sound = type(number) is int and 0 < number < 1 << 24
        shape, fault = (number if sound else None), "segments without an id from 1 to 2^24 - 1"
    else:
        shape, fault = coco_shapes.parse_shape(note, size)
    if shape is None:
        faults.add(fault, number if number is not None else "")
        return {label}, None
    crowd = note.get("iscrowd") is True or json_files.whole_number(note.get("iscrowd")) == 1
    return {label}, Annotation(number, label, crowd, shape)


def _is_path(name: Any) -> bool:
    return isinstance(name, str) and file_names.stays_inside(name)


def _is_stuff(category: Mapping) -> bool:
    return category.get("isthing") is False or json_files.whole_number(category.get("isthing", 1)) == 0
