"""Paints scenes: background, shadows, colours, materials."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.twinworld.categories import BODY, DARK, EDGE, LIGHT, SHADE
from dtr1_jax.data.twinworld.scenes import PictureScene, Sprite

RGB = {
    "red": (214, 32, 38),
    "orange": (248, 132, 10),
    "yellow": (250, 226, 40),
    "green": (34, 158, 58),
    "blue": (36, 84, 222),
    "purple": (142, 48, 178),
    "white": (246, 246, 246),
    "black": (30, 30, 32),
}
_MARGIN = 64  # the noise is this many pixels larger than a picture; a picture gets a random window of it
_LEVELS = 5  # brightness levels of a material: 0 = darkest, 4 = lightest, 2 = the tone itself
_MIX = {BODY: 0.0, SHADE: -0.22, DARK: -0.55, LIGHT: 0.6, EDGE: -0.45}  # share of black (< 0) or white (> 0) in a tone
_STEP = (-0.42, -0.2, 0.0, 0.25, 0.55)  # share of black or white in a level of a material
_WEAR = {BODY: 1.0, SHADE: 0.8, DARK: 0.4, LIGHT: 0.4, EDGE: 0.0}  # how strongly a tone shows its material
_FAINT = {"white": -0.42, "black": 0.38}  # white can only become darker and black only lighter
_SHADOW = (np.arange(256) * 0.62).astype(np.uint8)  # brightness of the floor -> its brightness in a shadow


def _palette(name: str) -> np.ndarray:
    """Returns uint8[tones * _LEVELS, 3], the RGB value of each tone and level of a colour."""
    table = np.zeros((6, _LEVELS, 3))
    for tone, mix in _MIX.items():
        for level, step in enumerate(_STEP):
            total = np.clip(mix + step * _WEAR[tone], -0.75, 0.75)
            if name in _FAINT:
                total = abs(total) * _FAINT[name]
            end = 255 if total > 0 else 0
            table[tone, level] = np.array(RGB[name]) * (1 - abs(total)) + end * abs(total)
    return table.reshape(-1, 3).astype(np.uint8)


_PALETTES = {name: _palette(name) for name in RGB}


@functools.lru_cache(maxsize=32)
def _texture(material: str, size: int) -> np.ndarray:
    """Returns uint8[size, size], the level of a material at each pixel, counted from an object's upper left corner."""
    unit = size / 96  # patterns grow with the picture
    y, x = np.mgrid[:size, :size] / unit
    if material == "metal":  # a slanted gloss: dark, light, brightest, plain, darkest
        place = (0.7 * x + 0.6 * y) / 24 % 1.3
        level = np.select([place < 0.22, place < 0.42, place < 0.55, place < 0.9], [1, 3, 4, 2], 0)
    elif material == "wood":  # grain: wavy stripes along x
        level = np.where((y + 1.2 * np.sin(x / 4)) % 4 < 1.6, 0, 2)
    elif material == "cloth":  # a weave: light and dark squares
        level = np.where((x // 2 + y // 2) % 2 < 1, 3, 1)
    else:
        level = np.full((size, size), 2)
    return level.astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _noise(size: int) -> np.ndarray:
    """Returns uint8[4, size + _MARGIN, size + _MARGIN, 3] of 0 to 15: noise of four grain sizes, fine to coarse."""
    rng, whole, layers = np.random.default_rng(0), size + _MARGIN, []
    for cell in (1, 2, 6, 14):
        side, channels = whole // cell + 2, 1 if cell < 6 else 3
        grain = rng.integers(0, 16, (side, side, channels)).astype(np.float32)
        grain = cv2.resize(grain, (whole, whole), interpolation=cv2.INTER_CUBIC).reshape(whole, whole, channels)
        layers.append(np.broadcast_to(grain.clip(0, 15), (whole, whole, 3)).astype(np.uint8))
    return np.stack(layers)


def paint_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Paints uint8[size, size, 3], sRGB: wall and floor in muted middle tones, with faint clutter and noise."""
    horizon = int(rng.uniform(0.12, 0.4) * size)
    ends = rng.uniform(112, 168, (4, 1)) + rng.uniform(-14, 14, (4, 3))
    ramp = np.linspace(0, 1, size)[:, None]
    wall = ends[0] + (ends[1] - ends[0]) * ramp[:horizon] * 2
    floor = ends[2] + (ends[3] - ends[2]) * ramp[: size - horizon]
    image = np.empty((size, size, 3), np.uint8)
    image[:] = np.concatenate([wall, floor]).clip(96, 190).astype(np.uint8)[:, None]

    def tint() -> list[int]:
        place = rng.integers(0, size, 2)
        return [int(v) for v in np.clip(image[place[1], place[0]] + rng.integers(-16, 17, 3), 90, 196)]

    thick = max(1, size // 96)
    clutter = int(rng.integers(4))
    if clutter == 0:  # blobs
        for _ in range(int(rng.integers(4, 10))):
            x, y, a, b = (rng.random(4) * size * (1, 1, 0.2, 0.12)).astype(int).tolist()
            cv2.ellipse(image, (x, y), (a + 2, b + 2), int(rng.integers(180)), 0, 360, tint(), -1)
    elif clutter == 1:  # floor boards that run to a vanishing point
        colour, middle = tint(), int(rng.uniform(0.2, 0.8) * size)
        for x in range(-size, 2 * size, max(8, int(rng.uniform(0.16, 0.35) * size))):
            cv2.line(image, (middle + (x - middle) // 4, horizon), (x, size), colour, thick)
    elif clutter == 2:  # wallpaper and scratches
        for _ in range(int(rng.integers(5, 14))):
            x1, y1, x2, y2 = rng.integers(0, size, 4).tolist()
            cv2.line(image, (x1, y1), (x2, y2), tint(), thick)
    else:  # boxes and panels on the wall
        for _ in range(int(rng.integers(3, 7))):
            x, y, w, h = (rng.random(4) * size * (1, 0.8, 0.3, 0.25)).astype(int).tolist()
            cv2.rectangle(image, (x, y), (x + w + 3, y + h + 3), tint(), -1 if rng.random() < 0.5 else thick)
    bank = _noise(size)
    x, y = rng.integers(0, _MARGIN, 2).tolist()
    return image + bank[int(rng.integers(len(bank))), y : y + size, x : x + size]


def paint_picture(rng: np.random.Generator, scene: PictureScene) -> np.ndarray:
    """Paints uint8[size, size, 3], sRGB: the objects of a scene from back to front, each with its shadow."""
    size = scene.owner.shape[0]
    image = paint_background(rng, size)
    shift = _shadow_shift(rng, size)
    for sprite, corner in zip(scene.sprites, scene.corners):
        _paint_sprite(image, sprite, corner, shift)
    return image


def paint_video(
    rng: np.random.Generator, size: int, sprites: Sequence[Sprite], corners: np.ndarray, visible: np.ndarray
) -> np.ndarray:
    """Paints uint8[T, size, size, 3], sRGB: the frames of a video, as pictures over one background.

    Args:
      sprites: from the farthest to the nearest.
      corners: int[T, n, 2], left, top of each sprite in each frame, pixels; may lie outside the picture.
      visible: bool[T, n], False for sprites that are not painted in a frame.
    """
    frames = np.repeat(paint_background(rng, size)[None], len(corners), 0)
    shift = _shadow_shift(rng, size)
    for image, frame_corners, frame_visible in zip(frames, corners.tolist(), visible.tolist()):
        for sprite, corner, is_visible in zip(sprites, frame_corners, frame_visible):
            if is_visible:
                _paint_sprite(image, sprite, corner, shift)
    return frames


def _shadow_shift(rng: np.random.Generator, size: int) -> int:
    """Draws by how many pixels shadows lie to the right of their objects."""
    return int(pick(rng, (-1, 1)) * 0.04 * size)


def _paint_sprite(image: np.ndarray, sprite: Sprite, corner: Sequence[int], shadow_shift: int) -> None:
    """Paints the part of a sprite and its shadow that lies inside the picture."""
    (left, top), (height, width), (bottom, right) = corner, sprite.tones.shape, image.shape[:2]
    _paint_shadow(image, left + width // 2 + shadow_shift, top + height - 1, width)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, right), min(top + height, bottom)
    if x1 >= x2 or y1 >= y2:
        return
    inner = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    tones = sprite.tones[inner]
    levels = _texture(sprite.kind.material, right)[inner]
    colours = _PALETTES[sprite.kind.colour][tones * np.uint8(_LEVELS) + levels]
    cv2.copyTo(colours, (tones > 0).view(np.uint8), image[y1:y2, x1:x2])


def _paint_shadow(image: np.ndarray, x: int, y: int, width: int) -> None:
    """Darkens the floor under an object whose lower edge is centred at x, y."""
    half, flat = max(3, width // 2), max(2, width // 9)
    x1, y1 = max(0, x - half), max(0, y - flat)
    window = image[y1 : max(0, y + flat + 1), x1 : max(0, x + half + 1)]
    if not window.size:
        return
    inside = np.zeros(window.shape[:2], np.uint8)
    cv2.ellipse(inside, (x - x1, y - y1), (half, flat), 0, 0, 360, 1, -1)
    cv2.copyTo(_SHADOW[window], inside, window)
