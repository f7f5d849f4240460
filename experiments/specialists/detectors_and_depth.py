"""Figures of the SSD detector and of FastDepth with real weights on real photos; the last line is one JSON object.

    python experiments/specialists/detectors_and_depth.py --assets=DIR

DIR has coco_mini/, coco_panoptic_val100/ and weights/, as the tests expect them.

    ssd_recall     share of the annotated things of the 80 COCO classes that a detection of their class matches
    ssd_precision  share of the detections that match one; detections inside crowd regions of their class do not count
    fastdepth_spearman  rank correlation of nearness with the measured disparity of scikit-image's motorcycle

A detection matches by an IoU of at least 0.5, each thing once, the best score first. Detections count from a score of
THRESHOLD. FastDepth needs onnxruntime (the extra [onnx]) and the photo scikit-image; without them its figure is null,
and `fastdepth_missing` says why.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from dtr1_jax import specialists
from dtr1_jax.data import image_files
from dtr1_jax.specialists.box_suppression import pairwise_iou
from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.ssd import coco_classes

THRESHOLD, IOU = 0.5, 0.5
PARTS = {  # annotation file -> folder of its photos
    "coco_mini/annotations/instances_train2017.json": "coco_mini/train2017",
    "coco_mini/annotations/instances_val2017.json": "coco_mini/val2017",
    "coco_panoptic_val100/panoptic_val2017.json": "coco_panoptic_val100/images",
}
FASTDEPTH = {"kind": "depth", "input": {"name": "0", "height": 224, "width": 224},
             "depth": {"output": "350", "meaning": "depth", "metres": 1.0}}  # fmt: skip

Thing = tuple[str, tuple[float, float, float, float], bool]  # label, box in the unit frame, whether it is a crowd


def things(assets: Path) -> dict[Path, list[Thing]]:
    """The annotated things of each photo, by its path. A photo that is in several files counts once."""
    photos: dict[Path, list[Thing]] = {}
    names: set[str] = set()
    for part, folder in PARTS.items():
        value = json.loads((assets / part).read_text())
        rows = [
            note if "bbox" in note else segment | {"image_id": note["image_id"]}
            for note in value["annotations"]
            for segment in note.get("segments_info", [note])
        ]
        for image in value["images"]:
            if image["file_name"] in names:
                continue
            names.add(image["file_name"])
            photos[assets / folder / image["file_name"]] = [
                (coco_classes.NAMES[row["category_id"]], _unit(row["bbox"], image), bool(row["iscrowd"]))
                for row in rows
                if row["image_id"] == image["id"] and row["category_id"] in coco_classes.NAMES
            ]
    return photos


def counts(found: Detections, expected: list[Thing]) -> tuple[int, int, int]:
    """(things, things that a detection matches, detections that count) of one photo."""
    matched = counted = 0
    for label in set(found.labels):
        boxes = found.boxes[[name == label for name in found.labels]].astype(np.float64)
        truth = _boxes(box for name, box, crowd in expected if name == label and not crowd)
        crowds = _boxes(box for name, box, crowd in expected if name == label and crowd)
        iou, free = pairwise_iou(boxes, truth), np.ones(len(truth), bool)
        for box, row in zip(boxes, iou):
            best = int(np.argmax(np.where(free, row, -1))) if len(row) else -1
            if best >= 0 and free[best] and row[best] >= IOU:
                free[best] = False
                matched, counted = matched + 1, counted + 1
            elif not any(_share_inside(box, crowd) >= IOU for crowd in crowds):
                counted += 1
    return sum(not crowd for _, _, crowd in expected), matched, counted


def ssd(assets: Path, most: int | None = None) -> dict:
    """Recall and precision of SSDLite-MobileNetV2 on at most `most` photos."""
    detector = specialists.load(assets / "weights/coco_ssd_tfjs")
    photos = dict(list(things(assets).items())[:most])
    totals, seconds = np.zeros(3, int), 0.0
    images = [image_files.load_image(path) for path in photos]
    detector.detect(images[:16])  # compiles
    start = time.perf_counter()
    results = detector.detect(images, threshold=THRESHOLD)
    seconds = time.perf_counter() - start
    for found, expected in zip(results, photos.values()):
        totals += counts(found, expected)
    total, matched, counted = (int(n) for n in totals)
    return {
        "ssd_recall": round(matched / max(total, 1), 4), "ssd_precision": round(matched / max(counted, 1), 4),
        "ssd_threshold": THRESHOLD, "ssd_photos": len(photos), "ssd_things": total,
        "ssd_pictures_per_s": round(len(photos) / seconds, 1),
    }  # fmt: skip


def fastdepth(assets: Path) -> dict:
    """The rank correlation of FastDepth's nearness with the disparity of scikit-image's motorcycle."""
    try:
        from scipy import stats
        from skimage import data

        left, _, disparity = data.stereo_motorcycle()
        model = specialists.load(assets / "weights/fastdepth/fastdepth_7.onnx", description=FASTDEPTH)
    except (ImportError, OSError) as error:
        return {"fastdepth_spearman": None, "fastdepth_missing": str(error)}
    with model:
        (depth,) = model.estimate(left)
    measured = np.isfinite(disparity)
    figure = stats.spearmanr(depth.nearness[measured], disparity[measured]).statistic
    return {"fastdepth_spearman": round(float(figure), 4)}


def figures(assets: Path) -> dict:
    """All figures."""
    return ssd(assets) | fastdepth(assets)


def _unit(box: list[float], image: dict) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x / image["width"], y / image["height"], (x + w) / image["width"], (y + h) / image["height"]


def _boxes(rows) -> np.ndarray:
    return np.array(list(rows), np.float64).reshape(-1, 4)


def _share_inside(box: np.ndarray, region: np.ndarray) -> float:
    """The share of a box that lies inside a region."""
    both = np.concatenate([np.maximum(box[:2], region[:2]), np.minimum(box[2:], region[2:])])
    return float(np.prod(np.maximum(both[2:] - both[:2], 0)) / np.prod(box[2:] - box[:2]))


def main(argv: list[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of real data and weights")
    print(json.dumps(figures(parser.parse_args(argv).assets)))


if __name__ == "__main__":
    main()
