"""Labels of data sets as singular noun phrases."""

import pytest

from dtr1_jax.data.queries.label_phrases import phrase


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("mug", "mug"), ("Mugs", "mug"), ("traffic_lights", "traffic light"), ("TrafficLight", "traffic light"),
        ("hot-dog", "hot dog"), ("lab mice", "lab mouse"), ("people", "person"), ("scissors", "pair of scissors"),
        ("wine glasses", "wine glass"), ("safety glasses", "pair of safety glasses"),
        ("QR code", "QR code"), ("bus", "bus"), ("buses", "bus"),
        ("cherries", "cherry"), ("boxes", "box"), ("dishes", "dish"), ("glass", "glass"), ("person with gloves",
        "person with gloves"), ("the car", "car"), ("PCB", "PCB"), ("cactus", "cactus"), ("knives", "knife"),
        ("iPhone", "iphone"), ("class 3", "class 3"), ("lenses", "lens"), ("bees", "bee"), ("grass", "grass"),
    ],
)  # fmt: skip
def test_phrase(label, expected):
    assert phrase(label) == expected
