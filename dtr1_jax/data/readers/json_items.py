"""The items of a list or object in a large JSON file, one at a time, so that the whole value is never in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError

_BLANK = re.compile(r"[ \t\r\n]*")


def list_items(path: Path, key: str) -> Iterator[Any]:
    """The items of the list under a key of the JSON object in a file. Raises DataError, also where there is none."""
    text = _text(path)
    try:
        place = _list_of(text, key)
        if place is None or text[place] != "[":
            raise DataError(f'{path}: expected an object with the list "{key}", got none; take the release\'s file')
        place = _after(text, place, "[")
        while text[place] != "]":
            value, place = _DECODER.raw_decode(text, place)
            yield value
            place = _next(text, place, "]")
    except (ValueError, RecursionError, IndexError) as error:
        raise error if isinstance(error, DataError) else _malformed(path, error) from None


def object_items(path: Path) -> Iterator[tuple[str, Any]]:
    """The keys and values of the JSON object in a file. Raises DataError."""
    text = _text(path)
    try:
        place = _after(text, _BLANK.match(text).end(), "{")
        while text[place] != "}":
            name, place = _key(text, place)
            value, place = _DECODER.raw_decode(text, place)
            yield name, value
            place = _next(text, place, "}")
    except (ValueError, RecursionError, IndexError) as error:
        raise error if isinstance(error, DataError) else _malformed(path, error) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"expected a number, got {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _text(path: Path) -> str:
    try:
        return json_files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def _malformed(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: expected JSON, got a file that breaks off or is malformed ({str(error)[:100]})")


def _list_of(text: str, key: str) -> int | None:
    """The place of the value of a key in the object of a text; None if there is no such key."""
    place = _after(text, _BLANK.match(text).end(), "{")
    while text[place] != "}":
        name, place = _key(text, place)
        if name == key:
            return place
        place = _next(text, _DECODER.raw_decode(text, place)[1], "}")
    return None


def _key(text: str, place: int) -> tuple[str, int]:
    """(a key, the place of its value)."""
    name, place = _DECODER.raw_decode(text, place)
    if not isinstance(name, str):
        raise ValueError("a key is no text")
    return name, _after(text, _BLANK.match(text, place).end(), ":")


def _next(text: str, place: int, end: str) -> int:
    """The place after a value: that of the closing mark, or of the next item after its comma."""
    place = _BLANK.match(text, place).end()
    if text[place] == end:
        return place
    place = _after(text, place, ",")
    if text[place] == end:
        raise ValueError(f"a comma stands before {end}")
    return place


def _after(text: str, place: int, mark: str) -> int:
    """The place after a mark and blanks."""
    if text[place] != mark:
        raise ValueError(f"expected {mark} at character {place}")
    return _BLANK.match(text, place + 1).end()
