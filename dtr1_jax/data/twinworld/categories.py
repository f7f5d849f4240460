"""The categories of TwinWorld, with one vector drawing for each, and the combinations that training never shows.

A drawing is a list of filled polygons in painting order, each with a tone: HOLE removes pixels, the other tones are
looked up in the palette of the object's colour. Coordinates are x right, y down, about [-1, 1]. Sprites are scaled to a
given longest side (scenes.py), so only proportions matter here. Strokes are at least 0.2 thick, which keeps a
silhouette of 20 pixels recognisable.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.data.queries.attributes import COLOURS

HOLE, BODY, SHADE, DARK, LIGHT, EDGE = range(6)  # tones; EDGE is the outline, which scenes.py adds


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Polygons of one category.

    Attributes:
      points: float32[n, 2], the corners of all polygons, one after the other.
      ends: for each polygon, the index in `points` after its last corner.
      tones: for each polygon, its tone.
    """

    points: np.ndarray
    ends: tuple[int, ...]
    tones: tuple[int, ...]


def _rect(x1, y1, x2, y2):
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def _arc(x, y, rx, ry, start=0, stop=360, corners=20):
    """Corners along an ellipse, from `start` to `stop` degrees (0 is right, 90 is down)."""
    angle = np.radians(np.linspace(start, stop, corners, endpoint=abs(stop - start) < 360))
    return list(zip(x + rx * np.cos(angle), y + ry * np.sin(angle)))


def _disc(x, y, r):
    return _arc(x, y, r, r)


def _bar(x1, y1, x2, y2, width):
    """A straight stroke of `width`."""
    length = np.hypot(x2 - x1, y2 - y1)
    dx, dy = (y2 - y1) / length * width / 2, (x1 - x2) / length * width / 2
    return [(x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy)]


_PARTS = {
    "apple": [
        (BODY, _arc(-0.38, 0.15, 0.55, 0.75)),
        (BODY, _arc(0.38, 0.15, 0.55, 0.75)),
        (DARK, _bar(0, -0.4, 0.12, -1, 0.22)),
        (LIGHT, _arc(0.4, -0.8, 0.28, 0.16)),
    ],
    "bird": [
        (BODY, [(-0.3, 0.1), (-1, -0.2), (-0.95, 0.25), (-0.3, 0.45)]),
        (BODY, _arc(0, 0.2, 0.62, 0.42)),
        (BODY, _disc(0.5, -0.3, 0.34)),
        (LIGHT, [(0.75, -0.45), (1.1, -0.2), (0.75, -0.1)]),
        (DARK, _rect(-0.1, 0.55, 0.08, 1)),
        (DARK, _rect(0.2, 0.55, 0.38, 1)),
        (SHADE, [(-0.5, -0.25), (0.25, 0.05), (0, 0.4), (-0.35, 0.3)]),
        (DARK, _disc(0.55, -0.36, 0.1)),
    ],
    "boat": [
        (DARK, _rect(-0.12, -1, 0.08, 0.4)),
        (LIGHT, [(0.12, -0.95), (0.12, 0.2), (0.85, 0.2)]),
        (SHADE, [(-0.16, -0.75), (-0.16, 0.2), (-0.7, 0.2)]),
        (BODY, [(-1, 0.35), (1, 0.35), (0.6, 0.9), (-0.6, 0.9)]),
    ],
    "book": [
        (BODY, [(-1, -0.6), (0, -0.35), (0, 0.7), (-1, 0.45)]),
        (BODY, [(1, -0.6), (0, -0.35), (0, 0.7), (1, 0.45)]),
        (LIGHT, [(-0.86, -0.45), (-0.1, -0.25), (-0.1, 0.5), (-0.86, 0.3)]),
        (LIGHT, [(0.86, -0.45), (0.1, -0.25), (0.1, 0.5), (0.86, 0.3)]),
        (DARK, _bar(-0.72, -0.2, -0.22, -0.07, 0.12)),
        (DARK, _bar(-0.72, 0.08, -0.22, 0.21, 0.12)),
        (DARK, _bar(0.72, -0.2, 0.22, -0.07, 0.12)),
        (DARK, _bar(0.72, 0.08, 0.22, 0.21, 0.12)),
    ],
    "bottle": [
        (
            BODY,
            [
                (-0.17, -1),
                (0.17, -1),
                (0.17, -0.45),
                (0.42, -0.1),
                (0.42, 1),
                (-0.42, 1),
                (-0.42, -0.1),
                (-0.17, -0.45),
            ],
        ),
        (DARK, _rect(-0.22, -1.05, 0.22, -0.8)),
        (LIGHT, _rect(-0.42, 0.2, 0.42, 0.65)),
    ],
    "car": [
        (BODY, [(-0.6, 0), (-0.38, -0.5), (0.3, -0.5), (0.6, 0)]),
        (BODY, [(-1, 0), (0.85, -0.05), (1, 0.1), (1, 0.4), (-1, 0.4)]),
        (LIGHT, [(-0.42, -0.04), (-0.28, -0.36), (-0.06, -0.36), (-0.06, -0.04)]),
        (LIGHT, [(0.08, -0.04), (0.08, -0.36), (0.22, -0.36), (0.4, -0.04)]),
        (DARK, _disc(-0.55, 0.42, 0.26)),
        (DARK, _disc(0.55, 0.42, 0.26)),
        (LIGHT, _disc(-0.55, 0.42, 0.1)),
        (LIGHT, _disc(0.55, 0.42, 0.1)),
    ],
    "chair": [
        (BODY, _rect(-0.62, -1, -0.34, 1)),
        (BODY, _rect(-0.62, 0, 0.62, 0.3)),
        (BODY, _rect(0.34, 0.1, 0.62, 1)),
        (SHADE, _rect(-0.34, 0.3, 0.34, 0.42)),
    ],
    "clock": [
        (DARK, _disc(-0.62, -0.72, 0.32)),
        (DARK, _disc(0.62, -0.72, 0.32)),
        (DARK, _bar(-0.5, 0.6, -0.75, 1, 0.25)),
        (DARK, _bar(0.5, 0.6, 0.75, 1, 0.25)),
        (BODY, _disc(0, 0.08, 0.86)),
        (LIGHT, _disc(0, 0.08, 0.56)),
        (DARK, _bar(0, 0.15, 0, -0.38, 0.15)),
        (DARK, _bar(-0.05, 0.08, 0.36, 0.08, 0.15)),
    ],
    "fish": [
        (BODY, [(0.35, 0), (1, -0.5), (0.88, 0), (1, 0.5)]),
        (SHADE, [(-0.3, -0.35), (0.25, -0.62), (0.3, -0.2)]),
        (BODY, _arc(-0.2, 0, 0.8, 0.46)),
        (SHADE, [(-0.05, 0.05), (0.3, -0.08), (0.3, 0.22)]),
        (LIGHT, _disc(-0.62, -0.08, 0.15)),
        (DARK, _disc(-0.64, -0.08, 0.08)),
    ],
    "guitar": [
        (BODY, _arc(0, 0.58, 0.5, 0.42)),
        (BODY, _arc(0, 0.02, 0.36, 0.34)),
        (DARK, _rect(-0.11, -0.85, 0.11, 0.1)),
        (SHADE, _rect(-0.2, -1.05, 0.2, -0.7)),
        (DARK, _disc(0, 0.3, 0.16)),
        (LIGHT, _rect(-0.2, 0.66, 0.2, 0.78)),
    ],
    "hammer": [
        (SHADE, _rect(-0.16, -0.5, 0.16, 1)),
        (BODY, [(-0.65, -1), (0.35, -1), (0.85, -0.55), (0.35, -0.5), (-0.65, -0.45)]),
        (DARK, _rect(-0.65, -1, -0.45, -0.45)),
    ],
    "hat": [
        (BODY, _arc(0, 0.55, 1, 0.24)),
        (BODY, [(-0.6, -0.75), (0.6, -0.75), (0.52, 0.5), (-0.52, 0.5)]),
        (DARK, [(-0.54, 0.12), (0.54, 0.12), (0.53, 0.42), (-0.53, 0.42)]),
    ],
    "house": [
        (DARK, _rect(0.38, -0.9, 0.62, -0.3)),
        (BODY, _rect(-0.72, -0.15, 0.72, 0.9)),
        (DARK, [(-1, -0.1), (0, -0.95), (1, -0.1)]),
        (DARK, _rect(-0.48, 0.3, -0.1, 0.9)),
        (LIGHT, _rect(0.14, 0.15, 0.52, 0.5)),
    ],
    "key": [
        (BODY, _disc(-0.58, 0, 0.46)),
        (HOLE, _disc(-0.6, 0, 0.18)),
        (BODY, _rect(-0.2, -0.15, 1, 0.15)),
        (BODY, _rect(0.42, 0.1, 0.62, 0.5)),
        (BODY, _rect(0.8, 0.1, 1, 0.55)),
    ],
    "lamp": [
        (DARK, _rect(-0.11, -0.2, 0.11, 0.85)),
        (DARK, _arc(0, 0.9, 0.5, 0.16)),
        (BODY, [(-0.32, -1), (0.32, -1), (0.75, -0.1), (-0.75, -0.1)]),
        (LIGHT, _rect(-0.72, -0.2, 0.72, -0.08)),
    ],
    "mug": [
        (BODY, _arc(0.5, 0.05, 0.5, 0.52)),
        (HOLE, _arc(0.52, 0.05, 0.25, 0.27)),
        (BODY, _rect(-0.8, -0.75, 0.45, 0.85)),
        (DARK, _arc(-0.175, -0.75, 0.625, 0.16)),
    ],
    "scissors": [
        (DARK, _disc(-0.42, 0.62, 0.36)),
        (DARK, _disc(0.42, 0.62, 0.36)),
        (HOLE, _disc(-0.44, 0.64, 0.15)),
        (HOLE, _disc(0.44, 0.64, 0.15)),
        (BODY, [(-0.3, 0.4), (-0.08, 0.4), (0.55, -1), (0.25, -0.85)]),
        (SHADE, [(0.3, 0.4), (0.08, 0.4), (-0.55, -1), (-0.25, -0.85)]),
    ],
    "shoe": [
        (BODY, [(-0.9, -0.75), (-0.15, -0.75), (-0.1, -0.1), (0.6, 0.1), (0.95, 0.35), (0.95, 0.6), (-0.9, 0.6)]),
        (DARK, _rect(-0.95, 0.5, 1, 0.75)),
        (LIGHT, _bar(-0.3, -0.35, 0, -0.35, 0.13)),
        (LIGHT, _bar(-0.25, -0.05, 0.1, -0.05, 0.13)),
        (SHADE, _rect(-0.9, -0.75, -0.15, -0.55)),
    ],
    "tree": [
        (DARK, _rect(-0.17, 0.2, 0.17, 1)),
        (BODY, _disc(-0.42, 0, 0.42)),
        (BODY, _disc(0.42, 0, 0.42)),
        (BODY, _disc(0, -0.5, 0.5)),
        (SHADE, _disc(0.3, 0.05, 0.2)),
        (SHADE, _disc(-0.2, -0.45, 0.18)),
    ],
    "umbrella": [
        (DARK, _rect(-0.1, -0.3, 0.1, 0.8)),
        (DARK, _arc(0.2, 0.75, 0.3, 0.27, 0, 180)),
        (HOLE, _arc(0.2, 0.73, 0.1, 0.1)),
        (BODY, _arc(0, 0, 1, 0.9, 180, 360)),
        (SHADE, [(0, -0.9), (0.34, 0), (-0.34, 0)]),
        (DARK, _rect(-0.08, -1.05, 0.08, -0.85)),
    ],
}

LABELS = tuple(_PARTS)


def _drawing(parts: list[tuple[int, list[tuple[float, float]]]]) -> Drawing:
    ends = tuple(int(end) for end in np.cumsum([len(corners) for _, corners in parts]))
    points = np.array([point for _, corners in parts for point in corners], np.float32)
    return Drawing(points, ends, tuple(tone for tone, _ in parts))


DRAWINGS = {label: _drawing(parts) for label, parts in _PARTS.items()}

# Training never shows these (category, colour) combinations. They are a fifth of all: 4 categories of each colour, and
# 1 or 2 colours of each category. One half of them appears in held-out scenes alone, the other in validation scenes
# alone: settings that are chosen on the one are not chosen on the other.
UNSEEN_IN = {
    split: frozenset(
        (label, colour)
        for i, label in enumerate(LABELS)
        for j, colour in enumerate(COLOURS)
        if (3 * i + j) % 10 == remainder
    )
    for split, remainder in (("heldout", 0), ("validation", 5))
}
UNSEEN = frozenset().union(*UNSEEN_IN.values())
