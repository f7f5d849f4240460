"""Folders in COCO's format."""

import json

from PIL import Image

from dtr1_jax.data.readers import coco

NAMES = ("person", "dog", "cat", "car", "boat")
CATEGORIES = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(NAMES, 1)]


def rectangle(x1, y1, x2, y2):
    """A polygon, as COCO writes it."""
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def note(shape, category=2, image=1, crowd=0, number=1):
    """An annotation, as COCO writes it."""
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "segmentation": shape}


def write_coco_folder(
    root, notes, *, pictures=1, size=(40, 30), categories=CATEGORIES, name="instances_train2017.json"
):
    """Writes a COCO folder with grey photos 1.png, 2.png, ...; and a second split, so that the first is not divided."""
    photos = root / name.removesuffix(".json").partition("_")[2]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    photos.mkdir(exist_ok=True)
    records = [{"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]} for i in range(1, pictures + 1)]
    for record in records:
        Image.new("RGB", size, "grey").save(photos / record["file_name"])
    value = {"images": records, "annotations": notes, "categories": categories}
    (root / "annotations" / name).write_text(json.dumps(value))
    (root / "annotations" / "instances_other.json").write_text("{}")
    return root


def open_source(root, split="train", **settings):
    """The examples of a split, for segmentation."""
    return coco.open_coco_source(str(root), split, "segmentation", **({"seed": 0, "max_objects": 7} | settings))
