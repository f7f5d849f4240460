"""Reads single fields of a Hugging Face config.json, and names the field in every error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LARGEST = 1e300  # numbers from here on overflow in the arithmetic behind


class SpecError(ValueError):
    """A config.json describes a model that this code cannot run; the message names the field."""


def size(
    config: Mapping[str, Any], name: str, default: int | None = None, where: str = "", most: int | None = None
) -> int:
    """A whole number of at least 1, and at most `most`; `default` where the field is missing. Raises SpecError."""
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{where}{name}: expected a positive integer, got {config.get(name)!r}")
    if most is not None and value > most:
        raise SpecError(f"{where}{name}: expected at most {most:,} layers, got {value!r:.20}")
    return value


def number(config: Mapping[str, Any], name: str, where: str = "", default: float | None = None) -> float:
    """A number above 0; `default` where the field is missing. Raises SpecError."""
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST:
        raise SpecError(f"{where}{name}: expected a positive number, got {value!r:.40}")
    return float(value)


def switch(config: Mapping[str, Any], name: str, default: bool, where: str = "") -> bool:
    """True or false; `default` where the field is missing. Raises SpecError."""
    value = config.get(name)
    if not isinstance(value, bool | None):
        raise SpecError(f"{where}{name}: expected true or false, got {value!r:.40}")
    return default if value is None else value


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of an object; empty where the field is missing. Raises SpecError."""
    value = config.get(name)
    if not isinstance(value, dict | None):
        raise SpecError(f"{name}: expected an object, got {value!r}")
    return dict(value or {})


def names(config: Mapping[str, Any], name: str) -> Sequence[str]:
    """A list of names; empty where the field is missing. Raises SpecError."""
    value = config.get(name)
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
        raise SpecError(f"{name}: expected a list of names, got {value!r}")
    return value


def refuse(config: Mapping[str, Any], where: str, allowed: Mapping[str, tuple]) -> None:
    """Raises SpecError if one of the fields has a value that is not in the list of allowed values."""
    for name, values in allowed.items():
        if config.get(name) not in values:
            expected = " or ".join(repr(v) for v in values if v is not None) or "none"
            raise SpecError(f"{where}{name} = {config[name]!r} is not supported; expected {expected}")
