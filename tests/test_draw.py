"""Overlays: boxes, masks and names are drawn at the right place and in the right colour, on any picture."""

import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from dtr1_jax import draw
from dtr1_jax.draw import color, overlay, to_png

GREY = np.full((96, 96, 3), 128, np.uint8)


def test_small_pictures_are_enlarged_and_large_ones_kept():
    assert overlay(GREY).shape == (384, 384, 3)
    assert overlay(np.zeros((50, 100, 3), np.uint8)).shape == (200, 400, 3)
    assert overlay(np.zeros((1, 1, 3), np.uint8)).shape == (384, 384, 3)
    assert overlay(np.zeros((500, 400, 3), np.uint8)).shape == (500, 400, 3)


def test_nothing_to_draw_is_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    np.testing.assert_array_equal(overlay(image), image)


def test_inputs_stay_as_they_are():
    image = np.full((400, 400, 3), 128, np.uint8)
    image.flags.writeable = False
    mask = np.ones((400, 400), bool)
    mask.flags.writeable = False
    overlay(image, boxes=np.array([[0, 0, 1, 1]]), names=["a"], mask=mask, target=mask)
    assert (image == 128).all()


def test_box_lines_in_the_colour_of_the_id():
    picture = overlay(GREY, boxes=np.array([[0.25, 0.25, 0.75, 0.75], [0.1, 0.1, 0.2, 0.9]], np.float32))
    corner = round(0.25 * 383)
    for row, column in ((corner, 200), (200, corner), (200, round(0.75 * 383)), (round(0.75 * 383), 200)):
        assert tuple(picture[row, column]) == color(1)
    assert tuple(picture[200, round(0.1 * 383)]) == color(2)
    assert tuple(picture[200, 200]) == (128, 128, 128)  # boxes are not filled


def test_mask_is_tinted_and_target_is_outlined():
    mask, target = np.zeros((2, 96, 96), bool)
    mask[20:40, 20:40] = True
    target[60:80, 60:80] = True
    picture = overlay(GREY, mask=mask, target=target).astype(int)
    inside, tint = picture[120, 120], (128 + np.array(draw.MASK)) / 2
    assert np.abs(inside - tint).max() <= 1
    assert tuple(picture[280, 280]) == (128, 128, 128) == tuple(picture[10, 10])  # a target is not filled
    edge = picture[280, 236:246].sum(axis=-1)
    assert edge.max() > 700 and edge.min() < 250  # white on black


def test_masks_of_another_size():
    small = np.zeros((2, 2), bool)
    small[0, 0] = True
    picture = overlay(GREY, mask=small)
    assert tuple(picture[40, 40]) != (128, 128, 128) == tuple(picture[300, 300])


def test_names_are_written():
    boxes = np.array([[0.3, 0.3, 0.6, 0.6]])
    plain, named, other = (overlay(GREY, boxes=boxes, names=n) for n in (None, ["1 mug"], ["1 key"]))
    changed = np.argwhere((plain != named).any(axis=-1))
    assert len(changed) and changed[:, 0].max() < 0.3 * 384  # above the box
    assert (named != other).any()


def test_names_do_not_cover_each_other():
    plates = []
    for _ in range(5):
        plates.append(draw._place((100, 100, 200, 200), (60, 20), (384, 384), plates))
    for a, b in itertools.combinations(plates, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (a, b)
    x1, y1, x2, y2 = draw._place((380, 0, 383, 2), (60, 20), (384, 384), [])
    assert 0 <= x1 and x2 <= 384 and 0 <= y1 and y2 <= 384


@pytest.mark.parametrize("name", ["", "a\nb\tc", "\ud800", "杯子", "\x00\x1b[31m", "x" * 10_000, "\u202eabc", "é"])
def test_any_name(name):
    overlay(GREY, boxes=np.array([[0.1, 0.1, 0.5, 0.5]]), names=[name])
    text = draw._plain(name)
    assert len(text) <= 40 and text.isprintable()


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 0, 1, 1), (0, 0, math.inf, 1), (0.5, 0.5, 0.5, 0.9), (0.9, 0.9, 0.1, 0.1), (-9, -9, 9, 9),
        (5, 5, 6, 6), (0.999999, 0, 1, 1),
    ],
)  # fmt: skip
def test_any_box(box):
    assert overlay(GREY, boxes=np.array([box]), names=["x"]).shape == (384, 384, 3)


def test_boxes_without_area_are_left_out():
    boxes = np.array([(0.5, 0.5, 0.5, 0.9), (math.nan, 0, 1, 1)])
    np.testing.assert_array_equal(overlay(GREY, boxes=boxes, names=["a", "b"]), overlay(GREY))
    np.testing.assert_array_equal(overlay(GREY, boxes=np.zeros((0, 4)), names=[]), overlay(GREY))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 1000)])
def test_any_shape(shape):
    image = np.zeros((*shape, 3), np.uint8)
    mask = np.ones(shape, bool)
    assert overlay(image, boxes=np.array([[0, 0, 1, 1]]), names=["a long name"], mask=mask, target=mask).ndim == 3


def test_colours_are_distinct_and_stable():
    assert color(1) == color(1)
    colours = np.array([color(i) for i in range(1, 9)])
    for a, b in itertools.combinations(colours, 2):
        assert np.abs(a - b).max() > 40
    assert draw._readable_on((255, 255, 0)) == (0, 0, 0) and draw._readable_on((0, 0, 160)) == (255, 255, 255)


def test_png_round_trip():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(to_png(image)))), image)
    mask = image[..., 0] > 99
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(to_png(mask)))), mask * np.uint8(255))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(to_png(image[..., 0])))), image[..., 0])


def test_the_answers_boxes_have_a_frame_around_them():
    box = np.array([[0.25, 0.25, 0.75, 0.75]])
    picture = overlay(GREY, boxes=box, marked=np.concatenate([box, [[np.nan] * 4], [[0.5, 0.5, 0.5, 0.9]]]))
    corner = round(0.25 * 383)
    assert tuple(picture[200, corner]) == color(1) and tuple(picture[200, corner - 4]) == draw.MASK
    assert tuple(picture[200, 200]) == (128, 128, 128) == tuple(picture[330, 192])


def test_trails_go_where_a_box_was_and_stop_where_it_was_hidden():
    trails = np.full((2, 4, 2), np.nan)
    trails[1] = [[0.1, 0.5], [0.3, 0.5], [np.nan, 0.5], [0.9, 0.5]]
    picture = overlay(GREY, trails=trails)
    row = picture[round(0.5 * 383)]
    assert tuple(row[round(0.2 * 383)]) == color(2)
    assert tuple(row[round(0.6 * 383)]) == (128, 128, 128)
    assert (overlay(GREY, trails=np.zeros((0, 4, 2))) == 128).all()


def test_a_caption_is_written_in_the_corner():
    picture = overlay(GREY, caption="frame 12 \N{SNOWMAN}" + "x" * 99)
    assert (picture[-3:, :3] == 0).all() and (picture[-30:] == 255).any() and (picture[:300] == 128).all()


def moving(count, size=(50, 61)):
    for k in range(count):
        picture = np.zeros((*size, 3), np.uint8)
        picture[10:30, 8 * k : 8 * k + 16] = (200, 40, 40)
        yield picture


def test_gif():
    gif = Image.open(io.BytesIO(draw.to_gif(moving(5), 10)))
    assert gif.n_frames == 5 and gif.info["duration"] == 100 and gif.size == (61, 50)
    for k, want in enumerate(moving(5)):
        gif.seek(k)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - want).max() < 8
    fast = Image.open(io.BytesIO(draw.to_gif(moving(2), 240.0)))
    assert fast.info["duration"] == 20
    for fps in (0.0, 1e-9, 1e9):
        assert Image.open(io.BytesIO(draw.to_gif([GREY], fps))).n_frames == 1


@pytest.mark.parametrize("fps", [24, 29.97, 0.5, 1e-9, 1e9])
def test_mp4(fps):
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(draw.to_mp4(moving(5), fps))) as container:
        rate = container.streams.video[0].average_rate
        film = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(film) == 5 and float(rate) == pytest.approx(min(max(fps, 0.05), 240), rel=1e-3)
    for got, want in zip(film, moving(5)):
        assert got.shape == (50, 60, 3) and np.abs(got.astype(int) - want[:, :60]).mean() < 12
