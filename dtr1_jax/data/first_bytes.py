"""Files that are something else than their name says: archives, pointers of Git LFS, web pages of a failed download."""

from __future__ import annotations

from pathlib import Path

# The first bytes of a file -> its kind and the next step, in words that fit after "got".
KINDS = (
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself with git lfs pull"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"BZh", "a bzip2 archive; unpack it"),
    (b"\xfd7zXZ\0", "an xz archive; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "a rar archive; unpack it"),
)
_PAGES = (b"<!doctype html", b"<html")


def kind_of(head: bytes) -> str | None:
    """The kind of a file and the next step, by its first bytes; None for any other file."""
    text = head[:64].lstrip().lower()
    if text.startswith(_PAGES):
        return "a web page, as a server answers in place of a file; fetch the file again, signed in if it needs that"
    return next((kind for magic, kind in KINDS if head.startswith(magic)), None)


def head_of(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError:
        return b""
