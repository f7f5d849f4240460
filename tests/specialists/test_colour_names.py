"""The names of colours, on patches whose names everybody agrees on."""

import numpy as np
import pytest

from dtr1_jax.specialists import colour_names

# sRGB in hexadecimal; most are the named colours of CSS, and several shades of flat-design palettes.
PATCHES = {
    "black": "000000 1a1a1a 111122 2b1d14",
    "gray": "808080 a9a9a9 696969 c0c0c0 708090",
    "white": "ffffff f5f5f5 fffaf0 f0f0ff",
    "red": "ff0000 b22222 dc143c 8b0000 c0392b a01020",
    "orange": "ffa500 ff8c00 ff7f00 e67e22 ff6600",
    "yellow": "ffff00 ffd700 f1c40f ffee58 e8d21d",
    "green": "008000 00ff00 228b22 006400 7cfc00 6b8e23 2ecc71 90ee90 556b2f",
    "blue": "0000ff 000080 4169e1 87ceeb 1e90ff 00bfff 2c3e90 add8e6",
    "purple": "800080 8a2be2 4b0082 9b59b6 9370db 5b2c6f",
    "pink": "ffc0cb ff69b4 ffb6c1 ff1493 f8a5c2 e75480",
    "brown": "8b4513 a0522d 654321 5c4033 964b00 7b5a3c",
}


def patch(code):
    return np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)]], np.uint8)


def test_all_eleven_terms_are_tested():
    assert set(PATCHES) == set(colour_names.NAMES) and len(colour_names.NAMES) == 11


@pytest.mark.parametrize(("name", "code"), [(name, code) for name in PATCHES for code in PATCHES[name].split()])
def test_patches(name, code):
    assert colour_names.NAMES[colour_names.name_pixels(patch(code))[0]] == name


def test_oklab_is_that_of_its_author():
    """L, a, b of the CSS colours, as the CSS Color 4 specification lists them (three decimals)."""
    for code, lab in (
        ("ffffff", (1.0, 0.0, 0.0)),
        ("ff0000", (0.628, 0.225, 0.126)),
        ("00ff00", (0.866, -0.234, 0.179)),
        ("0000ff", (0.452, -0.032, -0.312)),
    ):
        np.testing.assert_allclose(colour_names.oklab(patch(code))[0], lab, atol=1e-3)


def test_every_colour_has_one_name():
    values = np.arange(0, 256, 15, dtype=np.uint8)
    pixels = np.stack(np.meshgrid(values, values, values), -1).reshape(-1, 3)
    assert set(colour_names.name_pixels(pixels)) == set(range(11))


def test_shares_are_of_the_mask_alone():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:, :6] = 255, 0, 0
    mask = np.zeros((10, 10), bool)
    mask[:, :8] = True
    assert colour_names.shares(image, mask) == {"red": 0.75, "black": 0.25}
    assert colour_names.names(image, mask, 0.25) == ("red", "black")
    assert colour_names.names(image, mask, 0.3) == ("red",)
    assert colour_names.shares(image, np.zeros((10, 10), bool)) == {}


def test_large_masks_are_sampled():
    image = np.zeros((400, 400, 3), np.uint8)
    image[::2] = 0, 0, 255
    found = colour_names.shares(image, np.ones((400, 400), bool))
    assert set(found) == {"blue", "black"} and 0.4 < found["blue"] < 0.6


DARK_PATCHES = {
    "black": "000000 0a0a0a 1c1c1c 14100c 231f20 0d0f14 101418 281818 1a0f0a 0f1a12 050508 000020",
    "red": "310f11 3b0d0c 2a0d0d 400808 500000 5a1a1a 6b2020 700000 a52a2a",
    "brown": "4b2e28 4a2c2a 3d2b1f 5c4033 301808 3b2010 7a4a3a b98b73",
    "blue": "0a0a50 101840 000040",
    "green": "013220 0a2a0a 1b3a1b 0b3010",
    "purple": "2e0854 300a3a",
}


@pytest.mark.parametrize(
    ("name", "code"), [(name, code) for name in DARK_PATCHES for code in DARK_PATCHES[name].split()]
)
def test_in_the_dark_the_saturation_decides(name, code):
    """Dark red, navy and dark green are not black, and chocolate is not red."""
    assert shares_of(code) == {name: 1.0}


def shares_of(code):
    return colour_names.shares(patch(code)[None], np.ones((1, 1), bool))


@pytest.mark.parametrize("code", "f1c2a5 ffdbac f1c27d d2a58a e8c9a0 e0d0a8".split())
def test_light_skin_and_sand_have_no_name(code):
    assert shares_of(code) == {}
    image = np.repeat(np.concatenate([patch(code), patch("0000ff")]), [6, 4], 0)[None]
    assert colour_names.shares(image, np.ones((1, 10), bool)) == {"blue": 0.4}, "it counts among the pixels"


def test_the_dark_side_of_a_thing_has_its_colour():
    """Most of its pixels are too dark for a name of their own."""

    def seen(*codes):
        image = np.concatenate([patch(code) for code in codes])[None]
        return colour_names.shares(image, np.ones((1, len(codes)), bool))

    assert seen("1d0d0d", "1d0d0d", "1d0d0d", "8b0000") == {"red": 1.0}
    assert seen("141414", "141414", "141414", "8b0000") == {"black": 0.75, "red": 0.25}, "black is no shade of red"
    assert seen("080202", "080202", "080202", "8b0000") == {"black": 0.75, "red": 0.25}, "too dark for any hue"
    assert seen("1d0d0d", "1d0d0d", "1d0d0d", "0000ff") == {"black": 0.75, "blue": 0.25}, "nor dark red of blue"
    assert seen("1d0d0d", "8b0000", "8b0000") == pytest.approx({"red": 2 / 3, "black": 1 / 3}), "it may have tyres"
    assert seen("1d0d0d", "1d0d0d", "8b0000", "808080") == {"black": 0.5, "red": 0.25, "gray": 0.25}
