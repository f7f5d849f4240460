"""Files and folders that are written whole or not at all, with the usual access rights of a new file.

For a place in a bucket they are written on this machine, below TMPDIR, and then copied there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dtr1_jax import places


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path; at the end of the block the file written there replaces `path`.

    If the block raises, `path` stays unchanged and the new file is removed. If the machine goes down, `path` is either
    the old file or the complete new one. The file gets the rights that the umask allows, even if the library that
    writes it makes files that only their owner can read. In a bucket the object `path` appears whole.
    """
    if places.is_bucket(path):
        with tempfile.TemporaryDirectory(prefix="dtr1_jax-") as scratch:
            yield Path(scratch) / path.name
            places.upload(Path(scratch) / path.name, path)
        return
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # a killed process can leave one
    try:
        partial.touch(0o666)  # shows the umask; os.umask would change it for other threads
        mode = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        partial.chmod(mode)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Context manager that yields a new folder; at the end of the block it replaces the folder `path`.

    If the block raises, `path` stays unchanged and the new folder is removed. A process that is killed between two
    renames leaves the earlier folder as `path`.earlier.

    A bucket has no move for a whole folder. There the objects of the earlier folder are removed first, and the JSON
    files come last: a folder that a killed process left half-written has no config.json, and no reader takes it.
    """
    if places.is_bucket(path):
        with tempfile.TemporaryDirectory(prefix="dtr1_jax-") as scratch:
            yield Path(scratch)
            _replace_objects(Path(scratch), path)
        return
    partial, earlier = (path.with_name(path.name + ending) for ending in (".partial", ".earlier"))
    shutil.rmtree(partial, ignore_errors=True)  # a killed process can leave one
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(earlier, ignore_errors=True)
            os.replace(path, earlier)
        os.replace(partial, path)
        shutil.rmtree(earlier, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _replace_objects(folder: Path, target: Path) -> None:
    """Puts the files of a local folder into a folder of a bucket in place of what is there."""
    system, root = places.system(target), os.fspath(target)
    with places.named_errors(target):
        old = system.find(root)
        for last in (False, True):  # JSON files are removed first and written last
            gone = [name for name in old if name.endswith(".json") != last]
            if gone:
                system.rm(gone)
    places.upload_folder(folder, target, key=lambda file: (file.suffix == ".json", file.name == "config.json"))
