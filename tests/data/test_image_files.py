"""Every kind of picture file comes out as uint8[h, w, 3], and every broken one as an ImageError with its path."""

import errno
import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.image_files import ImageError, load_bitmap, load_image

# Four colours that no conversion may move: red, green / blue, white, in blocks of 16 so that JPEG keeps them.
QUARTERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
PICTURE = np.kron(QUARTERS, np.ones((16, 32, 1), np.uint8))  # 32 high, 64 wide


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        yield
    assert [str(w.message) for w in leaked] == []


def corners(image: np.ndarray) -> np.ndarray:
    """The middle of each quarter, [2, 2, 3]."""
    h, w = image.shape[:2]
    return image[[h // 4, 3 * h // 4]][:, [w // 4, 3 * w // 4]]


def assert_near(actual, expected, tolerance=3):
    assert actual.dtype == np.uint8 and actual.shape == np.shape(expected)
    assert np.abs(actual.astype(int) - np.asarray(expected, int)).max() <= tolerance, actual


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "gif", "tiff", "ppm"])
def test_formats(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    Image.fromarray(PICTURE).save(path, **({"lossless": True} if kind == "webp" else {}))
    image = load_image(path)
    assert image.shape == (32, 64, 3)
    assert_near(corners(image), QUARTERS)
    np.testing.assert_array_equal(load_image(str(path)), image)


# The picture as stored for each EXIF orientation, so that a viewer turns it back (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_exif_rotation(tmp_path, orientation, kind):
    path = tmp_path / f"x.{kind}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](PICTURE))).save(path, exif=exif)
    image = load_image(path)
    assert image.shape == (32, 64, 3)
    assert_near(corners(image), QUARTERS)


def test_broken_exif_is_no_exif(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(PICTURE).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\xee" * 40)
    assert_near(corners(load_image(path)), QUARTERS)


def test_cmyk(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(PICTURE).convert("CMYK").save(path, quality=100)
    assert_near(corners(load_image(path)), QUARTERS)


def test_alpha_is_laid_on_white(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)).save(path)
    assert_near(load_image(path), [[[200, 0, 0], [255, 255, 255], [127, 127, 127]]], 1)


def test_grey_alpha_and_grey_and_bits(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA").save(path)
    assert_near(load_image(path), [[[10] * 3, [255] * 3]], 0)
    Image.fromarray(np.array([[0, 77, 255]], np.uint8)).save(path)
    assert_near(load_image(path), [[[0] * 3, [77] * 3, [255] * 3]], 0)
    Image.fromarray(np.array([[True, False]])).save(path)
    assert_near(load_image(path), [[[255] * 3, [0] * 3]], 0)


def palette(values) -> Image.Image:
    image = Image.fromarray(np.array(values, np.uint8)).convert("P")
    image.putdata([v for row in values for v in row])
    image.putpalette([0, 0, 0, 250, 10, 20, 30, 240, 50] + [0] * 759)
    return image


def test_palette(tmp_path):
    path = tmp_path / "x.png"
    palette([[1, 2, 0]]).save(path)
    assert_near(load_image(path), [[[250, 10, 20], [30, 240, 50], [0, 0, 0]]], 0)
    palette([[1, 2, 0]]).save(path, transparency=bytes([255, 0, 255]))
    assert_near(load_image(path)[0, 0], [255, 255, 255], 0)  # entry 1 is the transparent one
    assert_near(load_image(path)[0, 1], [30, 240, 50], 0)


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.array([[0, 257, 65535]], np.uint16), [0, 1, 255]),
        (np.array([[0, 128, 250]], np.uint16), [0, 0, 1]),  # 16 bits say that this is nearly black
        (np.array([[0, 128, 250]], np.int32), [0, 128, 250]),
        (np.array([[0, 257 * 9, 65535]], np.int32), [0, 9, 255]),
        (np.array([[0.0, 0.2, 1.0]], np.float32), [0, 51, 255]),
        (np.array([[np.nan, 7.0, 300.0]], np.float32), [0, 7, 255]),
    ],
)
def test_more_than_8_bits(tmp_path, values, expected):
    path = tmp_path / "x.tiff"
    Image.fromarray(values).save(path)
    assert_near(load_image(path), [[[v] * 3 for v in expected]], 0)


def test_16_bit_png(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(path)
    assert_near(load_image(path), [[[0] * 3, [100] * 3, [255] * 3]], 0)


def test_first_frame(tmp_path):
    path = tmp_path / "x.gif"
    first, second = (Image.new("RGB", (4, 4), c) for c in ("red", "blue"))
    first.save(path, save_all=True, append_images=[second])
    assert_near(load_image(path)[0, 0], [255, 0, 0], 0)


def test_one_pixel(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (1, 1), (1, 2, 3)).save(path)
    assert_near(load_image(path), [[[1, 2, 3]]], 0)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_shrinks_on_demand(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    Image.fromarray(np.kron(QUARTERS, np.ones((200, 400, 1), np.uint8))).save(path)
    image = load_image(path, max_pixels=5000)  # 800 x 400 keeps its shape as 100 x 50
    assert image.shape == (50, 100, 3)
    assert_near(corners(image), QUARTERS)


def test_long_strip_can_be_shrunk(tmp_path):
    path = tmp_path / "x.png"
    palette([[1] * 1000]).save(path)
    assert_near(load_image(path, max_pixels=10)[0, 0], [250, 10, 20], 0)
    assert load_image(path, max_pixels=10).shape[0] == 1


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises a size and has no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize("size", [(10_001, 10_000), (20_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(ImageError, match=r"bomb\.png: .*100,000,000 pixels"):
        load_image(path)


def test_the_largest_picture(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000), 1).save(path)
    assert_near(load_image(path, max_pixels=100)[0, 0], [255, 255, 255], 0)


def broken(folder):
    """name -> (path, words of the message)."""
    (folder / "folder").mkdir()
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("this is no picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "whole.png")
    Image.open(folder / "whole.png").save(folder / "whole.jpg")
    for kind in ("png", "jpg"):
        data = (folder / f"whole.{kind}").read_bytes()
        (folder / f"cut.{kind}").write_bytes(data[: len(data) // 2])
    data = bytearray((folder / "whole.png").read_bytes())
    data[200:260] = bytes(60)
    (folder / "damaged.png").write_bytes(data)
    (folder / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    return {
        "missing.png": "no such file", "folder": "got a folder", "empty.png": "empty", "text.jpg": "not a picture",
        "cut.png": "cut off", "cut.jpg": "cut off", "damaged.png": "corrupt", "drawing.eps": "not a picture",
    }  # fmt: skip


@pytest.mark.parametrize("reader", [load_image, load_bitmap])
def test_broken_files(tmp_path, reader):
    for name, words in broken(tmp_path).items():
        with pytest.raises(ImageError, match=words) as error:
            reader(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="pipe"):
        load_image(tmp_path / "pipe.png")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (1, 1)).save(path)
    path.chmod(0)
    with pytest.raises(ImageError, match="permission"):
        load_image(path)


def test_random_damage_never_raises_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("png", "jpg", "gif", "webp", "tiff", "bmp"):
        whole = tmp_path / f"whole.{kind}"
        Image.fromarray(PICTURE).save(whole)
        data = np.frombuffer(whole.read_bytes(), np.uint8)
        for i in range(40):
            hurt = data.copy()
            at = rng.integers(0, len(hurt), 6)
            hurt[at] = rng.integers(0, 256, 6)
            path = tmp_path / f"{i}.{kind}"
            path.write_bytes(hurt.tobytes())
            try:
                image = load_image(path)
            except ImageError:
                continue
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_bitmaps(tmp_path):
    path = tmp_path / "x.png"
    palette([[0, 1, 2, 7]]).save(path)
    np.testing.assert_array_equal(load_bitmap(path), [[0, 1, 2, 7]])  # indices, not their colours
    Image.fromarray(np.array([[0, 3, 255]], np.uint8)).save(path)
    np.testing.assert_array_equal(load_bitmap(path), [[0, 3, 255]])
    for values, expected in [
        (np.array([[True, False]]), [[True, False]]),
        (np.array([[0, 256, 1]], np.uint16), [[False, True, True]]),  # 256 does not wrap to 0
        (np.array([[[0, 0, 0], [0, 0, 1]]], np.uint8), [[False, True]]),
        (np.array([[[9, 9, 9, 255], [9, 9, 9, 0], [0, 0, 0, 255]]], np.uint8), [[True, False, False]]),
    ]:
        Image.fromarray(values).save(path)
        actual = load_bitmap(path)
        assert actual.dtype == bool
        np.testing.assert_array_equal(actual, expected)


def test_limit_is_stated_once():
    assert image_files.MAX_PIXELS == 10_000 * 10_000


def unreadable_paths(folder):
    """Paths that the system cannot open, by the reason."""
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder.png").mkdir()
    (folder / "file").touch()
    return {
        "File name too long": folder / ("x" * 300 + ".png"),
        "levels of symbolic links": folder / "loop.png",
        "got a folder": folder / "folder.png",
        "null": folder / "a\0b.png",
        "no such file": folder / "file" / "a.png",
    }


@pytest.mark.parametrize("reader", [load_image, load_bitmap, image_files.load_values, image_files.stored_size])
def test_a_path_that_the_system_cannot_open_is_an_image_error(tmp_path, reader):
    for reason, path in unreadable_paths(tmp_path).items():
        with pytest.raises(ImageError, match=reason):
            reader(path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_errors_of_the_file_system_are_named(tmp_path, monkeypatch, code):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2)).save(path)

    def fail(*_, **__):
        raise OSError(code, os.strerror(code), str(path))

    for place in ((os, "stat"), (Image, "open")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, fail)
            with pytest.raises(ImageError, match=r"permission|cannot read this path"):
                load_image(path)


def test_the_stored_picture_and_its_rotation(tmp_path):
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert image_files.stored_size(tmp_path / "a.png") == (3, 2, 6)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", upright=False), stored)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), np.rot90(stored, -1))
    Image.fromarray(stored).save(tmp_path / "b.png")
    assert image_files.stored_size(tmp_path / "b.png") == (3, 2, 1)
