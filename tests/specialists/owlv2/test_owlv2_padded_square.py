"""The input of OWLv2 against transformers 5.23's own processor, which needs no torchvision; frames of boxes."""

import numpy as np
import pytest
import small_owlv2

from dtr1_jax.specialists.owlv2 import padded_square
from dtr1_jax.specialists.owlv2.spec import Owlv2Spec, Tower

TOWER = Tower(8, 8, 1, 1, 1e-5, "relu")


def spec(side, **changes):
    return Owlv2Spec(TOWER, TOWER, 10, 16, 0, side, 16, **changes)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        (1, 1, 48), (5, 1, 33), (3, 9, 48), (30, 47, 48), (48, 48, 48), (49, 48, 48), (47, 46, 48), (97, 31, 48),
        (95, 96, 48), (200, 333, 70), (1000, 20, 64), (120, 160, 240),
    ],
)  # fmt: skip
def test_equals_the_processor(height, width, side):
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    image = small_owlv2.picture(height, width)
    process = Owlv2ImageProcessorPil(size={"height": side, "width": side})
    wanted = process(images=image, input_data_format="channels_last", return_tensors="np")["pixel_values"][0]
    got = padded_square.prepared(image, spec(side))
    assert got.dtype == np.float32 and got.shape == (side, side, 3)
    assert np.abs(got - wanted.transpose(1, 2, 0)).max() < 1e-5


def test_strips_do_not_matter(monkeypatch):
    image = small_owlv2.picture(50, 90)
    wanted = padded_square.prepared(image, spec(48))
    monkeypatch.setattr(padded_square, "_STRIP", 3 * 50 * 7)
    assert (padded_square.prepared(image, spec(48)) == wanted).all()


def test_settings_are_used():
    image = small_owlv2.picture(9, 9)
    plain = padded_square.prepared(image, spec(48, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    moved = padded_square.prepared(image, spec(48, mean=(0.1, 0.2, 0.3), std=(2.0, 4.0, 5.0), scale=2 / 255))
    assert np.allclose(moved, (2 * plain - [0.1, 0.2, 0.3]) / [2, 4, 5], atol=1e-6)
    assert plain.max() <= 1 and plain.min() >= 0


def test_a_long_line_needs_no_square():
    """The reference makes a square of 10,000 x 10,000 pixels (1.2 GB) of this picture."""
    line = np.full((1, 10_000, 3), 255, np.uint8)
    got = padded_square.prepared(line, spec(64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    assert np.ptp(got[0]) < 1e-6 and 0 < got[0, 0, 0] < 0.1 and not got[2:].any()


def test_boxes_there_and_back():
    boxes = np.float32([[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1]])
    for height, width in ((30, 60), (60, 30), (7, 7)):
        square = padded_square.square_corners(boxes, height, width)
        assert np.allclose(square[1, 2:], [width / max(height, width), height / max(height, width)])
        centred = np.concatenate([(square[:, :2] + square[:, 2:]) / 2, square[:, 2:] - square[:, :2]], 1)
        assert np.allclose(padded_square.picture_corners(centred, height, width), boxes, atol=1e-6)
    assert (padded_square.picture_corners(np.float32([[0.5, 0.9, 0.2, 0.1]]), 30, 60)[0, [1, 3]] == 1).all()
