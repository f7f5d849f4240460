"""Reads annotation files, and raises DataError with the path where one is missing, malformed or empty."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_COORDINATE = 1e6  # pixels; a larger number is not accepted as a coordinate


class DataError(ValueError):
    """A data set that cannot be used; the message names the file, the fault and a next step."""


def parse_json(text: str | bytes) -> Any:
    """Decodes a JSON text. Raises ValueError, also for NaN and Infinity, which JSON does not have."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file. Raises DataError with the path."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got a file that breaks off or is malformed: {error}") from None


def held_out(key: object) -> bool:
    """Whether the item with this key belongs to the fifth that is held out for evaluation.

    A hash decides, so an item keeps its side when other items come or go.
    """
    return _digest(key)[0] % 5 == 0


def held_out_keys(keys: Iterable) -> frozenset:
    """The keys that `held_out` holds out; but at least one key is held out, and at least one is not.

    So a small data set has both parts: the key with the smallest hash, or the largest, changes its side. A single key
    is not held out.
    """
    ordered = sorted(set(keys), key=lambda key: (_digest(key), str(key)))
    chosen = [key for key in ordered if held_out(key)]
    if len(ordered) > 1 and len(chosen) in (0, len(ordered)):
        chosen = chosen[:-1] or ordered[:1]
    return frozenset(chosen)


def _digest(key: object) -> bytes:
    return hashlib.blake2b(str(key).encode("utf-8", "surrogatepass"), digest_size=4).digest()


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that can be a coordinate: at most MAX_COORDINATE in size."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= MAX_COORDINATE and math.isfinite(value)


def is_name(value: Any) -> bool:
    """Whether a JSON value can be a label: 1 to 64 printable characters without "<", which opens a transcript's tag."""
    if not isinstance(value, str) or not value.strip() or len(value) > 64:
        return False
    return value.isprintable() and "<" not in value


def _refuse(constant: str) -> None:
    raise ValueError(f"expected a number, got {constant}")
