"""Files and folders that are written whole or not at all, with the usual access rights of a new file."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path; at the end of the block the file written there replaces `path`.

    If the block raises, `path` stays unchanged and the new file is removed. If the machine goes down, `path` is either
    the old file or the complete new one. The file gets the rights that the umask allows, even if the library that
    writes it makes files that only their owner can read.
    """
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
    """
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
