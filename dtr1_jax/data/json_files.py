"""Annotation files, which may be missing, malformed or empty: read, or refused by name."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

MAX_COORDINATE = 1e6  # pixels; what is beyond is no coordinate


class DataError(ValueError):
    """A data set that can not be used; the message names the file, what was expected, what was got and what to do."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. NaN and Infinity, which JSON does not know, are refused. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises DataError."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: can not be read ({error.strerror}); check the path and its permissions") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got a file that breaks off or is malformed: {error}") from None


def held_out(key: object) -> bool:
    """Whether the item of this key is among the fifth kept for evaluation; by hash, so that it never changes sides."""
    return hashlib.blake2b(str(key).encode("utf-8", "surrogatepass"), digest_size=4).digest()[0] % 5 == 0


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number of a size that coordinates in pixels can have."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= MAX_COORDINATE and math.isfinite(value)


def is_name(value: Any) -> bool:
    """Whether a JSON value can be a label: 1 to 64 printable characters without "<", which opens a transcript's tag."""
    if not isinstance(value, str) or not value.strip() or len(value) > 64:
        return False
    return value.isprintable() and "<" not in value


def _refuse(constant: str):
    raise ValueError(f"expected a number, got {constant}")
