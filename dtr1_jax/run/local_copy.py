"""Inputs in a bucket are copied to this machine before they are read: weights, data sets, files of specialists.

The readers of these files need local ones (safetensors maps them into memory, PyAV and PIL seek in them), and training
reads each picture many times. A copy is kept in the user's cache, or in the folder that DTR1_JAX_COPIES names:

    copies/<digest of the address>/files/<name>/...  the files
    copies/<digest of the address>/copied.jsonl      a line for each file: ["name", size in bytes, "version"]

The next run copies only what has another size or version in the bucket, and removes what is gone from it.
"""

from __future__ import annotations

import fcntl
import fnmatch
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dtr1_jax import places

LISTING = "copied.jsonl"
# What tells two objects of the same name and size apart, by the words of gcsfs and s3fs; the first that is known.
_VERSIONS = ("generation", "etag", "ETag", "md5Hash", "mtime", "LastModified", "created")
_SPARE = 1 << 30  # bytes that a copy leaves free on the disk
_PART = 256  # files that are copied at once

_log = logging.getLogger(__name__)


def fetch(place: str, name: str, patterns: Sequence[str] | None = None) -> Path:
    """The local path of a text; a file or folder of a bucket is copied first, once in a process.

    Args:
      place: a local path, gs://BUCKET/... or s3://BUCKET/...
      name: the flag or setting, for messages.
      patterns: of the files to copy, such as "*.json", from a folder; None = all.

    Raises PlaceError if there is nothing at the address, if it cannot be read, or if the disk has too little room.
    """
    if not places.is_bucket(place):
        return places.path(place)
    try:
        return _copied(place.rstrip("/"), None if patterns is None else tuple(patterns))
    except OSError as error:
        raise places.PlaceError(f"{name}={places.shown(place)}: cannot be copied to this machine: {error}") from error


def stable_name(path: Path) -> str:
    """The path as text; of a copy, without the folder of all copies. So it is the same on every machine of a run."""
    return path.relative_to(folder()).as_posix() if path.is_relative_to(folder()) else path.as_posix()


def folder() -> Path:
    """Where copies are kept: DTR1_JAX_COPIES, or `dtr1_jax/copies` in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtr1_jax" / "copies"
    return Path(os.environ.get("DTR1_JAX_COPIES") or cache).expanduser()


@functools.cache
def _copied(url: str, patterns: tuple[str, ...] | None) -> Path:
    source = places.path(url)
    objects = _objects(source)
    home = folder() / hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    home.mkdir(parents=True, exist_ok=True)
    target = home / "files" / source.name  # a folder of its own, because an object may be named "copied.jsonl"
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other processes of this host find the files that the first has copied
        done = _read(home / LISTING)
        for gone in done.keys() - objects.keys():
            (target / gone).unlink(missing_ok=True)
        wanted = {name: stamp for name, stamp in objects.items() if name == "." or _fits(name, patterns)}
        if not wanted:
            raise places.PlaceError(f"expected files named {', '.join(patterns)}, got {', '.join(sorted(objects)[:5])}")
        missing = [n for n, stamp in wanted.items() if done.get(n) != stamp or not _has_size(target / n, stamp[0])]
        _copy(source, target, {name: objects[name] for name in missing}, home / LISTING)
    return target


def _objects(source: Path) -> dict[str, list]:
    """[size in bytes, version] of each object at or below a place, by its name from there; "." is the place itself."""
    with places.named_errors(source):
        system = places.system(source)
        root = system._strip_protocol(os.fspath(source))
        found: dict[str, Any] = system.find(root, detail=True)
    objects = {}
    for name, info in found.items():
        below = PurePosixPath(name).relative_to(root)
        if ".." in below.parts or "\0" in name:
            raise places.PlaceError(f"the object {name!r} has a name that no local file can have")
        if info.get("type") == "file" and not name.endswith("/"):
            objects[below.as_posix()] = [info["size"], next((str(info[v]) for v in _VERSIONS if info.get(v)), "")]
    if not objects:
        raise places.PlaceError("there is no such file or folder")
    return objects


def _fits(name: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _copy(source: Path, target: Path, objects: dict[str, list], listing: Path) -> None:
    """Copies objects in parts. After each part the listing names its files, so that a killed copy goes on from there.

    A file of a part is checked under another name, and then renamed: no reader ever sees half of one.
    """
    total = sum(size for size, _ in objects.values())
    free = shutil.disk_usage(listing.parent).free
    if objects and total + _SPARE > free:
        raise places.PlaceError(
            f"it has {total / 1e9:.1f} GB, and {listing.parent} has {free / 1e9:.1f} GB free; name another disk by the"
            " environment variable DTR1_JAX_COPIES, or mount the bucket"
        )
    if objects:
        _log.info("copying %d files (%.2f GB) from %s to %s", len(objects), total / 1e9, source, target)
    names = list(objects)
    for start in range(0, len(names), _PART):
        part = names[start : start + _PART]
        with tempfile.TemporaryDirectory(dir=listing.parent, prefix="part-") as scratch:
            files = [Path(scratch) / str(number) for number in range(len(part))]
            with places.named_errors(source):
                places.system(source).get([os.fspath(source / name) for name in part], [str(file) for file in files])
            for name, file in zip(part, files):
                size = file.stat().st_size
                if size != objects[name][0]:
                    raise places.PlaceError(f"{source / name}: expected {objects[name][0]} bytes, got {size}")
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target / name)
        with open(listing, "a", encoding="utf-8") as lines:
            lines.writelines(json.dumps([name, *objects[name]]) + "\n" for name in part)


def _read(listing: Path) -> dict[str, list]:
    """[size, version] of each file that was copied, by its name; lines that a killed copy left broken are passed over.

    The last line of a name counts.
    """
    done: dict[str, list] = {}
    for line in listing.read_text("utf-8", "replace").splitlines() if listing.is_file() else ():
        try:
            name, size, version = json.loads(line)
        except (ValueError, RecursionError):
            continue
        done[str(name)] = [size, version]
    return done
