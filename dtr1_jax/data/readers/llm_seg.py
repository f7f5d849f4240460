"""LLM-Seg40K (arXiv 2404.08767): implicit questions about photos of COCO and EgoObjects, with one mask each.

    ROOT/NAME.json     {picture: {"from_dataset": "coco" | "ego_objects", "qa_pairs": [{question, answer, rle_seg}]}}

The names of its files are not documented: a split is a word of NAME ("train" finds llmseg_train.json), in ROOT or
annotations/, or ROOT is the file. Photos of COCO are train2017; those of EgoObjects are in EgoObjects/images,
ego_objects or images.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_photos, coco_records, coco_shapes, file_names, json_items
from dtr1_jax.data.readers.benchmark import NO_LABEL, Benchmark, Photo, Query, Thing
from dtr1_jax.data.readers.jsonl_fields import is_rle, is_text, whole_rle

NAME = "llm_seg"
LAYOUT = 'a JSON file for each split, {picture: {"from_dataset", "qa_pairs"}}, and COCO\'s train2017'
_EGO = ("EgoObjects/images", "ego_objects/images", "ego_objects", "egoobjects", "EgoObjects", "images", "")

log = logging.getLogger(__name__)


def open_llm_seg_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the questions of a split, in the order of the file.

    Args:
      root: the folder, or the JSON file.
      split: a word of the file's name; "heldout" is val or test.
      task: segmentation.

    Raises DataError: no such file, or no question that can be used.
    """
    folder = Path(root).expanduser()
    file = _find(folder, split)
    faults = coco_records.Faults()
    base = folder if file_names.is_folder(folder) else folder.parent
    coco = coco_photos.photo_folders(base, ("train2017", "val2017", "train2014"))
    ego = tuple(base / name for name in _EGO if file_names.is_folder(base / name)) or (base,)
    queries = []
    for name, entry in json_items.object_items(file):
        queries += _queries(name, entry, split, {"coco": coco, "ego_objects": ego}, faults)
    place = f"{file}: {NAME} {split}"
    if str(faults):
        log.warning("%s: left out %s", place, faults)
    benchmark.check_photos(place, queries, LAYOUT)
    return Benchmark(NAME, folder, split, task, tuple(queries), benchmark.pointing_example)


def _queries(
    name: str, entry: Any, split: str, folders: dict[str, tuple[Path, ...]], faults: coco_records.Faults
) -> Iterator[Query]:
    pairs = entry.get("qa_pairs") if isinstance(entry, dict) else None
    kind = entry.get("from_dataset") if isinstance(entry, dict) else None
    plain = name.replace("\\", "/")
    if not file_names.stays_inside(plain):  # an absolute path of somebody's machine
        plain = plain.rpartition("/")[2]
    if not isinstance(pairs, list) or kind not in folders or not file_names.stays_inside(plain):
        faults.add("pictures without qa_pairs, or of no known from_dataset", name)
        return
    names = tuple(dict.fromkeys((plain, plain.rpartition("/")[2])))
    for k, pair in enumerate(pairs):
        rle = pair.get("rle_seg") if isinstance(pair, dict) else None
        rle = whole_rle(rle) if is_rle(rle) else {"size": None}
        size = rle["size"]
        if not isinstance(size, list) or len(size) != 2 or not all(type(v) is int and v > 0 for v in size):
            faults.add("questions without rle_seg", f"{name}/{k}")
            continue
        if not is_text(pair.get("question")):
            faults.add("questions without text", f"{name}/{k}")
            continue
        shape, fault = coco_shapes.parse_shape({"segmentation": rle}, (size[1], size[0]))
        if shape is None:
            faults.add(fault, f"{name}/{k}")
            continue
        photo = Photo(names, folders[kind], (size[1], size[0]), (Thing(NO_LABEL, shape),))
        yield Query(f"{NAME}/{split}/{Path(plain).stem}/{k}", pair["question"].strip(), photo, (0,), tags=(kind,))


def _find(folder: Path, split: str) -> Path:
    """The JSON file of a split. Raises DataError."""
    if file_names.is_file(folder):
        return folder
    found = [path for place in (folder, folder / "annotations") for path in file_names.visible_files(place, "*.json")]
    words = ("val", "test") if split == "heldout" else (split,)
    for word in words:
        for path in found:
            if re.search(rf"(?<![a-zA-Z]){re.escape(word)}", path.stem):
                return path
    listed = ", ".join(path.name for path in found[:8]) or (
        "no JSON file" if file_names.is_folder(folder) else "no folder"
    )
    raise DataError(f"{folder}: expected {LAYOUT}, got {listed} for split {split!r}; set data.root or data.*_split")
