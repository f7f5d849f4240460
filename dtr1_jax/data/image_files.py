"""Loads picture files of many formats as arrays of one kind, or raises an ImageError that names the fault."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dtr1_jax.data import first_bytes

MAX_PIXELS = 100_000_000  # 10,000 x 10,000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # not EPS, whose decoder calls another program
Image.init()  # a format can only be named once its plugin is loaded
_STRIP = 1 << 20  # pixels that are converted at one time
_QUIET = threading.Lock()  # warning filters are global to the process, so one thread at a time may change them
_ORIENTATION = 274  # the EXIF tag of the rotation
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes with more than 8 bits a channel


class ImageError(ValueError):
    """A file that is not a usable picture; the message names the file, the fault and a next step."""


def load_image(
    path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS, upright: bool = True, raw: bytes | None = None
) -> np.ndarray:
    """Loads a picture file as uint8[h, w, 3], sRGB, upright.

    The EXIF rotation is applied unless `upright` is False, transparent pixels are blended with white, and grey,
    palette, CMYK and 16-bit pictures are converted. An animation gives its first frame. Colour profiles are not
    applied. A picture of more than `max_pixels` is shrunk to at most that many, keeping its shape.

    With `raw`, these are the bytes of the picture, as tables hold them, and `path` is their name in messages.

    Raises ImageError if the file is not a usable picture, or has more than MAX_PIXELS.
    """
    return load_shrunk(path, max_pixels, upright, raw)[0]


def load_shrunk(
    path: str | os.PathLike, max_pixels: int, upright: bool = True, raw: bytes | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Loads a picture as `load_image` does; returns it with the (height, width) that the picture has when not shrunk.

    The size is that of the upright picture or, where `upright` is False, that of the picture as it is stored.
    """
    with _opened(path, max_pixels, upright, raw=raw) as (image, size):
        image = _shrunk(image, max_pixels)
        if image.mode in _WIDE:
            image = Image.fromarray(_to_uint8(np.asarray(image)))
        width, height = image.size
        pixels = np.empty((height, width, 3), np.uint8)
        step = max(1, _STRIP // width)
        for top in range(0, height, step):  # in strips, so that a large picture is not held in several forms at once
            pixels[top : top + step] = _rgb(image.crop((0, top, width, min(top + step, height))))
        return pixels, size


def shrunk_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """The (height, width) of a picture after it is shrunk to at most `max_pixels`; a smaller one keeps its size."""
    if width * height <= max_pixels:
        return height, width
    scale = (max_pixels / (width * height)) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))


def load_bitmap(path: str | os.PathLike) -> np.ndarray:
    """Loads a mask file as uint8[h, w] or bool[h, w], nonzero inside the mask.

    Grey values and palette indices are returned unchanged. Pictures with colours, transparency or more than 8 bits
    become bool, True at pixels that are neither black nor transparent.

    Raises ImageError.
    """
    with _opened(path, MAX_PIXELS) as (image, _):
        if image.mode in ("L", "P"):
            return np.asarray(image)
        if image.mode == "1" or image.mode in _WIDE:
            return np.asarray(image) != 0
        values = np.asarray(image.convert("RGBA"))
        return values[..., :3].any(axis=-1) & (values[..., 3] > 0)


def stored_size(path: str | os.PathLike) -> tuple[int, int, int]:
    """Reads (width, height, EXIF orientation) from the head of a picture file; the size is that before the rotation.

    The orientation is 1 where the file does not say it, and from 2 to 8 where the picture is mirrored or turned.
    Raises ImageError.
    """
    with _opened(path, MAX_PIXELS, upright=False, decode=False) as (image, _):
        orientation = image.getexif().get(_ORIENTATION, 1)
        return *image.size, orientation if orientation in range(2, 9) else 1


def load_values(path: str | os.PathLike) -> tuple[np.ndarray, str]:
    """Loads a mask file with the values that the file holds.

    Returns:
      (uint8[h, w] grey values or palette indices, uint8[h, w, 4] colours with transparency, or numbers of a wider kind;
      the format of the file, such as "PNG" or "JPEG"). Palette indices are returned as colours if another index than 0
      is the black background.

    Raises ImageError.
    """
    with _opened(path, MAX_PIXELS) as (image, _):
        kind = image.format or ""
        if image.mode == "P":
            palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
            used = [i for _, i in image.getcolors() if i < len(palette)]
            if palette[0].any() and not palette[used].any(axis=1).all():
                return np.asarray(image.convert("RGBA")), kind
        if image.mode in ("L", "P"):
            return np.asarray(image), kind
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8), kind
        if image.mode in _WIDE:
            return np.asarray(image), kind
        return np.asarray(image.convert("RGBA")), kind


def file_mode(path: str | os.PathLike) -> int:
    """The mode of a file or folder (os.stat_result.st_mode). Raises ImageError if the system cannot find or read it."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read the file; change its mode or owner") from None
    except (
        OSError,
        ValueError,
    ) as error:  # a name that is too long, a loop of links, a zero byte, a lost network drive
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike, error: Exception) -> ImageError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ImageError(f"{str(path)[:300]!r}: the system cannot read this path ({reason}); check the path")


def _check_regular(path: Path) -> None:
    mode = file_mode(path)
    if stat.S_ISDIR(mode):
        raise ImageError(f"{path}: expected a picture file, got a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path}: expected a regular file, got a device or pipe; save the picture to a file first")


@contextlib.contextmanager
def _opened(
    path: str | os.PathLike, max_pixels: int, upright: bool = True, decode: bool = True, raw: bytes | None = None
):
    """Opens and decodes a picture and turns it upright. Any exception inside the context becomes an ImageError.

    Yields it with the (height, width) that the file has, upright unless `upright` is False: a large JPEG is decoded at
    a part of its size, at least `max_pixels`.
    """
    path = Path(path)
    if raw is None:
        _check_regular(path)
    try:
        if (path.stat().st_size if raw is None else len(raw)) == 0:
            raise ImageError(f"{path}: the file is empty; fetch or export it again")
        with _quiet():
            image = Image.open(path if raw is None else io.BytesIO(raw), formats=_FORMATS)
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{path}: expected at most {MAX_PIXELS:,} pixels, got {width} x {height}; shrink the picture first"
                )
            if not decode:
                yield image, (height, width)
                return
            if width * height > max_pixels:  # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size
                shrink = (max_pixels / (width * height)) ** 0.5
                image.draft(None, (max(1, round(width * shrink)), max(1, round(height * shrink))))
            with _quiet() if image.format == "TIFF" else contextlib.nullcontext():  # it reads tags while decoding
                image.load()
            swapped = upright and _turn_upright(image)
            yield image, (width, height) if swapped else (height, width)
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        if kind := first_bytes.kind_of(first_bytes.head_of(path) if raw is None else raw):
            raise ImageError(f"{path}: expected a picture, got {kind}") from None
        raise ImageError(
            f"{path}: not a picture of a known kind; convert it to {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: more than {MAX_PIXELS:,} pixels ({error}); shrink the picture first") from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read the file; change its mode or owner") from None
    except OSError as error:
        if error.errno is None:  # Pillow raises it for a file that breaks off
            raise ImageError(
                f"{path}: the picture is corrupt or cut off ({type(error).__name__}: {error}); fetch or export it again"
            ) from error
        raise _unreadable(path, error) from None
    except Exception as error:  # a decoder may raise anything on a broken file
        raise ImageError(
            f"{path}: the picture is corrupt or cut off ({type(error).__name__}: {error}); fetch or export it again"
        ) from error


@contextlib.contextmanager
def _quiet():
    """Silences Pillow's warnings about sizes, which are checked here, and about broken EXIF data, which are ignored."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _turn_upright(image: Image.Image) -> bool:
    """Applies the EXIF rotation; returns whether it exchanges the sides."""
    with _quiet():
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            ImageOps.exif_transpose(image, in_place=True)
            return turned
        except Exception:  # broken EXIF data: the rotation is not known
            return False


def _rgb(image: Image.Image) -> np.ndarray:
    """Converts a picture with 8 bits a channel to uint8[h, w, 3], blended with white where it is transparent."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _shrunk(image: Image.Image, max_pixels: int) -> Image.Image:
    size = shrunk_size(*image.size[::-1], max_pixels)[::-1]
    if size == image.size:
        return image
    if image.mode in ("P", "1"):  # palette indices cannot be averaged
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Converts grey values of 16 or 32 bits, or floats, to uint8[h, w].

    The file does not say which value is white, so it is guessed: 65535 for 16-bit integers and for 32-bit integers with
    a value above 255, 1 for floats that are at most 1, and 255 for the rest.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    values = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    top = values.max()
    if kind == "f":
        values *= 255.0 if top <= 1 else 1.0
    elif size == 2 or top > 255:
        values /= 257.0
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
