"""Where files are: on this machine, or in a bucket (gs://BUCKET/FOLDER, s3://BUCKET/FOLDER).

`pathlib.Path("gs://bucket/run")` means a local folder named `gs:`. So the texts of flags and settings that may name a
bucket become paths here, and a text that names another kind of address is refused.

What a run writes, it writes to its place through `path` and the functions below. What it reads as input (weights, data)
is first copied to this machine by run/local_copy.py.

A bucket has objects and no folders: an object appears whole when its writing ends, nothing is appended to one, and
nothing is renamed in one move. Buckets are reached by fsspec, which finds the user's credentials as gcsfs and s3fs do.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # of each scheme; the extras of setup.py have the scheme's name

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)(.*)|(gs|s3):(/)(?!/)(.*)", re.DOTALL)


class PlaceError(OSError):
    """A place that cannot be used; the message says why and what to do."""


def is_bucket(place: str | os.PathLike) -> bool:
    """Whether a text or path has the form of an address, such as gs://bucket/run, and not of a local path."""
    return bool(_ADDRESS.match(os.fspath(place)))


def path(place: str | os.PathLike) -> Path:
    """The path of a text: a pathlib.Path, or for a bucket an etils.epath.Path, which has the same methods.

    A local text may begin with "~". A path stays as it is. Raises PlaceError for an address of another kind, an address
    without a bucket, and a missing package.
    """
    match = _ADDRESS.match(os.fspath(place))
    if match is None:
        return Path(place).expanduser() if isinstance(place, str) else place
    scheme, slashes, rest = (a or b or "" for a, b in zip(match.groups()[:3], match.groups()[3:]))
    bucket = rest.partition("/")[0]
    if scheme not in PACKAGES or slashes != "//" or not bucket or "@" in bucket or ".." in rest.split("/"):
        raise PlaceError(
            f"{shown(place)}: expected a path of this machine, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; copy or "
            "mount what lies elsewhere, and name it there"
            + "; credentials are found where gcloud or aws keeps them, and belong in no address"
            * ("@" in bucket)
        )
    _set_up(scheme)
    from etils import epath  # here, because most runs need no bucket

    return epath.Path(os.fspath(place))


def here(place: str | os.PathLike, name: str, advice: str) -> Path:
    """The local path of a text. Raises PlaceError for a bucket: `name` is the flag or setting, `advice` what to do."""
    if is_bucket(place):
        raise PlaceError(f"{name}={shown(place)}: expected a path of this machine, got an address; {advice}")
    return path(place)


def shown(place: str | os.PathLike) -> str:
    """A place for a message: without the parts of an address in which people put keys and passwords."""
    text = os.fspath(place)
    if not is_bucket(text):
        return text
    start, slashes, rest = text.partition("//")
    bucket, slash, name = rest.partition("/")
    name = name if start in ("gs:", "s3:") else name.partition("?")[0]  # "?" begins no query in a bucket's names
    return start + slashes + ("..." + bucket[bucket.rindex("@") :] if "@" in bucket else bucket) + slash + name


def check_for_checkpoints(workdir: Path) -> None:
    """Raises PlaceError for a bucket in which orbax cannot save: it writes to gs:// and to file systems."""
    if is_bucket(workdir) and not os.fspath(workdir).startswith("gs://"):
        raise PlaceError(
            f"--workdir={shown(workdir)}: checkpoints can be saved in gs:// and in folders only; mount the bucket"
            " as a folder, and name that"
        )


def absolute(place: str | os.PathLike) -> Path:
    """`path(place)`; a local one from the root on."""
    found = path(place)
    return found if is_bucket(found) else found.absolute()


def make_folder(folder: Path) -> None:
    """Makes a local folder and its parents, if they are missing. A bucket needs no folders, and is never made."""
    if not is_bucket(folder):
        folder.mkdir(parents=True, exist_ok=True)


def check_writable(folder: Path) -> None:
    """Makes the folder and writes an empty file into it, which it removes. Raises OSError where that fails."""
    make_folder(folder)
    if not is_bucket(folder):
        with tempfile.TemporaryFile(dir=folder):
            return
    probe = folder / f".writable-{secrets.token_hex(4)}"
    write_bytes(probe, b"")
    remove(probe)


def read_bytes(file: Path) -> bytes:
    """The bytes of a file or object. Raises OSError.

    An object is read in one request. A reader that asks for its size first, as epath's does, can get a part of one that
    is written anew meanwhile.
    """
    with named_errors(file):
        return system(file).cat_file(os.fspath(file)) if is_bucket(file) else file.read_bytes()


def read_text(file: Path, errors: str = "strict") -> str:
    """The text of a file or object in UTF-8. Raises OSError, UnicodeDecodeError."""
    return read_bytes(file).decode("utf-8", errors)


def write_bytes(file: Path, data: bytes) -> None:
    """Writes a local file in place; an object of a bucket appears whole, and replaces one of its name."""
    with named_errors(file):
        if is_bucket(file):
            system(file).pipe_file(os.fspath(file), data)
        else:
            file.write_bytes(data)


def write_text(file: Path, text: str) -> None:
    """Writes a text in UTF-8, as `write_bytes` does. Raises OSError, UnicodeEncodeError."""
    write_bytes(file, text.encode())


def create(file: Path, text: str) -> None:
    """Writes a new object of a bucket. Raises FileExistsError if there is one of its name, whoever made it; OSError.

    Of several writers at the same time the bucket lets one through.
    """
    with named_errors(file):
        system(file).pipe_file(os.fspath(file), text.encode(), mode="create")


def is_file(place: str | os.PathLike) -> bool:
    """Whether there is a file, or an object, of exactly this name. Raises PlaceError if a bucket cannot be asked."""
    file = path(place)
    with named_errors(file):
        return file.is_file()


def is_folder(place: str | os.PathLike) -> bool:
    """Whether there is a folder, or an object below this name. Raises PlaceError if a bucket cannot be asked."""
    folder = path(place)
    with named_errors(folder):
        return folder.is_dir()


def exists(place: str | os.PathLike) -> bool:
    """Whether there is a file or a folder. Raises PlaceError if a bucket cannot be asked."""
    found = path(place)
    with named_errors(found):
        return found.exists()


def remove(file: Path) -> None:
    """Removes a file or object, if it is there. Raises OSError."""
    with named_errors(file):
        file.unlink(missing_ok=True)


def size(file: Path) -> int:
    """Bytes of a file or object. Raises OSError."""
    with named_errors(file):
        return system(file).info(os.fspath(file))["size"] if is_bucket(file) else file.stat().st_size


def move(source: Path, target: Path) -> None:
    """Renames a folder. In a bucket, where nothing can be renamed, it copies the objects and then removes them."""
    with named_errors(source):
        if is_bucket(source):
            bucket, root = system(source), os.fspath(source).partition("://")[2]
            names = bucket.find(root)
            for name in names:
                bucket.cp_file(name, os.fspath(target) + name.removeprefix(root))
            bucket.rm(names)
        else:
            os.rename(source, target)


def upload(file: Path, target: Path) -> None:
    """Copies a local file to an object of a bucket, in parts; the object appears when all of it is there.

    Raises PlaceError if the object has another size afterwards; OSError.
    """
    with named_errors(target):
        system(target).put_file(str(file), os.fspath(target))
    if size(target) != size(file):
        raise PlaceError(f"{target}: expected {size(file)} bytes after the upload, got {size(target)}; start it again")


def upload_folder(folder: Path, target: Path, key: Callable[[Path], Any] | None = None) -> None:
    """Copies the files of a local folder to objects below `target`, sorted by path, or by `key` of their paths.

    Raises as `upload` does.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files if key is None else sorted(files, key=key):
        upload(file, target / file.relative_to(folder).as_posix())


def system(place: Path) -> Any:
    """The fsspec file system of a path in a bucket; it takes the whole address as a name."""
    import fsspec

    return fsspec.filesystem(os.fspath(place).partition("://")[0])


@contextlib.contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """Turns errors of the bucket's package, which need be no OSError and need not name the object, into PlaceError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, PlaceError | FileNotFoundError | FileExistsError) or not is_bucket(file):
            raise
        raise PlaceError(f"{os.fspath(file)}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def _set_up(scheme: str) -> None:
    """Raises PlaceError if the package of a scheme is missing; keeps fsspec from remembering what a bucket holds."""
    import fsspec

    # Other hosts write into the bucket too, and gcsfs by itself never asks for a listing twice.
    for name in {"gs": ("gs", "gcs"), "s3": ("s3",)}[scheme]:
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
    os.environ.setdefault("EPATH_USE_TF", "0")  # else an installed TensorFlow would read and write instead of fsspec
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise PlaceError(
            f"{scheme}:// needs {PACKAGES[scheme]}, which cannot be imported ({error}); install it by"
            f" pip install 'dtr1_jax[{scheme}]'"
        ) from error
