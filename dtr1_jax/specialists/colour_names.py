"""Names the colours of pixels by the 11 basic colour terms of English (Berlin and Kay 1969).

Pixels are converted to OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab), whose lightness, chroma and hue
fit the eye better than RGB. A table of our own cuts this space into the terms. It names the colour of the light that
reaches the camera: a white wall in the shade is gray, and under a warm lamp it may be orange or brown.
"""

from __future__ import annotations

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
VIVID = 0.19  # chroma from which a pixel of a red hue is red, and none of another hue is brown

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
    row = np.searchsorted([start for start, _ in HUES], hue, side="right") - 1
    low = np.array([index[words[0]] for _, words in HUES])[row]
    high = np.array([index[words[2]] for _, words in HUES])[row]
    named = np.where(lightness < np.array([words[1] for _, words in HUES])[row], low, high)
    vivid = chroma >= VIVID
    named = np.where(vivid & (named == index["brown"]), index["orange"], named)
    named = np.where(vivid & (hue < 38) & (lightness < 0.8), index["red"], named)
    plain = np.where(lightness < BLACK, index["black"], np.where(lightness < WHITE, index["gray"], index["white"]))
    named = np.where(chroma < GRAY_CHROMA * np.clip(lightness / 0.6, 0.5, 1.0), plain, named)
    return np.where((lightness < DARK) & (chroma < 0.09), index["black"], named)


def shares(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The share of the mask's pixels that have each colour, largest first; {} for an empty mask.

    At most MOST_PIXELS of the pixels are looked at, always the same ones.

    Args:
      image: uint8[h, w, 3], sRGB.
      mask: bool[h, w].
    """
    pixels = image[mask]
    if not len(pixels):
        return {}
    pixels = pixels[:: -(-len(pixels) // MOST_PIXELS)]
    counts = np.bincount(name_pixels(pixels), minlength=len(NAMES))
    order = np.argsort(-counts, kind="stable")
    return {NAMES[i]: float(counts[i] / len(pixels)) for i in order if counts[i]}


def names(image: np.ndarray, mask: np.ndarray, share: float) -> tuple[str, ...]:
    """At most two colours, each of at least `share` of the mask's pixels; the larger first. See `shares`."""
    return tuple(name for name, of_mask in shares(image, mask).items() if of_mask >= share)[:2]
