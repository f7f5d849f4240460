"""Which objects a scene has and where they stand: silhouettes, depth order, occlusion.

All lengths are pixels of a picture of `size` x `size`; constants are for size 96 and grow with it.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from dtr1_jax.data.queries.attributes import COLOURS, MATERIALS
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.twinworld.categories import DRAWINGS, EDGE, LABELS, UNSEEN
from dtr1_jax.types import Instance

MOST_OBJECTS = 9  # what the fallback grid holds
MOST_ALIKE = 3  # objects of one category that are drawn on purpose
PIXELS = {"small": (18.0, 22.0), "large": (30.0, 40.0)}  # longest side of a silhouette, at size 96
VISIBLE_SHARE = 0.4  # of an object's pixels stay visible, at least
VISIBLE_PIXELS = 60  # at least, at size 96
BASE_GAP = 4.0  # between the lower edges of two objects that are neighbours in depth, at size 96
_LAYOUTS = 8  # random layouts before the grid
_PLACES = 10  # random positions for an object before its layout is given up
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What an object is, before it has a place."""

    label: str
    colour: str
    size: str
    material: str


@dataclasses.dataclass(frozen=True)
class Sprite:
    """A kind with its pixels.

    Attributes:
      kind: what it is.
      tones: uint8[h, w], tone of each pixel, 0 outside the silhouette; tight around it.
      area: number of pixels of the silhouette.
    """

    kind: Kind
    tones: np.ndarray
    area: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """A scene without its colours.

    Attributes:
      sprites: from the farthest to the nearest.
      corners: left, top of each sprite, pixels.
      owner: uint8[size, size], 0 = background, k = sprites[k - 1] is seen here.
    """

    sprites: tuple[Sprite, ...]
    corners: tuple[tuple[int, int], ...]
    owner: np.ndarray


def kinds(rng: np.random.Generator, split: str, count: int) -> list[Kind]:
    """What stands in a scene: some categories come twice, colours and materials are shared, so that queries can count.

    In "train" no unseen combination of category and colour occurs; in "heldout" the first object is one.
    """
    palette = [pick(rng, COLOURS) for _ in range(2 + int(rng.integers(3)))]
    materials = [pick(rng, MATERIALS) for _ in range(1 + int(rng.integers(4)))]
    large = 0.5 if count < 5 else 0.35
    labels, result = [], []
    for index in range(count):
        again = [label for label in labels if labels.count(label) < MOST_ALIKE]
        label = pick(rng, again if again and rng.random() < 0.35 else LABELS)
        colour = pick(rng, palette if rng.random() < 0.85 else COLOURS)
        must = split == "heldout" and index == 0
        if must or (split == "train" and (label, colour) in UNSEEN):
            colour = pick(rng, [c for c in COLOURS if ((label, c) in UNSEEN) == must])
        labels.append(label)
        result.append(Kind(label, colour, "large" if rng.random() < large else "small", pick(rng, materials)))
    return result


def sprite(rng: np.random.Generator, kind: Kind, size: int) -> Sprite:
    """The silhouette of `kind` with a little rotation, stretch, mirroring and scale of its own."""
    drawing = DRAWINGS[kind.label]
    low, high = PIXELS[kind.size]
    pixels = rng.uniform(low, high) * size / 96
    angle = np.radians(rng.uniform(-9, 9))
    cos, sin = np.cos(angle), np.sin(angle)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    turn = np.array([[flip * cos, flip * sin], [-sin, cos]]) * [[rng.uniform(0.92, 1.08)], [1.0]]
    points = drawing.points @ turn
    start, stop = points.min(0), points.max(0)
    scale = (pixels - 1) / (stop - start).max()
    corners = np.rint((points - start) * (scale * 16)).astype(np.int32)  # 4 fractional bits
    width, height = (np.ceil((stop - start) * scale).astype(int) + 2).tolist()
    tones = np.zeros((height, width), np.uint8)
    begin = 0
    for end, tone in zip(drawing.ends, drawing.tones):
        cv2.fillPoly(tones, [corners[begin:end]], tone, shift=4)
        begin = end
    inside = (tones > 0).view(np.uint8)
    x, y, w, h = cv2.boundingRect(inside)
    tones, inside = tones[y : y + h, x : x + w], inside[y : y + h, x : x + w]
    core = cv2.erode(inside, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    tones = np.where(core < inside, np.uint8(EDGE), tones)
    return Sprite(kind, tones, int(cv2.countNonZero(inside)))


def _stands(owner: np.ndarray, sprites: list[Sprite], least: float) -> bool:
    """True where all sprites painted into `owner` so far are visible enough."""
    seen = np.bincount(owner.ravel(), minlength=len(sprites) + 1)
    return all(seen[k] >= max(least, VISIBLE_SHARE * item.area) for k, item in enumerate(sprites, 1))


def _scatter(rng: np.random.Generator, sprites: list[Sprite], size: int) -> Layout | None:
    """One try at a random layout; None where an object finds no place."""
    wanted = sorted(((max(rng.uniform(0.3, 0.98) * size, s.tones.shape[0] + 1), i) for i, s in enumerate(sprites)))
    gap, base = BASE_GAP * size / 96, -np.inf
    owner, placed, corners = np.zeros((size, size), np.uint8), [], []
    for wish, index in wanted:
        item, base = sprites[index], max(wish, base + gap)
        if base > size - 1:
            return None
        height, width = item.tones.shape
        top, inside = int(base) - height, item.tones > 0
        for _ in range(_PLACES):
            left = int(rng.integers(1, size - width))
            trial = owner.copy()
            trial[top : top + height, left : left + width][inside] = len(placed) + 1
            if _stands(trial, [*placed, item], VISIBLE_PIXELS * (size / 96) ** 2):
                break
        else:
            return None
        owner = trial
        placed.append(item)
        corners.append((left, top))
    return Layout(tuple(placed), tuple(corners), owner)


def _grid(rng: np.random.Generator, sprites: list[Sprite], size: int) -> Layout:
    """The layout that always works for small sprites: one in a cell of 3 x 3, the columns at different depth."""
    cells = [(row, column) for row in range(3) for column in range(3)]
    chosen = sorted(rng.permutation(9)[: len(sprites)].tolist())
    step, shifts = size // 3, rng.permutation(3)
    owner, spots = np.zeros((size, size), np.uint8), []
    for item, cell in zip(sprites, chosen):
        row, column = cells[cell]
        height, width = item.tones.shape
        base = (row + 1) * step - 1 - int(shifts[column] * BASE_GAP * size / 96)
        spots.append((base, column * step + (step - width) // 2, base - height, item))
    spots.sort(key=lambda spot: spot[0])
    for k, (base, left, top, item) in enumerate(spots, 1):
        owner[top:base, left : left + item.tones.shape[1]][item.tones > 0] = k
    return Layout(tuple(s[3] for s in spots), tuple((s[1], s[2]) for s in spots), owner)


def layout(rng: np.random.Generator, split: str, count: int, size: int) -> Layout:
    """A scene of `count` objects in which every object is visible enough; always succeeds.

    Args:
      count: 1 .. MOST_OBJECTS.
      size: side of the picture, pixels, at least 96.
    """
    for _ in range(_LAYOUTS):
        sprites = [sprite(rng, kind, size) for kind in kinds(rng, split, count)]
        found = _scatter(rng, sprites, size)
        if found is not None:
            return found
    small = [dataclasses.replace(kind, size="small") for kind in kinds(rng, split, count)]
    return _grid(rng, [sprite(rng, kind, size) for kind in small], size)


def instances(scene: Layout) -> tuple[Instance, ...]:
    """Annotations of a layout: ids 1.. from left to right by the centre of the visible box, depth 1 = nearest."""
    size, found = scene.owner.shape[0], []
    for k, item in enumerate(scene.sprites, 1):
        mask = scene.owner == k
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        box = (x / size, y / size, (x + w) / size, (y + h) / size)
        kind, depth = item.kind, len(scene.sprites) - k + 1
        found.append((2 * x + w, 2 * y + h, box, mask, kind, depth))
    found.sort(key=lambda entry: entry[:2])
    return tuple(
        Instance(number, kind.label, box, mask, depth, (kind.colour, kind.size, kind.material))
        for number, (_, _, box, mask, kind, depth) in enumerate(found, 1)
    )
