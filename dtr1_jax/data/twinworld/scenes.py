"""Random scenes of pictures: their objects, silhouettes, places, depth order and occlusion.

All lengths are in pixels of a picture of `size` x `size`. Constants "at size 96" grow in proportion to the size.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from dtr1_jax.data.queries.attributes import COLOURS, MATERIALS
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.twinworld.categories import DRAWINGS, EDGE, LABELS, UNSEEN, UNSEEN_IN
from dtr1_jax.types import Instance

MOST_OBJECTS = 9  # capacity of the fallback grid
MOST_ALIKE = 3  # a category is not repeated on purpose once it has this many objects
PIXELS = {"small": (18.0, 22.0), "large": (30.0, 40.0)}  # longest side of a silhouette, at size 96
VISIBLE_SHARE = 0.4  # share of an object's pixels that stay visible, at least
VISIBLE_PIXELS = 60  # pixels of an object that stay visible, at least, at size 96
BASE_GAP = 4.0  # distance between the lower edges of neighbours in depth, at least, at size 96
_LAYOUT_ATTEMPTS = 8  # random layouts that are tried before the grid
_PLACE_ATTEMPTS = 10  # random places that are tried for an object before its layout is given up
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclasses.dataclass(frozen=True)
class Kind:
    """The category and the attributes of an object, without its place."""

    label: str
    colour: str
    size: str
    material: str


@dataclasses.dataclass(frozen=True)
class Sprite:
    """The silhouette of an object.

    Attributes:
      kind: category and attributes.
      tones: uint8[h, w], the tone of each pixel, 0 outside the silhouette; its sides touch the silhouette.
      area: number of pixels of the silhouette.
    """

    kind: Kind
    tones: np.ndarray
    area: int


@dataclasses.dataclass(frozen=True)
class PictureScene:
    """The objects of a picture and their places.

    Attributes:
      sprites: from the farthest to the nearest.
      corners: left, top of each sprite, pixels.
      owner: uint8[size, size], the sprite that is visible at each pixel: k for sprites[k - 1], 0 for the background.
    """

    sprites: tuple[Sprite, ...]
    corners: tuple[tuple[int, int], ...]
    owner: np.ndarray


def sample_kinds(rng: np.random.Generator, split: str, count: int) -> list[Kind]:
    """Draws the kinds of the objects of a scene.

    Some categories are repeated, and objects share colours and materials, so that queries can count them. The first
    object of a "heldout" or "validation" scene is one of the split's combinations of category and colour
    (categories.UNSEEN_IN). No scene has a combination of another split.
    """
    own = UNSEEN_IN.get(split, frozenset())
    foreign = UNSEEN - own
    palette = [pick(rng, COLOURS) for _ in range(2 + int(rng.integers(3)))]
    materials = [pick(rng, MATERIALS) for _ in range(1 + int(rng.integers(4)))]
    large_probability = 0.5 if count < 5 else 0.35
    labels, result = [], []
    for index in range(count):
        repeatable = [label for label in labels if labels.count(label) < MOST_ALIKE]
        unseen = bool(own) and index == 0
        everywhere = [name for name in LABELS if any((name, c) in own for c in COLOURS)] if unseen else LABELS
        label = pick(rng, repeatable if repeatable and rng.random() < 0.35 else everywhere)
        colour = pick(rng, palette if rng.random() < 0.85 else COLOURS)
        if unseen:
            colour = pick(rng, [c for c in COLOURS if (label, c) in own])
        elif (label, colour) in foreign:
            colour = pick(rng, [c for c in COLOURS if (label, c) not in UNSEEN])
        labels.append(label)
        size = "large" if rng.random() < large_probability else "small"
        result.append(Kind(label, colour, size, pick(rng, materials)))
    return result


def sample_sprite(rng: np.random.Generator, kind: Kind, size: int) -> Sprite:
    """Draws a silhouette of `kind` with a random scale, a small rotation and stretch, and perhaps mirrored."""
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
    first = 0
    for end, tone in zip(drawing.ends, drawing.tones):
        cv2.fillPoly(tones, [corners[first:end]], tone, shift=4)
        first = end
    inside = (tones > 0).view(np.uint8)
    x, y, w, h = cv2.boundingRect(inside)
    tones, inside = tones[y : y + h, x : x + w], inside[y : y + h, x : x + w]
    core = cv2.erode(inside, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    tones = np.where(core < inside, np.uint8(EDGE), tones)
    return Sprite(kind, tones, int(cv2.countNonZero(inside)))


def _all_visible(owner: np.ndarray, sprites: list[Sprite], min_pixels: float) -> bool:
    """Whether all sprites that are painted into `owner` so far are visible enough."""
    pixels = np.bincount(owner.ravel(), minlength=len(sprites) + 1)
    return all(pixels[k] >= max(min_pixels, VISIBLE_SHARE * sprite.area) for k, sprite in enumerate(sprites, 1))


def _scatter(rng: np.random.Generator, sprites: list[Sprite], size: int) -> PictureScene | None:
    """Puts sprites at random places, from the farthest to the nearest; None if some sprite finds no place."""
    bases = sorted(((max(rng.uniform(0.3, 0.98) * size, s.tones.shape[0] + 1), i) for i, s in enumerate(sprites)))
    gap, base = BASE_GAP * size / 96, -np.inf  # a sprite's base is its lower edge
    owner, front, corners = np.zeros((size, size), np.uint8), [], []
    for own_base, index in bases:
        sprite, base = sprites[index], max(own_base, base + gap)
        if base > size - 1:
            return None
        height, width = sprite.tones.shape
        top, inside = int(base) - height, sprite.tones > 0
        for _ in range(_PLACE_ATTEMPTS):
            left = int(rng.integers(1, size - width))
            trial = owner.copy()
            trial[top : top + height, left : left + width][inside] = len(front) + 1
            if _all_visible(trial, [*front, sprite], VISIBLE_PIXELS * (size / 96) ** 2):
                break
        else:
            return None
        owner = trial
        front.append(sprite)
        corners.append((left, top))
    return PictureScene(tuple(front), tuple(corners), owner)


def _grid(rng: np.random.Generator, sprites: list[Sprite], size: int) -> PictureScene:
    """Puts small sprites into the cells of a grid of 3 x 3, with columns at different depths; always succeeds."""
    cells = [(row, column) for row in range(3) for column in range(3)]
    indices = sorted(rng.permutation(9)[: len(sprites)].tolist())
    step, shifts = size // 3, rng.permutation(3)
    owner, places = np.zeros((size, size), np.uint8), []
    for sprite, index in zip(sprites, indices):
        row, column = cells[index]
        height, width = sprite.tones.shape
        base = (row + 1) * step - 1 - int(shifts[column] * BASE_GAP * size / 96)
        places.append((base, column * step + (step - width) // 2, base - height, sprite))
    places.sort(key=lambda place: place[0])
    for k, (base, left, top, sprite) in enumerate(places, 1):
        owner[top:base, left : left + sprite.tones.shape[1]][sprite.tones > 0] = k
    return PictureScene(tuple(p[3] for p in places), tuple((p[1], p[2]) for p in places), owner)


def sample_picture_scene(rng: np.random.Generator, split: str, count: int, size: int) -> PictureScene:
    """Draws a scene of `count` objects, each of which is visible enough; always succeeds.

    Args:
      split: as in `sample_kinds`.
      count: 1 .. MOST_OBJECTS.
      size: side of the picture, pixels, at least 96.
    """
    for _ in range(_LAYOUT_ATTEMPTS):
        sprites = [sample_sprite(rng, kind, size) for kind in sample_kinds(rng, split, count)]
        scene = _scatter(rng, sprites, size)
        if scene is not None:
            return scene
    small = [dataclasses.replace(kind, size="small") for kind in sample_kinds(rng, split, count)]
    return _grid(rng, [sample_sprite(rng, kind, size) for kind in small], size)


def picture_instances(scene: PictureScene) -> tuple[Instance, ...]:
    """Annotates a scene: ids 1, 2, ... from left to right by the centre of the visible box, depth 1 = nearest."""
    size, annotations = scene.owner.shape[0], []
    for k, sprite in enumerate(scene.sprites, 1):
        mask = scene.owner == k
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        box = (x / size, y / size, (x + w) / size, (y + h) / size)
        kind, depth = sprite.kind, len(scene.sprites) - k + 1
        annotations.append((2 * x + w, 2 * y + h, box, mask, kind, depth))
    annotations.sort(key=lambda annotation: annotation[:2])
    return tuple(
        Instance(number, kind.label, box, mask, depth, (kind.colour, kind.size, kind.material))
        for number, (_, _, box, mask, kind, depth) in enumerate(annotations, 1)
    )
