"""Reads annotation files, and raises DataError with the path where one is missing, malformed or empty."""

from __future__ import annotations

import codecs
import collections
import contextlib
import gc
import hashlib
import json
import math
import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dtr1_jax.data import first_bytes

MAX_COORDINATE = 1e6  # pixels; a larger number is not accepted as a coordinate


class DataError(ValueError):
    """A data set that cannot be used; the message names the file, the fault and a next step."""


def parse_json(text: str | bytes) -> Any:
    """Decodes a JSON text.

    Raises ValueError, also for NaN and Infinity, which JSON does not have, and for a key that stands twice in one
    object: the second value would replace the first one without a word.
    """
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        before, bracket = error.doc[max(0, error.pos - 200) : error.pos].rstrip(), error.doc[error.pos : error.pos + 1]
        if before.endswith(",") and bracket and bracket in "}]":
            raise ValueError(f'a comma stands before "{bracket}" in line {error.lineno}; remove it') from None
        raise
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector of reference cycles rests inside: JSON has no cycles, and the collector would look at all
    values again and again while many are made, which takes most of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_bytes(path: Path) -> bytes:
    """Reads a text file as UTF-8 without a byte order mark; UTF-16, which Windows writes, is converted.

    Raises DataError with the path, also for an archive, a pointer of Git LFS and a web page.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except ValueError as error:  # a zero byte in the path
        raise DataError(f"{str(path)!r}: cannot be read ({error}); check the path") from None
    if kind := first_bytes.kind_of(raw[:64]):
        raise DataError(f"{path}: expected text, got {kind}")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16").encode()
        except UnicodeError:
            raise DataError(f"{path}: expected text, got UTF-16 that breaks off; save the file as UTF-8") from None
    return raw.removeprefix(codecs.BOM_UTF8)


def read_json(path: Path) -> Any:
    """Reads a JSON file. Raises DataError with the path."""
    raw = read_bytes(path)
    try:
        return parse_json(raw)
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got a file that breaks off or is malformed: {error}") from None


def held_out(key: object) -> bool:
    """Whether the item with this key belongs to the fifth that is held out for evaluation.

    A hash decides, so an item keeps its side when other items come or go.
    """
    return _digest(key)[0] % 5 == 0


def held_out_part(keys: Iterable[Hashable]) -> frozenset[Hashable]:
    """The keys of the items that are held out: those of `held_out`, and more or fewer in a small data set.

    Of n >= 2 different keys, at least max(1, n // 10) are held out and at least half are not. A single one is not held
    out. The hashes of the keys decide, not their order. All readers use this rule where files name no splits.
    """
    unique = set(keys)
    chosen = {key for key in unique if held_out(key)}
    fewest, most = min(max(1, len(unique) // 10), len(unique) // 2), len(unique) // 2
    if fewest <= len(chosen) <= most:
        return frozenset(chosen)
    ranking = sorted(unique, key=lambda key: (key not in chosen, _digest(key), str(key)))
    return frozenset(ranking[: min(max(len(chosen), fewest), most)])


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that can be a coordinate: at most MAX_COORDINATE in size."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= MAX_COORDINATE and math.isfinite(value)


def whole_number(value: Any) -> int | None:
    """The integer that a JSON value stands for: 240, 240.0 or "240"; None for any other value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if re.fullmatch("-?[0-9]{1,18}", value) else None
    return value if isinstance(value, int) else None


def number_of(value: Any) -> Any:
    """The number that a text such as "4" or "4.5" stands for; any other value itself."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}(\.[0-9]{0,18})?\s*", value):
        return float(value)
    return value


def is_name(value: Any) -> bool:
    """Whether a JSON value can be a label: 1 to 64 printable characters without "<", which opens a transcript's tag."""
    if not isinstance(value, str) or not value.strip() or len(value) > 64:
        return False
    return value.isprintable() and "<" not in value


def _digest(key: object) -> bytes:
    return hashlib.blake2b(str(key).encode("utf-8", "surrogatepass"), digest_size=4).digest()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((key, _),) = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key[:64]!r} stands twice in one object; keep one of them")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"expected a number, got {constant}")
