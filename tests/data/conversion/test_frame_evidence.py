"""The frame of coordinates: decided where the boxes of a file decide it, refused with the setting where they do not."""

import numpy as np
import pytest

from dtr1_jax.data.conversion import frame_evidence
from dtr1_jax.data.conversion.frame_evidence import Evidence
from dtr1_jax.data.json_files import DataError


def boxes_in(canvas, count, seed=0):
    """Boxes x1, y1, x2, y2 anywhere in a canvas (w, h)."""
    rng = np.random.default_rng(seed)
    xs, ys = np.sort(rng.uniform(0, canvas[0], (count, 2)), 1), np.sort(rng.uniform(0, canvas[1], (count, 2)), 1)
    return [tuple(map(float, box)) for box in np.rint(np.stack([xs[:, 0], ys[:, 0], xs[:, 1] + 1, ys[:, 1] + 1], 1))]


def evidence(notation, boxes, size=(640, 480), stated=None):
    found = Evidence(notation)
    for i, box in enumerate(boxes):  # one box in each picture
        found.add([box], size, stated, i)
    return found


def unit(boxes, size):
    return [tuple(v / s for v, s in zip(box, size * 2)) for box in boxes]


@pytest.mark.parametrize("notation", ["bbox_2d", "brackets", "<box>", "<|box_start|>", "bbox"])
def test_decided_by_many_boxes(notation):
    # Of 40 boxes anywhere in 640 x 480 none would stay in it if it were 0 to 1000.
    assert evidence(notation, boxes_in((639, 479), 40)).decide().frame == "pixel"
    assert evidence(notation, boxes_in((999, 999), 40)).decide().frame == "norm1000"
    # Photos of 4000 x 3000: pixels would pass 1000.
    assert evidence(notation, boxes_in((3999, 2999), 40), (4000, 3000)).decide().frame == "pixel"
    assert evidence(notation, boxes_in((999, 999), 40), (4000, 3000)).decide().frame == "norm1000"


@pytest.mark.parametrize("notation", ["bbox_2d", "bbox"])
def test_0_to_1(notation):
    found = evidence(notation, unit(boxes_in((640, 480), 40), (642, 482)))
    assert found.decide().frame == "unit" and "values up to 0.99" in found.decide().reason


def test_few_boxes_are_refused_with_the_setting():
    found = evidence("bbox_2d", boxes_in((300, 200), 2))
    with pytest.raises(DataError, match=r"pixels of the picture or 0 to 1000 .*set --frame=pixel\|norm1000"):
        found.decide()
    assert found.decide(frame="norm1000").frame == "norm1000" and "by --frame" in found.decide("pixel").reason


def test_floats_are_not_0_to_1000():
    assert evidence("bbox_2d", [(1.5, 2.5, 30.25, 40.5)]).decide().frame == "pixel"


def test_the_rule_decides_where_the_boxes_do_not():
    found = evidence("<|box_start|>", [(10, 20, 300, 400)])
    assert found.decide().frame == "norm1000" and "by the rule of the format" in found.decide().reason


def test_a_rule_that_the_boxes_contradict_is_refused():
    for notation in ("Pascal VOC", "solution"):
        with pytest.raises(DataError, match="3 are not pixels of the picture"):
            evidence(notation, [(100, 100, 990, 470)] * 3).decide()
        with pytest.raises(DataError, match=r"3 are not pixels of the picture.*set --frame=unit"):
            evidence(notation, [(0.125, 0.25, 0.5, 0.75)] * 3).decide()
    with pytest.raises(DataError, match=r"they would fit as 0 to 1 of the width and height.*set --frame=unit"):
        evidence("ms-swift norm1000", [(0.125, 0.25, 0.5, 0.75)] * 3).decide()


def test_stray_boxes_do_not_change_the_frame():
    boxes = boxes_in((639, 479), 300)
    found = evidence("bbox_2d", [*boxes, (600, 400, 900, 470)])
    assert found.decide().frame == "pixel" and "1 of them beyond their picture" in found.decide().reason


def test_corners_or_width_and_height():
    corners = boxes_in((639, 479), 40)
    sizes = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in corners]
    assert evidence("objects.bbox", corners).decide().order == "xyxy"
    assert evidence("objects.bbox", sizes).decide().order == "xywh"
    two = [(1, 2, 30, 40), (5, 6, 70, 80)]  # either would fit
    assert evidence("objects.bbox", two).decide(frame="pixel").order == "xywh"  # as the documentation has it
    with pytest.raises(DataError, match=r"--box=xyxy\|xywh"):
        evidence("bbox", two).decide(frame="pixel")


def test_padded_squares_of_llava():
    size = (640, 480)
    plain = unit(boxes_in((640, 480), 60), (642, 482))
    padded = [(x1, (y1 * 480 + 80) / 640, x2, (y2 * 480 + 80) / 640) for x1, y1, x2, y2 in plain]
    assert evidence("brackets", plain).decide().frame == "unit"
    found = evidence("brackets", padded).decide()
    assert found.frame == "square"
    back = [frame_evidence.to_pixels(box, found, size, None) for box in padded]
    expected = [frame_evidence.to_pixels(box, evidence("brackets", plain).decide(), size, None) for box in plain]
    assert np.allclose(back, expected)
    with pytest.raises(DataError, match="--frame=unit or --frame=square"):
        evidence("brackets", [(0.3, 0.3, 0.5, 0.5)]).decide()
    assert evidence("brackets", [(0.3, 0.3, 0.5, 0.5)], (480, 480)).decide().frame == "unit"  # the same for a square


def test_the_size_that_the_file_states():
    # The boxes are of the photo before it was shrunk to half.
    found = evidence("bbox_2d", boxes_in((1279, 959), 40), (640, 480), (1280, 960))
    decision = found.decide()
    assert decision.frame == "stated"
    assert frame_evidence.to_pixels((100, 200, 300, 400), decision, (640, 480), (1280, 960)) == (50, 100, 150, 200)
    assert evidence("bbox_2d", boxes_in((639, 479), 40), (640, 480), (1280, 960)).decide().frame == "pixel"


@pytest.mark.parametrize(
    ("order", "box"),
    [
        ("xyxy", (64, 48, 320, 96)),
        ("xywh", (64, 48, 256, 48)),
        ("yxyx", (48, 64, 96, 320)),
        ("cxcywh", (192, 72, 256, 48)),
    ],
)
def test_orders(order, box):
    assert frame_evidence.as_corners(box, order) == (64, 48, 320, 96)


def test_to_pixels_by_hand():
    def pixels(box, frame, order="xyxy"):
        return frame_evidence.to_pixels(box, frame_evidence.Decision(frame, order, ""), (640, 480), None)

    assert pixels((100, 250, 500, 750), "norm1000") == (64, 120, 320, 360)
    assert pixels((256, 128, 768, 512), "norm1024", "yxyx") == (80, 120, 320, 360)
    assert pixels((0.5, 0.5, 0.25, 0.5), "unit", "cxcywh") == (240, 120, 400, 360)
    assert pixels((-3, 0, 645, 480), "pixel") == (0, 0, 640, 480)  # a rounding beyond the edge is cut
    assert pixels((-30, 0, 645, 480), "pixel") is None and pixels((5, 5, 5, 9), "pixel") is None
