"""Rows of parquet files by pyarrow (extra [parquet]): small columns of all rows at once, large cells one by one."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import file_names

MOST_GROUP = 4 << 30  # bytes of one column of a row group, which is held in memory


@dataclasses.dataclass(frozen=True)
class Cell:
    """A row of a file, whose large columns are read when they are asked for."""

    file: str
    row: int


def list_files(root: Path) -> list[Path]:
    """The parquet files in a folder or in its folder data/, by name."""
    for folder in (root, root / "data"):
        found = file_names.visible_files(folder, "*.parquet") if file_names.is_folder(folder) else []
        if found:
            return found
    return []


def columns_of(file: Path) -> list[str]:
    """The names of the columns. Raises DataError."""
    return _opened(str(file)).schema_arrow.names


def read_rows(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """All rows with the columns that the file has of `columns`, as plain values. Raises DataError."""
    opened = _opened(str(file))
    names = [name for name in columns if name in opened.schema_arrow.names]
    try:
        return opened.read(columns=names).to_pylist()
    except Exception as error:  # pyarrow has many kinds of errors for a damaged file
        raise DataError(f"{file}: the table is damaged ({_short(error)}); fetch the file again") from None


def read_cell(cell: Cell, column: str) -> Any:
    """One value of a large column. Raises ImageError.

    The column of the whole row group is held in memory for the next calls, since that is what the format can read.
    """
    try:
        opened = _opened(cell.file)
        group, first = 0, 0
        while first + (rows := opened.metadata.row_group(group).num_rows) <= cell.row:
            group, first = group + 1, first + rows
        return _group(opened, cell.file, group, column)[cell.row - first].as_py()
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(
            f"{cell.file}: row {cell.row}, column {column}: cannot be read ({_short(error)}); fetch the file again"
        ) from None


def picture_bytes(cell: Cell, column: str = "image") -> bytes:
    """The bytes of a picture, stored as {"bytes": ..., "path": ...} or as plain bytes. Raises ImageError."""
    value = read_cell(cell, column)
    raw = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(raw, bytes):
        raise ImageError(f"{cell.file}: row {cell.row}: expected the bytes of a picture in column {column}, got none")
    return raw


@functools.lru_cache(maxsize=2)
def _group(opened: Any, file: str, group: int, column: str) -> Any:
    meta = opened.metadata.row_group(group)
    size = sum(
        meta.column(i).total_uncompressed_size
        for i in range(meta.num_columns)
        if meta.column(i).path_in_schema.split(".")[0] == column
    )
    if size > MOST_GROUP:
        raise ImageError(f"{file}: a group of rows has {size:,} bytes; write it with smaller row groups")
    return opened.read_row_group(group, columns=[column]).column(0)


def _opened(file: str) -> Any:
    try:
        return _opened_at(file, os.stat(file).st_mtime_ns)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); check the path") from None


@functools.lru_cache(maxsize=64)
def _opened_at(file: str, changed: int) -> Any:
    """The opened file, as it was at the time of its last change."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{file}: reading parquet files needs pyarrow: pip install 'dtr1_jax[parquet]'") from None
    try:
        return pyarrow.parquet.ParquetFile(file)
    except Exception as error:  # as above
        raise DataError(f"{file}: expected a parquet file, got another or a damaged one ({_short(error)})") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
