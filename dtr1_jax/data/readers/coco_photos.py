"""Where the photos of COCO lie beside a benchmark that refers to them by their ids.

The releases of 2014 and 2017 have the same photos under other names: COCO_train2014_000000000009.jpg is
train2017/000000000009.jpg. All of train2014 is in train2017.
"""

from __future__ import annotations

from pathlib import Path

from dtr1_jax.data.readers import file_names

_INSIDE = ("images/mscoco/images", "images", "coco", "coco/images", "mscoco", "refer_seg/images/mscoco/images", "")


def photo_folders(root: Path, splits: tuple[str, ...] = ("train2014", "train2017")) -> tuple[Path, ...]:
    """The folders in or up to two levels above `root` that may hold the photos; at least one, which may not exist.

    Args:
      root: the folder of the benchmark.
      splits: names of the folders of photos, the usual one first.
    """
    bases = [root, *list(root.resolve().parents)[:2]]
    named = [base / inside / split for split in splits for base in bases for inside in _INSIDE]
    plain = [base / inside for base in bases[:2] for inside in _INSIDE]
    found = [folder for folder in dict.fromkeys([*named, *plain]) if file_names.is_folder(folder)]
    return tuple(found) or (root / "images" / splits[0],)


def photo_names(number: int, split: str = "train2014") -> tuple[str, ...]:
    """The names of the photo with an id: that of the release of 2014, and that of 2017."""
    return f"COCO_{split}_{number:012d}.jpg", f"{number:012d}.jpg"
