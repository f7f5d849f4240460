"""A JSON reader for text that a model wrote: strict, and bounded in time, depth and memory.

The reader of the standard library accepts NaN, lets the last of several equal keys win silently, raises an exception of
its own for long integers, and runs out of stack in deep nesting. Here each of these is a `ValueError` or a `Refused`
value.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import re
from typing import Any

import numpy as np

MAX_LENGTH = 1 << 16  # characters; a twin of 256 objects with relations takes about 40,000
MAX_DEPTH = 16  # a twin needs 4
MAX_DIGITS = 18  # any such integer fits in int64

# A string is skipped as one match, even if it is not closed. The possessive quantifier keeps the search linear: an
# unclosed string is consumed to the end of the text, instead of being tried again from each of its quotes.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(_STRING.pattern + r"|[\[{]|[\]}]", re.DOTALL)
_STEP = np.zeros(256, np.int32)  # by ASCII code: how much deeper the text is nested after this character
_STEP[[ord("["), ord("{")]], _STEP[[ord("]"), ord("}")]] = 1, -1


@dataclasses.dataclass(frozen=True)
class Refused:
    """Replaces a value that strict JSON does not allow.

    No schema accepts it, so the fault is reported at its place, together with all other faults.

    Attributes:
      reason: a description of the value in the text, such as "NaN".
    """

    reason: str


def loads(text: str) -> Any:
    """Decodes one JSON value (RFC 8259).

    NaN, infinities, numbers of more than MAX_DIGITS digits or beyond float64, and the value of a repeated key are
    returned as `Refused`.

    Args:
      text: any string, also with lone surrogates and byte order marks.

    Returns:
      dict, list, str, int, float, bool, None or Refused.

    Raises:
      ValueError: the text is too long, too deeply nested or not JSON. No other exception is raised, and the time is
        linear in min(len(text), MAX_LENGTH).
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expected at most {MAX_LENGTH} characters of JSON, got {len(text)}")
    _check_depth(text)
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON, got at character {error.pos}: {error.msg}") from None


def _check_depth(text: str) -> None:
    """Raises ValueError if brackets outside of strings are nested more than MAX_DEPTH deep."""
    codes = np.frombuffer(_STRING.sub("", text).encode("ascii", "replace"), np.uint8)
    if np.cumsum(_STEP[codes]).max(initial=0) <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKET.finditer(text):  # slower than numpy, but it knows the place
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"expected JSON nested at most {MAX_DEPTH} deep, got more at character {match.start()}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, count in collections.Counter(key for key, _ in pairs).items():
            if count > 1:
                value[key] = Refused(f"a key that occurs {count} times")
    return value


@functools.cache  # There are three names, and a text can hold thousands of each.
def _constant(name: str) -> Refused:
    return Refused(name)


def _integer(digits: str) -> int | Refused:
    return int(digits) if len(digits) <= MAX_DIGITS else Refused(f"a number of {len(digits.lstrip('-'))} digits")


def _float(digits: str) -> float | Refused:
    value = float(digits)
    return value if math.isfinite(value) else Refused("a number beyond the range of a float")
