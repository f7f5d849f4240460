"""TFRecord files of tf.train.Example without TensorFlow.

A record is its length (uint64), the masked CRC-32C of the length (uint32), the bytes, and their masked CRC-32C, all
little-endian. tf.train.Example is a message of Protocol Buffers: a map from names to lists of bytes, floats or integers
(tensorflow/core/example/feature.proto).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtr1_jax.data.json_files import DataError

MOST_BYTES = 256 << 20  # of one record
MOST_RECORDS = 10_000_000

Feature = list[bytes] | list[int] | list[float]


class RecordError(ValueError):
    """A record is damaged; the message says how."""


def record_places(path: Path) -> Iterator[tuple[int, int]]:
    """(place of its bytes, their number) of each record in a file. Raises DataError if the framing is broken."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            place = count = 0
            while place < size:
                head = file.read(12)
                length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
                if len(head) < 12 or struct.unpack("<I", head[8:])[0] != masked_crc(head[:8]):
                    raise DataError(f"{path}: expected TFRecord, got other or damaged bytes at {place}; fetch it again")
                if length > MOST_BYTES or place + 16 + length > size or count >= MOST_RECORDS:
                    raise DataError(f"{path}: the record at {place} breaks off or is too large; fetch the file again")
                yield place + 12, length
                place, count = place + 16 + length, count + 1
                file.seek(place)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def read_record(path: Path, place: int, length: int, check: bool = True) -> bytes:
    """The bytes of a record at a place of `record_places`.

    Args:
      check: whether their checksum is compared, which takes about 0.1 s for a megabyte.

    Raises RecordError if they cannot be read or the checksum is wrong.
    """
    try:
        with open(path, "rb") as file:
            file.seek(place)
            raw = file.read(length + 4)
    except OSError as error:
        raise RecordError(f"cannot be read ({error.strerror})") from None
    if len(raw) != length + 4 or (check and struct.unpack("<I", raw[-4:])[0] != masked_crc(raw[:-4])):
        raise RecordError("its checksum is wrong")
    return raw[:-4]


def parse_example(raw: bytes) -> dict[str, Feature]:
    """The features of a tf.train.Example by name. Raises RecordError."""
    found: dict[str, Feature] = {}
    try:
        for number, features in _fields(raw):
            for entry_number, entry in _fields(_message(features)) if number == 1 else ():
                if entry_number == 1:
                    fields = dict(_fields(_message(entry)))
                    found[_message(fields.get(1, b"")).decode("utf-8")] = _feature(_message(fields.get(2, b"")))
    except (ValueError, IndexError, struct.error) as error:
        raise RecordError(f"no tf.train.Example ({str(error)[:80]})") from None
    return found


def masked_crc(raw: bytes) -> int:
    """The CRC-32C (Castagnoli) of bytes, rotated right by 15 bits, plus 0xa282ead8, modulo 2^32."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in raw:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table() -> list[int]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(0x82F63B78), values >> 1)
    return values.tolist()


_TABLE = _crc_table()


def _feature(raw: bytes) -> Feature:
    """The values of a Feature: bytes_list = 1, float_list = 2 or int64_list = 3, each with its values as field 1."""
    for kind, values in _fields(raw):
        rows = [value for number, value in _fields(_message(values)) if number == 1]
        if kind == 1:
            return [_message(row) for row in rows]
        if kind == 2:
            packed = b"".join(_message(row) for row in rows)
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        if kind == 3:
            integers: list[int] = []
            for row in rows:
                integers += [row] if isinstance(row, int) else _packed(row)
            return [value - (1 << 64) if value >> 63 else value for value in integers]
    return []


def _packed(raw: bytes) -> list[int]:
    values, place = [], 0
    while place < len(raw):
        value, place = _varint(raw, place)
        values.append(value)
    return values


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message: an integer, or the bytes of any other kind."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(raw, place)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, place = _varint(raw, place)
        if length is None or place + length > len(raw):
            raise ValueError("a field breaks off or is of another kind")
        yield key >> 3, raw[place : place + length]
        place += length


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("expected a message, got a number")
    return value


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """(the integer at a place, the place after it)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), place
    raise ValueError("an integer of more than 64 bits")
