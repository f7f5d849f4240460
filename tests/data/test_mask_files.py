"""Masks in files: one object or numbers of objects; lossy and smooth masks are cut or refused."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dtr1_jax.data import mask_files
from dtr1_jax.data.image_files import ImageError

ELLIPSE = (60, 30, 160, 110)


def ellipse(values=255, size=(240, 160), scale=1):
    image = Image.new("L", (size[0] * scale, size[1] * scale))
    ImageDraw.Draw(image).ellipse([v * scale for v in ELLIPSE], fill=values)
    return image.resize(size, Image.Resampling.BOX) if scale > 1 else image


EXACT = np.asarray(ellipse()) > 0


@pytest.fixture(autouse=True)
def warn_anew():
    mask_files._WARNED.clear()


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("value", [255, 3])
def test_exact_masks_of_one_object(tmp_path, caplog, mode, value):
    image = ellipse(value)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    elif mode == "1":
        image = Image.fromarray(np.asarray(image) > 0)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(mask_files.load_mask(tmp_path / "m.png"), EXACT)
    assert not caplog.records


def test_several_values_of_a_lossless_mask_are_one_object(tmp_path):
    values = np.zeros((20, 30), np.uint8)
    for k in range(6):
        values[:, 5 * k : 5 * k + 4] = 40 * k
    Image.fromarray(values).save(tmp_path / "m.png")
    np.testing.assert_array_equal(mask_files.load_mask(tmp_path / "m.png"), values > 0)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_of_a_mask_is_cut_with_a_warning(tmp_path, caplog, quality, mode):
    ellipse().convert(mode).save(tmp_path / "m.jpg", quality=quality)
    for _ in range(3):
        mask = mask_files.load_mask(tmp_path / "m.jpg")
    assert (mask != EXACT).sum() <= 0.01 * EXACT.sum()
    (record,) = caplog.records
    assert "m.jpg: a JPEG mask is cut at half of its largest value" in record.getMessage()


def test_a_smooth_edge_is_cut_with_a_warning(tmp_path, caplog):
    ellipse(scale=8).save(tmp_path / "m.png")
    assert (mask_files.load_mask(tmp_path / "m.png") != EXACT).sum() <= 0.03 * EXACT.sum()
    assert "a smoothed mask is cut" in caplog.text


def test_lossy_numbers_and_photos_are_refused(tmp_path):
    two = np.asarray(ellipse(100)).copy()
    two[:, 200:] = 255
    Image.fromarray(two).save(tmp_path / "two.jpg", quality=75)
    ellipse(2).save(tmp_path / "low.jpg", quality=75)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(tmp_path / "photo.png")
    for name in ("two.jpg", "low.jpg", "photo.png"):
        with pytest.raises(ImageError, match=rf"{name}: expected a mask of two values, .*PNG of 0 and 255"):
            mask_files.load_mask(tmp_path / name)
    Image.new("L", (9, 9)).save(tmp_path / "empty.jpg")
    assert not mask_files.load_mask(tmp_path / "empty.jpg").any()


def test_a_cut_out_object_is_where_it_is_opaque(tmp_path):
    rgba = np.random.default_rng(0).integers(1, 255, (20, 30, 4), np.uint8)
    rgba[..., 3] = 0
    rgba[5:9, 4:12, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "m.png")
    mask = mask_files.load_mask(tmp_path / "m.png")
    assert mask.sum() == 32 and mask[5:9, 4:12].all()


def numbers(*names):
    return [mask_files.load_numbers(path, names) for path in names]


COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [255, 255, 255]], np.uint8)
OWNER = np.array([[0, 0, 1, 1], [2, 2, 0, 0], [3, 3, 3, 1]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_objects_with_one_number_in_all_masks_of_a_video(tmp_path, mode):
    for name, owner in (("0.png", OWNER), ("1.png", OWNER * (OWNER != 2)), ("2.png", OWNER * (OWNER == 3))):
        Image.fromarray(COLOURS[owner]).convert(mode).save(tmp_path / name)
    first, second, third = numbers(*(tmp_path / f"{i}.png" for i in range(3)))
    expected = np.array([0, 2, 1, 3])  # green is before red in the order of (red, green, blue)
    np.testing.assert_array_equal(first, expected[OWNER])
    np.testing.assert_array_equal(second, expected[OWNER * (OWNER != 2)])
    np.testing.assert_array_equal(third, expected[OWNER * (OWNER == 3)])


def test_grey_values_and_palette_indices_are_numbers_in_any_mode(tmp_path):
    owner = np.array([[0, 1, 2], [7, 7, 255]], np.uint8)
    expected = np.array([[0, 1, 2], [7, 7, 0]])
    images = {
        "L": Image.fromarray(owner), "RGB": Image.fromarray(owner).convert("RGB"),
        "LA": Image.fromarray(owner).convert("LA"), "wide": Image.fromarray(owner.astype(np.uint16)),
    }  # fmt: skip
    palette = Image.fromarray(owner, "P")
    palette.putpalette([v for i in range(256) for v in (i * 5 % 256, i * 7 % 256, i * 11 % 256)])
    images["P"] = palette
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(numbers(tmp_path / f"{name}.png")[0], expected, err_msg=name)
    Image.fromarray((owner > 0).astype(np.uint8) * 255).convert("RGB").save(tmp_path / "white.png")
    np.testing.assert_array_equal(numbers(tmp_path / "white.png")[0], owner > 0)


def test_a_palette_whose_black_is_not_index_0(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 1], [2, 1, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 0, 0, 0, 255])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(numbers(tmp_path / "m.png")[0], [[2, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(mask_files.load_mask(tmp_path / "m.png"), [[True, False, False]] * 2)


@pytest.mark.parametrize(
    "name, image",
    [
        ("lossy.jpg", ellipse()),
        ("photo.png", Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))),
        ("smooth.png", ellipse(scale=8)),
        ("wide.png", Image.fromarray(np.array([[0, 300, 70]], np.uint16))),
    ],
)
def test_files_without_numbers_are_refused(tmp_path, name, image):
    image.save(tmp_path / name)
    with pytest.raises(ImageError, match=rf"{name}: expected "):
        numbers(tmp_path / name)


def test_thirty_objects_and_a_void_are_no_smooth_edge(tmp_path):
    owner = np.append(np.arange(31), 255).astype(np.uint8)[None].repeat(4, 0)
    Image.fromarray(owner).save(tmp_path / "m.png")
    np.testing.assert_array_equal(numbers(tmp_path / "m.png")[0], owner * (owner < 255))


def test_a_broken_mask_costs_no_other_mask_of_its_video(tmp_path):
    Image.fromarray(COLOURS[OWNER]).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    names = [tmp_path / "0.png", tmp_path / "1.png"]
    assert set(np.unique(mask_files.load_numbers(names[0], names))) == {0, 1, 2, 3}
    with pytest.raises(ImageError, match=r"1\.png"):
        mask_files.load_numbers(names[1], names)
