"""The whole numbers and the places of the outlines of many annotations at once, where tools wrote them all alike.

    {"segmentation": [[239.97,260.24,...]],"area": 2765.1,"iscrowd": 0,"image_id": 558840,"bbox": [...],"id": 156}

Records are alike if they have the same fields in the same order, the same blanks between them, and no text for a value.
The first records are parsed; of the others it is checked, of all at once in numpy, that their quotation marks stand
around the same fields and that the digits of each number end where the number ends. A record that differs in anything
does not fit, and is parsed by itself.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

NUMBERS = ("id", "image_id", "category_id", "iscrowd")
SHAPE = "segmentation"
_LOOKED_AT = 64  # first records of a part of the file, from which the pattern is taken
_DIGITS = 18  # at most, so that a number is an int64
_NUMBER = re.compile(rb"(\s*:\s*)\d+([\s,}]+)")
_OUTLINE = re.compile(rb"(\s*:\s*)(\[\s*\[\s*)[-\d].*(\]\][\s,}]+)", re.DOTALL)
_QUOTE, _ZERO, _NINE, _MINUS = b'"09-'


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What alike records have in common.

    Attributes:
      keys: the fields in their order, in ASCII.
      numbers: (a field of NUMBERS, its place among the keys, the bytes before its digits, those after) of each.
      outline: the place of SHAPE, the bytes before the first bracket, the two brackets, the two last and what follows.
    """

    keys: tuple[bytes, ...]
    numbers: tuple[tuple[str, int, bytes, bytes], ...]
    outline: tuple[int, bytes, bytes, bytes]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Fields of the records that fit a pattern.

    Attributes:
      rows: int64[k], the indices of these records.
      numbers: field -> int64[k].
      starts, ends: int64[k], places of the first bracket of each outline and of the two that close it.
    """

    rows: np.ndarray
    numbers: Mapping[str, np.ndarray]
    starts: np.ndarray
    ends: np.ndarray


def pattern(records: Sequence[bytes]) -> Pattern | None:
    """The most frequent pattern of the first records, of those with an outline and no text; None if there is none."""
    counts = collections.Counter(filter(None, map(_pattern, records[:_LOOKED_AT])))
    return counts.most_common(1)[0][0] if counts else None


def _pattern(record: bytes) -> Pattern | None:
    try:
        value = json.loads(record)
        keys = tuple(key.encode("ascii") for key in value)
    except (ValueError, RecursionError):  # UnicodeError is a ValueError
        return None
    texts = record.split(b'"')
    if tuple(texts[1::2]) != keys or SHAPE.encode() not in keys:
        return None
    gaps = dict(zip(keys, enumerate(texts[2::2])))  # key -> its place, and the bytes up to the next key
    shape = _OUTLINE.fullmatch(gaps[SHAPE.encode()][1])
    matches = {n: _NUMBER.fullmatch(gaps[n.encode()][1]) for n in NUMBERS if n.encode() in gaps}
    if shape is None or not all(matches.values()) or not {"id", "image_id", "category_id"} <= matches.keys():
        return None
    numbers = tuple((n, gaps[n.encode()][0], match[1], match[2]) for n, match in matches.items() if match)
    return Pattern(keys, numbers, (gaps[SHAPE.encode()][0], shape[1], shape[2], shape[3]))


def columns(buffer: bytes, starts: np.ndarray, ends: np.ndarray, alike: Pattern) -> Columns:
    """The fields of those records that fit a pattern.

    Args:
      buffer: a part of a file.
      starts, ends: int64[n], the records in it, ascending, from the opening to behind the closing brace.
      alike: the pattern.
    """
    values = np.frombuffer(buffer, np.uint8)
    quotes = np.flatnonzero(values == _QUOTE)
    first = np.searchsorted(quotes, starts)
    rows = np.flatnonzero(np.searchsorted(quotes, ends) - first == 2 * len(alike.keys))
    marks = quotes[first[rows, None] + np.arange(2 * len(alike.keys))]
    gaps = np.append(marks[:, 2::2], ends[rows, None], axis=1)  # where the bytes after each key end
    fits = _equal(values, starts[rows], b"{") & (marks[:, 0] >= starts[rows])
    for k, key in enumerate(alike.keys):
        opened, closed = marks[:, 2 * k], marks[:, 2 * k + 1]
        fits &= (closed - opened - 1 == len(key)) & _equal(values, opened + 1, key)
    numbers = {}
    for name, k, before, after in alike.numbers:
        numbers[name], sound = _numbers(values, marks[:, 2 * k + 1] + 1, gaps[:, k], before, after)
        fits &= sound
    k, before, brackets, closing = alike.outline
    begin, close = marks[:, 2 * k + 1] + 1, gaps[:, k] - len(closing)
    inside = begin + len(before) + len(brackets)
    fits &= _equal(values, begin, before + brackets) & _equal(values, close, closing) & (inside < close)
    sign = values.take(inside, mode="clip")
    fits &= ((sign >= _ZERO) & (sign <= _NINE)) | (sign == _MINUS)
    return Columns(
        rows[fits], {n: column[fits] for n, column in numbers.items()}, begin[fits] + len(before), close[fits]
    )


def _equal(values: np.ndarray, places: np.ndarray, text: bytes) -> np.ndarray:
    """bool[n], whether the bytes from each place on are `text`."""
    fits = np.ones(len(places), bool)
    for i, byte in enumerate(text):
        fits &= values.take(places + i, mode="clip") == byte
    return fits


def _numbers(
    values: np.ndarray, begin: np.ndarray, end: np.ndarray, before: bytes, after: bytes
) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n], bool[n]): the number between two places, and whether it and the bytes around it fit the pattern."""
    digits = end - begin - len(before) - len(after)
    fits = (digits >= 1) & (digits <= _DIGITS) & _equal(values, begin, before) & _equal(values, end - len(after), after)
    total = np.zeros(len(begin), np.int64)
    place = begin + len(before)
    for i in range(int(digits[fits].max(initial=0))):
        byte, within = values.take(place + i, mode="clip"), i < digits
        fits &= ((byte >= _ZERO) & (byte <= _NINE)) | ~within
        if i == 0:
            fits &= (byte != _ZERO) | (digits == 1)  # JSON has no number that begins with 0
        total = np.where(within & fits, 10 * total + byte.astype(np.int64) - _ZERO, total)
    return total, fits
