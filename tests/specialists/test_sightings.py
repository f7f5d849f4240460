"""One object is one sighting: merging by masks, boxes and labels."""

import numpy as np
import pytest

from dtr1_jax.specialists import sightings
from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.sightings import Sighting


def seen(label, score, box, mask=None):
    found = None
    if mask is not None:
        found = np.zeros((10, 10), bool)
        found[mask] = True
    return Sighting(label, score, np.array(box, float), mask=found, mask_by="sam" if mask is not None else "box")


def test_detections_are_cleaned():
    boxes = np.array([[0.1, 0.1, 0.5, 0.5], [np.nan, 0, 1, 1], [0.5, 0.5, 0.4, 0.6], [-1, -1, 2, 2], [2, 2, 3, 3]])
    found = Detections(boxes, np.array([0.3, 0.9, 0.9, 1.7, 0.9]), ("cat", "b", "c", "dog", "e"))
    one, other = sightings.of_detections(found, 10, 10, "boxes")
    assert (one.label, one.score, one.box.tolist()) == ("dog", 1.0, [0, 0, 1, 1])
    assert (other.label, other.score, other.mask) == ("cat", 0.3, None)


def test_masks_of_an_instance_segmenter_are_kept_if_they_fit():
    boxes, masks = np.array([[0.0, 0, 1, 1]] * 2), np.array([np.eye(10, dtype=bool), np.zeros((10, 10), bool)])
    found = Detections(boxes, np.array([0.9, 0.8]), ("cat", "dog"), masks)
    cat, dog = sightings.of_detections(found, 10, 10, "boxes")
    assert (cat.mask_by, dog.mask_by) == ("boxes", "box") and dog.mask is None  # an empty mask is none
    assert all(one.mask is None for one in sightings.of_detections(found, 20, 10, "boxes"))


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        (seen("sofa", 0.9, (0, 0, 1, 1)), seen("couch", 0.8, (0, 0, 1, 0.7)), 1),  # box IoU 0.7
        (seen("sofa", 0.9, (0, 0, 1, 1)), seen("couch", 0.8, (0, 0, 1, 0.5)), 2),  # box IoU 0.5
        (seen("car", 0.9, (0, 0, 1, 1)), seen("truck", 0.8, (0, 0, 1, 0.95)), 1),  # another label, IoU 0.95
        (seen("car", 0.9, (0, 0, 1, 1)), seen("truck", 0.8, (0, 0, 1, 0.7)), 2),
        (seen("cat", 0.9, (0, 0, 1, 1), np.s_[:5]), seen("cat", 0.8, (0, 0, 1, 1), np.s_[5:]), 2),  # masks apart
        (seen("cat", 0.9, (0, 0, 1, 1), np.s_[:6]), seen("cat", 0.8, (0, 0, 1, 0.5), np.s_[:5]), 1),  # mask IoU 5 / 6
        (seen("cat", 0.9, (0, 0, 1, 1), np.s_[:2]), seen("cat", 0.8, (0, 0, 1, 0.9)), 1),  # only boxes to compare
    ],
)
def test_pairs(one, other, count):
    for pair in ([one, other], [other, one]):
        found = sightings.distinct(pair, 0.6)
        assert len(found) == count and found[0].score == 0.9
    if count == 1 and one.label != other.label:
        assert found[0].others == {other.label: 0.8}


def test_a_mask_and_a_box_are_compared_by_boxes():
    one = seen("cat", 0.9, (0, 0, 1, 1), np.s_[:2])
    assert len(sightings.distinct([one, seen("cat", 0.5, (0, 0, 1, 0.5))], 0.6)) == 2


def test_labels_of_all_repetitions_are_kept():
    box = (0, 0, 1, 1)
    found = sightings.distinct([seen(name, s, box) for name, s in (("car", 0.9), ("truck", 0.5), ("bus", 0.7))], 0.6)
    assert [one.others for one in found] == [{"truck": 0.5, "bus": 0.7}]
