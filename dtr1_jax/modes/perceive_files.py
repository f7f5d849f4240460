"""The files behind the inputs of `--mode=perceive` in short, so that a run goes on only with the inputs it began with.

Contents are not read, since a folder may have a million pictures: a file is known by its name, its size and the time of
its last change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dtr1_jax import config
from dtr1_jax.modes.perceive_journal import PARTS, TIMES

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv", ".txt", ".xml", ".yaml", ".p", ".pkl", ".pickle")
RECORDS = ".tfrecord"  # anywhere in a name, such as x.tfrecord-00001-of-00005
NAMES, SIZES = "names", "sizes"


def digests(files: Iterable[Path], folder: Path) -> dict[str, str]:
    """{NAMES: digest, SIZES: digest, TIMES: digest} of files in their order, each of 16 hexadecimal digits.

    A name is the path in `folder`, a size is in bytes and a time in nanoseconds. A file that is gone has the size -1.
    """
    hashes = {name: hashlib.blake2b(digest_size=8) for name in (NAMES, SIZES, TIMES)}
    for file in files:
        try:
            status = file.stat()
            facts = (status.st_size, status.st_mtime_ns)
        except OSError:
            facts = (-1, -1)
        for one, fact in zip(hashes.values(), (os.path.relpath(file, folder), *facts)):
            one.update(f"{fact}\0".encode("utf-8", "surrogatepass"))
    return {name: one.hexdigest() for name, one in hashes.items()}


def of_data_set(data: config.Data, out: Path) -> dict[str, str]:
    """`digests` of the files that the examples of a data set are read from: data.root where it is a file, else the
    annotation files in it and in its folders; and data.phrases. The pictures are not among them, nor is the folder
    `out`, which the run writes.
    """
    root = Path(data.root)
    files = [] if not data.root else [root] if root.is_file() else sorted(_annotations(root, out.resolve()))
    files += [Path(data.phrases)] if data.phrases else []
    return digests(files, root.parent)


def _annotations(root: Path, out: Path) -> Iterator[Path]:
    """The annotation files in a folder and in the folders in it, but none of `out`."""
    for folder in (root, *_folders(root)):
        if folder.resolve() not in (out, out / PARTS):
            for entry in _entries(folder):
                if (entry.name.lower().endswith(SUFFIXES) or RECORDS in entry.name) and entry.is_file():
                    yield folder / entry.name


def _folders(root: Path) -> list[Path]:
    return [root / entry.name for entry in _entries(root) if entry.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder, hidden files aside; nothing where it cannot be read, which its reader reports."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
