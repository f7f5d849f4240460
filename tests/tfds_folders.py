"""ref_coco as tensorflow_datasets prepares it, written by hand: the library needs TensorFlow to write it."""

import io
import json

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tfrecords import example, frame

W, H = 40, 30
# Photo -> its annotations (id, label, box x1 y1 x2 y2 in pixels), and refs (place of the annotation, sentences).
PHOTOS = {
    9: (((3, 18, (4, 5, 14, 15)), (5, 1, (20, 2, 36, 28))), ((0, ("The Dog!", "left  animal")), (1, ("man",)))),
    25: (((8, 1, (1, 1, 21, 11)),), ((0, ("only person",)),)),
}


def png(x1, y1, x2, y2):
    mask = np.zeros((H, W), bool)
    mask[y1:y2, x1:x2] = True
    raw = io.BytesIO()
    Image.fromarray(mask).save(raw, "PNG")
    return raw.getvalue()


def jpeg(grey):
    raw = io.BytesIO()
    Image.new("RGB", (W, H), (grey,) * 3).save(raw, "JPEG")
    return raw.getvalue()


def unit(x1, y1, x2, y2):
    """ymin, xmin, ymax, xmax."""
    return [y1 / H, x1 / W, y2 / H, x2 / W]


def record(number, masks=True):
    notes, refs = PHOTOS[number]
    texts = [text for _, sentences in refs for text in sentences]
    lengths = [len(sentences) for _, sentences in refs]
    fields = {
        "image": [jpeg(number)], "image/id": [number],
        "coco_annotations/id": [n[0] for n in notes], "coco_annotations/area": [1] * len(notes),
        "coco_annotations/label": [n[1] for n in notes],
        "coco_annotations/bbox": [v for n in notes for v in unit(*n[2])],
        "objects/id": [notes[place][0] for place, _ in refs], "objects/area": [1] * len(refs),
        "objects/label": [notes[place][1] for place, _ in refs],
        "objects/bbox": [v for place, _ in refs for v in unit(*notes[place][2])],
        "objects/gt_box_index": [place for place, _ in refs],
        "objects/refexp/raw/ragged_flat_values": [text.encode() for text in texts],
        "objects/refexp/raw/ragged_row_lengths_0": lengths,
        "objects/refexp/refexp_id/ragged_flat_values": list(range(100 + number, 100 + number + len(texts))),
        "objects/refexp/refexp_id/ragged_row_lengths_0": lengths,
    }  # fmt: skip
    if masks:
        fields["objects/mask"] = [png(*notes[place][2]) for place, _ in refs]
    return example(fields)


def features(masks=True):
    """The features of ref_coco 1.1.0 (with masks) or 1.0.0."""
    import tensorflow_datasets as tfds

    mask = {"mask": tfds.features.Image(encoding_format="png")} if masks else {}
    return tfds.features.FeaturesDict({
        "coco_annotations": tfds.features.Sequence({
            "area": np.int64, "bbox": tfds.features.BBoxFeature(), "id": np.int64, "label": np.int64,
        }),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "image/id": np.int64,
        "objects": tfds.features.Sequence({
            "area": np.int64, "bbox": tfds.features.BBoxFeature(), "gt_box_index": np.int64, "id": np.int64,
            "label": np.int64, **mask,
            "refexp": tfds.features.Sequence({"raw": tfds.features.Text(), "refexp_id": np.int64}),
        }),
    })  # fmt: skip


def write_tfds(root, name="ref_coco", config="refcoco_unc", version="1.1.0", masks=True, kind="array_record"):
    """Writes root/NAME/CONFIG/VERSION with the split "validation" in two shards, and returns that folder."""
    folder = root / name / config / version
    folder.mkdir(parents=True)
    for k, number in enumerate(PHOTOS):
        file = folder / f"{name}-validation.{kind}-{k:05d}-of-{len(PHOTOS):05d}"
        if kind == "array_record":
            writer = ArrayRecordWriter(str(file), "group_size:1")
            writer.write(record(number, masks))
            writer.close()
        else:
            file.write_bytes(frame(record(number, masks)))
    features(masks).save_config(str(folder))
    split = {
        "name": "validation", "shardLengths": ["1"] * len(PHOTOS), "numBytes": "9",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }  # fmt: skip
    info = {
        "name": name, "configName": config, "version": version, "fileFormat": kind, "splits": [split],
        "description": "made by a test",
    }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder
