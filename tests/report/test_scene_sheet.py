"""The sheet of perceived scenes."""

import numpy as np
from fake_specialists import picture

from dtr1_jax.report import scene_sheet
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.types import Instance


def scene(count, failures=()):
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:40] = True
    objects = tuple(
        Instance(i, "dog \x1b[31m" * 3, (1 / 6, 0.25, 2 / 3, 0.75), mask, 1, ("blue",)) for i in range(1, count + 1)
    )
    return PerceivedScene(objects, ((1, "on", 2),) * (count > 1), {1: {"label": {"score": 0.5}}}, failures=failures)


def test_a_tile_shows_the_mask_and_the_words():
    image = picture(size=(80, 120))
    blank, shown = (
        scene_sheet.tile("a.jpg", image, scene(0)),
        scene_sheet.tile("a.jpg", image, scene(2, ("depth: no",))),
    )
    assert blank.shape == shown.shape == (360 + 6 * 17 + 16, 480 + 16, 3)
    inside = (slice(8 + 120, 8 + 200), slice(8 + 150, 8 + 250))
    assert not np.array_equal(blank[inside], shown[inside])
    text = slice(376, None)
    assert (shown[text] < 128).sum() > (blank[text] < 128).sum() > 0


def test_pictures_of_any_size_and_many_objects():
    for size in ((1, 1), (10, 2000), (900, 5)):
        assert scene_sheet.tile("x" * 500, picture(size=size), scene(40)).shape == (478, 496, 3)


def test_rows():
    tiles = [scene_sheet.tile(str(i), picture(), scene(1)) for i in range(5)]
    assert scene_sheet.sheet(tiles).shape == (2 * 478, 4 * 496, 3)
    assert scene_sheet.sheet(tiles[:1]).shape == (478, 496, 3)
