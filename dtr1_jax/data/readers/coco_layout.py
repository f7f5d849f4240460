"""Where the files of a data set in COCO's format are: annotation files, their splits, and the folders of their photos.

    ROOT/annotations/instances_NAME.json    polygons, RLE or boxes; it may be in ROOT itself
    ROOT/annotations/panoptic_NAME.json     segments
    ROOT/annotations/lvis_v1_NAME.json      as LVIS has them; it may be in ROOT itself
    ROOT/NAME/_annotations.coco.json        as Roboflow writes it, with the photos beside it

The PNGs of segments are in panoptic/, panoptic_NAME/ or annotations/panoptic_NAME/. The photos of the first two kinds
may be in NAME/, images/NAME/, images/ or ROOT. ROOT may also be an annotation file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import file_names

KINDS = ("instances", "panoptic", "lvis")  # first words of the names of annotation files
ROBOFLOW = "_annotations.coco.json"
_BELOW = (*(f"annotations/{kind}*.json" for kind in KINDS), f"*/{ROBOFLOW}")
LOOKED_AT = 2000  # photos that are looked for when a file is opened
MANY = 8  # names that a message lists
_VALIDATION = ("val", "dev")  # "val" also begins "valid" and "validation"

log = logging.getLogger(__name__)


def find_annotation_file(root: Path, split: str) -> tuple[Path, bool | None]:
    """Finds the annotation file of a split, and the share of its pictures: None = all, False = 80 %, True = 20 %.

    A split is the beginning of a word of NAME ("train" finds train2017). "heldout" also finds val, valid, validation
    and dev, or else test; "val", "valid" and "validation" find one another. In a folder with a single file, "train" and
    "heldout" divide it, so that they never share a picture; its name does not matter. They also divide the first file
    of a folder in which all files are of "train". Instances come before panoptic where both fit. Raises DataError.
    """
    files = _annotation_files(root)
    if split in ("train", "heldout") and (len(files) == 1 or all(_is_of(path, "train") for path in files)):
        return files[0], split == "heldout"
    names = [split]
    if split == "heldout" or split.startswith("val"):
        names += _VALIDATION + ("test",) * (split == "heldout")
    for name in names:
        for path in files:
            if _is_of(path, name):
                return path, None
    if len(files) == 1:
        return files[0], True
    raise DataError(
        f"{root}: expected an annotation file for split {split!r}, got {_listed(root, files)}; set data.*_split to a "
        'word of one of these names, such as "train"'
    )


def photo_folders(path: Path) -> list[Path]:
    """The folders in which the photos of an annotation file may be, in the order in which they are searched."""
    if path.name == ROBOFLOW:
        return [path.parent, path.parent / "images"]
    root, name = folder_of(path), path.stem.partition("_")[2] or path.stem
    folders = [root / name, root / "images" / name, root / "images", root, path.parent]
    if path.name.startswith("lvis"):  # the photos are COCO's
        folders += [root / "coco", root.parent / "coco", root.parent]
    return list(dict.fromkeys(folders))


def check_photos(path: Path, files: Sequence[str]) -> None:
    """Looks for up to LOOKED_AT photos; warns if some are missing, and raises DataError if all are."""
    folders = photo_folders(path)
    sample = files[:: -(-len(files) // LOOKED_AT)]
    missing = [name for name in sample if not file_names.is_file(file_names.find_file(folders, name))]
    if len(missing) == len(sample):
        places = ", ".join(map(str, folders))
        raise DataError(f"{path}: expected photos such as {missing[0]} in one of {places}, got none; put them there")
    if missing:
        log.warning(
            "%s: %d of %d photos are missing, such as %s; queries about them are skipped",
            path, len(missing), len(sample), missing[0],
        )  # fmt: skip


def segment_folders(path: Path) -> list[Path]:
    """The folders in which the PNGs of a panoptic file may be."""
    return [folder_of(path) / "panoptic", folder_of(path) / path.stem, path.parent / path.stem]


def folder_of(path: Path) -> Path:
    """The folder of the data set of an annotation file."""
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _annotation_files(root: Path) -> list[Path]:
    if file_names.is_file(root):
        return [root]
    folders = (root / "annotations", root)
    try:
        files = [path for kind in KINDS for d in folders for path in sorted(d.glob(f"{kind}*.json"))]
        files = files or sorted(root.glob(f"[!.]*/{ROBOFLOW}")) or sorted(root.glob(ROBOFLOW))
        others = [path for d in folders for path in sorted(d.glob("[!.]*.json"))]
        below = [p for depth in ("*", "*/*") for name in _BELOW for p in sorted(root.glob(f"{depth}/{name}"))]
    except (OSError, ValueError) as error:
        raise DataError(f"{root}: the folder cannot be read ({error}); set data.root to a folder") from None
    if files:
        return files
    fault, advice = "no such file", "set data.root to the folder that holds them"
    if below:
        place = below[0].parent.parent
        fault, advice = f"such files in {place.relative_to(root)}", f"set data.root to {place}"
    elif others:
        fault = _listed(root, others)
        advice = (
            f"rename a file in COCO's format to annotations/instances_NAME.json, or set data.root to {others[0]} itself"
        )
    elif not file_names.is_folder(root):
        fault = "no such folder"
    elif any(root.glob("*.yaml")):
        fault, advice = "the layout of YOLO (a .yaml file)", "export the data set in COCO's format"
    elif any(root.glob("*/*.xml")):
        fault, advice = "the layout of Pascal VOC (.xml files)", "export the data set in COCO's format"
    raise DataError(
        f"{root}: expected annotations/instances_*.json, panoptic_*.json, lvis_*.json or NAME/{ROBOFLOW}, got {fault}; "
        f"{advice}"
    )


def _is_of(path: Path, split: str) -> bool:
    name = path.parent.name if path.name == ROBOFLOW else path.stem
    return re.search(rf"(?<![a-zA-Z]){re.escape(split)}", name) is not None


def _listed(root: Path, files: list[Path]) -> str:
    names = [path.name if path.name != ROBOFLOW else f"{path.parent.name}/{path.name}" for path in files]
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more
