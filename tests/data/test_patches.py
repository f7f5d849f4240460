"""Resizing, the order of patches, and the stretched position table: against loops by hand and against transformers."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import processors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data import batches, patch_layout, patches

FIXTURES = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "processors.json").read_text("utf-8"))
TINY = patches.Geometry(patch=8, temporal_patch=1, merge=2, side=12, max_pixels=96 * 96)


def patch_fields(image, geometry):
    """(the fields of one picture, padded to `geometry.patches`; (w, h) of the resized picture)."""
    piece = patches.cut_picture(image, geometry)
    return patches.gather([piece], geometry, geometry.patches)[0], piece.size


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 3), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_resized_is_whole_tokens_within_the_limit(width, height, merge, most):
    geometry = patches.Geometry(patch=4, temporal_patch=1, merge=merge, side=3, max_pixels=most * (4 * merge) ** 2 + 5)
    w, h = patches.picture_size(width, height, geometry)
    assert w % geometry.factor == h % geometry.factor == 0
    assert min(w, h) >= geometry.factor
    assert w == h and w**2 <= most * geometry.factor**2 < (w + geometry.factor) ** 2
    assert geometry.patches == (w // 4) ** 2


@pytest.mark.parametrize(
    "size, expected",
    [
        ((96, 96), (96, 96)),
        ((1, 1), (96, 96)),  # small pictures are enlarged
        ((10_000, 10_000), (96, 96)),
        ((640, 480), (96, 96)),
        ((10_000, 3), (96, 96)),
    ],
)
def test_resized_by_hand(size, expected):
    assert patches.picture_size(*size, TINY) == expected


def test_patches_and_positions_in_merge_block_order():
    geometry = patches.Geometry(patch=2, temporal_patch=2, merge=2, side=5, max_pixels=16 * 8, rule="smart")
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    assert patches.picture_size(12, 8, geometry) == (12, 8)
    fields, size = patch_fields(image, geometry)
    assert size == (12, 8)
    assert patches.token_grid((1, 4, 6), geometry) == (1, 2, 3)
    assert geometry.patches == 32
    values, places = [], []
    for row, column in itertools.product(range(0, 4, 2), range(0, 6, 2)):  # tokens, then the patches in each
        for r, c in itertools.product((row, row + 1), (column, column + 1)):
            places.append((r, c))
            cut = image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            values.append([cut[y, x, k] for k in range(3) for _ in range(2) for y in range(2) for x in range(2)])
    np.testing.assert_allclose(fields["patch_bnc"][:24], np.array(values) / 255 * 2 - 1, atol=1e-6)
    np.testing.assert_array_equal(fields["position_bn2"][:24], places)
    np.testing.assert_array_equal(fields["segment_bn"], [1] * 24 + [0] * 8)
    assert fields.pop("window_bn") is None
    for name, x in fields.items():
        assert not x[24:].any(), f"{name} is not zero at the padding"
    kinds = {name: x.dtype for name, x in fields.items()}
    assert kinds == {"patch_bnc": np.float32, "position_bn2": np.int32, "corner_bn4": np.int32,
                     "corner_weight_bn4": np.float32, "segment_bn": np.int32}  # fmt: skip


def test_black_and_white_are_minus_one_and_one():
    for value, expected in ((0, -1), (255, 1)):
        fields, _ = patch_fields(np.full((96, 96, 3), value, np.uint8), TINY)
        np.testing.assert_allclose(fields["patch_bnc"], expected, atol=1e-6)


def test_resizing_moves_nothing():
    image = np.zeros((300, 200, 3), np.uint8)
    image[:150, 100:] = 255  # the upper right quarter
    fields, (w, h) = patch_fields(image, TINY)
    real = fields["segment_bn"] > 0
    bright = fields["patch_bnc"][real].mean(-1)
    centre = (fields["position_bn2"][real] + 0.5) * TINY.patch
    away = (np.abs(centre[:, 0] - h / 2) > 12) & (np.abs(centre[:, 1] - w / 2) > 12)
    expected = np.where((centre[:, 0] < h / 2) & (centre[:, 1] > w / 2), 1, -1)
    np.testing.assert_allclose(bright[away], expected[away], atol=0.02)


@pytest.mark.parametrize("rows, columns, side", [(4, 6, 5), (2, 2, 12), (12, 2, 3), (1, 7, 4)])
def test_corners_against_a_loop(rows, columns, side):
    table = np.random.default_rng(1).normal(size=(side, side))
    index, weight = patch_layout.corners(rows, columns, side)
    np.testing.assert_allclose(weight.sum(-1), 1)
    assert (weight >= 0).all()
    assert index.min() >= 0
    assert index.max() < side * side
    actual = (table.reshape(-1)[index] * weight).sum(-1)
    for r, c in itertools.product(range(rows), range(columns)):
        y = r * (side - 1) / (rows - 1) if rows > 1 else 0.0
        x = c * (side - 1) / (columns - 1) if columns > 1 else 0.0
        near = [(a, b) for a in range(side) for b in range(side) if abs(a - y) < 1 and abs(b - x) < 1]
        expected = sum(table[a, b] * (1 - abs(a - y)) * (1 - abs(b - x)) for a, b in near)
        assert actual[r, c] == pytest.approx(expected)


def test_corners_are_the_table_itself_on_its_own_grid():
    index, weight = patch_layout.corners(12, 12, 12)
    np.testing.assert_array_equal(index[..., 0], np.arange(144).reshape(12, 12))
    np.testing.assert_allclose(weight, np.broadcast_to([1, 0, 0, 0], weight.shape), atol=1e-12)


def test_stack():
    pictures = [patch_fields(np.full((96, 96, 3), v, np.uint8), TINY)[0] for v in (0, 255)]
    images = batches.stack_images(pictures)
    assert images.patch_bnc.shape == (2, 144, 192)
    np.testing.assert_array_equal(images.patch_bnc[1], pictures[1]["patch_bnc"])


def test_no_room_for_one_token():
    with pytest.raises(ValueError, match="max_pixels = 255 is less than one token of 16 x 16"):
        patches.Geometry(8, 1, 2, 12, 255)
    with pytest.raises(ValueError, match="sizes of at least 1"):
        patches.Geometry(8, 1, 0, 12, 9216)


FAMILY = pytest.mark.parametrize("family", processors.FAMILIES)


@FAMILY
@pytest.mark.parametrize(
    "size", [(37, 91), (300, 200), (641, 361), (1, 1), (7, 900), (900, 7), (28, 28), (33, 32), (224, 100)]
)
def test_pictures_as_transformers(family, size):
    """All values of all patches, of pictures that are shrunk, enlarged and only straightened."""
    geometry = processors.geometry(family)
    image = processors.picture(*size)
    reference = processors.image_processor(geometry)(image, return_tensors="np", input_data_format="channels_last")
    piece = patches.cut_picture(image, geometry)
    assert [list(piece.grid)] == reference["image_grid_thw"].tolist()
    np.testing.assert_allclose(piece.patch_nc, reference["pixel_values"], atol=1e-5)
    assert piece.size == (piece.grid[2] * geometry.patch, piece.grid[1] * geometry.patch)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 60), st.integers(0, 4000))
@settings(max_examples=200, deadline=None)
def test_smart_resize_as_transformers(width, height, least, more):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    for family in processors.FAMILIES:
        geometry = processors.geometry(family, least, least + more)
        low, high = geometry.min_pixels, geometry.max_pixels
        try:
            h, w = smart_resize(height, width, geometry.factor, low, high)
        except ValueError:
            with pytest.raises(ValueError, match=rf"at most 200 times as long as wide, got {width} x {height}"):
                patches.picture_size(width, height, geometry)
        else:
            assert patches.picture_size(width, height, geometry) == (w, h)
            if not geometry.video.whole:  # Qwen2.5-VL: each frame as a picture
                assert patches.video_size(9, width, height, geometry) == (w, h)


@given(st.integers(2, 99), st.integers(1, 900), st.integers(1, 900), st.integers(1, 60), st.integers(0, 4000))
@settings(max_examples=200, deadline=None)
def test_smart_resize_of_whole_videos_as_transformers(frames, width, height, least, more):
    pytest.importorskip("torch")
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    geometry = processors.geometry("qwen3_vl", least, least + more)
    low, high = geometry.video.min_pixels, geometry.video.max_pixels
    try:
        h, w = smart_resize(frames, height, width, 2, geometry.factor, low, high)
    except ValueError:
        with pytest.raises(ValueError, match="at most 200 times as long as wide"):
            patches.video_size(frames, width, height, geometry)
    else:
        assert patches.video_size(frames, width, height, geometry) == (w, h)


@FAMILY
@pytest.mark.parametrize("name", processors.VIDEOS)
def test_videos_as_transformers(family, name):
    """Where frames are resized, Pillow and torchvision round some values differently, by one of 255 levels."""
    geometry, reference = processors.geometry(family), FIXTURES[family]["videos"][name]
    piece = patches.cut_video(processors.VIDEOS[name](geometry.factor), geometry)
    assert list(piece.grid) == reference["grid"]
    actual = processors.summary_of_patches(piece.patch_nc, geometry)
    level = 0 if name == "as it is" else 1 / 255 / min(geometry.std)
    np.testing.assert_allclose(actual["means"], reference["means"], atol=2e-3)
    np.testing.assert_allclose(actual["ends"], reference["ends"], atol=1.1 * level + 1e-4)


@FAMILY
@pytest.mark.parametrize("name", processors.VIDEOS)
def test_videos_as_transformers_live(family, name):
    if not processors.torchvision_works():
        pytest.skip("no torchvision")
    geometry = processors.geometry(family)
    sample = processors.VIDEOS[name](geometry.factor)
    reference, grid = processors.video_patches(family, geometry, sample)
    piece = patches.cut_video(sample, geometry)
    assert list(piece.grid) == grid
    error = np.abs(piece.patch_nc - reference)
    if name == "as it is":
        assert error.max() < 1e-5
    else:
        assert error.max() < 1.1 / 255 / min(geometry.std)
        assert (error > 1e-5).mean() < 0.01
    # nothing but the resizing differs: transformers cuts frames that are resized as ours are in the same way
    ready = dataclasses.replace(sample, frames=_resized(sample.frames, piece.size))
    np.testing.assert_allclose(piece.patch_nc, processors.video_patches(family, geometry, ready)[0], atol=1e-5)


def _resized(frames, size):
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames])


@FAMILY
def test_a_video_of_one_picture_is_that_picture(family):
    geometry = processors.geometry(family)
    image = processors.picture(4 * geometry.factor, 3 * geometry.factor)
    sample = processors.types.Video(np.stack([image] * 4), np.arange(4), 2.0, 4)
    video, picture = patches.cut_video(sample, geometry), patches.cut_picture(image, geometry)
    assert video.grid == (2, *picture.grid[1:])
    np.testing.assert_array_equal(video.patch_nc, np.concatenate([picture.patch_nc] * 2))
    alone = dataclasses.replace(sample, frames=sample.frames[:1], index=sample.index[:1])  # one frame fills its patch
    np.testing.assert_array_equal(patches.cut_video(alone, geometry).patch_nc, picture.patch_nc)


def test_gather_follows_the_layout():
    """Two pictures in one row, in window order: `place` maps reading order to window order."""
    geometry = dataclasses.replace(processors.geometry("qwen2_5_vl"), window=2)
    pieces = [patches.cut_picture(processors.picture(*size), geometry) for size in ((140, 84), (56, 60))]
    fields, place = patches.gather(pieces, geometry, 80)
    reading = np.concatenate([p.patch_nc for p in pieces])
    assert fields["patch_bnc"].shape == (80, 1176)
    assert not fields["patch_bnc"][len(reading) :].any()
    blocks = fields["patch_bnc"].reshape(20, 4, -1)
    np.testing.assert_array_equal(blocks[place], reading.reshape(-1, 4, 1176))
    assert place.tolist() != sorted(place.tolist())
    assert fields["corner_bn4"] is None
    assert fields["segment_bn"].tolist() == [1] * 60 + [2] * 16 + [0] * 4
    padded = batches.pad_patches(patches.gather(pieces, geometry)[0], 80)
    for name, x in fields.items():
        np.testing.assert_array_equal(x, padded[name], err_msg=name)


def test_limits_that_contradict():
    with pytest.raises(ValueError, match="min_pixels = 3000 is more than max_pixels = 2000"):
        patches.Geometry(14, 2, 2, 0, 2000, 3000, "smart")
    with pytest.raises(ValueError, match='rule "square" or "smart", got \'smrat\''):
        patches.Geometry(14, 2, 2, 0, 2000, rule="smrat")
    with pytest.raises(ValueError, match="min_frames <= max_frames"):
        patches.VideoRule(10, 20, min_frames=5, max_frames=4)
    with pytest.raises(ValueError, match="takes no videos; give it single frames"):
        patches.cut_video(processors.video(2, 40, 40), TINY)
