"""Files of masks by annotation, mask_dict.json: {"ID": [RLE or null for each frame, ...], ...}, read by their places.

Such a file has up to a gigabyte. It is searched once for where each list begins and ends, without parsing; a list is
read when it is asked for. An RLE has no quotation marks inside its texts, so a key in front of a list is found safely.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from dtr1_jax.data import first_bytes
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers.jsonl_fields import is_rle, whole_rle
from dtr1_jax.twin import masks

Place = tuple[int, int]  # the first byte of a list, and its length at most

_LIST = re.compile(rb'"(\d{1,20})"\s*:\s*\[\s*(?=[\{n\]\[])')


def find_lists(path: Path, field: str = "") -> Mapping[str, Place]:
    """The places of the lists of a file by their keys. Raises DataError: it cannot be read, or a key stands twice.

    Args:
      path: the file.
      field: where the values are objects {field: list}, the name of the field; "" = the values are the lists, and the
        keys are numbers.
    """
    try:
        stat = path.stat()
        return _find(path, field, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


@functools.lru_cache(maxsize=4)
def _find(path: Path, field: str, size: int, changed: int) -> Mapping[str, Place]:
    """The places in a file of this size, changed at this time, ns."""
    del changed
    inner = rf'"([^"\\]{{1,200}})"\s*:\s*\{{\s*"{re.escape(field)}"\s*:\s*\['.encode()
    pattern = re.compile(inner) if field else _LIST
    starts: dict[str, int] = {}
    with path.open("rb") as file:
        if size == 0:
            raise DataError(f"{path}: the file is empty; fetch it again")
        if kind := first_bytes.kind_of(first_bytes.head_of(path)):
            raise DataError(f"{path}: expected masks by annotation, got {kind}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for match in pattern.finditer(content):
                key = match[1].decode("utf-8", "replace")
                if key in starts:
                    raise DataError(f"{path}: the key {key[:64]!r} stands twice; fetch the file again")
                starts[key] = content.rfind(b"[", match.start(), match.end())
    if not starts:
        form = f'{{"ID": {{"{field}": [RLE, ...]}}}}' if field else '{"ID": [RLE or null, ...]}'
        raise DataError(f"{path}: expected {form}, got no such list; take the benchmark's own file")
    ends = [*list(starts.values())[1:], size]
    return MappingProxyType({key: (start, end - start) for (key, start), end in zip(starts.items(), ends)})


@functools.lru_cache(maxsize=8)  # the frames of a query are read one after another
def read_list(path: Path, place: Place) -> list[Any]:
    """The list at a place. Raises ImageError."""
    start, length = place
    try:
        with path.open("rb") as file:
            text = os.pread(file.fileno(), length, start).decode("utf-8")
        value, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError, RecursionError) as error:
        fault = str(error)[:100]
        raise ImageError(f"{path}: the masks at byte {start} cannot be read ({fault}); fetch it again") from None
    if not isinstance(value, list):
        raise ImageError(f"{path}: expected a list at byte {start}; the file has changed, start the run again")
    return value


def mask_of(value: Any, where: str) -> np.ndarray | None:
    """bool[h, w], the mask of an item of a list: an RLE, or a list of RLEs whose union is meant; None for null.

    Raises ImageError, which begins with `where`.
    """
    if value is None:
        return None
    found = None
    try:
        for rle in value if isinstance(value, list) else [value]:
            if not is_rle(rle):
                raise ValueError("expected an RLE with size and counts")
            mask = masks.decode(whole_rle(rle))
            if found is not None and found.shape != mask.shape:
                raise ValueError("its RLEs have several sizes")
            found = mask if found is None else found | mask
    except ValueError as error:
        raise ImageError(f"{where}: {error}; fetch the file of masks again") from None
    return found
