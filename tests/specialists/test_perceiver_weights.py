"""Perception with real weights on real photos, where both are at hand: SSDLite and MobileSAM."""

import dataclasses
import json

import assets
import numpy as np
import pytest

from configs import default
from dtr1_jax import config
from dtr1_jax.data import image_files
from dtr1_jax.specialists import perceiver
from dtr1_jax.twin import masks
from dtr1_jax.twin.construct import Request


@pytest.fixture(scope="module")
def look():
    c = config.from_configdict(default.get_config())
    models = {
        "detector": str(assets.path("weights/coco_ssd_tfjs") / "model.json"),
        "segmenter": f"sam:{assets.path('weights/mobile_sam.pt')}",
    }
    try:
        opened = perceiver.open_perceiver(
            dataclasses.replace(c, specialists=dataclasses.replace(c.specialists, **models))
        )
    except config.ConfigError as error:
        pytest.skip(f"specialists.load cannot open the weights: {error}")
    with opened:
        yield opened


@pytest.mark.slow  # minutes: on the eight virtual devices of the tests a picture is computed eight times
def test_large_objects_of_photos_are_found(look):
    """Of the annotated objects that take a tenth of a photo, most are found by name with a mask IoU of 0.5."""
    (file, *_) = sorted(assets.path("coco_mini").glob("**/instances_*.json"))
    notes = json.loads(file.read_text())
    names = {row["id"]: row["name"] for row in notes["categories"]}
    found = wanted = 0
    for row in notes["images"][:6]:
        (path, *_) = assets.path("coco_mini").glob(f"**/{row['file_name']}")
        image = image_files.load_image(path)
        truth = [
            (names[note["category_id"]], masks.from_polygons(note["segmentation"], *image.shape[:2]))
            for note in notes["annotations"]
            if note["image_id"] == row["id"] and not note["iscrowd"] and note["area"] > 0.1 * image[:, :, 0].size
        ]
        (scene,) = look.perceive([image], [Request(look.classes, ("detect", "segment"))])
        assert scene.failures == ()
        for label, mask in truth:
            best = max(
                (np.count_nonzero(o.mask & mask) / np.count_nonzero(o.mask | mask)
                 for o in scene.instances if o.label == label),
                default=0.0,
            )  # fmt: skip
            wanted += 1
            found += best >= 0.5
    assert wanted >= 3 and found / wanted >= 0.5
