"""Ref-YouTube-VOS (Seo et al. 2020, URVOS): expressions for the objects of YouTube-VOS.

    ROOT/meta_expressions/SPLIT/meta_expressions.json   {"videos": {NAME: {"frames": [...], "expressions":
                                                        {"0": {"exp": text, "obj_id": "1"}}}}}
    ROOT/SPLIT/JPEGImages/NAME/FRAME.jpg
    ROOT/SPLIT/Annotations/NAME/FRAME.png               a palette PNG; the value of a pixel is the obj_id

The masks of valid and test are on the benchmark's server alone. Source: github.com/wjn922/ReferFormer, docs/data.md,
which brings Ref-DAVIS17 to the same form.
"""

from __future__ import annotations

from pathlib import Path

from dtr1_jax.data.json_files import DataError, whole_number
from dtr1_jax.data.readers import benchmark, coco_records, file_names, mevis, referred_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Query
from dtr1_jax.data.readers.referred_videos import Listing, PaletteMasks, QueriedVideo

NAME = "ref_ytvos"
COUNTS: dict[str, tuple[int | None, int | None]] = {"train": (3471, None), "valid": (202, None), "test": (305, None)}
LAYOUT = (
    "meta_expressions/SPLIT/meta_expressions.json, SPLIT/JPEGImages/NAME/FRAME.jpg and SPLIT/Annotations/NAME/FRAME.png"
)


def open_ref_ytvos_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the expressions of a split, in the order of the file; frames and masks are read with an example.

    Args:
      root: the folder.
      split: train; valid and test have no public masks. "heldout" is valid.
      task: segmentation.

    Raises DataError: no such files, a split without masks, or no expression that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "valid")
    queries, faults = palette_queries(NAME, folder, split)
    return referred_videos.open_videos(NAME, folder, split, task, queries, faults, COUNTS[split], LAYOUT)


def palette_queries(
    name: str, folder: Path, split: str, tags: tuple[str, ...] = ()
) -> tuple[list[Query], coco_records.Faults]:
    """The queries of a split in the form of Ref-YouTube-VOS, and what was left out. Raises DataError.

    Args:
      name: of the benchmark.
      folder: the folder.
      split: its split.
      tags: that of each expression of an object, in turns; () = none.
    """
    file = folder / "meta_expressions" / split / "meta_expressions.json"
    if not file_names.is_file(file):
        raise DataError(
            f"{folder}: expected {LAYOUT}, got no {split}/{file.name}; set data.root to the folder of {name}"
        )
    annotations = folder / split / "Annotations"
    if not file_names.is_folder(annotations):
        why = "fetch them too" if split == "train" else "they are on the benchmark's server alone; use train"
        raise DataError(f"{folder}: expected the masks {split}/Annotations/NAME/FRAME.png, got no such folder; {why}")
    faults = coco_records.Faults()
    queries = []
    for video in referred_videos.read_videos(file, [folder / split / "JPEGImages"], faults):
        masks = mask_files(annotations / video.name, video)
        for number, record in mevis.expressions(video, faults):
            place = whole_number(number)
            tag = (tags[place % len(tags)],) if tags and place is not None else ()
            query = palette_query(name, split, video, number, record, masks, tag)
            queries += [query] if query else []
            if query is None:
                faults.add("expressions without text, obj_id or masks", f"{video.name}/{number}")
    return queries, faults


def palette_query(
    name: str, split: str, video: Listing, number: str, record: dict, files: tuple[Path | None, ...],
    tags: tuple[str, ...],
) -> Query | None:  # fmt: skip
    """The query of an expression with the files of its masks; None if it has no text, object or file."""
    obj = whole_number(record.get("obj_id"))
    numbers = tuple(k for k, file in enumerate(files) if file is not None)
    if obj is None or not 0 < obj < referred_videos.VOID or not numbers:
        return None
    whole = QueriedVideo(video.folder, video.names, video.suffix, numbers, (PaletteMasks(files, obj),))
    return referred_videos.make_query(name, split, video, number, record.get("exp"), whole, tags)


def mask_files(folder: Path, video: Listing) -> tuple[Path | None, ...]:
    """The file of the mask of each frame, or None."""
    present = {file.name for file in folder.iterdir()} if file_names.is_folder(folder) else set()
    return tuple(folder / f"{name}.png" if f"{name}.png" in present else None for name in video.names)
