"""Files that are there whole or not at all, and that whoever may read this process' other files may read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the name of a file beside `path` to write to; what is written there takes the place of `path` at the end.

    Where the block raises, `path` stays as it was and nothing is left beside it; where the machine goes down, `path` is
    the old file or the whole new one. The file has the rights that the process' umask leaves, also where the library
    that writes it makes files for their owner alone.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    try:
        partial.touch(0o666)  # the only way to see the umask that does not change it for other threads
        mode = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        partial.chmod(mode)
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
