"""Generated queries about COCO photos as JSON lines, for the experiments that train on them.

The photos come from two folders in COCO's format, coco_mini (instances) and coco_panoptic_val100 (segments, including
stuff), with queries of dtr1_jax/data/queries/photos.py. Training and held-out data share no photo: a hash of the
photo's COCO id decides the split of all its queries, so a photo in both folders has one split.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dtr1_jax.data import json_files
from dtr1_jax.data.readers import coco, coco_annotations, coco_layout, file_names
from dtr1_jax.modes.perceived_lines import rle

PARTS = (
    "coco_mini/annotations/instances_train2017.json",
    "coco_mini/annotations/instances_val2017.json",
    "coco_panoptic_val100/panoptic_val2017.json",
)


def lines(part: Path, max_objects: int) -> list[dict]:
    """The queries about the photos of the annotation file `part`, as lines of data/readers/jsonl.py.

    The objects are the `max_objects` largest of the annotated ones.
    """
    annotations, rows = coco_annotations.read_annotations(part), []
    source = coco.Coco(annotations, "all", "segmentation", seed=0, max_objects=max_objects)
    folders = coco_layout.photo_folders(part)
    for i in range(len(source)):
        picture, example = annotations.pictures[i // coco.PER_PICTURE], source[i]
        if not example.scene:
            continue
        w, h = picture.size
        objects = [
            {
                "label": o.label, "box": [round(float(v) * n, 2) for v, n in zip(o.box, (w, h, w, h))],
                "rle": rle(o.mask), "attributes": list(o.attributes),
            }
            for o in example.scene
        ]  # fmt: skip
        oracle = {"answer": list(example.answer_ids), "program": example.program, "level": example.level}
        rows.append({
            "id": f"{part.stem}/{picture.id}/{i % coco.PER_PICTURE}",
            "image": str(file_names.find_file(folders, picture.file).resolve()), "query": example.query,
            "split": "heldout" if json_files.held_out(picture.id) else "train",
            "rle": [rle(o.mask) for o in example.scene if o.id in example.answer_ids],
            "oracle": oracle | {"category": example.category}, "objects": objects,
        })  # fmt: skip
    return rows


def write(assets: Path, file: Path, max_objects: int) -> int:
    """Writes the queries of all PARTS to `file`, shuffled by a hash of their ids; returns their number."""
    rows = [row for part in PARTS for row in lines(assets / part, max_objects)]
    rows.sort(key=lambda row: hashlib.blake2b(row["id"].encode()).digest())  # so that the first n are a sample
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return len(rows)
