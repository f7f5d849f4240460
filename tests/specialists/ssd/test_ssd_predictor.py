"""`detect`: names, boxes, resizing, settings and bad pictures; class ids equal COCO's."""

import json

import jax
import numpy as np
import pytest
import ssd_weights
from PIL import Image

from dtr1_jax import specialists
from dtr1_jax.specialists import batching
from dtr1_jax.specialists.ssd import coco_classes, predictor
from dtr1_jax.specialists.ssd.spec import SsdSpec
from dtr1_jax.specialists.ssd.weights import shapes
from tests import assets

SMALL = SsdSpec(
    side=32, classes=90, stem=4, blocks=((4, 4),) + ((8, 4), (8, 6)) * 8, last=10, extras=((4, 6),) * 4,
    boxes=(2, 3, 3, 3, 3, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def small():
    params = jax.device_put(ssd_weights.random_weights(shapes(SMALL)))
    return predictor.SsdDetector(SMALL, params, batching.single_device_mesh(), batch_size=4)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 30), (1, 1), (33, 200), (7, 9), (40, 30))]


def test_classes_are_those_of_coco():
    file = next(assets.path("coco_mini/annotations").rglob("*instances*.json"))
    categories = json.loads(file.read_text())["categories"]
    assert {c["id"]: c["name"] for c in categories} == coco_classes.NAMES
    assert len(coco_classes.NAMES) == len(set(coco_classes.NAMES.values())) == 80


def test_detections_follow_from_the_raw_outputs(small, images):
    box, score = small.raw(images)
    found = small.detect(images, threshold=0.6, most=7)
    assert len(found) == 5 and sum(len(d.scores) for d in found) > 5
    columns = {name: i - 1 for i, name in coco_classes.NAMES.items()}
    for boxes, scores, d in zip(box, score, found):
        assert d.boxes.dtype == d.scores.dtype == np.float32 and len(d.labels) == len(d.scores) == len(d.boxes) <= 7
        assert (np.diff(d.scores) <= 0).all() and (d.scores > 0.6).all()
        assert (d.boxes >= 0).all() and (d.boxes <= 1).all() and (d.boxes[:, 2:] > d.boxes[:, :2]).all()
        for one, value, label in zip(d.boxes, d.scores, d.labels):
            (row,) = np.flatnonzero(scores[:, columns[label]] == value)[:1]
            np.testing.assert_allclose(one, np.clip(boxes[row][[1, 0, 3, 2]], 0, 1), atol=1e-6)


def test_batches_do_not_matter_and_classes_can_be_chosen(small, images):
    whole, single = small.raw(images), [small.raw(image) for image in images]
    np.testing.assert_allclose(whole[1], np.concatenate([s for _, s in single]), atol=1e-5)
    names = set(small.detect(images[0], threshold=0.3)[0].labels)
    some = sorted(names)[:2]
    assert set(small.detect(images[0], threshold=0.3, classes=some)[0].labels) == set(some)


def test_bad_input(small, images):
    assert small.detect([]) == []
    for wrong in ({"threshold": 1.0}, {"threshold": -0.1}, {"most": 0}, {"threshold": float("nan")}):
        with pytest.raises(ValueError, match="expected a threshold"):
            small.detect(images[0], **wrong)
    with pytest.raises(ValueError, match=r"COCO classes.*sofa"):
        small.detect(images[0], classes=["sofa"])
    with pytest.raises(ValueError, match="COCO classes"):
        small.detect(images[0], classes="dog")
    with pytest.raises(ValueError, match="picture 1: expected an array"):
        small.detect([images[0], np.zeros((3, 4, 5, 6))])
    with pytest.raises(ValueError, match="batch_size"):
        predictor.SsdDetector(SMALL, {}, None, batch_size=0)
    assert len(small.detect([np.zeros((5, 6), np.uint8), np.zeros((3, 10_000, 4), np.uint8)])) == 2


def test_resizing_by_hand():
    """2 rows to 4: at 0, 0.5, 1 and 1.5, and beyond the last row is the last row."""
    image = np.zeros((2, 1, 3), np.uint8)
    image[1] = 100
    np.testing.assert_allclose(predictor.resized(image, 4)[:, 0, 0], [0, 50, 100, 100])
    image = np.arange(6, dtype=np.uint8)[None, :, None].repeat(3, 2)
    np.testing.assert_allclose(predictor.resized(image, 4)[0, :, 0], [0, 1.5, 3, 4.5])


def test_a_photo_and_its_objects():
    detector = specialists.load(assets.path("weights/coco_ssd_tfjs") / "model.json")
    photo = next(assets.path("coco_panoptic_val100/images").rglob("000000000285.jpg"))
    (found,) = detector.detect(np.array(Image.open(photo).convert("RGB")))
    assert (
        found.labels == ("bear",) and found.scores[0] > 0.9 and np.prod(found.boxes[0, 2:] - found.boxes[0, :2]) > 0.5
    )
