"""A JSON reader for text that a model wrote: strict, and bounded in time, depth and memory.

The reader of the standard library takes NaN, lets a repeated key win silently, refuses long integers by an exception
of its own and runs out of stack in deep nesting. Here each of these is either a `ValueError` or a `Refused` value.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import re
from typing import Any

MAX_LENGTH = 1 << 16  # characters; a twin of 256 objects with relations takes about 40,000
MAX_DEPTH = 16  # a twin needs 4
MAX_DIGITS = 18  # what surely fits in int64

# A string, or what is there of it, is skipped as one match. The possessive quantifier keeps this linear: an unclosed
# string is consumed to the end instead of being tried again from each of its quotes.
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Refused:
    """Stands where the text has a value that strict JSON does not allow.

    No schema accepts it, so the fault is reported at its own place beside all the others.

    Attributes:
      reason: what the text has there, such as "NaN".
    """

    reason: str


def loads(text: str) -> Any:
    """Decodes one JSON value (RFC 8259).

    NaN, infinities, numbers of more than MAX_DIGITS digits or beyond float64, and the value of a key that its object
    repeats come back as `Refused`.

    Args:
      text: any string; lone surrogates and byte order marks included.

    Returns:
      dict, list, str, int, float, bool, None or Refused.

    Raises:
      ValueError: the text is too long, too deep or not JSON; nothing else, in time linear in min(len, MAX_LENGTH).
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expected at most {MAX_LENGTH} characters of JSON, got {len(text)}")
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"expected JSON nested at most {MAX_DEPTH} deep, got more at character {match.start()}")
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=Refused
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON, got at character {error.pos}: {error.msg}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, count in collections.Counter(key for key, _ in pairs).items():
            if count > 1:
                value[key] = Refused(f"a key that is given {count} times")
    return value


def _integer(digits: str) -> int | Refused:
    return int(digits) if len(digits) <= MAX_DIGITS else Refused(f"a number of {len(digits.lstrip('-'))} digits")


def _float(digits: str) -> float | Refused:
    value = float(digits)
    return value if math.isfinite(value) else Refused("a number beyond the range of a float")
