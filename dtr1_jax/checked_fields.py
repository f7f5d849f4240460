"""A nested dict becomes frozen dataclasses: names and types are checked, and the bound of each field.

The bound of a single setting is beside its field (`at_least`, `above`, `within_one`, `Bound`).
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it, the expected value and the given one."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """The values that a setting may have: in words, for the error, and as a test."""

    expected: str
    holds: Callable[[Any], bool]

    def field(self, default: Any = dataclasses.MISSING) -> Any:
        """A dataclass field with this bound; `faults_of_bounds` reads it from the metadata."""
        return dataclasses.field(default=default, metadata={"bound": self})


def at_least(low: int, expected: str = "") -> Any:
    """A dataclass field that must be `low` or more. `expected` says so in the error; from_configdict checks it."""
    return Bound(expected or ("0 or more" if low == 0 else f"at least {low}"), lambda value: value >= low).field()


def above(low: float, expected: str) -> Any:
    """A dataclass field that must be greater than `low`. `expected` says so in the error; from_configdict checks it."""
    return Bound(expected, lambda value: value > low).field()


def within_one(expected: str, closed: bool = True) -> Any:
    """A dataclass field that must be in [0, 1], or in [0, 1) if not `closed`. `expected` says so in the error."""
    return Bound(expected, lambda value: 0 <= value <= 1 if closed else 0 <= value < 1).field()


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an error: ` (did you mean "x"?)` with the nearest known name, or the list of all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else f" (known: {', '.join(known)})"


def build(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    """`value` as a `kind`, which is a dataclass or the annotation of a field; appends a line to `faults` for each
    misfit.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            faults.append(f"{path}: expected a group of settings, got {value!r}")
            return None
        hints = typing.get_type_hints(kind)
        faults += [f"{path}.{n}: unknown setting{nearest(n, hints)}" for n in value if n not in hints]
        faults += [f"{path}.{n}: missing" for n in hints if n not in value]
        return kind(**{n: build(h, value[n], f"{path}.{n}", faults) if n in value else None for n, h in hints.items()})
    origin = typing.get_origin(kind)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            hint = nearest(str(value), options)
            faults.append(f"{path}: expected one of {', '.join(map(str, options))}, got {value!r}{hint}")
        return value
    if origin is dict:
        inner = typing.get_args(kind)[1]
        if not isinstance(value, dict):
            faults.append(f"{path}: expected names with {'numbers' if inner is float else 'groups'}, got {value!r}")
            return {}
        return {k: build(inner, v, f"{path}.{k}", faults) for k, v in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        faults.append(f"{path}: expected a number of at most 64 bits, got one of {value.bit_length()}")
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        faults.append(f"{path}: expected {kind.__name__}, got {value!r} ({type(value).__name__})")
    elif kind is float and value != value:
        faults.append(f"{path}: expected a number, got nan")
    return value


def faults_of_bounds(settings: Any, path: str) -> Iterator[str]:
    """Yields a line for each setting outside its bound, in this group of settings and in the groups inside it."""
    for field in dataclasses.fields(settings):
        value, bound = getattr(settings, field.name), field.metadata.get("bound")
        if dataclasses.is_dataclass(value):
            yield from faults_of_bounds(value, f"{path}.{field.name}")
        elif bound is not None and not bound.holds(value):
            yield f"{path}.{field.name}: expected {bound.expected}, got {value!r}"
