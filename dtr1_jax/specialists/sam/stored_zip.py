"""Reads zip files whose entries are stored without compression, as PyTorch writes them, with every size bounded.

Python's zipfile reads the whole table of contents before a caller can say no; this reader checks the sizes first. The
format is described in PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (table) and 4.3.16 (end record).
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from dtr1_jax.models.weights.native import WeightsError

_END = struct.Struct("<4s4H2IH")  # signature, 3 disk fields, entries, bytes and place of the table, length of a comment
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_TABLE = 8 << 20  # most bytes of the table of contents
_ENTRIES = 60_000


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a zip file.

    Attributes:
      name: its path in the zip file.
      start, size: place and length of its bytes in the zip file.
      crc: CRC-32 of its bytes.
    """

    name: str
    start: int
    size: int
    crc: int


def entries(path: Path, most: int) -> dict[str, Entry]:
    """The entries of a zip file by name; no entry is read.

    Args:
      path: the zip file.
      most: bytes that the file may have.

    Raises WeightsError: no zip file, a truncated one, one of more than `most` bytes, compressed or encrypted entries,
    two entries of one name, or entries that are together larger than the file.
    """
    with _opened(path) as file:
        size = file.seek(0, 2)
        if size > most:
            raise WeightsError(f"{path}: {size:,} bytes, expected at most {most:,}")
        count, table_bytes, table_at = _end(path, file, size)
        file.seek(table_at)
        table = file.read(table_bytes)
        found: dict[str, Entry] = {}
        at = total = 0
        for _ in range(count):
            entry, at = _entry(path, file, table, at, size)
            if entry.name in found:
                raise WeightsError(f"{path}: two entries are named {entry.name!r:.80}; fetch the file again")
            found[entry.name] = entry
            total += entry.size
    if total > size:
        raise WeightsError(f"{path}: its entries have {total:,} bytes, but the file has {size:,}; they overlap")
    return found


def read(path: Path, entry: Entry) -> bytes:
    """The bytes of an entry. Raises WeightsError if they are not the ones that were written."""
    with _opened(path) as file:
        file.seek(entry.start)
        data = file.read(entry.size)
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise WeightsError(f"{path}: entry {entry.name!r:.80} is damaged (wrong checksum); fetch the file again")
    return data


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error


def _end(path: Path, file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Number of entries, and bytes and place of the table of contents."""
    length = min(size, _END.size + 0xFFFF)
    file.seek(size - length)
    tail = file.read(length)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise WeightsError(
            f"{path}: not a zip file, or cut off at its end; expected a checkpoint of PyTorch 1.6 or later"
        )
    _, disk, table_disk, here, count, table_bytes, table_at, _ = _END.unpack_from(tail, at)
    if disk or table_disk or here != count or count > _ENTRIES or table_bytes > _TABLE:
        raise WeightsError(f"{path}: expected a zip file of one part with at most {_ENTRIES:,} entries, got {count:,}")
    if table_at + table_bytes > size:
        raise WeightsError(f"{path}: cut off: its table of contents lies outside the file; fetch it again")
    return count, table_bytes, table_at


def _entry(path: Path, file: BinaryIO, table: bytes, at: int, size: int) -> tuple[Entry, int]:
    """The entry at `at` of the table, and the place of the next one."""
    if len(table) - at < _ENTRY.size or table[at : at + 4] != b"PK\x01\x02":
        raise WeightsError(f"{path}: its table of contents is damaged; fetch the file again")
    _, _, _, flags, method, _, _, crc, packed, length, name_size, extra, comment, _, _, _, local = _ENTRY.unpack_from(
        table, at
    )
    raw = table[at + _ENTRY.size : at + _ENTRY.size + name_size]
    name = raw.decode("utf-8", errors="replace")
    if flags & 1 or method or packed != length:
        raise WeightsError(f"{path}: entry {name!r:.80} is compressed or encrypted; PyTorch writes neither")
    file.seek(local)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise WeightsError(f"{path}: entry {name!r:.80} is not where the table of contents says; fetch the file again")
    *_, local_name, local_extra = _LOCAL.unpack(header)
    start = local + _LOCAL.size + local_name + local_extra
    if start + length > size:
        raise WeightsError(f"{path}: entry {name!r:.80} reaches over the end of the file; fetch it again")
    return Entry(name, start, length, crc), at + _ENTRY.size + name_size + extra + comment
