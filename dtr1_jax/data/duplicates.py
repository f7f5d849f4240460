"""Pictures that are in two splits: files with the same content, whatever their names."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

MOST_BYTES = 4 << 30  # bytes that are hashed at most


@dataclasses.dataclass(frozen=True)
class Shared:
    """Files of two splits with equal content.

    Attributes:
      pairs: (file of the first split, file of the second), one pair for each file of the second split.
      complete: False if some files were too many bytes to be compared.
    """

    pairs: tuple[tuple[Path, Path], ...]
    complete: bool


def shared_files(first: Sequence[Path], second: Sequence[Path], most_bytes: int = MOST_BYTES) -> Shared:
    """Finds the files of `second` whose bytes equal those of a file of `first`.

    Only files of equal size are read. Files that cannot be read are left out: their examples report it.
    """
    sizes = [_by_size(files) for files in (first, second)]
    pairs, used, complete = [], 0, True
    for size in sorted(set(sizes[0]) & set(sizes[1])):
        ours, theirs = sizes[0][size], sizes[1][size]
        same = {os.path.realpath(path): path for path in ours}
        pairs += [(same[os.path.realpath(path)], path) for path in theirs if os.path.realpath(path) in same]
        theirs = [path for path in theirs if os.path.realpath(path) not in same]
        used += size * (len(ours) + len(theirs)) if theirs else 0
        if used > most_bytes:
            complete = False
            continue
        digests = {_digest(path): path for path in reversed(ours)} if theirs else {}
        pairs += [(digests[digest], path) for path in theirs if (digest := _digest(path)) and digest in digests]
    return Shared(tuple(pairs), complete)


def _by_size(files: Iterable[Path]) -> dict[int, list[Path]]:
    sizes = collections.defaultdict(list)
    for path in files:
        try:
            if path.is_file() and (size := path.stat().st_size):
                sizes[size].append(path)
        except OSError:
            continue
    return sizes


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).digest()
    except OSError:
        return None
