"""Finds the pictures that foreign files name or contain, and writes those that stand inside them to files."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from dtr1_jax.data import first_bytes, image_files
from dtr1_jax.data.conversion.samples import LeftOut
from dtr1_jax.data.readers import file_names

MOST_BYTES = 64 << 20  # of a picture inside a file
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200,}={0,2}\s*")
_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
}
_URL = (
    "pictures that are addresses on the web, which are not fetched (download them, and write their paths or give "
    "--images)"
)


class PictureStore:
    """Turns references to pictures into files on this machine.

    Attributes:
      folders: where paths are looked for, in this order.
      inside: the folder for pictures that stand inside the file; it is made when the first is written.
      written: number of different pictures written to it.
      renamed: number of references of which only the last part of the path was found.
    """

    def __init__(self, folders: Sequence[Path], inside: Path):
        self.folders, self.inside = [*dict.fromkeys(folders)], inside
        self.written = self.renamed = 0
        self._names: dict[Path, str] = {}  # file that was found by a part of its path -> the whole path
        self.find = functools.lru_cache(maxsize=1 << 16)(self._find)
        self.size = functools.lru_cache(maxsize=1 << 16)(self._size)

    def place(self, reference: Any) -> Path:
        """The file of a picture.

        Args:
          reference: a path, a data URL, text in base64, bytes, or an object with "bytes", "path" or "url", as Hugging
            Face's datasets and chat APIs have them.

        Raises LeftOut with the reason if there is no such picture.
        """
        if isinstance(reference, dict):
            found = [reference.get(key) for key in ("bytes", "path", "url", "image_url", "image") if reference.get(key)]
            if not found:
                raise LeftOut("pictures without bytes and path")
            return self.place(found[0])
        if isinstance(reference, (bytes, bytearray, memoryview)):
            return self._write(bytes(reference))
        if not isinstance(reference, str) or not reference.strip():
            raise LeftOut("rows without a picture")
        text = reference.strip()
        if match := _DATA_URL.match(text[:200]):
            return self._write(_decoded(text[match.end() :]))
        if len(text) > 1000 and _BASE64.fullmatch(text):
            return self._write(_decoded(text))
        if text.casefold().startswith("file://"):
            text = text[7:]
        if file_names.is_url(text):
            raise LeftOut(_URL, text[:80])
        return self.find(text)

    def _find(self, name: str) -> Path:
        if len(name) > 1000 or "\0" in name:
            raise LeftOut("pictures whose path is no path", name[:40])
        path = PurePosixPath(name.replace("\\", "/"))
        local = Path(name)
        if local.is_absolute() and file_names.is_file(local):
            return local
        parts = [part for part in path.parts if part not in ("/", ".", "..") and not part.endswith(":")]
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            found = file_names.find_file(self.folders, tail)
            if tail and file_names.is_file(found):
                if start:
                    if self._names.setdefault(found, name) != name:
                        raise LeftOut(
                            "pictures of which several paths lead to one file (put their folders beside it)", name
                        )
                    self.renamed += 1
                return found
        raise LeftOut("pictures that are not found (--images=FOLDER says where they are)", name)

    def _size(self, path: Path) -> tuple[int, int, bool]:
        """(w, h) of the upright picture in pixels, and whether its EXIF rotation exchanges the sides."""
        try:
            w, h, orientation = image_files.stored_size(path)
        except image_files.ImageError as error:
            if kind := first_bytes.kind_of(first_bytes.head_of(path)):
                raise LeftOut(f"pictures in whose place there is {kind}", path.name) from None
            raise LeftOut("pictures that cannot be read", str(error)) from None
        return (h, w, True) if orientation >= 5 else (w, h, False)

    def _write(self, content: bytes) -> Path:
        """Writes a picture once, under a name that its content gives. Raises LeftOut if it is none."""
        if not 0 < len(content) <= MOST_BYTES:
            raise LeftOut(f"pictures of 0 or more than {MOST_BYTES >> 20} MiB inside the file")
        try:
            with Image.open(io.BytesIO(content), formats=tuple(_SUFFIXES)) as image:
                suffix = _SUFFIXES[image.format or ""]
        except Exception as error:  # a decoder may raise anything on broken bytes
            raise LeftOut("pictures inside the file that cannot be decoded", type(error).__name__) from None
        path = self.inside / (hashlib.blake2b(content, digest_size=10).hexdigest() + suffix)
        if not file_names.is_file(path) or path.stat().st_size != len(content):
            self.inside.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self.written += 1
        return path


def _decoded(text: str) -> bytes:
    if len(text) > 2 * MOST_BYTES:
        raise LeftOut(f"pictures of 0 or more than {MOST_BYTES >> 20} MiB inside the file")
    try:
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise LeftOut("pictures in base64 that cannot be decoded", text[:40]) from None
