"""Rows of JSON, JSON lines and Parquet files, one after the other, so that a large file is never held as a whole."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError

_BLOCK = 1 << 22  # bytes that are read at one time
_LONGEST = 1 << 28  # characters of one row
BATCH = 64  # rows of a Parquet file that are held at one time; pictures stand inside them
_SPACES = " \t\r\n,"

Row = tuple[str, Any]  # place for messages, value


def rows(path: Path) -> Iterator[Row]:
    """Yields (place, row) of a file: JSON lines, a JSON list, or Parquet.

    A malformed line is yielded as a ValueError in place of its value. Raises DataError where the file cannot be read or
    breaks off.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if head.startswith(b"PAR1"):
        yield from parquet_rows(path)
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: expected UTF-8, got UTF-16; save the file as UTF-8")
    elif _begins_list(head):
        yield from _list_rows(path)
    else:
        yield from _line_rows(path)


def is_list(path: Path) -> bool:
    """Whether a file is one JSON list and not JSON lines. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return _begins_list(file.read(4096))


def _begins_list(head: bytes) -> bool:
    return head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["


def _line_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            if raw.strip():
                try:
                    value = json_files.parse_json(raw)
                except ValueError as error:
                    value = ValueError(str(error)[:200])
                yield f"{path.name}:{number}", value


def _list_rows(path: Path) -> Iterator[Row]:
    """The items of a JSON list, decoded one by one from a window of the text."""
    decoder, decode = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        text, number, ended = "", 0, False
        start = -1  # before the opening bracket
        while True:
            if not ended and (start < 0 or len(text) - start < _BLOCK):
                block = file.read(_BLOCK)
                ended = len(block) < _BLOCK
                try:
                    text = text[max(start, 0) :] + decode.decode(block, ended)
                except UnicodeDecodeError:
                    raise DataError(f"{path}: expected UTF-8, got other bytes; save the file as UTF-8") from None
                if start < 0:
                    text = text.removeprefix("\ufeff")
                start = text.find("[") + 1 if start < 0 else 0
            while start < len(text) and text[start] in _SPACES:
                start += 1
            if start < len(text) and text[start] == "]":
                return
            try:
                value, start = decoder.raw_decode(text, start)
            except (ValueError, RecursionError) as error:
                if ended or len(text) - start > _LONGEST:
                    raise DataError(
                        f"{path}: expected JSON, got a file that breaks off or is malformed at item {number + 1}: "
                        f"{str(error)[:120]}"
                    ) from None
                block = file.read(_BLOCK)
                ended = len(block) < _BLOCK
                text, start = text[start:] + decode.decode(block, ended), 0
                continue
            number += 1
            yield f"{path.name}, item {number}", value


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a Parquet file, BATCH at a time. Raises DataError, also if pyarrow is missing."""
    parquet, arrow = _pyarrow()
    number = 0
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=BATCH, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", row
    except (arrow.ArrowException, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: the Parquet file breaks off or is damaged at row {number + 1} ({text})") from None


def parquet_length(path: Path) -> int:
    """The number of rows that a Parquet file states. Raises DataError."""
    parquet, arrow = _pyarrow()
    try:
        return parquet.read_metadata(path).num_rows
    except (arrow.ArrowException, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: the Parquet file cannot be read ({text}); fetch it again") from None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError("Parquet files need pyarrow; pip install 'dtr1_jax[parquet]'") from None
    return parquet, pyarrow
