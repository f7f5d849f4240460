"""Folders in the forms of RefCOCO, with two photos of 40 x 30 pixels and four annotated objects."""

import json
import pickle

from coco_folders import note, rectangle
from PIL import Image

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
SIZE = (40, 30)


def photo_name(number):
    return f"COCO_train2014_{number:012d}.jpg"


def boxed(box, number, image, category=1, **more):
    """An annotation with a rectangle as its polygon; box = x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    value = note(rectangle(*box), category, image, number=number)
    return value | {"bbox": [x1, y1, x2 - x1, y2 - y1]} | more


NOTES = [
    boxed((2, 3, 12, 23), 100, 9), boxed((20, 5, 35, 25), 101, 9, category=2), boxed((5, 5, 15, 15), 102, 25),
    boxed((20, 10, 39, 29), 103, 25),
]  # fmt: skip


def sentence(number, text, raw=None):
    return {"sent_id": number, "sent": text, "raw": raw or text.upper(), "tokens": text.split()}


def ref(number, ann, image, split, *sentences):
    """A ref, as the release has it; its file name carries the number of the annotation."""
    return {
        "ref_id": number, "ann_id": ann, "image_id": image, "category_id": 1, "split": split,
        "file_name": photo_name(image).replace(".jpg", "_1.jpg"), "sent_ids": [s["sent_id"] for s in sentences],
        "sentences": list(sentences),
    }  # fmt: skip


REFS = [
    ref(7, 100, 9, "val", sentence(1, "man on left"), sentence(2, "the man")),
    ref(8, 101, 9, "val", sentence(3, "dog")),
    ref(9, 102, 25, "train", sentence(4, "small person")),
    ref(10, 103, 25, "testA", sentence(5, "large person")),
]


def write_photos(folder, numbers=(9, 25)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new("RGB", SIZE, "grey").save(folder / photo_name(number))


def instances(notes=NOTES, numbers=(9, 25)):
    """instances.json as a value."""
    records = [{"id": n, "file_name": photo_name(n), "width": 40, "height": 30} for n in numbers]
    return {"images": records, "annotations": notes, "categories": CATEGORIES}


def write_release(root, refs=REFS, notes=NOTES, name="refcoco", by="unc", protocol=0):
    """The release below `root`: refs(unc).p, instances.json and the photos."""
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol))
    (root / name / "instances.json").write_text(json.dumps(instances(notes)))
    write_photos(root / "images" / "mscoco" / "images" / "train2014")
    return root
