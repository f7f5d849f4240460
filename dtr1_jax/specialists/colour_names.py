"""Names the colours of pixels by the 11 basic colour terms of English (Berlin and Kay 1969).

Pixels are converted to OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab), whose lightness, chroma and hue
fit the eye better than RGB. A table of our own cuts this space into the terms. It names the colour of the light that
reaches the camera: a white wall in the shade is gray, and under a warm lamp it may be orange or brown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

NAMES = ("black", "gray", "white", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
MOST_PIXELS = 1 << 14  # of a mask that are looked at, at even distances
DARK, GRAY_CHROMA = 0.27, 0.045  # below: black; and black, gray or white
BLACK, WHITE = 0.35, 0.87  # lightness up to which a pixel without chroma is black, and from which it is white
# Where a hue in degrees begins -> (name in the dark, lightness at which the name changes, name above it). The table is
# read from the last row whose hue is not above that of the pixel.
HUES = (
    (0.0, ("red", 0.63, "pink")),
    (20.0, ("red", 0.74, "pink")),
    (38.0, ("brown", 0.60, "orange")),
    (78.0, ("brown", 0.62, "yellow")),
    (95.0, ("green", 0.68, "yellow")),
    (115.0, ("green", 0.0, "green")),
    (200.0, ("blue", 0.0, "blue")),
    (290.0, ("purple", 0.0, "purple")),
    (340.0, ("purple", 0.48, "pink")),
)
# In the dark little chroma is left of a colour, so its chroma over its lightness, its saturation, decides there. The
# saturation from which a pixel is not black is that of a shade of the hue; blue shades look black for longer.
DEEP = ((0.0, 0.2), (38.0, 0.19), (95.0, 0.23), (200.0, 0.32), (340.0, 0.2))  # where a hue begins -> least saturation
DEEPEST = 0.12  # lightness below which all is black
DULL = 0.15  # saturation below which a dark pixel of a hue from 20 to 38 degrees is brown: chocolate, not wine
# Where a hue begins -> (least lightness, least chroma of a named colour above it). What is paler, such as light skin,
# bread or sand, has no basic term: neither "orange" nor "pink" nor "brown" fits.
PALE = ((0.0, (1.0, 0.0)), (38.0, (0.72, 0.11)), (78.0, (0.72, 0.08)), (95.0, (1.0, 0.0)))
TAN = 0.085  # chroma below which an orange pixel that is not pale is brown
# The mean of an object's black pixels is a shade of its other colour from this share of that saturation on, if their
# hues differ by at most these degrees.
SHADE, SHADE_HUE = 0.7, 30
VIVID = 0.19  # chroma from which a pixel of a red hue is red, and none of another hue is brown

_BLACK = NAMES.index("black")
_TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def oklab(pixels: np.ndarray) -> np.ndarray:
    """float64[n, 3], OKLab's L in [0, 1], a and b, of sRGB pixels uint8[n, 3]; formulas of Ottosson 2020."""
    values = np.asarray(pixels, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    return np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T


def name_pixels(pixels: np.ndarray) -> np.ndarray:
    """int[n], the index in NAMES of each sRGB pixel uint8[n, 3]."""
    lightness, a, b = oklab(pixels).T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    index = {name: i for i, name in enumerate(NAMES)}
    row = _row(HUES, hue)
    low = np.array([index[words[0]] for _, words in HUES])[row]
    high = np.array([index[words[2]] for _, words in HUES])[row]
    named = np.where(lightness < np.array([words[1] for _, words in HUES])[row], low, high)
    vivid = chroma >= VIVID
    named = np.where(vivid & (named == index["brown"]), index["orange"], named)
    named = np.where(vivid & (hue < 38) & (lightness < 0.8), index["red"], named)
    plain = np.where(lightness < BLACK, index["black"], np.where(lightness < WHITE, index["gray"], index["white"]))
    named = np.where((named == index["orange"]) & (chroma < TAN), index["brown"], named)
    dull = (hue >= 20) & (hue < 38) & (chroma < DULL * lightness) & (lightness < 0.6)
    named = np.where(dull, index["brown"], named)
    named = np.where(chroma < GRAY_CHROMA * np.clip(lightness / 0.6, 0.5, 1.0), plain, named)
    least = np.array([of_hue for _, of_hue in DEEP])[_row(DEEP, hue)]
    black = (chroma < least * lightness) | (lightness < DEEPEST)
    return np.where((lightness < DARK) & (chroma < 0.09) & black, index["black"], named)


def _row(table: Sequence[tuple[float, Any]], hue: np.ndarray) -> np.ndarray:
    """int[n], the last row whose hue is not above that of the pixel."""
    return np.searchsorted([start for start, _ in table], hue, side="right") - 1


def is_nameless(pixels: np.ndarray) -> np.ndarray:
    """bool[n], whether people have no basic term for an sRGB pixel uint8[n, 3]; `name_pixels` gives the nearest."""
    lightness, a, b = oklab(pixels).T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    lightest, least = np.array([values for _, values in PALE])[_row(PALE, hue)].T
    return (lightness >= lightest) & (chroma >= GRAY_CHROMA) & (chroma < least)


def shares(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The share of the mask's pixels that have each colour, largest first; {} for an empty mask.

    Pixels for which there is no term count among all, and black ones may be a shade of another colour. At most
    MOST_PIXELS of the pixels are looked at, always the same ones.

    Args:
      image: uint8[h, w, 3], sRGB.
      mask: bool[h, w].
    """
    pixels = image[mask]
    if not len(pixels):
        return {}
    pixels = pixels[:: -(-len(pixels) // MOST_PIXELS)]
    named = name_pixels(pixels)
    counts = np.bincount(named[~is_nameless(pixels)], minlength=len(NAMES))
    shade = _shaded_colour(pixels, named)
    if shade is not None:
        counts[shade], counts[_BLACK] = counts[shade] + counts[_BLACK], 0
    order = np.argsort(-counts, kind="stable")
    return {NAMES[i]: float(counts[i] / len(pixels)) for i in order if counts[i]}


def _shaded_colour(pixels: np.ndarray, named: np.ndarray) -> int | None:
    """The colour, an index in NAMES, in whose shade an object's black pixels lie; None if they are black.

    The black pixels outnumber its pixels, it has most of the others, and the mean of the black ones is of its hue: a
    red chair seen from its dark side is red.

    Args:
      pixels: uint8[n, 3], sRGB.
      named: int[n], their names.
    """
    counts = np.bincount(named, minlength=len(NAMES))
    black = counts[_BLACK]
    counts[[NAMES.index(name) for name in ("black", "gray", "white")]] = 0
    most = int(counts.argmax())
    if black <= counts[most] or 2 * counts[most] <= len(named) - black:
        return None
    (lightness, *dark), (_, *bright) = (oklab(pixels[named == i]).mean(0) for i in (_BLACK, most))
    dark_chroma, bright_chroma = np.hypot(*dark), np.hypot(*bright)
    same_hue = np.dot(dark, bright) >= np.cos(np.radians(SHADE_HUE)) * dark_chroma * bright_chroma
    hue = np.degrees(np.arctan2(dark[1], dark[0])) % 360
    is_shade = lightness >= DEEPEST and dark_chroma >= SHADE * DEEP[int(_row(DEEP, hue))][1] * lightness
    return most if same_hue and is_shade else None


def names(image: np.ndarray, mask: np.ndarray, share: float) -> tuple[str, ...]:
    """At most two colours, each of at least `share` of the mask's pixels; the larger first. See `shares`."""
    return tuple(name for name, of_mask in shares(image, mask).items() if of_mask >= share)[:2]
